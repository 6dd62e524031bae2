// The smallest use of the library from another project: the bytes of one attention problem.
#include <cstdio>

#include "data/attention.h"
#include "data/error.h"

int main() {
  bitflash::data::Attention attention;
  attention.heads_q = 32;
  attention.heads_kv = 8;
  attention.seqlen_q = attention.seqlen_k = 8192;
  bitflash::data::Validate(attention);
  // 8192 keys * 8 heads * 128 elements * 2 bytes.
  if (attention.k_bytes() != 16777216) return 1;

  attention.heads_kv = 5;  // does not divide 32
  try {
    bitflash::data::Validate(attention);
  } catch (const bitflash::data::UsageError& error) {  // the exception crosses the library's boundary
    std::printf("%s\n", error.what());
    return 0;
  }
  return 1;
}
