// Raw deflate streams (RFC 1951) in memory, by zlib.
#ifndef BITFLASH_DATA_DEFLATE_H_
#define BITFLASH_DATA_DEFLATE_H_

#include <cstdint>
#include <vector>

#include "data/buffer.h"

namespace bitflash::data {

// What the stream decompresses to, which must be exactly `bytes` long and use up all of `compressed`. Throws InputError
// without an origin otherwise, before allocating anything when `bytes` is more than deflate's limit of 1032 times the
// compressed size (zlib FAQ; a run of 258 bytes takes 2 bits at least).
Buffer Inflate(const Buffer& compressed, uint64_t bytes);

// One raw deflate stream of all pieces, in pieces itself. Throws std::bad_alloc.
std::vector<Buffer> Deflate(const std::vector<Buffer>& pieces);

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_DEFLATE_H_
