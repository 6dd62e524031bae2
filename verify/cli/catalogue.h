// The sentences of bitflash in every language: message id -> text with named places for the numbers.
#ifndef BITFLASH_VERIFY_CLI_CATALOGUE_H_
#define BITFLASH_VERIFY_CLI_CATALOGUE_H_

#include <initializer_list>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "verify/cli/output.h"

namespace bitflash::verify {

// "en", "zh".
std::string_view Name(Language language);

// A value for the place {name} of a message, already formatted; Say makes it Printable.
struct Argument {
  std::string_view name;
  std::string value;
};

class Catalogue {
 public:
  static const Catalogue& For(Language language);

  // The message with its places filled in. An unknown id, a place without an argument, or an argument without a place
  // is a defect: throws std::logic_error that names it.
  std::string Say(std::string_view id, const std::vector<Argument>& arguments = {}) const;

  // "1 tile", "64 tiles": the message `id`.one or `id`.other with {n}, by the number.
  std::string Count(std::string_view id, int64_t n) const;

  Language language() const { return language_; }
  std::vector<std::string> ids() const;                       // sorted
  std::set<std::string> places(const std::string& id) const;  // names of the message's places

 private:
  explicit Catalogue(Language language);

  Language language_;
  std::map<std::string, std::string, std::less<>> messages_;
};

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_CATALOGUE_H_
