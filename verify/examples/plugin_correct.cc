// An example plug-in: a correct kernel (naive_attention.h) behind the interface of verify/plugin_abi.h. Start from
// this file to write one. README.md beside it has the command that compiles it.
#include <string>

#include "verify/examples/naive_attention.h"
#include "verify/plugin_abi.h"

namespace {

// What the plug-in keeps between calls. A plug-in for a GPU has its stream and its device buffers here.
struct State {
  std::string error;
};

int Init(void** self, const char* json) {
  static_cast<void>(json);  // this one has no options
  *self = new State;
  return BITFLASH_PLUGIN_OK;
}

int Supports(void* self, const bitflash_attention* attention, const bitflash_tensor* q, const bitflash_tensor* k,
             const bitflash_tensor* v, const bitflash_tensor* o, const bitflash_tensor* lse) {
  static_cast<void>(k), static_cast<void>(v), static_cast<void>(lse);
  State& state = *static_cast<State*>(self);
  if (!naive::Knows(*q) || !naive::Knows(*o)) {
    state.error = "only fp32, fp16 and bf16";
    return BITFLASH_PLUGIN_UNSUPPORTED;
  }
  if (attention->block_table != nullptr) {
    state.error = "no paged caches";
    return BITFLASH_PLUGIN_UNSUPPORTED;
  }
  return BITFLASH_PLUGIN_OK;
}

int Forward(void* self, const bitflash_attention* attention, const bitflash_tensor* q, const bitflash_tensor* k,
            const bitflash_tensor* v, const bitflash_tensor* o, const bitflash_tensor* lse) {
  static_cast<void>(self);
  naive::Attention(*attention, *q, *k, *v, *o, lse);
  return BITFLASH_PLUGIN_OK;
}

const char* LastError(void* self) { return self ? static_cast<State*>(self)->error.c_str() : nullptr; }

void Destroy(void* self) { delete static_cast<State*>(self); }

}  // namespace

const bitflash_plugin* bitflash_plugin_entry(uint32_t host_abi_major) {
  static const bitflash_plugin table = {
      BITFLASH_PLUGIN_ABI_MAJOR, sizeof(bitflash_plugin), "naive", "1.0", Init, Forward, Supports, LastError, Destroy};
  return host_abi_major == BITFLASH_PLUGIN_ABI_MAJOR ? &table : nullptr;
}
