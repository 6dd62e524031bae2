#include "verify/plugin_host/process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <thread>

#include "data/error.h"
#include "data/text.h"

extern char** environ;

namespace bitflash::verify {
namespace {

using std::chrono::steady_clock;
using wire::Report;
using Kind = PluginError::Kind;

constexpr size_t kPrintedBytes = 4096;
constexpr auto kTimeToEnd = std::chrono::seconds(10);  // for the supervisor to kill and reap; it takes milliseconds

std::string SignalName(int number) {
  switch (number) {
    case SIGSEGV:
      return "SIGSEGV";
    case SIGBUS:
      return "SIGBUS";
    case SIGABRT:
      return "SIGABRT";
    case SIGFPE:
      return "SIGFPE";
    case SIGILL:
      return "SIGILL";
    case SIGTRAP:
      return "SIGTRAP";
    case SIGSYS:
      return "SIGSYS";
    case SIGKILL:
      return "SIGKILL (out of memory?)";
    case SIGTERM:
      return "SIGTERM";
    case SIGPIPE:
      return "SIGPIPE";
  }
  return "signal " + std::to_string(number);
}

// "it wrote 2 bytes behind the end of O".
std::string Describe(const wire::Fault& fault) {
  const char* did = fault.access == wire::Access::kRead    ? "read"
                    : fault.access == wire::Access::kWrite ? "wrote"
                                                           : "read or wrote";
  const char* name = wire::kRegionNames[fault.region];
  switch (fault.where) {
    case wire::Where::kBefore:
      return fmt::format("{} {} bytes before the start of {}", did, fault.distance, name);
    case wire::Where::kBehind:
      if (fault.distance == 0) return fmt::format("{} right behind the end of {}", did, name);
      return fmt::format("{} {} bytes behind the end of {}", did, fault.distance, name);
    default:
      return fmt::format("wrote to the input {}, at byte {}", name, fault.distance);
  }
}

std::string HostPath(const PluginOptions& options) {
  if (!options.host_path.empty()) return options.host_path;
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  return (self.parent_path() / "bitflash-plugin-host").string();
}

void SetUpSpawn(posix_spawn_file_actions_t& actions, posix_spawnattr_t& attributes, int socket, int output) {
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, output, 1);
  posix_spawn_file_actions_adddup2(&actions, output, 2);
  posix_spawn_file_actions_adddup2(&actions, socket, wire::kSocket);
  // A process group of its own (an interrupt at the terminal is ours to handle), and no signal ignored or blocked.
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
}

// A descriptor above the numbers that the child's streams get, so that dup2 overwrites none that is still needed.
Descriptor Raised(int descriptor) {
  Descriptor low(descriptor);
  return Descriptor(fcntl(low.get(), F_DUPFD_CLOEXEC, wire::kSocket + 1));
}

}  // namespace

HostProcess::HostProcess(const PluginOptions& options) : options_(options) {
  Start();
  loaded_ = Await();
  if (loaded_.kind == wire::ReportKind::kEnded) FailEnded(loaded_);
  is_loaded_ = true;
  const std::string text = data::Quoted(loaded_.text);
  switch (loaded_.outcome) {
    case wire::Outcome::kOk:
      return;
    case wire::Outcome::kUnsupported: {
      const std::string why = loaded_.text[0] ? ": " + text : "";
      Report ended;
      End(ended);
      throw data::UndecidedError(data::Quoted(options.path) + " says in init() that it does not run here" + why);
    }
    case wire::Outcome::kErrorCode:
      Fail(Kind::kErrorCode, fmt::format("init() returned {}{}", loaded_.code, loaded_.text[0] ? ": " + text : ""));
    case wire::Outcome::kNotLoaded:
      Fail(Kind::kLoad, "cannot be loaded: " + text);
    default:
      Fail(Kind::kAbi, "is no plug-in of this version: " + text);
  }
}

HostProcess::~HostProcess() {
  Report ended;
  End(ended);
}

void HostProcess::Start() {
  const std::string host = HostPath(options_);
  int ends[2], pipe[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    throw std::system_error(errno, std::generic_category(), "socketpair");
  }
  socket_ = Descriptor(ends[0]);
  const Descriptor theirs = Raised(ends[1]);
  if (pipe2(pipe, O_CLOEXEC) != 0) throw std::system_error(errno, std::generic_category(), "pipe2");
  printed_pipe_ = Descriptor(pipe[0]);
  fcntl(printed_pipe_.get(), F_SETFL, O_NONBLOCK);
  const Descriptor output = Raised(pipe[1]);

  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&actions);
  posix_spawnattr_init(&attributes);
  SetUpSpawn(actions, attributes, theirs.get(), output.get());
  const std::string limit = std::to_string(options_.memory_limit_bytes);
  const char* arguments[] = {"bitflash-plugin-host",     wire::kProtocol, limit.c_str(), options_.path.c_str(),
                             options_.init_json.c_str(), nullptr};
  const int error =
      posix_spawn(&supervisor_, host.c_str(), &actions, &attributes, const_cast<char**>(arguments), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    supervisor_ = 0;
    throw PluginError(Kind::kHost, fmt::format("{} cannot be started: {}; it is installed beside bitflash",
                                               data::Quoted(host), std::strerror(error)));
  }
}

void HostProcess::DrainPrinted() {
  char text[kPrintedBytes];
  // All that a pipe can hold, and no more: an endless talker must not keep us here.
  for (int i = 0; i < 64; ++i) {
    const ssize_t size = read(printed_pipe_.get(), text, sizeof(text));
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) return;
    printed_.append(text, size);
    if (printed_.size() > kPrintedBytes) printed_.erase(0, printed_.size() - kPrintedBytes);
  }
}

bool HostProcess::Receive(steady_clock::time_point deadline, Report& report, bool& gone) {
  gone = false;
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - steady_clock::now()).count();
    if (left <= 0) return false;
    pollfd files[2] = {{socket_.get(), POLLIN, 0}, {printed_pipe_.get(), POLLIN, 0}};
    // POLLHUP cannot be masked out: a pipe that nobody writes to any more would keep poll() from waiting.
    const int ready = poll(files, 2, static_cast<int>(std::min<int64_t>(left, 60'000)));
    if (ready < 0 && errno != EINTR) throw std::system_error(errno, std::generic_category(), "poll");
    if (ready <= 0) continue;
    if (files[1].revents & POLLIN) {
      DrainPrinted();
    } else if (files[1].revents & POLLHUP && !files[0].revents) {
      // Both streams closed, but the conversation goes on.
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    if (!files[0].revents) continue;
    const ssize_t size = recv(socket_.get(), &report, sizeof(report), 0);
    if (size < 0 && errno == EINTR) continue;
    DrainPrinted();
    if (size == sizeof(report)) return true;
    gone = true;
    return false;
  }
}

Report HostProcess::Await() {
  Report report;
  bool gone;
  const auto timeout = std::chrono::duration_cast<steady_clock::duration>(
      std::chrono::duration<double>(std::min(options_.timeout_s, 1e9)));  // 30 years; the clock's range is 292
  if (Receive(steady_clock::now() + timeout, report, gone)) return report;
  if (gone) {
    const int status = Reap();
    if (is_loaded_) Fail(Kind::kCrash, "killed its own host");
    Fail(Kind::kHost, fmt::format("{} gave no answer ({} {})", data::Quoted(HostPath(options_)),
                                  WIFSIGNALED(status) ? "signal" : "exit status",
                                  WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status)));
  }
  const bool known = End(report);
  Fail(Kind::kTimeout, fmt::format("did not come back within {} s{}{}", options_.timeout_s, known ? " " : "",
                                   known ? wire::kStageNames[static_cast<int>(report.stage)] : ""));
}

bool HostProcess::End(Report& ended) {
  if (supervisor_ == 0) return false;
  // The supervisor takes this for the order to kill everything, and still can answer.
  shutdown(socket_.get(), SHUT_WR);
  bool gone = false;
  const auto deadline = steady_clock::now() + kTimeToEnd;
  bool known = false;
  while (!known && Receive(deadline, ended, gone)) known = ended.kind == wire::ReportKind::kEnded;
  Reap();
  return known;
}

// Waits for the supervisor, which has nothing more to do but exit.
int HostProcess::Reap() {
  if (supervisor_ == 0) return 0;
  socket_.Reset();
  int status = 0;
  const auto deadline = steady_clock::now() + kTimeToEnd;
  for (auto pause = std::chrono::microseconds(20);; pause = std::min(2 * pause, std::chrono::microseconds(5000))) {
    const pid_t reaped = waitpid(supervisor_, &status, WNOHANG);
    if (reaped != 0 && !(reaped < 0 && errno == EINTR)) break;
    // The worker asks the kernel to be killed together with it.
    if (steady_clock::now() > deadline) kill(supervisor_, SIGKILL);
    std::this_thread::sleep_for(pause);
  }
  supervisor_ = 0;
  DrainPrinted();
  return status;
}

void HostProcess::Fail(Kind kind, const std::string& message) {
  Report ended;
  End(ended);
  const std::string printed = TakePrinted();
  const std::string quoted = printed.empty() ? "" : "; it printed " + data::Quoted(printed);
  throw PluginError(kind, data::Quoted(options_.path) + " " + message + quoted, printed);
}

void HostProcess::FailEnded(const Report& ended) {
  const char* stage = wire::kStageNames[static_cast<int>(ended.stage)];
  Reap();
  if (!WIFSIGNALED(ended.wait_status)) {
    Fail(Kind::kExit, fmt::format("ended its process with exit status {} {}", WEXITSTATUS(ended.wait_status), stage));
  }
  const int number = WTERMSIG(ended.wait_status);
  if ((number == SIGSEGV || number == SIGBUS) && ended.fault.where != wire::Where::kNowhere) {
    const Kind kind = ended.fault.where == wire::Where::kInside ? Kind::kWroteOutside : Kind::kGuardPage;
    Fail(kind, fmt::format("{} {} ({})", Describe(ended.fault), stage, SignalName(number)));
  }
  Fail(Kind::kCrash, fmt::format("crashed {}: {}", stage, SignalName(number)));
}

Report HostProcess::Call(const wire::Request& request, int inputs, int outputs) {
  iovec vector{const_cast<wire::Request*>(&request), sizeof(request)};
  const int files[2] = {inputs, outputs};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(files))] = {};
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(files));
  std::memcpy(CMSG_DATA(header), files, sizeof(files));
  // When nobody is there any more, the supervisor has said why: that is what Await finds.
  while (sendmsg(socket_.get(), &message, MSG_NOSIGNAL) < 0 && errno == EINTR) {
  }
  const Report report = Await();
  if (report.kind == wire::ReportKind::kEnded) FailEnded(report);
  return report;
}

void HostProcess::Close() {
  if (supervisor_ == 0) return;
  wire::Request request{};
  request.kind = wire::RequestKind::kShutdown;
  send(socket_.get(), &request, sizeof(request), MSG_NOSIGNAL);
  const Report report = Await();
  const bool in_order = WIFEXITED(report.wait_status) && report.stage == wire::Stage::kIdle;
  if (report.kind == wire::ReportKind::kEnded && !in_order) FailEnded(report);
  Reap();
}

std::string HostProcess::TakePrinted() {
  DrainPrinted();
  return std::exchange(printed_, "");
}

}  // namespace bitflash::verify
