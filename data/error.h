// The exceptions that a user's input can cause. Each maps to one documented exit code of the command line.
#ifndef BITFLASH_DATA_ERROR_H_
#define BITFLASH_DATA_ERROR_H_

#include <stdexcept>

namespace bitflash::data {

// A value that the caller chose is wrong: names the value, what was expected and the accepted values. Exit code 2.
struct UsageError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

// A file cannot be read or its content is invalid: names the file and what is wrong with it. Exit code 3.
struct InputError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The input is well-formed but asks for something that bitflash does not model, so nothing is decided. Exit code 5.
struct UndecidedError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_ERROR_H_
