#include "verify/fault_matrix.h"

#include <doctest/doctest.h>

#include <cstdio>

namespace bitflash::verify {
namespace {

using data::Distribution;

void Print(const FaultMatrix& matrix) {
  for (size_t n = 0; n < matrix.cells.size(); ++n) {
    for (size_t family = 0; family < matrix.families.size(); ++family) {
      const MatrixCell& cell = matrix.cells[n][family];
      if (cell.named == cell.diagnosed) continue;
      std::printf("%s, %s: named %lld of %lld, else %s\n", std::string(Faults()[n].id).c_str(),
                  std::string(data::Name(matrix.families[family])).c_str(), static_cast<long long>(cell.named),
                  static_cast<long long>(cell.diagnosed), cell.confused_with.c_str());
    }
  }
  const MatrixCell total = matrix.Total();
  const auto share = [](int64_t n, int64_t of) {
    return of ? 100.0 * static_cast<double>(n) / static_cast<double>(of) : 0;
  };
  std::printf("%lld runs, %lld within the bound, %lld outside; of these the verdict sees %.1f %%",
              static_cast<long long>(total.applied), static_cast<long long>(total.within),
              static_cast<long long>(total.outside), share(total.wrong, total.outside));
  for (int c = 0; c < kCriteria; ++c) {
    std::printf(", %s %.1f %%", std::string(Name(static_cast<Criterion>(c))).c_str(),
                share(total.seen[c], total.asked[c]));
  }
  std::printf("\nnamed first: %.1f %% of %lld with the kernel known, %.1f %% without\n",
              share(total.named, total.diagnosed), static_cast<long long>(total.diagnosed),
              share(total.named_unknown, total.diagnosed_unknown));
}

TEST_CASE("fault matrix: some mistakes on normal inputs are seen and named") {
  FaultMatrixOptions options;
  options.families = {Distribution::kHashNormal};
  options.faults = {"mask-top-left", "window-wider", "scale-missing", "o-not-rescaled", "part-dropped", "lse-base-2"};
  options.most_diagnosed = 1;
  options.unknown = false;
  const FaultMatrix matrix = RunFaultMatrix(options);
  const MatrixCell total = matrix.Total();
  CHECK(total.outside > 10);
  CHECK(total.wrong == total.outside);
  CHECK(total.named == total.diagnosed);
  CHECK(total.diagnosed == 6);
}

TEST_SUITE("slow") {
  TEST_CASE("fault matrix: every mistake on every family of inputs") {
    FaultMatrixOptions options;
    options.families = {Distribution::kHashNormal, Distribution::kAscending, Distribution::kSpiky, Distribution::kSinks,
                        Distribution::kCancelling, Distribution::kLongTail,  Distribution::kOneHot};
    const FaultMatrix matrix = RunFaultMatrix(options);
    std::printf("%s\n", ToMarkdown(matrix).c_str());
    Print(matrix);
    const MatrixCell total = matrix.Total();
    CHECK(total.wrong == total.outside);
    CHECK(total.named >= 0.9 * static_cast<double>(total.diagnosed));
    for (size_t n = 0; n < matrix.cells.size(); ++n) {
      CAPTURE(Faults()[n].id);
      int64_t applied = 0;
      for (const MatrixCell& cell : matrix.cells[n]) applied += cell.applied;
      CHECK(applied > 0);
    }
  }
}

}  // namespace
}  // namespace bitflash::verify
