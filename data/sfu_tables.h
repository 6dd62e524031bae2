// The coefficient tables of the GPU's special function unit, from data/sfu_tables.csv (which names its source).
#ifndef BITFLASH_DATA_SFU_TABLES_H_
#define BITFLASH_DATA_SFU_TABLES_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace bitflash::data {

// The quadratics of one function, in the unit's fixed point; interval r is (c0[r], c1[r], c2[r]).
template <size_t kRows>
struct SfuTable {
  std::array<int32_t, kRows> c0, c1, c2;
};

struct SfuTables {
  SfuTable<64> ex2, lg2;
  SfuTable<128> rcp, rsqrt;
};

// The built-in tables.
const SfuTables& BuiltInSfuTables();

// Tables from CSV text: lines "function,row,c0,c1,c2", comments after '#'. Throws InputError that names the line.
SfuTables ParseSfuTables(std::string_view csv);

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_SFU_TABLES_H_
