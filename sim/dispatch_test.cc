// The order of blocks: complete, as the kernels' sources say, and the same for bytes and times.
#include "sim/dispatch.h"

#include <doctest/doctest.h>

#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "data/attention_testing.h"
#include "data/gpu.h"
#include "sim/operands.h"
#include "sim/time/schedule.h"
#include "sim/time/work.h"

namespace bitflash::sim {
namespace {

using data::PlainAttention;

// What a machine would see of one launch.
struct Seen {
  std::string name;
  Dispatch dispatch;
  std::vector<DispatchedBlock> order;
  std::vector<int64_t> tiles;  // of the blocks in that order; 1 without keys
};

class DispatchStream final : public Stream {
 public:
  DispatchStream(const Kernel& kernel, const Attention& a, const Tiling& t) : kernel_(kernel), a_(a), t_(t) {}
  void Launch(const LaunchSpec& spec, const Body&) override {
    Seen& s = seen.emplace_back(Seen{std::string(spec.name), DispatchOf(kernel_, spec, a_, t_), {}, {}});
    s.order = InOrder(s.dispatch, spec);
    for (const DispatchedBlock& block : s.order) {
      const BlockIndex& index = s.dispatch.blocks[static_cast<size_t>(block.block)];
      s.tiles.push_back(spec.keys && !s.dispatch.block_per_tile ? spec.keys(index).tiles() : 1);
    }
  }
  std::vector<Seen> seen;

 private:
  const Kernel& kernel_;
  const Attention& a_;
  const Tiling& t_;
};

struct Problem {
  const char* kernel;
  Attention attention;
};

std::vector<Problem> Problems() {
  const data::Mask causal = data::Mask::Causal();
  std::vector<Problem> problems;
  for (const char* kernel : {"standard", "fa1", "fa2", "fa3", "pytorch-fa2", "cudnn-9.19-sm90", "split-kv"}) {
    problems.push_back({kernel, PlainAttention(2, 4, 2, 777, 1000, 64)});
    problems.push_back({kernel, PlainAttention(3, 5, 5, 600, 700, 128, causal)});
  }
  problems.push_back({"split-kv", PlainAttention(2, 8, 2, 1, 5000, 128)});
  problems.push_back({"pytorch-fa2", PlainAttention(1, 8, 2, 1, 5000, 128)});
  problems.push_back({"fa2", PlainAttention(1, 2, 2, 512, 4096, 128, data::Mask::Window(255, 0))});
  return problems;
}

struct Resolved {
  const Kernel& kernel;
  Attention a;
  data::Gpu gpu;
  Tiling t;
  explicit Resolved(const Problem& problem)
      : kernel(FindKernel(problem.kernel)),
        a(problem.attention),
        gpu(data::LoadGpu("h100")),
        t(kernel.DefaultTiling(a, gpu)) {}
  std::vector<Seen> seen() const {
    DispatchStream stream(kernel, a, t);
    kernel.Run(stream, a, t, kernel.recipe);
    return stream.seen;
  }
};

// "0:3 0:2 1:3": heads and query tiles of the first blocks.
std::string FirstOf(const Seen& seen, size_t count) {
  std::string text;
  for (size_t n = 0; n < std::min(count, seen.order.size()); ++n) {
    const DispatchedBlock& block = seen.order[n];
    text += (n == 0 ? "" : " ") + std::to_string(block.head) + ":" +
            std::to_string(seen.dispatch.blocks[static_cast<size_t>(block.block)].i);
  }
  return text;
}

TEST_CASE("every block of every head starts once") {
  for (const Problem& problem : Problems()) {
    const Resolved r(problem);
    CAPTURE(problem.kernel);
    for (const Seen& seen : r.seen()) {
      CAPTURE(seen.name);
      std::set<std::tuple<int, int, int>> once;
      for (const DispatchedBlock& block : seen.order) {
        CHECK(block.head < seen.dispatch.heads.heads);
        CHECK(once.insert({block.head, block.block, block.tile}).second);
      }
      if (!seen.dispatch.block_per_tile)
        CHECK(once.size() == seen.dispatch.blocks.size() * static_cast<size_t>(seen.dispatch.heads.heads));
    }
  }
}

TEST_CASE("the time model has the same blocks in the same order") {
  for (const Problem& problem : Problems()) {
    const Resolved r(problem);
    CAPTURE(problem.kernel);
    const std::vector<LaunchWork> works = WorkOf(r.kernel, r.a, r.t);
    const std::vector<Seen> all = r.seen();
    REQUIRE(works.size() == all.size());
    for (size_t n = 0; n < works.size(); ++n) {
      const LaunchWork& work = works[n];
      const Seen& seen = all[n];
      CAPTURE(work.name);
      if (seen.name.ends_with("combine") || seen.name.ends_with("softmax") || seen.name.starts_with("fa1")) {
        CHECK(work.orders.size() == 1);  // blocks of equal work: any order
        continue;
      }
      // One slot takes them in order.
      std::vector<int64_t> tiles, heads;
      Simulate(work, {.sms = 1, .tile_cycles = {1}}, [&](const Placement& p) {
        CHECK(p.block == static_cast<int64_t>(tiles.size()));
        tiles.push_back(p.tiles);
        heads.push_back(p.head);
      });
      REQUIRE(tiles.size() == seen.order.size());
      CHECK(tiles == seen.tiles);
      CHECK(work.fixed_shares == seen.dispatch.fixed_shares);
      for (size_t b = 0; b < heads.size(); ++b) CHECK(heads[b] == seen.order[b].head);
    }
  }
}

TEST_CASE("orders that are written down: fa2, PyTorch's, cuDNN's, standard's") {
  const data::Mask causal = data::Mask::Causal();
  const auto first = [](const Problem& problem, size_t launch, size_t count) {
    return FirstOf(Resolved(problem).seen().at(launch), count);
  };
  // gpu/fa2_forward.cuh: row0 = (gridDim.x - 1 - blockIdx.x) * Br.
  CHECK(first({"fa2", PlainAttention(2, 2, 2, 384, 384, 128, causal)}, 0, 7) == "0:2 0:1 0:0 1:2 1:1 1:0 2:2");
  // blockIdx = (query tile, sequence, head): the same head of the next sequence comes next.
  CHECK(first({"pytorch-fa2", PlainAttention(2, 200, 200, 384, 384, 128, causal)}, 0, 7) ==
        "0:0 0:1 0:2 200:0 200:1 200:2 1:0");
  // gpu/standard_scores_hopper.cuh: key tiles, query tiles ascending, heads; gpu/standard_output_hopper.cuh descending.
  CHECK(first({"standard", PlainAttention(1, 2, 2, 512, 512, 128, causal)}, 0, 7) == "0:0 0:0 0:1 0:1 0:1 0:1 1:0");
  CHECK(first({"standard", PlainAttention(1, 2, 2, 512, 512, 128, causal)}, 2, 3) == "0:1 0:0 1:1");
}

TEST_CASE("fa3: heads with 4 MiB of K and V take turns, with a mask 16 MiB or four heads, longest tiles first") {
  const data::Mask causal = data::Mask::Causal();
  const auto first = [](const Attention& a, size_t count) { return FirstOf(Resolved({"fa3", a}).seen().at(0), count); };
  CHECK(first(PlainAttention(1, 4, 4, 256, 4096, 128), 8) == "0:0 1:0 0:1 1:1 2:0 3:0 2:1 3:1");
  CHECK(first(PlainAttention(1, 5, 5, 384, 4096, 64), 10) == "0:0 1:0 2:0 3:0 0:1 1:1 2:1 3:1 4:0 4:1");
  // Heads that share K and V stay together; 8 Ki keys of head_dim 128 are 4 MiB.
  CHECK(first(PlainAttention(1, 6, 2, 256, 8192, 128), 7) == "0:0 1:0 2:0 0:1 1:1 2:1 3:0");
  // 64 Ki keys are 32 MiB, and yet four heads take turns; 4 Ki keys 2 MiB, so eight do.
  CHECK(first(PlainAttention(1, 8, 8, 256, 65536, 128, causal), 5) == "0:1 1:1 2:1 3:1 0:0");
  CHECK(first(PlainAttention(1, 16, 16, 256, 4096, 128, causal), 9) == "0:1 1:1 2:1 3:1 4:1 5:1 6:1 7:1 0:0");
  CHECK(Resolved({"fa3", PlainAttention(1, 4, 4, 256, 4096, 128)}).seen().at(0).dispatch.fixed_shares);
  CHECK_FALSE(Resolved({"fa3", PlainAttention(1, 4, 4, 256, 4096, 128, causal)}).seen().at(0).dispatch.fixed_shares);
}

}  // namespace
}  // namespace bitflash::sim
