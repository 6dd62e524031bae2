// The host side of a GPU: devices, memory, streams, time. Nothing of CUDA's own headers is needed to include this.
#ifndef BITFLASH_GPU_DEVICE_H_
#define BITFLASH_GPU_DEVICE_H_

#include <cstdint>
#include <stdexcept>
#include <string>

// CUDA's own names for a stream and an event (driver_types.h), so that callers may pass theirs.
struct CUstream_st;
struct CUevent_st;

namespace bitflash::gpu {

// A CUDA call failed: "gpu/device.cc:41: cudaMalloc of 8 GiB: cudaErrorMemoryAllocation (out of memory)".
struct CudaError : std::runtime_error {
  CudaError(const std::string& text, int error) : std::runtime_error(text), code(error) {}
  int code;  // cudaError_t
};

// Where a call stands. std::source_location needs clang 16 (__builtin_source_location); these builtins do not.
struct CallSite {
  const char* file;
  int line;
  static constexpr CallSite Here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return {file, line};
  }
};

// Throws CudaError unless `error` (a cudaError_t) is success. `what` names the call and its values.
void Check(int error, const char* what, CallSite at = CallSite::Here());
// The same for the kernel launched just before.
void CheckLaunch(const char* kernel, CallSite at = CallSite::Here());

// What the runtime says about a device. Sizes in bytes.
struct Device {
  int ordinal = 0;
  std::string name;  // "NVIDIA H200"
  int major = 0, minor = 0;
  int64_t sms = 0;
  int64_t memory_bytes = 0;
  int64_t l2_bytes = 0;
  int64_t shared_bytes_per_block = 0;  // that a block may ask for
  int64_t shared_bytes_per_sm = 0;
  int64_t shared_bytes_reserved = 0;  // that the system takes of every block
  int64_t registers_per_sm = 0;
  int64_t threads_per_sm = 0;
  int64_t threads_per_block = 0;
  int64_t blocks_per_sm = 0;
  int64_t clock_khz = 0;         // highest SM clock
  int64_t memory_clock_khz = 0;  // 0 where the runtime does not say
  int64_t memory_bus_bits = 0;
  std::string driver;        // release of the driver, "580.159.04"; empty where it is not told
  std::string driver_cuda;   // newest CUDA that the driver speaks, "13.0"
  std::string runtime_cuda;  // the CUDA that this was built with

  std::string arch() const { return "sm" + std::to_string(major * 10 + minor); }
};

// Devices that CUDA sees; 0 when there is none or no driver.
int DeviceCount();

// The current device. Throws UndecidedError (exit code 5) when there is none, saying why.
Device CurrentDevice();

// Device memory, freed on destruction. Addresses are multiples of 256.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t bytes, CallSite at = CallSite::Here());
  ~Buffer();
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;

  void* data() const { return data_; }
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  int64_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

// A stream of its own, in which launches and copies follow one another.
class Stream {
 public:
  Stream();
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  CUstream_st* get() const { return stream_; }
  // Waits; throws CudaError when anything in the stream failed.
  void Synchronize(CallSite at = CallSite::Here());

  // Copies wait for the bytes; `bytes` of 0 copy nothing.
  void ToDevice(const Buffer& to, const void* from, int64_t bytes, int64_t offset = 0);
  void ToHost(void* to, const Buffer& from, int64_t bytes, int64_t offset = 0);
  // Every byte of the buffer; 0xFF makes NaNs of all floating-point formats.
  void Fill(const Buffer& buffer, uint8_t value);

 private:
  CUstream_st* stream_ = nullptr;
};

// A point in a stream.
class Event {
 public:
  Event();
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void Record(Stream& stream);
  // Waits for both. Milliseconds from `earlier` to this.
  double MillisecondsSince(const Event& earlier) const;

 private:
  CUevent_st* event_ = nullptr;
};

}  // namespace bitflash::gpu

#endif  // BITFLASH_GPU_DEVICE_H_
