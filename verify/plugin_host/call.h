// One call of a plug-in laid out in memory: where its tensors lie, what is in and around them, what came back.
#ifndef BITFLASH_VERIFY_PLUGIN_HOST_CALL_H_
#define BITFLASH_VERIFY_PLUGIN_HOST_CALL_H_

#include <cstdint>
#include <optional>
#include <string>

#include "verify/plugin_host/memory_file.h"
#include "verify/plugin_host/wire.h"
#include "verify/subjects/plugin.h"

namespace bitflash::verify {

// Which guard the tensors touch, and with which NaN the outputs are filled.
enum class Variant : uint8_t { kEndAtGuard, kStartAtGuard };

class PluginCall {
 public:
  // `problem` is valid and outlives this. Throws UndecidedError for formats without a dtype.
  PluginCall(const Problem& problem, const PluginOptions& options, Variant variant);

  const wire::Request& request() const { return request_; }
  int inputs() const { return inputs_.get(); }
  int outputs() const { return outputs_->descriptor(); }

  // The rest is for after the call. What was changed outside of the outputs' elements ("changed 3 bytes beside O, the
  // first 2 bytes behind its end"), or "".
  std::string Outside();

  // The elements, padding 0; unwritten ones hold Poison.
  data::Tensor O() { return Gather(wire::kO); }
  std::optional<data::Tensor> Lse();

  // The bits that elements of an output hold before the call: a NaN without a zero byte, another for each variant.
  static uint32_t Poison(data::Format format, Variant variant);

 private:
  void Place(wire::Region region, int64_t extent_bytes, int64_t& file_bytes);
  void PlaceTensor(wire::Region region, data::Format format, const std::vector<int64_t>& shape, int64_t& file_bytes);
  // Appends the region to a file: `around` before, between and behind rows, which row(index, number, bytes) appends.
  template <typename Row>
  void WriteTensor(wire::Region region, int around, MemoryFile& file, Row&& row) const;
  void WriteInput(wire::Region region, const data::Tensor& values, MemoryFile& file) const;
  void WriteVector(wire::Region region, const void* values, MemoryFile& file) const;
  void WriteOutput(wire::Region region, MemoryFile& file) const;
  data::Tensor Gather(wire::Region region);
  data::Format FormatOf(wire::Region region) const;
  // Elements of the row that are no padding.
  int64_t Valid(wire::Region region, const int64_t* index) const;

  const Problem& problem_;
  const PluginOptions& options_;
  Variant variant_;
  data::Format output_format_;
  wire::Request request_{};
  std::optional<MemoryFile> outputs_;
  Descriptor inputs_;
};

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_PLUGIN_HOST_CALL_H_
