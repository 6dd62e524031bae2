// Test-only: is a text well-formed XML, of the kind that `verify --junit` writes?
#ifndef BITFLASH_VERIFY_CLI_XML_CHECK_H_
#define BITFLASH_VERIFY_CLI_XML_CHECK_H_

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace bitflash::verify {

struct XmlElement {
  std::string name, parent;  // of the element around it; "" of the root
  std::map<std::string, std::string> attributes;
  std::string text;  // directly in it
};

// The elements in the order of their start tags, with references resolved. Throws std::runtime_error that says where:
// tags that do not balance, attributes given twice or without quotes, bare & and <, characters that XML 1.0 does not
// have (section 2.2), bytes that are not UTF-8. Knows no comments, CDATA, DOCTYPE and namespaces.
std::vector<XmlElement> ParseXml(std::string_view text);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_XML_CHECK_H_
