# Script: writes OUT, a C++ file that holds the bytes of FILES (see bitflash_embed).
# Raw string literals are split because compilers limit the length of one literal (64 KiB in MSVC, C++ Annex B).
get_filename_component(_name "${OUT}" NAME_WE)
set(text "#include \"data/embedded.h\"\n\nnamespace bitflash::data {\n\n")
string(APPEND text "const std::vector<EmbeddedFile>& ${ACCESSOR}() {\n  static const std::vector<EmbeddedFile> files = {\n")
foreach(file IN LISTS FILES)
  get_filename_component(name "${file}" NAME)
  file(READ "${file}" bytes HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "\\\\x\\1" bytes "${bytes}")
  # 4 characters a byte: break the literal every 2,000 bytes.
  string(REGEX REPLACE "((\\\\x[0-9a-f][0-9a-f])(\\\\x[0-9a-f][0-9a-f]){0,99})" "\\1\"\n      \"" bytes "${bytes}")
  file(SIZE "${file}" size)
  string(APPEND text "      {\"${name}\", std::string_view(\"${bytes}\", ${size})},\n")
endforeach()
string(APPEND text "  };\n  return files;\n}\n\n}  // namespace bitflash::data\n")
file(WRITE "${OUT}" "${text}")
