// Compiled with the options of one library and, where the host has it, with FMA instructions enabled: a*b + c must be
// two roundings, subnormals must survive, and no fast-math mode may be on. The same bits on every host depend on it.
#include <cfloat>
#include <cmath>
#include <cstdio>
#include <limits>

#ifdef __FAST_MATH__
#error "-ffast-math is on"
#endif
#if defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__
#error "-ffinite-math-only is on"
#endif
static_assert(FLT_EVAL_METHOD == 0, "intermediate results carry more bits than their type");

namespace {

int failures = 0;

void Expect(bool ok, const char* what) {
  if (ok) return;
  std::printf("FAILED: %s\n", what);
  ++failures;
}

// With a = b = 1 + eps and c = -(1 + 2 eps), a*b + c is 0 in two roundings (a*b rounds to 1 + 2 eps) and eps^2 in one.
template <typename T>
void ExpectTwoRoundings(const char* what) {
  const T eps = std::numeric_limits<T>::epsilon();
  volatile T a_in = 1 + eps, c_in = -(1 + 2 * eps);
  const T a = a_in, c = c_in;
  Expect(a * a + c == 0, what);
  Expect(std::fma(a, a, c) == eps * eps, "std::fma must round once");
}

// The same in a loop that the compiler may vectorise.
void ExpectTwoRoundingsInALoop() {
  constexpr int kSize = 64;
  volatile float eps = FLT_EPSILON;
  float a[kSize], c[kSize], r[kSize];
  for (int i = 0; i < kSize; ++i) {
    a[i] = 1 + eps;
    c[i] = -(1 + 2 * eps);
  }
  for (int i = 0; i < kSize; ++i) r[i] = a[i] * a[i] + c[i];
  bool all_zero = true;
  for (int i = 0; i < kSize; ++i) all_zero = all_zero && r[i] == 0;
  Expect(all_zero, "a*b + c in a loop was contracted into one rounding");
}

}  // namespace

int main() {
#if defined(__x86_64__) && defined(__FMA__)
  // Without the instruction there is nothing to contract into; 77 is ctest's code for a skipped test.
  if (!__builtin_cpu_supports("fma")) return 77;
#endif
  ExpectTwoRoundings<float>("a*b + c in float was contracted into one rounding");
  ExpectTwoRoundings<double>("a*b + c in double was contracted into one rounding");
  ExpectTwoRoundingsInALoop();

  // crtfastmath.o, which -ffast-math links in, flushes subnormals in the whole process.
  volatile float smallest = FLT_MIN;
  Expect(smallest / 2 != 0, "subnormal results are flushed to zero");
  volatile float nan = std::numeric_limits<float>::quiet_NaN();
  Expect(nan != nan, "NaN compares equal to itself");
  return failures == 0 ? 0 : 1;
}
