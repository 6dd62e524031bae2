#include "sim/execute.h"

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <memory>
#include <mutex>

#include "data/error.h"
#include "sim/count_stream.h"
#include "sim/exact_block.h"
#include "sim/faulty_block.h"
#include "sim/operands.h"

namespace bitflash::sim {
namespace {

// The matrices of every head of one chunk of heads: the caller's tensors, and scratch for what stays between launches.
class HeadMemory {
 public:
  HeadMemory(const Attention& a, const Tiling& t, const ExactInputs& in, const ExactOutputs& out)
      : a_(a), t_(t), in_(in), out_(out) {}

  // `head` counts Heads(a, t): batch x heads_q, or batch x heads_kv when query heads are packed.
  GlobalMatrices Of(int64_t head, const std::array<std::byte*, kTensorCount>& scratch,
                    const std::array<int64_t, kTensorCount>& scratch_row_bytes) const {
    const int64_t bytes = data::StorageBytes(a_.format);
    const int64_t per_sequence = t_.pack_gqa ? a_.heads_kv : a_.heads_q;
    const int64_t sequence = head / per_sequence, h = head % per_sequence;
    const int64_t kv = sequence * a_.heads_kv + (t_.pack_gqa ? h : h / a_.group());
    const int64_t q = sequence * a_.heads_q + (t_.pack_gqa ? h * a_.group() : h);
    const int64_t group = t_.pack_gqa ? a_.group() : 1;
    GlobalMatrices m;
    const auto set = [&](TensorId id, const void* data, int64_t first_row, int64_t row_bytes, int64_t rows_per_head,
                         int64_t g) {
      if (data == nullptr) return;
      m[static_cast<int>(id)] = {const_cast<std::byte*>(static_cast<const std::byte*>(data)) + first_row * row_bytes,
                                 row_bytes, g, rows_per_head * row_bytes};
    };
    set(TensorId::kQ, in_.q, q * a_.seqlen_q, a_.head_dim * bytes, a_.seqlen_q, group);
    set(TensorId::kK, in_.k, kv * a_.seqlen_k, a_.head_dim * bytes, 0, 1);
    set(TensorId::kV, in_.v, kv * a_.seqlen_k, a_.head_dim_v * bytes, 0, 1);
    set(TensorId::kO, out_.o, q * a_.seqlen_q, a_.head_dim_v * bytes, a_.seqlen_q, group);
    set(TensorId::kLse, out_.lse, q * a_.seqlen_q, 4, a_.seqlen_q, group);
    for (int id = 0; id < kTensorCount; ++id) {
      if (scratch[id] != nullptr) m[id] = {scratch[id], scratch_row_bytes[id], 1, 0};
    }
    return m;
  }

 private:
  const Attention& a_;
  const Tiling& t_;
  const ExactInputs& in_;
  const ExactOutputs& out_;
};

// Runs the launches of one chunk of heads.
class ExecuteStream final : public Stream {
 public:
  ExecuteStream(const Attention& a, const Tiling& t, const TensorCore& core, std::vector<GlobalMatrices> heads,
                int threads, std::vector<Executed::Launch>& launches, const std::function<void(double)>& progress,
                float output_scale, MachineFault fault)
      : a_(a),
        t_(t),
        core_(core),
        heads_(std::move(heads)),
        threads_(threads),
        launches_(launches),
        progress_(progress),
        output_scale_(output_scale),
        fault_(fault) {}

  void Launch(const LaunchSpec& spec, const Body& body) override {
    if (launches_.size() == launched_) launches_.push_back({std::string(spec.name), {}});
    Ledger& ledger = launches_[launched_++].ledger;
    // Blocks of one head before run r.
    std::vector<int64_t> before = {0};
    for (const BlockRun& run : spec.blocks) before.push_back(before.back() + run.count);
    const int64_t per_head = before.back();
    const int64_t blocks = per_head * static_cast<int64_t>(heads_.size());
    const int64_t group = t_.pack_gqa ? a_.group() : 1;
    std::mutex mutex;
    std::exception_ptr error;
    std::atomic<bool> failed = false;
    std::atomic<int64_t> done = 0;
    Block::Spans all;
#pragma omp parallel num_threads(threads_)
    {
      TilePool pool;
      Ledger mine;
      Block::Spans spans;
#pragma omp for schedule(dynamic) nowait
      for (int64_t n = 0; n < blocks; ++n) {
        if (failed) continue;
        try {
          const int64_t at = per_head - 1 - n % per_head;  // the last query tile has most keys under a causal mask
          const auto run = std::upper_bound(before.begin(), before.end(), at) - before.begin() - 1;
          const BlockIndex index = spec.blocks[run].at(at - before[run]);
          const KeyRuns keys = spec.keys ? spec.keys(index) : KeyRuns();
          if (fault_ == MachineFault::kNone) {
            ExactBlock block(spec.block, mine, spans, a_, group, core_, heads_[n / per_head], pool, output_scale_);
            body(block, index, keys);
          } else {
            const FaultPlace place{spec.name.ends_with("_combine"), spec.keys ? keys.keys() : Range{0, a_.seqlen_k}};
            FaultyBlock block(fault_, place, spec.block, mine, spans, a_, group, core_, heads_[n / per_head], pool,
                              output_scale_);
            body(block, index, keys);
          }
          const int64_t finished = ++done;
          if (progress_ && omp_get_thread_num() == 0)
            progress_(static_cast<double>(finished) / static_cast<double>(blocks));
        } catch (...) {
          const std::lock_guard lock(mutex);
          if (!error) error = std::current_exception();
          failed = true;
        }
      }
      const std::lock_guard lock(mutex);
      ledger += mine;
      Merge(all.read, spans.read);
      Merge(all.write, spans.write);
    }
    if (error) std::rethrow_exception(error);
    spans_.push_back(all);
  }

  const std::vector<Block::Spans>& spans() const { return spans_; }

 private:
  static void Merge(std::array<Block::Span, kTensorCount>& into, const std::array<Block::Span, kTensorCount>& from) {
    for (int id = 0; id < kTensorCount; ++id) {
      into[id].row_begin = std::min(into[id].row_begin, from[id].row_begin);
      into[id].row_end = std::max(into[id].row_end, from[id].row_end);
      into[id].col_begin = std::min(into[id].col_begin, from[id].col_begin);
      into[id].col_end = std::max(into[id].col_end, from[id].col_end);
      if (from[id].row_begin < from[id].row_end) into[id].matrix = from[id].matrix;
    }
  }

  const Attention& a_;
  const Tiling& t_;
  const TensorCore& core_;
  const std::vector<GlobalMatrices> heads_;
  const int threads_;
  std::vector<Executed::Launch>& launches_;
  const std::function<void(double)> progress_;
  const float output_scale_;
  const MachineFault fault_;
  size_t launched_ = 0;
  std::vector<Block::Spans> spans_;
};

int64_t RowBytes(const GlobalMatrix& m) { return m.cols * data::StorageBytes(m.format); }

}  // namespace

Executed Execute(const Kernel& kernel, const Attention& a, const Tiling& t, std::string_view arch,
                 const ExactInputs& inputs, const ExactOutputs& outputs, const ExecuteOptions& options) {
  data::Validate(a);
  const int64_t head_end = options.head_end < 0 ? a.heads_q : options.head_end;
  if (options.head_begin < 0 || options.head_begin >= head_end || head_end > a.heads_q) {
    throw data::UsageError("heads " + std::to_string(options.head_begin) + ":" + std::to_string(head_end) +
                           ": expected BEGIN:END with 0 <= BEGIN < END <= " + std::to_string(a.heads_q));
  }
  if (options.output_scale != 1 && kernel.keys_outside) {
    throw data::UsageError("kernel " + std::string(kernel.name) +
                           " rounds O once a key tile: expected an output scale of 1");
  }
  const bool wgmma = kernel.mma == MmaInstruction::kWgmma;
  const TensorCore& core = FindTensorCore(arch, a.format, Format::kFp32, wgmma ? "wgmma" : "mma.sync");
  const int threads = options.threads > 0 ? options.threads : omp_get_max_threads();

  // The heads to run, as the launches count them.
  std::vector<int64_t> heads;
  const int64_t per_sequence = t.pack_gqa ? a.heads_kv : a.heads_q;
  const int64_t per_head = t.pack_gqa ? a.group() : 1;
  for (int64_t sequence = 0; sequence < a.batch; ++sequence) {
    for (int64_t h = options.head_begin / per_head; h < (head_end + per_head - 1) / per_head; ++h)
      heads.push_back(sequence * per_sequence + h);
  }

  // Without scratch all heads are one chunk.
  const std::vector<GlobalMatrix> scratch = kernel.Scratch ? kernel.Scratch(a, t) : std::vector<GlobalMatrix>();
  const size_t chunk = scratch.empty() ? heads.size() : std::min<size_t>(heads.size(), threads);
  std::vector<std::vector<AlignedArray<std::byte>>> buffers(scratch.empty() ? 0 : chunk);
  for (auto& of_head : buffers) {
    of_head.resize(scratch.size());
    for (size_t s = 0; s < scratch.size(); ++s)
      of_head[s].Resize(std::max<int64_t>(1, scratch[s].rows * RowBytes(scratch[s])));
  }

  const HeadMemory memory(a, t, inputs, outputs);
  Executed executed;
  std::vector<Block::Spans> spans;
  for (size_t begin = 0; begin < heads.size(); begin += chunk) {
    std::vector<GlobalMatrices> matrices;
    for (size_t n = begin; n < std::min(heads.size(), begin + chunk); ++n) {
      std::array<std::byte*, kTensorCount> data{};
      std::array<int64_t, kTensorCount> row_bytes{};
      for (size_t s = 0; s < scratch.size(); ++s) {
        data[static_cast<int>(scratch[s].tensor)] = buffers[n - begin][s].data();
        row_bytes[static_cast<int>(scratch[s].tensor)] = RowBytes(scratch[s]);
      }
      matrices.push_back(memory.Of(heads[n], data, row_bytes));
    }
    const auto progress = [&](double share) {
      const double whole = static_cast<double>(heads.size());
      options.progress(
          (static_cast<double>(begin) + share * static_cast<double>(std::min(chunk, heads.size() - begin))) / whole);
    };
    ExecuteStream stream(a, t, core, std::move(matrices), threads, executed.launches,
                         options.progress ? progress : std::function<void(double)>(), options.output_scale,
                         options.fault);
    kernel.Run(stream, a, t, kernel.recipe);
    spans = stream.spans();
  }
  for (size_t n = 0; n < executed.launches.size(); ++n) {
    AddSpans(executed.launches[n].ledger.hbm_compulsory, spans[n].read, &Traffic::read);
    AddSpans(executed.launches[n].ledger.hbm_compulsory, spans[n].write, &Traffic::write);
    executed.total += executed.launches[n].ledger;
  }
  return executed;
}

}  // namespace bitflash::sim
