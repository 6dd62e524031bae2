// The executable bitflash-plugin-host. bitflash starts it to run a plug-in away from itself (verify/subjects/plugin.h).
//
// Two processes: the first, the supervisor, starts the worker, which loads the plug-in and answers on the socket. The
// supervisor runs no foreign code. It waits until the worker has ended, or until bitflash closes its end of the socket
// or dies, then kills everything that the worker left behind and reports how it ended.
#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "verify/plugin_host/worker.h"

#if defined(__SANITIZE_ADDRESS__)
#define BITFLASH_HAS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BITFLASH_HAS_ASAN 1
#endif
#endif

namespace bitflash::verify {
namespace {

// Everything that was open in bitflash, but the standard streams and the socket.
void CloseInherited() {
  DIR* directory = opendir("/proc/self/fd");
  if (directory == nullptr) return;
  while (const dirent* entry = readdir(directory)) {
    const int descriptor = std::atoi(entry->d_name);
    if (descriptor > wire::kSocket && descriptor != dirfd(directory)) close(descriptor);
  }
  closedir(directory);
}

// The parent of a process; 0 when it is gone. /proc/PID/stat: "PID (NAME) STATE PPID ...", NAME may hold anything.
pid_t ParentOf(const char* process) {
  FILE* file = std::fopen((std::string("/proc/") + process + "/stat").c_str(), "re");
  if (file == nullptr) return 0;
  char text[512];
  const size_t size = std::fread(text, 1, sizeof(text) - 1, file);
  std::fclose(file);
  text[size] = 0;
  const char* name_end = std::strrchr(text, ')');
  int parent = 0;
  return name_end != nullptr && std::sscanf(name_end + 1, " %*c %d", &parent) == 1 ? parent : 0;
}

// Kills all children. Grandchildren become children when their parent is gone (PR_SET_CHILD_SUBREAPER).
void KillChildren() {
  DIR* directory = opendir("/proc");
  if (directory == nullptr) return;
  while (const dirent* entry = readdir(directory)) {
    const pid_t process = std::atoi(entry->d_name);
    if (process > 0 && ParentOf(entry->d_name) == getpid()) kill(process, SIGKILL);
  }
  closedir(directory);
}

// Reaps whoever has ended; true when the worker is among them. `children` says whether any are left.
bool Reap(pid_t worker, int& worker_status, bool& children) {
  bool ended = false;
  for (;;) {
    int status = 0;
    const pid_t process = waitpid(-1, &status, WNOHANG);
    children = process >= 0;
    if (process <= 0) return ended;
    if (process == worker) {
      ended = true;
      worker_status = status;
    }
  }
}

void OnChild(int) {}  // only to interrupt ppoll

int Supervise(const char* plugin, const char* json, int64_t memory_limit_bytes) {
  void* shared = mmap(nullptr, sizeof(LastWords), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) return 1;
  auto* last_words = new (shared) LastWords{};
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  // No core file. 0 would still start a core_pattern program; 1 stops that, too (core(5), fs/coredump.c).
  const rlimit no_core{1, 1};
  setrlimit(RLIMIT_CORE, &no_core);

  sigset_t blocked, normal;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGCHLD);
  sigprocmask(SIG_BLOCK, &blocked, &normal);
  struct sigaction action {};
  action.sa_handler = OnChild;
  sigaction(SIGCHLD, &action, nullptr);

  const pid_t worker = fork();
  if (worker < 0) return 1;
  if (worker == 0) {
    setpgid(0, 0);                     // kill(0, ...) in the plug-in must not reach the supervisor
    prctl(PR_SET_PDEATHSIG, SIGKILL);  // and should something else kill the supervisor, nothing stays behind
    signal(SIGCHLD, SIG_DFL);
    sigprocmask(SIG_SETMASK, &normal, nullptr);
#ifndef BITFLASH_HAS_ASAN  // which reserves terabytes
    if (memory_limit_bytes > 0) {
      const rlimit limit{static_cast<rlim_t>(memory_limit_bytes), static_cast<rlim_t>(memory_limit_bytes)};
      setrlimit(RLIMIT_AS, &limit);
    }
#else
    static_cast<void>(memory_limit_bytes);
#endif
    // Not exit(): handlers that the plug-in registered have had their chance in destroy().
    _exit(Work(plugin, json, last_words));
  }

  int status = 0;
  bool children = true;
  bool told_to_stop = false;
  while (!Reap(worker, status, children) && !told_to_stop) {
    pollfd socket{wire::kSocket, POLLRDHUP, 0};
    told_to_stop = ppoll(&socket, 1, nullptr, &normal) > 0;
  }
  kill(-worker, SIGKILL);
  kill(worker, SIGKILL);
  while (Reap(worker, status, children), children) {
    KillChildren();
    usleep(200);
  }
  wire::Report report{};
  report.kind = wire::ReportKind::kEnded;
  report.wait_status = status;
  report.stage = last_words->stage;
  report.fault = last_words->fault;
  send(wire::kSocket, &report, sizeof(report), MSG_NOSIGNAL);
  return 0;
}

}  // namespace
}  // namespace bitflash::verify

int main(int argc, char** argv) {
  using namespace bitflash::verify;
  if (argc != 5 || std::strcmp(argv[1], wire::kProtocol) != 0) {
    std::fprintf(stderr, "bitflash-plugin-host: started by bitflash to run a plug-in, not by hand (expected %s)\n",
                 wire::kProtocol);
    return 2;
  }
  CloseInherited();
  _exit(Supervise(argv[3], argv[4], std::strtoll(argv[2], nullptr, 10)));
}
