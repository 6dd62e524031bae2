#include "verify/truth.h"

#include <doctest/doctest.h>
