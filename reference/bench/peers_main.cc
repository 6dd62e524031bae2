// The program behind bench/peers.py: it prepares a case, then times one run of one contestant whenever asked, so that
// contestants in several processes can take turns. One command a line on stdin, one answer a line on stdout:
//   peers                              peers NAME...
//   case TYPE HEADS_Q HEADS_KV SEQLEN_Q SEQLEN_K HEAD_DIM MASK THREADS
//                                      ready NAME...         (TYPE fp32 or bf16; those that can take the case)
//   run NAME                           ms TIME               (mean of the runs that fill 30 ms, at least one)
//   error NAME                         error LARGEST         (absolute, against fp64, of sampled rows of the last run)
//   peak THREADS                       rate GFLOP/s          (fp32 multiply-adds)
//   read BYTES THREADS                 rate GB/s             (loops that only read, the fastest)
#include <omp.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <random>
#include <sstream>

#include "data/convert_simd.h"
#include "reference/bench/peer.h"
#include "reference/cpu_kernels.h"
#include "reference/golden.h"

namespace bitflash::reference {

HugeArray::HugeArray(int64_t bytes) {
  constexpr size_t kHuge = size_t{1} << 21;
  const size_t size = (static_cast<size_t>(bytes) + kHuge - 1) / kHuge * kHuge;
  data_.reset(static_cast<std::byte*>(std::aligned_alloc(kHuge, size)));
  madvise(data_.get(), size, MADV_HUGEPAGE);
  std::memset(data_.get(), 0, size);
}
void HugeArray::Free::operator()(std::byte* data) const { std::free(data); }

namespace {

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Standard normal values. Repeats with a period that no head is a multiple of: drawing a gigabyte takes longer than
// measuring it.
class Normal {
 public:
  Normal(int64_t count, uint64_t seed, bool bf16) : fp32(count * 4), bits(bf16 ? count * 2 : 0) {
    constexpr int64_t kPeriod = (1 << 20) - 3;
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal;
    float* x = fp32.as<float>();
    for (int64_t i = 0; i < std::min(count, kPeriod); ++i) x[i] = normal(random);
    for (int64_t i = kPeriod; i < count; ++i) x[i] = x[i - kPeriod];
    if (!bf16) return;
    data::FromFloat(data::Format::kBf16, x, bits.as<uint16_t>(), count);
    data::ToFloat(data::Format::kBf16, bits.as<uint16_t>(), x, count);
  }
  HugeArray fp32, bits;
};

class Server {
 public:
  Server() {
    for (std::unique_ptr<Peer>& peer : OwnPeers()) peers_.push_back(std::move(peer));
    if (std::unique_ptr<Peer> peer = OneDnnPeer()) peers_.push_back(std::move(peer));
    if (std::unique_ptr<Peer> peer = GgmlPeer()) peers_.push_back(std::move(peer));
  }

  std::string Answer(const std::string& line) {
    std::istringstream words(line);
    std::string command;
    words >> command;
    if (command == "peers") return Names("peers", true);
    if (command == "case") return Case(words);
    if (command == "run") return "ms " + std::to_string(1e3 * Time(Find(words)));
    if (command == "error") return "error " + Number(Error(Find(words)));
    int64_t bytes = 0;
    int threads = 1;
    if (command == "peak" && words >> threads) return "rate " + std::to_string(Peak(threads));
    if (command == "read" && words >> bytes >> threads) return "rate " + std::to_string(Read(bytes, threads));
    return "unknown command: " + line;
  }

 private:
  static std::string Number(double x) {
    char text[32];
    std::snprintf(text, sizeof(text), "%.2e", x);
    return text;
  }

  std::string Names(std::string line, bool all) const {
    for (const auto& peer : peers_) {
      if (all || std::find(ready_.begin(), ready_.end(), peer.get()) != ready_.end()) line += " " + peer->name();
    }
    return line;
  }

  Peer& Find(std::istream& words) {
    std::string name;
    words >> name;
    for (Peer* peer : ready_) {
      if (peer->name() == name) return *peer;
    }
    std::fprintf(stderr, "no contestant '%s' takes this case\n", name.c_str());
    std::exit(2);
  }

  std::string Case(std::istream& words) {
    std::string type, mask;
    data::Attention a;
    words >> type >> a.heads_q >> a.heads_kv >> a.seqlen_q >> a.seqlen_k >> a.head_dim >> mask >> case_.threads;
    a.head_dim_v = a.head_dim;
    a.format = data::ParseFormat(type);
    a.mask = data::ParseMask(mask);
    data::Validate(a);
    case_.a = a;
    ready_.clear();
    const bool bf16 = case_.bf16();
    Q_ = std::make_unique<Normal>(a.heads_q * a.seqlen_q * a.head_dim, 1, bf16);
    K_ = std::make_unique<Normal>(a.heads_kv * a.seqlen_k * a.head_dim, 2, bf16);
    V_ = std::make_unique<Normal>(a.heads_kv * a.seqlen_k * a.head_dim, 3, bf16);
    const PeerInputs inputs = {Q_->fp32.as<float>(),    K_->fp32.as<float>(),    V_->fp32.as<float>(),
                               Q_->bits.as<uint16_t>(), K_->bits.as<uint16_t>(), V_->bits.as<uint16_t>()};
    for (const auto& peer : peers_) {
      if (!peer->Prepare(case_, inputs)) continue;
      ready_.push_back(peer.get());
      peer->Run();  // threads, pages, code
    }
    return Names("ready", false);
  }

  static double Time(Peer& peer) {
    const double start = Seconds();
    int64_t runs = 0;
    double now = start;
    for (; runs == 0 || now - start < 0.03; now = Seconds()) {
      peer.Run();
      ++runs;
    }
    return (now - start) / static_cast<double>(runs);
  }

  // Of the first and the last head, rows at both ends and in the middle.
  double Error(const Peer& peer) const {
    const data::Attention& a = case_.a;
    const auto view = [](const Normal& x, int64_t count) {
      return Operand{.elements = std::span<const float>(x.fp32.as<float>(), static_cast<size_t>(count)), .strides = {}};
    };
    const int64_t kv = a.heads_kv * a.seqlen_k * a.head_dim;
    const GoldenInputs inputs = {
        .Q = view(*Q_, a.heads_q * a.seqlen_q * a.head_dim), .K = view(*K_, kv), .V = view(*V_, kv), .seqlens_k = {}};
    double worst = 0;
    std::vector<float> row(a.head_dim);
    for (const int64_t h : {int64_t{0}, a.heads_q - 1}) {
      for (const int64_t first : {int64_t{0}, a.seqlen_q / 2, std::max<int64_t>(0, a.seqlen_q - 3)}) {
        const Range rows = {first, std::min(first + 3, a.seqlen_q)};
        const Golden golden =
            GoldenAttention(a, inputs, {.heads = Range{h, h + 1}, .rows = rows}, {.threads = 1, .isa = {}});
        for (int64_t i = rows.begin; i < rows.end; ++i) {
          peer.Row(h, i, row.data());
          for (int64_t c = 0; c < a.head_dim; ++c) {
            const double error = std::abs(row[c] - golden.O[(i - first) * a.head_dim + c]);
            worst = error <= worst ? worst : error;  // NaN counts
          }
        }
      }
    }
    return worst;
  }

  static double Peak(int threads) {
    int64_t done = 0;
    const double start = Seconds();
#pragma omp parallel num_threads(threads) reduction(+ : done)
    for (int n = 0; n < 2000; ++n) done += RunFmaLoop();
    return 2e-9 * static_cast<double>(done) / (Seconds() - start);
  }

  double Read(int64_t bytes, int threads) {
    if (bytes > read_bytes_) read_ = HugeArray(read_bytes_ = bytes);
    const int64_t part = bytes / 4 / threads / 256 * 256;
    volatile float used = 0;
    double best = 1e30;
    for (int way = 0; way < kReadWays; ++way) {
      const double start = Seconds();
      float total = 0;
#pragma omp parallel num_threads(threads) reduction(+ : total)
      total += SumOf(read_.as<float>() + omp_get_thread_num() * part, part, way);
      best = std::min(best, Seconds() - start);
      used = used + total;
    }
    return static_cast<double>(part * 4 * threads) * 1e-9 / best;
  }

  std::vector<std::unique_ptr<Peer>> peers_;
  std::vector<Peer*> ready_;
  PeerCase case_;
  std::unique_ptr<Normal> Q_, K_, V_;
  HugeArray read_;
  int64_t read_bytes_ = 0;
};

}  // namespace
}  // namespace bitflash::reference

int main() {
  bitflash::reference::Server server;
  for (std::string line; std::getline(std::cin, line);) {
    if (line.empty()) continue;
    std::cout << server.Answer(line) << std::endl;
  }
  return 0;
}
