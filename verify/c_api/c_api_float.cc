#include "verify/c_api/c_api_float.h"

#include <omp.h>

namespace bitflash::verify {

DefaultFloatTeam::DefaultFloatTeam(int threads) : before_(threads > 0 ? threads : omp_get_max_threads()) {
  // For threads that OpenMP gives to the second region and not to the first.
  std::fenv_t own;
  std::fegetenv(&own);
  before_.assign(before_.size(), own);
#pragma omp parallel num_threads(static_cast <int>(before_.size()))
  {
    std::fegetenv(&before_[omp_get_thread_num()]);
    std::fesetenv(FE_DFL_ENV);
  }
}

DefaultFloatTeam::~DefaultFloatTeam() {
#pragma omp parallel num_threads(static_cast <int>(before_.size()))
  std::fesetenv(&before_[omp_get_thread_num()]);
}

}  // namespace bitflash::verify
