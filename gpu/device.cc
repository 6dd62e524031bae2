#include "gpu/device.h"

#include <cuda_runtime.h>

#include <cstddef>
#include <fstream>
#include <utility>

#include "data/error.h"

namespace bitflash::gpu {
namespace {

std::string Version(int version) { return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10); }

// "gpu/device.cc" of an absolute path: what an error names is the same on every machine.
std::string_view FromRoot(std::string_view path) {
  const size_t folder = path.rfind("/gpu/");
  return folder == path.npos ? path : path.substr(folder + 1);
}

// No CUDA call tells the release; empty where this file does not exist.
std::string DriverRelease() {
  std::ifstream file("/proc/driver/nvidia/version");
  for (std::string word; file >> word;) {
    if (word.find_first_not_of("0123456789.") == word.npos && word.find('.') != word.npos) return word;
  }
  return "";
}

int64_t Attribute(cudaDeviceAttr attribute, int ordinal) {
  int value = 0;
  Check(cudaDeviceGetAttribute(&value, attribute, ordinal), "cudaDeviceGetAttribute");
  return value;
}

}  // namespace

void Check(int error, const char* what, CallSite at) {
  if (error == cudaSuccess) return;
  const auto code = static_cast<cudaError_t>(error);
  throw CudaError(std::string(FromRoot(at.file)) + ":" + std::to_string(at.line) + ": " + what + ": " +
                      cudaGetErrorName(code) + " (" + cudaGetErrorString(code) + ")",
                  error);
}

void CheckLaunch(const char* kernel, CallSite at) { Check(cudaGetLastError(), kernel, at); }

int DeviceCount() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) cudaGetLastError();  // not an error of the next call
  return error == cudaSuccess ? count : 0;
}

Device CurrentDevice() {
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess || count == 0) {
    cudaGetLastError();
    throw data::UndecidedError(std::string("no CUDA device: ") +
                               (error == cudaSuccess ? "the driver sees none" : cudaGetErrorString(error)));
  }
  Device device;
  Check(cudaGetDevice(&device.ordinal), "cudaGetDevice");
  cudaDeviceProp properties;
  Check(cudaGetDeviceProperties(&properties, device.ordinal), "cudaGetDeviceProperties");
  device.name = properties.name;
  device.major = properties.major;
  device.minor = properties.minor;
  device.sms = properties.multiProcessorCount;
  device.memory_bytes = static_cast<int64_t>(properties.totalGlobalMem);
  device.l2_bytes = properties.l2CacheSize;
  device.shared_bytes_per_block = static_cast<int64_t>(properties.sharedMemPerBlockOptin);
  device.shared_bytes_per_sm = static_cast<int64_t>(properties.sharedMemPerMultiprocessor);
  device.shared_bytes_reserved = static_cast<int64_t>(properties.reservedSharedMemPerBlock);
  device.registers_per_sm = properties.regsPerMultiprocessor;
  device.threads_per_sm = properties.maxThreadsPerMultiProcessor;
  device.threads_per_block = properties.maxThreadsPerBlock;
  device.blocks_per_sm = properties.maxBlocksPerMultiProcessor;
  device.memory_bus_bits = properties.memoryBusWidth;
  device.clock_khz = Attribute(cudaDevAttrClockRate, device.ordinal);
  device.memory_clock_khz = Attribute(cudaDevAttrMemoryClockRate, device.ordinal);
  int version = 0;
  Check(cudaDriverGetVersion(&version), "cudaDriverGetVersion");
  device.driver_cuda = Version(version);
  Check(cudaRuntimeGetVersion(&version), "cudaRuntimeGetVersion");
  device.runtime_cuda = Version(version);
  device.driver = DriverRelease();
  return device;
}

Buffer::Buffer(int64_t bytes, CallSite at) : bytes_(bytes) {
  if (bytes == 0) return;
  const std::string what = "cudaMalloc of " + std::to_string(bytes) + " bytes";
  Check(cudaMalloc(&data_, static_cast<size_t>(bytes)), what.c_str(), at);
}

Buffer::~Buffer() { cudaFree(data_); }

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

Stream::Stream() { Check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags"); }

Stream::~Stream() { cudaStreamDestroy(stream_); }

void Stream::Synchronize(CallSite at) { Check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize", at); }

void Stream::ToDevice(const Buffer& to, const void* from, int64_t bytes, int64_t offset) {
  if (bytes == 0) return;
  Check(cudaMemcpyAsync(to.as<std::byte>() + offset, from, static_cast<size_t>(bytes), cudaMemcpyHostToDevice, stream_),
        "cudaMemcpyAsync to the device");
  Synchronize();
}

void Stream::ToHost(void* to, const Buffer& from, int64_t bytes, int64_t offset) {
  if (bytes == 0) return;
  Check(cudaMemcpyAsync(to, from.as<std::byte>() + offset, static_cast<size_t>(bytes), cudaMemcpyDeviceToHost, stream_),
        "cudaMemcpyAsync to the host");
  Synchronize();
}

void Stream::Fill(const Buffer& buffer, uint8_t value) {
  if (buffer.bytes() == 0) return;
  Check(cudaMemsetAsync(buffer.data(), value, static_cast<size_t>(buffer.bytes()), stream_), "cudaMemsetAsync");
}

Event::Event() { Check(cudaEventCreate(&event_), "cudaEventCreate"); }

Event::~Event() { cudaEventDestroy(event_); }

void Event::Record(Stream& stream) { Check(cudaEventRecord(event_, stream.get()), "cudaEventRecord"); }

double Event::MillisecondsSince(const Event& earlier) const {
  Check(cudaEventSynchronize(event_), "cudaEventSynchronize");
  float milliseconds = 0;
  Check(cudaEventElapsedTime(&milliseconds, earlier.event_, event_), "cudaEventElapsedTime");
  return milliseconds;
}

}  // namespace bitflash::gpu
