// Files compiled into the binary, so that an installed bitflash needs nothing beside it (see bitflash_embed in cmake/).
#ifndef BITFLASH_DATA_EMBEDDED_H_
#define BITFLASH_DATA_EMBEDDED_H_

#include <string_view>
#include <vector>

namespace bitflash::data {

struct EmbeddedFile {
  std::string_view name;   // the file's name without folders: "h200.json"
  std::string_view bytes;  // its content, unchanged
};

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_EMBEDDED_H_
