// A user's kernel as a Subject: a shared library with the interface of plugin_abi.h, called in a process of its own.
//
// Isolation, for every call: each tensor has its own mapping between inaccessible pages, at its very end (or start), so
// that reads and writes beyond it crash; inputs are mapped from a sealed memory file, read-only for good; outputs come
// filled with NaNs that say what was left unwritten; gaps and slack are checked for changes; padding of the inputs is
// NaN. Two processes stand between the plug-in and this one (plugin_host/main.cc), so that a crash, a hang, exit() and
// what it forks are all contained, reported and cleaned up: no file, process, shared memory or descriptor remains.
//
// This keeps honest mistakes from passing and from doing harm. It is no sandbox: a plug-in runs with the user's rights.
#ifndef BITFLASH_VERIFY_SUBJECTS_PLUGIN_H_
#define BITFLASH_VERIFY_SUBJECTS_PLUGIN_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

#include "data/tensor.h"
#include "verify/subjects/subject.h"

namespace bitflash::verify {

// The plug-in, not the user's input or bitflash, is at fault (kHost: the installation). Exit code 4.
struct PluginError : std::runtime_error {
  enum class Kind : uint8_t {
    kHost,          // bitflash-plugin-host cannot be started or does not fit
    kLoad,          // dlopen refuses it: not a library, another architecture, unresolved symbols
    kAbi,           // no bitflash_plugin_entry, another major version, an incomplete table
    kErrorCode,     // init, supports or forward returned an error
    kCrash,         // ended by a signal
    kExit,          // called exit() or the like
    kTimeout,       // did not come back in time
    kGuardPage,     // read or wrote outside of every tensor
    kWroteOutside,  // wrote to an input, or between the rows of an output or right beside it
  };

  PluginError(Kind why, const std::string& message, std::string printed = "")
      : std::runtime_error(message), kind(why), stderr_tail(std::move(printed)) {}

  Kind kind;
  std::string stderr_tail;  // as in PluginRun
};

// "guard-page".
std::string_view Name(PluginError::Kind kind);

struct PluginOptions {
  std::string path;              // the library
  std::string init_json = "{}";  // for init(), as it is; at most 64 KiB, without NUL

  double timeout_s = 60;           // for loading, and for every call; more than 0
  int64_t memory_limit_bytes = 0;  // of address space (RLIMIT_AS), 0: none. CUDA reserves terabytes: none then. Without
                                   // effect in a build with the address sanitizer.
  std::string host_path;           // of bitflash-plugin-host; empty: beside the running executable

  std::optional<data::Format> output_format;  // of O; empty: that of the inputs, bf16 for fp8 (as FlashAttention-3)
  bool wants_lse = true;

  // How Q, K, V and O lie in memory. What the plug-in sees is always indexed [batch, heads, rows, columns].
  data::Layout layout = data::Layout::kBhsd;
  int64_t row_padding = 0;       // elements between one row and the next; 0 to 4096
  int64_t alignment_bytes = 16;  // of the first element; a power of two, 16 to 4096. Larger means coarser guards.

  uint64_t seed = 0;
  int64_t num_splits = 0;  // 0: the plug-in's choice
};

// One call, or what RunChecked found in several. Counts leave out padding.
struct PluginRun {
  Outputs outputs;            // padding is 0. No lse when it was not asked for or left wholly unwritten.
  int64_t unwritten_o = 0;    // elements that still hold the NaN that was there before the call
  int64_t unwritten_lse = 0;  // of an LSE that was asked for

  // RunChecked only.
  int64_t differing_o = 0;  // elements that were written in both calls, with other bits
  int64_t differing_lse = 0;
  int64_t stale_o = 0;  // elements, neither 0 nor NaN, that stayed the same when V was negated: not computed from V

  bool changed_fp_control = false;  // left flush to zero, another rounding or the like behind, loading included
  std::string fp_control_note;      // "forward: MXCSR 0x1f80 became 0x9fc0 ..."; empty without a change
  std::string stderr_tail;          // the last 4 KiB that it printed during the call, on either stream
  double seconds = 0;               // in forward()
};

class PluginSubject : public Subject {
 public:
  // Starts nothing yet. Throws UsageError for options that make no sense, InputError when there is no regular file
  // that can be read at `path`.
  explicit PluginSubject(PluginOptions options);
  ~PluginSubject() override;

  std::string name() const override;  // "libmykernel.so"

  // Of the plug-in's table: "my-attention 1.2.0". Loads it if need be, and throws as Run does.
  std::string description();

  // These three load and initialise the plug-in when that has not happened or its process has ended since. They throw
  // UsageError for an invalid problem, UndecidedError when the plug-in says that it does not support it or the
  // interface has no type for it (fp64, tf32), PluginError otherwise. One call at a time.
  Outputs Run(const Problem& problem) override;
  PluginRun RunOnce(const Problem& problem);
  // Twice the same, the second time with tensors at other addresses, flush with the guard in front, and other NaNs in
  // the outputs; in between once with V negated. `outputs` are those of the first call.
  PluginRun RunChecked(const Problem& problem);

  // Ends the plug-in in order, with destroy(). Throws PluginError when that fails; the destructor ignores it.
  void Close();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_SUBJECTS_PLUGIN_H_
