# Script: writes OUT, a C++ file that holds the bytes of FILES (see bitflash_embed).
# Bytes are written as a list of character literals, not as one string: a hexadecimal escape in a string takes every hex
# digit that follows it ("\x7f" "a" is fine, "\x7fa" is not), and compilers limit the length of a string. CMake reads
# the files as hexadecimal text, so bytes that are no ASCII, NUL, ';' and '[' are as harmless as any other.
string(REPEAT "'[^']*'," 20 line)
set(arrays)
set(entries)
set(index 0)
foreach(file IN LISTS FILES)
  get_filename_component(name "${file}" NAME)
  file(SIZE "${file}" size)
  file(READ "${file}" bytes HEX)
  string(REGEX REPLACE "(..)" "'\\\\x\\1'," bytes "${bytes}")
  string(REGEX REPLACE "(${line})" "\\1\n    " bytes "${bytes}")
  # The closing 0 keeps the array of an empty file from having no element.
  string(APPEND arrays "constexpr char kFile${index}[] = {\n    ${bytes}0};\n")
  string(APPEND entries "      {\"${name}\", {kFile${index}, ${size}}},\n")
  math(EXPR index "${index} + 1")
endforeach()
file(WRITE "${OUT}" "#include \"data/embedded.h\"

namespace bitflash::data {
namespace {

${arrays}
}  // namespace

const std::vector<EmbeddedFile>& ${ACCESSOR}();
const std::vector<EmbeddedFile>& ${ACCESSOR}() {
  static const std::vector<EmbeddedFile> files = {
${entries}  };
  return files;
}

}  // namespace bitflash::data
")
