// What bitflash and bitflash-plugin-host say to each other: packets over a Unix socket between two executables of one
// build. Plain data; addresses never travel, memory does, as descriptors of memory files.
#ifndef BITFLASH_VERIFY_PLUGIN_HOST_WIRE_H_
#define BITFLASH_VERIFY_PLUGIN_HOST_WIRE_H_

#include <cstdint>

#include "verify/plugin_abi.h"

namespace bitflash::verify::wire {

// The first argument of the host, which must be its own: the two files may come from different builds.
// bitflash-plugin-host PROTOCOL MEMORY_LIMIT_BYTES PLUGIN JSON
inline constexpr char kProtocol[] = "bitflash-plugin-host/1";

// The host's end of the socket.
inline constexpr int kSocket = 3;

// Pieces of memory of one call, each between guard pages of its own.
enum Region : uint32_t { kQ, kK, kV, kO, kLse, kSeqlensQ, kSeqlensK, kSinks, kRegions };
inline constexpr const char* kRegionNames[kRegions] = {"Q", "K", "V", "O", "LSE", "seqlens_q", "seqlens_k", "sinks"};
constexpr bool IsOutput(uint32_t region) { return region == kO || region == kLse; }

// Address space that cannot be touched, on either side of a region. Far more than a page: a kernel that runs past an
// end usually does so by a tile.
inline constexpr int64_t kGuardBytes = 1 << 20;

struct RegionPlace {
  uint32_t present;
  uint32_t reserved;
  int64_t file_offset;   // in the memory file of the inputs or of the outputs; pages
  int64_t bytes;         // pages
  int64_t data_offset;   // of element (0, 0, ...) in the region
  int64_t extent_bytes;  // from there to the end of the last element
};

// bitflash asks. Carries two descriptors: the inputs, read-only, and the outputs.
enum class RequestKind : uint32_t { kCall, kShutdown };
struct Request {
  RequestKind kind;
  uint32_t v_is_in_k;  // V is the first columns of K; there is no region V
  RegionPlace regions[kRegions];
  bitflash_tensor tensors[kLse + 1];  // without data
  bitflash_attention attention;       // without pointers
};

// What the worker was doing.
enum class Stage : uint32_t { kLoading, kEntry, kInit, kIdle, kSupports, kForward, kDestroy };
inline constexpr const char* kStageNames[] = {
    "while it was loaded", "in bitflash_plugin_entry()", "in init()", "between calls", "in supports()", "in forward()",
    "in destroy()"};

// The host answers: kLoaded once, kDone to every call, kEnded last of all, sent by the supervisor when the worker is
// gone.
enum class ReportKind : uint32_t { kLoaded, kDone, kEnded };
enum class Outcome : uint32_t {
  kOk,
  kUnsupported,
  kErrorCode,  // code
  kNotLoaded,  // text: dlerror
  kWrongAbi,   // text: what is wrong
  kNoMemory    // the host itself could not map the tensors; text
};

// Where an access violation happened, seen from the nearest region.
enum class Where : uint32_t { kNowhere, kBefore, kInside, kBehind };
enum class Access : uint32_t { kUnknown, kRead, kWrite };
struct Fault {
  uint32_t region;
  Where where;
  Access access;
  uint32_t reserved;
  int64_t distance;  // bytes: kBefore, to the first element; kInside, from it; kBehind, from the end of the last
};

struct Report {
  ReportKind kind;
  Outcome outcome;
  Stage stage;  // kEnded and kErrorCode
  int32_t code;
  int32_t wait_status;  // kEnded
  uint32_t fp_changed;  // by loading or the call
  uint64_t fp_expected, fp_found;
  double seconds;  // in forward()
  Fault fault;     // kEnded
  char name[64], version[64];
  char text[1024];
};

}  // namespace bitflash::verify::wire

#endif  // BITFLASH_VERIFY_PLUGIN_HOST_WIRE_H_
