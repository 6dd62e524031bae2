// A plug-in with every fault that the runner must survive and name: init's text {"fault": "crash"} chooses one. The
// tests of verify/subjects/plugin.h; also a way to see what bitflash says about each.
#include <sys/mman.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <atomic>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "verify/examples/naive_attention.h"
#include "verify/plugin_abi.h"

namespace {

struct State {
  std::string fault;
  std::vector<char> cached;  // "stale": O of the first call
  int calls = 0;
};

// The string behind "fault" in a flat JSON object; a plug-in with real options uses a JSON library.
std::string FaultOf(const std::string& json) {
  const size_t key = json.find("\"fault\"");
  if (key == std::string::npos) return "";
  const size_t begin = json.find('"', json.find(':', key));
  const size_t end = json.find('"', begin + 1);
  return begin == std::string::npos || end == std::string::npos ? "" : json.substr(begin + 1, end - begin - 1);
}

[[noreturn]] void Sleep() {
  for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
}

void Crash() {
  static int* volatile nowhere = nullptr;  // volatile: or the compiler may leave the store out
  *nowhere = 1;
}

// Uses up the stack.
int Overflow(int depth) {
  volatile char frame[4096];
  frame[0] = static_cast<char>(depth);
  return depth < 0 ? 0 : Overflow(depth + 1) + frame[0];
}

void FlushToZero() {
#if defined(__x86_64__)
  _mm_setcsr(_mm_getcsr() | 0x8040);  // FTZ, DAZ: what crtfastmath.o does when a library with -ffast-math is loaded
#elif defined(__aarch64__)
  uint64_t control;
  __asm__ volatile("mrs %0, fpcr" : "=r"(control));
  __asm__ volatile("msr fpcr, %0" : : "r"(control | 1u << 24));
#endif
}

int Init(void** self, const char* json) {
  auto* state = new State;
  state->fault = FaultOf(json);
  *self = state;
  if (state->fault == "init-error") return -7;
  if (state->fault == "init-unsupported") return BITFLASH_PLUGIN_UNSUPPORTED;
  if (state->fault == "init-crash") Crash();
  if (state->fault == "init-hang") Sleep();
  return BITFLASH_PLUGIN_OK;
}

int Supports(void* self, const bitflash_attention*, const bitflash_tensor*, const bitflash_tensor*,
             const bitflash_tensor*, const bitflash_tensor*, const bitflash_tensor*) {
  return static_cast<State*>(self)->fault == "unsupported" ? BITFLASH_PLUGIN_UNSUPPORTED : BITFLASH_PLUGIN_OK;
}

int64_t ElementBytes(const bitflash_tensor& t) { return t.dtype == BITFLASH_DTYPE_FP32 ? 4 : 2; }

// From the first element to behind the last one.
int64_t ExtentBytes(const bitflash_tensor& t) {
  int64_t last = 0;
  for (int d = 0; d < t.ndim; ++d) last += (t.shape[d] - 1) * t.stride[d];
  return (last + 1) * ElementBytes(t);
}

char* Bytes(const bitflash_tensor& t) { return static_cast<char*>(t.data); }

void Touch(const char* address) { static_cast<void>(*const_cast<const volatile char*>(address)); }

// What happens before the correct answer is computed. False: an error is to be returned.
bool Misbehave(State& state, const bitflash_tensor& q, const bitflash_tensor& k, const bitflash_tensor& o,
               const bitflash_tensor* lse) {
  const std::string& fault = state.fault;
  if (fault == "crash") Crash();
  if (fault == "crash-second" && state.calls == 2) Crash();
  if (fault == "abort") std::abort();
  if (fault == "exit") std::_Exit(3);
  if (fault == "hang") Sleep();
  if (fault == "write-outside") std::memset(Bytes(o) + ExtentBytes(o), 1, 2);
  if (fault == "write-before") std::memset(Bytes(o) - 2, 1, 2);
  if (fault == "write-beside-lse" && lse) std::memset(Bytes(*lse) + ExtentBytes(*lse), 1, 2);
  if (fault == "write-between") std::memset(Bytes(o) + o.shape[3] * ElementBytes(o), 1, 2);
  if (fault == "read-outside") Touch(Bytes(k) + ExtentBytes(k));
  if (fault == "read-before") Touch(Bytes(k) - 1);
  if (fault == "write-input") std::memset(Bytes(q), 0, 2);
  if (fault == "unprotect-input") {
    const uintptr_t page = reinterpret_cast<uintptr_t>(q.data) & ~uintptr_t{4095};
    if (mprotect(reinterpret_cast<void*>(page), 4096, PROT_READ | PROT_WRITE) != 0) return false;
    std::memset(Bytes(q), 0, 2);
  }
  if (fault == "fast-math") FlushToZero();
  if (fault == "prints") {
    std::printf("to standard output\n");
    std::fprintf(stderr, "%s\n", std::string(100'000, 'x').c_str());
    std::fprintf(stderr, "the last line\n");
  }
  if (fault == "babbles") {
    for (;;) std::fprintf(stderr, "more and more and more and more and more and more and more and more\n");
  }
  if (fault == "forks") {
    // One child in the same group, one that hides in a session of its own, one that comes back from forward().
    if (fork() == 0) Sleep();
    if (fork() == 0) {
      setsid();
      if (fork() == 0) Sleep();
      Sleep();
    }
    static_cast<void>(fork());
  }
  if (fault == "kill-group") kill(0, SIGKILL);
  if (fault == "kill-host") {
    kill(getppid(), SIGKILL);
    Sleep();
  }
  if (fault == "crash-later") {
    std::thread([] {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      std::abort();
    }).detach();
  }
  if (fault == "overflow") std::printf("%d", Overflow(1));
  if (fault == "allocate") {
    void* memory = mmap(nullptr, size_t{8} << 30, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return false;
    munmap(memory, size_t{8} << 30);
  }
  if (fault == "close-all") {
    for (int descriptor = 0; descriptor < 64; ++descriptor) close(descriptor);
  }
  return fault != "error-code";
}

// What is done to the correct answer.
void Spoil(State& state, const bitflash_tensor& o) {
  const std::string& fault = state.fault;
  const size_t bytes = static_cast<size_t>(ExtentBytes(o));
  if (fault == "nondeterministic") *Bytes(o) = static_cast<char>(*Bytes(o) ^ (state.calls & 1));
  if (fault == "stale") {
    if (state.cached.size() == bytes) {
      std::memcpy(o.data, state.cached.data(), bytes);
    } else {
      state.cached.assign(Bytes(o), Bytes(o) + bytes);
    }
  }
}

int Forward(void* self, const bitflash_attention* attention, const bitflash_tensor* q, const bitflash_tensor* k,
            const bitflash_tensor* v, const bitflash_tensor* o, const bitflash_tensor* lse) {
  State& state = *static_cast<State*>(self);
  ++state.calls;
  if (!Misbehave(state, *q, *k, *o, lse)) return -42;
  bitflash_attention wrong = *attention;
  bitflash_tensor rows = *q;
  if (state.fault == "top-left") wrong.mask = BITFLASH_MASK_CAUSAL_TOP_LEFT;
  if (state.fault == "no-scale") wrong.scale = 1;
  if (state.fault == "no-lse") lse = nullptr;
  if (state.fault == "unwritten") rows.shape[2] -= 1;  // the last row of every head
  naive::Attention(wrong, rows, *k, *v, *o, lse);
  Spoil(state, *o);
  return BITFLASH_PLUGIN_OK;
}

const char* LastError(void* self) {
  return self && static_cast<State*>(self)->fault == "error-code" ? "the device is on fire" : nullptr;
}

void Destroy(void* self) {
  const std::string fault = static_cast<State*>(self)->fault;
  delete static_cast<State*>(self);
  if (fault == "destroy-crash") Crash();
  if (fault == "destroy-hang") Sleep();
}

}  // namespace

const bitflash_plugin* bitflash_plugin_entry(uint32_t) {
  static const bitflash_plugin table = {BITFLASH_PLUGIN_ABI_MAJOR,
                                        sizeof(bitflash_plugin),
                                        "faulty",
                                        nullptr,
                                        Init,
                                        Forward,
                                        Supports,
                                        LastError,
                                        Destroy};
  return &table;
}
