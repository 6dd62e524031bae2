// Floating point as C defines it, whatever the client's program has made of it.
#ifndef BITFLASH_VERIFY_C_API_C_API_FLOAT_H_
#define BITFLASH_VERIFY_C_API_C_API_FLOAT_H_

#include <cfenv>
#include <vector>

namespace bitflash::verify {

// While it lives, this thread rounds to nearest and keeps subnormals. A program that links an object built with
// -ffast-math flushes them in every thread (crtfastmath.o of GCC before 13), and bits would depend on it.
class DefaultFloat {
 public:
  DefaultFloat() {
    std::fegetenv(&before_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~DefaultFloat() { std::fesetenv(&before_); }
  DefaultFloat(const DefaultFloat&) = delete;
  DefaultFloat& operator=(const DefaultFloat&) = delete;

 private:
  std::fenv_t before_;
};

// The same for the OpenMP threads that a parallel region of this thread would run on: those that the client's own
// regions started keep what they were started with. `threads` 0: OpenMP's default number. Threads that start while
// it lives are started by this one and have its environment.
class DefaultFloatTeam {
 public:
  explicit DefaultFloatTeam(int threads);
  ~DefaultFloatTeam();
  DefaultFloatTeam(const DefaultFloatTeam&) = delete;
  DefaultFloatTeam& operator=(const DefaultFloatTeam&) = delete;

 private:
  std::vector<std::fenv_t> before_;  // of each thread of the team
};

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_C_API_C_API_FLOAT_H_
