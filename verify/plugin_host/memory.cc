#include "verify/plugin_host/memory.h"

#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <cerrno>
#include <cstring>

namespace bitflash::verify {
namespace {

using wire::Access;
using wire::Fault;
using wire::Where;

// What the signal handler looks at.
struct MappedRegion {
  std::byte* reserved = nullptr;  // start of the first guard
  int64_t reserved_bytes = 0;
  uintptr_t begin = 0, end = 0;  // of the elements
};
MappedRegion mapped[wire::kRegions];
Fault* fault_record = nullptr;

Access AccessOf(const void* context) {
#if defined(__x86_64__)
  // Bit 1 of the page-fault error code: a write (Intel SDM volume 3, 4.7).
  const auto* machine = &static_cast<const ucontext_t*>(context)->uc_mcontext;
  return machine->gregs[REG_ERR] & 2 ? Access::kWrite : Access::kRead;
#else
  static_cast<void>(context);
  return Access::kUnknown;
#endif
}

// Only what is allowed in a signal handler.
void OnFault(int signal_number, siginfo_t* info, void* context) {
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  const bool by_access = info->si_code > 0;  // not by kill() or raise()
  for (uint32_t region = 0; by_access && region < wire::kRegions; ++region) {
    const MappedRegion& m = mapped[region];
    if (m.reserved == nullptr || address - reinterpret_cast<uintptr_t>(m.reserved) >= uint64_t(m.reserved_bytes)) {
      continue;
    }
    Fault fault{region, Where::kInside, AccessOf(context), 0, static_cast<int64_t>(address - m.begin)};
    if (address < m.begin) {
      fault.where = Where::kBefore;
      fault.distance = static_cast<int64_t>(m.begin - address);
    } else if (address >= m.end) {
      fault.where = Where::kBehind;
      fault.distance = static_cast<int64_t>(address - m.end);
    }
    *fault_record = fault;
    break;
  }
  // Back to the instruction, which now ends the process; a signal that was sent must be sent again.
  signal(signal_number, SIG_DFL);
  if (!by_access) raise(signal_number);
}

// The start of the region, between two guards; nullptr with errno.
std::byte* MapRegion(const wire::RegionPlace& place, int file, int protection, MappedRegion& m) {
  const int64_t reserved_bytes = place.bytes + 2 * wire::kGuardBytes;
  void* reserved = mmap(nullptr, reserved_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return nullptr;
  m.reserved = static_cast<std::byte*>(reserved);
  m.reserved_bytes = reserved_bytes;
  std::byte* region = m.reserved + wire::kGuardBytes;
  if (mmap(region, place.bytes, protection, MAP_SHARED | MAP_FIXED | MAP_POPULATE, file, place.file_offset) ==
      MAP_FAILED) {
    return nullptr;
  }
  m.begin = reinterpret_cast<uintptr_t>(region + place.data_offset);
  m.end = m.begin + place.extent_bytes;
  return region;
}

}  // namespace

bool CallMemory::Map(const wire::Request& request, int inputs, int outputs, std::string& error) {
  void* data[wire::kRegions] = {};
  for (uint32_t region = 0; region < wire::kRegions; ++region) {
    const wire::RegionPlace& place = request.regions[region];
    if (!place.present) continue;
    const bool output = wire::IsOutput(region);
    std::byte* start =
        MapRegion(place, output ? outputs : inputs, output ? PROT_READ | PROT_WRITE : PROT_READ, mapped[region]);
    if (start == nullptr) {
      error = std::string("cannot map ") + wire::kRegionNames[region] + ": " + std::strerror(errno);
      return false;
    }
    data[region] = start + place.data_offset;
  }
  if (request.v_is_in_k) data[wire::kV] = data[wire::kK];
  for (uint32_t tensor = 0; tensor <= wire::kLse; ++tensor) {
    tensors_[tensor] = request.tensors[tensor];
    tensors_[tensor].data = data[tensor];
  }
  attention_ = request.attention;
  attention_.seqlens_q = static_cast<const int64_t*>(data[wire::kSeqlensQ]);
  attention_.seqlens_k = static_cast<const int64_t*>(data[wire::kSeqlensK]);
  attention_.sinks = static_cast<const double*>(data[wire::kSinks]);
  return true;
}

CallMemory::~CallMemory() {
  for (MappedRegion& m : mapped) {
    if (m.reserved != nullptr) munmap(m.reserved, m.reserved_bytes);
    m = {};
  }
}

void RecordFaults(Fault* record) {
  fault_record = record;
  // A stack of its own: the fault may be that there is no stack left.
  static std::byte stack[64 << 10];
  stack_t alternative{};
  alternative.ss_sp = stack;
  alternative.ss_size = sizeof(stack);
  sigaltstack(&alternative, nullptr);
  struct sigaction action {};
  action.sa_sigaction = OnFault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  for (const int number : {SIGSEGV, SIGBUS}) sigaction(number, &action, nullptr);
}

}  // namespace bitflash::verify
