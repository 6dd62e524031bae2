// bitflash's end of the conversation with bitflash-plugin-host.
#ifndef BITFLASH_VERIFY_PLUGIN_HOST_PROCESS_H_
#define BITFLASH_VERIFY_PLUGIN_HOST_PROCESS_H_

#include <sys/types.h>

#include <chrono>
#include <string>

#include "verify/plugin_host/memory_file.h"
#include "verify/plugin_host/wire.h"
#include "verify/subjects/plugin.h"

namespace bitflash::verify {

// A host with a loaded and initialised plug-in. When anything throws, the host is gone and so is what it left behind.
class HostProcess {
 public:
  // Throws PluginError; UndecidedError when init() says that it is not supported.
  explicit HostProcess(const PluginOptions& options);
  ~HostProcess();
  HostProcess(const HostProcess&) = delete;
  HostProcess& operator=(const HostProcess&) = delete;

  const wire::Report& loaded() const { return loaded_; }

  // Returns kDone. Throws PluginError when the process ends or the time is over.
  wire::Report Call(const wire::Request& request, int inputs, int outputs);

  // Throws PluginError when destroy() does not come to an end.
  void Close();

  // The last 4 KiB that the plug-in printed since the last time.
  std::string TakePrinted();

  // "libx.so: message", of the kind, with what was printed.
  [[noreturn]] void Fail(PluginError::Kind kind, const std::string& message);

 private:
  void Start();
  // The next report. At the end of the time: ends the host and throws.
  wire::Report Await();
  // False when there is none before `deadline`, or none will come: then `gone` is set.
  bool Receive(std::chrono::steady_clock::time_point deadline, wire::Report& report, bool& gone);
  void DrainPrinted();
  [[noreturn]] void FailEnded(const wire::Report& ended);
  // Has everything killed; true with the supervisor's last report.
  bool End(wire::Report& ended);
  int Reap();

  const PluginOptions& options_;
  pid_t supervisor_ = 0;
  Descriptor socket_, printed_pipe_;
  std::string printed_;
  bool is_loaded_ = false;
  wire::Report loaded_{};
};

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_PLUGIN_HOST_PROCESS_H_
