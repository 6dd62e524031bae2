#include "verify/plugin_host/worker.h"

#include <dlfcn.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <string>

#include "verify/plugin_host/floating_point.h"
#include "verify/plugin_host/memory.h"

namespace bitflash::verify {
namespace {

using wire::Outcome;
using wire::Report;
using wire::Stage;

template <size_t N>
void CopyText(char (&to)[N], const char* from) {
  std::snprintf(to, N, "%s", from ? from : "");
}

class Worker {
 public:
  explicit Worker(LastWords* last_words) : last_words_(last_words), pid_(getpid()) {}

  void Load(const char* path, const char* json, Report& report);
  void Call(const wire::Request& request, int inputs, int outputs, Report& report);
  void Destroy() {
    if (!Has(&table_->destroy) || table_->destroy == nullptr) return;
    Guarded(Stage::kDestroy, nullptr, [&] { table_->destroy(self_); });
  }

 private:
  // True when the plug-in's table is long enough to hold the member.
  bool Has(const void* member) const {
    const auto end = static_cast<const std::byte*>(member) - reinterpret_cast<const std::byte*>(table_);
    return end + static_cast<std::ptrdiff_t>(sizeof(void*)) <= static_cast<std::ptrdiff_t>(table_->struct_size);
  }

  // Runs foreign code: with the default control word, and noting what it left of it.
  template <typename F>
  void Guarded(Stage stage, Report* report, F&& function) {
    SetFpControl(kDefaultFpControl);
    last_words_->stage = stage;
    function();
    last_words_->stage = Stage::kIdle;
    // A child that the plug-in forked and that came back here must not answer in its parent's name.
    if (getpid() != pid_) _exit(0);
    const uint64_t found = FpControl();
    SetFpControl(kDefaultFpControl);
    if (found != kDefaultFpControl && report != nullptr && !report->fp_changed) {
      report->fp_changed = 1;
      report->fp_expected = kDefaultFpControl;
      report->fp_found = found;
    }
  }

  // The answer to a return code of the plug-in.
  void Answer(Stage stage, int code, Report& report) {
    report.stage = stage;
    report.code = code;
    if (code == BITFLASH_PLUGIN_OK) return;
    report.outcome = code == BITFLASH_PLUGIN_UNSUPPORTED ? Outcome::kUnsupported : Outcome::kErrorCode;
    if (!Has(&table_->last_error) || table_->last_error == nullptr) return;
    Guarded(stage, &report, [&] { CopyText(report.text, table_->last_error(self_)); });
  }

  LastWords* last_words_;
  pid_t pid_;
  const bitflash_plugin* table_ = nullptr;
  void* self_ = nullptr;
};

void Worker::Load(const char* path, const char* json, Report& report) {
  void* library = nullptr;
  Guarded(Stage::kLoading, &report, [&] { library = dlopen(path, RTLD_NOW | RTLD_LOCAL); });
  if (library == nullptr) {
    report.outcome = Outcome::kNotLoaded;
    return CopyText(report.text, dlerror());
  }
  const auto entry = reinterpret_cast<decltype(&bitflash_plugin_entry)>(dlsym(library, "bitflash_plugin_entry"));
  report.outcome = Outcome::kWrongAbi;
  if (entry == nullptr) {
    return CopyText(report.text, "it does not export bitflash_plugin_entry (verify/plugin_abi.h)");
  }
  Guarded(Stage::kEntry, &report, [&] { table_ = entry(BITFLASH_PLUGIN_ABI_MAJOR); });
  const std::string ours = std::to_string(BITFLASH_PLUGIN_ABI_MAJOR);
  if (table_ == nullptr) {
    return CopyText(report.text, ("it does not serve version " + ours + " of the interface").c_str());
  }
  if (table_->abi_major != BITFLASH_PLUGIN_ABI_MAJOR) {
    const std::string text =
        "it speaks version " + std::to_string(table_->abi_major) + " of the interface: expected " + ours;
    return CopyText(report.text, text.c_str());
  }
  if (!Has(&table_->forward)) {
    const std::string text = "its table has struct_size " + std::to_string(table_->struct_size) +
                             ": expected at least " + std::to_string(offsetof(bitflash_plugin, supports)) +
                             ", up to the member forward";
    return CopyText(report.text, text.c_str());
  }
  if (table_->init == nullptr || table_->forward == nullptr) {
    return CopyText(report.text, "its table lacks init or forward");
  }
  report.outcome = Outcome::kOk;
  CopyText(report.name, table_->name);
  CopyText(report.version, table_->version);
  int code = 0;
  Guarded(Stage::kInit, &report, [&] { code = table_->init(&self_, json); });
  Answer(Stage::kInit, code, report);
}

void Worker::Call(const wire::Request& request, int inputs, int outputs, Report& report) {
  CallMemory memory;
  std::string error;
  if (!memory.Map(request, inputs, outputs, error)) {
    report.outcome = Outcome::kNoMemory;
    return CopyText(report.text, error.c_str());
  }
  const auto call = [&](Stage stage, auto* function) {
    int code = 0;
    const auto begin = std::chrono::steady_clock::now();
    Guarded(stage, &report, [&] {
      code = function(self_, memory.attention(), memory.tensor(wire::kQ), memory.tensor(wire::kK),
                      memory.tensor(wire::kV), memory.tensor(wire::kO), memory.lse());
    });
    report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    Answer(stage, code, report);
    return code == BITFLASH_PLUGIN_OK;
  };
  if (Has(&table_->supports) && table_->supports != nullptr && !call(Stage::kSupports, table_->supports)) return;
  call(Stage::kForward, table_->forward);
}

// False at the end of the conversation. Descriptors are -1 when none came.
bool Receive(wire::Request& request, int (&descriptors)[2]) {
  descriptors[0] = descriptors[1] = -1;
  iovec vector{&request, sizeof(request)};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(descriptors))];
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  ssize_t received;
  do {
    received = recvmsg(wire::kSocket, &message, MSG_CMSG_CLOEXEC);
  } while (received < 0 && errno == EINTR);
  if (received != sizeof(request)) return false;
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header != nullptr && header->cmsg_type == SCM_RIGHTS && header->cmsg_len == CMSG_LEN(sizeof(descriptors))) {
    std::memcpy(descriptors, CMSG_DATA(header), sizeof(descriptors));
  }
  return true;
}

bool Send(const Report& report) {
  std::fflush(nullptr);  // what the plug-in printed comes before the answer
  return send(wire::kSocket, &report, sizeof(report), MSG_NOSIGNAL) == sizeof(report);
}

}  // namespace

int Work(const char* plugin, const char* json, LastWords* last_words) {
  RecordFaults(&last_words->fault);
  Worker worker(last_words);
  Report loaded{};
  loaded.kind = wire::ReportKind::kLoaded;
  worker.Load(plugin, json, loaded);
  if (!Send(loaded) || loaded.outcome != Outcome::kOk) return 0;
  wire::Request request;
  int files[2];
  while (Receive(request, files)) {
    if (request.kind == wire::RequestKind::kShutdown) {
      worker.Destroy();
      std::fflush(nullptr);
      return 0;
    }
    Report done{};
    done.kind = wire::ReportKind::kDone;
    worker.Call(request, files[0], files[1], done);
    for (const int file : files) close(file);
    if (!Send(done)) return 0;
  }
  return 0;
}

}  // namespace bitflash::verify
