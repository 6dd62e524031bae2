#include "gpu/record/island.h"

#include "gpu/driver.h"

namespace bitflash::gpu {
namespace {

// The virtual memory management of the driver's API, which the runtime's has no part of.
struct Driver {
  decltype(&cuMemGetAllocationGranularity) granularity =
      DriverFunction<decltype(&cuMemGetAllocationGranularity)>("cuMemGetAllocationGranularity");
  decltype(&cuMemAddressReserve) reserve = DriverFunction<decltype(&cuMemAddressReserve)>("cuMemAddressReserve");
  decltype(&cuMemCreate) create = DriverFunction<decltype(&cuMemCreate)>("cuMemCreate");
  decltype(&cuMemMap) map = DriverFunction<decltype(&cuMemMap)>("cuMemMap");
  decltype(&cuMemSetAccess) allow = DriverFunction<decltype(&cuMemSetAccess)>("cuMemSetAccess");
  decltype(&cuMemUnmap) unmap = DriverFunction<decltype(&cuMemUnmap)>("cuMemUnmap");
  decltype(&cuMemRelease) release = DriverFunction<decltype(&cuMemRelease)>("cuMemRelease");
  decltype(&cuMemAddressFree) free = DriverFunction<decltype(&cuMemAddressFree)>("cuMemAddressFree");
};
const Driver& TheDriver() {
  static const Driver driver;
  return driver;
}

// A CUresult of this API is also a cudaError_t of the same meaning (cuda.h and driver_types.h share their numbers).
void Demand(CUresult result, const char* what) { Check(static_cast<int>(result), what); }

}  // namespace

Island::Island(int64_t bytes, Shore shore) : bytes_(bytes) {
  Check(cudaFree(nullptr), "cudaFree");  // the context is there from here on
  const Driver& driver = TheDriver();
  int device = 0;
  Check(cudaGetDevice(&device), "cudaGetDevice");
  CUmemAllocationProp properties{};
  properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  properties.location.id = device;
  size_t granule = 0;
  Demand(driver.granularity(&granule, &properties, CU_MEM_ALLOC_GRANULARITY_MINIMUM), "cuMemGetAllocationGranularity");
  mapped_bytes_ = (static_cast<size_t>(bytes) + granule - 1) / granule * granule;
  reserved_bytes_ = mapped_bytes_ + 2 * granule;
  Demand(driver.reserve(&reserved_, reserved_bytes_, granule, 0, 0), "cuMemAddressReserve");
  Demand(driver.create(&memory_, mapped_bytes_, &properties, 0), "cuMemCreate");
  mapped_ = reserved_ + granule;
  Demand(driver.map(mapped_, mapped_bytes_, 0, memory_, 0), "cuMemMap");
  CUmemAccessDesc access{};
  access.location = properties.location;
  access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  Demand(driver.allow(mapped_, mapped_bytes_, &access, 1), "cuMemSetAccess");
  data_ = shore == Shore::kFront ? mapped_ : mapped_ + mapped_bytes_ - static_cast<size_t>(bytes);
}

void Island::FromHost(const void* from) const {
  Check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  Check(cudaMemcpy(data(), from, static_cast<size_t>(bytes_), cudaMemcpyHostToDevice), "cudaMemcpy");
}

void Island::ToHost(void* to) const {
  Check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  Check(cudaMemcpy(to, data(), static_cast<size_t>(bytes_), cudaMemcpyDeviceToHost), "cudaMemcpy");
}

Island::~Island() {  // what fails here is not worth more than the test that has failed before
  cudaDeviceSynchronize();
  const Driver& driver = TheDriver();
  driver.unmap(mapped_, mapped_bytes_);
  driver.release(memory_);
  driver.free(reserved_, reserved_bytes_);
}

}  // namespace bitflash::gpu
