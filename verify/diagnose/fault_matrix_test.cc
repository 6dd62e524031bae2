#include "verify/diagnose/fault_matrix.h"

#include <doctest/doctest.h>

#include <cstdio>

namespace bitflash::verify {
namespace {

using data::Distribution;

void Print(const char* told, const Fault& fault, Distribution family, const Naming& naming) {
  if (naming.named == naming.diagnosed) return;
  std::printf("%s, %s, %s: named %lld of %lld, else %s%s\n", std::string(fault.id).c_str(),
              std::string(data::Name(family)).c_str(), told, static_cast<long long>(naming.named),
              static_cast<long long>(naming.diagnosed), naming.confused_with.c_str(),
              naming.misled > 0 ? ", as the answer" : "");
}

double Share(int64_t n, int64_t of) { return of ? 100.0 * static_cast<double>(n) / static_cast<double>(of) : 0; }

void Print(const char* told, const Naming& naming) {
  std::printf("named first, %s: %lld of %lld, %.1f %%; another given as the answer: %lld\n", told,
              static_cast<long long>(naming.named), static_cast<long long>(naming.diagnosed),
              Share(naming.named, naming.diagnosed), static_cast<long long>(naming.misled));
}

void Print(const FaultMatrix& matrix) {
  for (size_t n = 0; n < matrix.cells.size(); ++n) {
    for (size_t family = 0; family < matrix.families.size(); ++family) {
      const MatrixCell& cell = matrix.cells[n][family];
      Print("kernel known", Faults()[n], matrix.families[family], cell.known);
      Print("kernel unknown", Faults()[n], matrix.families[family], cell.unknown);
      Print("foreign kernel", Faults()[n], matrix.families[family], cell.foreign);
    }
  }
  const MatrixCell total = matrix.Total();
  std::printf("%lld runs, %lld within the bound, %lld outside; of these the verdict sees %.1f %%",
              static_cast<long long>(total.applied), static_cast<long long>(total.within),
              static_cast<long long>(total.outside), Share(total.wrong, total.outside));
  for (int c = 0; c < kCriteria; ++c) {
    std::printf(", %s %.1f %%", std::string(Name(static_cast<Criterion>(c))).c_str(),
                Share(total.seen[c], total.asked[c]));
  }
  std::printf("\n");
  Print("kernel known", total.known);
  Print("kernel unknown", total.unknown);
  Print("foreign kernel", total.foreign);
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
  CHECK(total.known.named == total.known.diagnosed);
  CHECK(total.known.diagnosed == 6);
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
    const auto least = [](const Naming& n, double share) {
      return static_cast<double>(n.named) >= share * static_cast<double>(n.diagnosed);
    };
    CHECK(least(total.known, 0.99));
    CHECK(least(total.unknown, 0.95));
    CHECK(least(total.foreign, 0.9));
    // Another mistake as the answer: now and then, where two do nearly the same.
    CHECK(total.unknown.misled * 50 <= total.unknown.diagnosed);
    CHECK(total.foreign.misled * 25 <= total.foreign.diagnosed);
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
