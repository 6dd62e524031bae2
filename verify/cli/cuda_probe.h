// What CUDA says about this machine, without needing CUDA to build: the driver library is opened at run time.
#ifndef BITFLASH_VERIFY_CLI_CUDA_PROBE_H_
#define BITFLASH_VERIFY_CLI_CUDA_PROBE_H_

#include <cstdint>
#include <string>
#include <vector>

namespace bitflash::verify {

struct CudaDevice {
  std::string name;
  std::string arch;  // "sm90"
  int64_t sms = 0;
  int64_t memory_bytes = 0;
};

struct CudaProbe {
  std::string status;          // "ok", or what is missing: "no driver (libcuda.so.1 is not there)"
  std::string driver_version;  // newest CUDA version that the driver speaks, "12.4"; empty without a driver
  std::vector<CudaDevice> devices;
};

// Never fails: what goes wrong is the status.
CudaProbe ProbeCuda();

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_CUDA_PROBE_H_
