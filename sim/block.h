// (the vocabulary of a thread block follows)
#ifndef BITFLASH_SIM_BLOCK_H_
#define BITFLASH_SIM_BLOCK_H_
namespace bitflash::sim {
struct BlockSpec {};
class Block {};
}
#endif
