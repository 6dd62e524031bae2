"""The inputs and the fingerprints of data/golden, in NumPy: the same definitions as data/random.h and data/hash.h."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

POOL = ThreadPoolExecutor()  # NumPy releases the interpreter lock inside its loops
MASK = (1 << 64) - 1


def _mix(z):
    """The finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), in place, modulo 2^64."""
    z += np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z ^= z >> np.uint64(shift)
        z *= np.uint64(factor)
    z ^= z >> np.uint64(31)
    return z


def hash_normal(seed, shape, chunk=1 << 18):
    """fp32 elements 0, 1, ... of the contiguous tensor of this seed and shape; exact multiples of 2^-15."""
    out = np.empty(int(np.prod(shape)), np.float32)
    base = np.uint64(seed * 0x1000003 & MASK)

    def fill(begin):
        end = min(begin + chunk, out.size)
        z = _mix(base + np.arange(begin, end, dtype=np.uint64))
        field = np.uint64(0xFFFF)
        total = (z & field) + (z >> np.uint64(16) & field) + (z >> np.uint64(32) & field) + (z >> np.uint64(48))
        out[begin:end] = (total.astype(np.int32) - 131070).astype(np.float32) / np.float32(32768)

    list(POOL.map(fill, range(0, out.size, chunk)))
    return out.reshape(shape)


def hash_elements(bits, chunk=1 << 18):
    """Sum over i of HashPair(i, bits[i]) modulo 2^64, for a flat array of unsigned integers of at most 32 bits."""
    total = 0
    for begin in range(0, bits.size, chunk):
        part = bits[begin : begin + chunk].astype(np.uint64)
        z = _mix((np.arange(begin, begin + part.size, dtype=np.uint64) << np.uint64(32)) | part)
        total += int(z.sum(dtype=np.uint64))
    return total & MASK


def hash_heads(bits):
    """hash_elements of each bits[head], as 16 hexadecimal digits."""
    return [f"{h:016x}" for h in POOL.map(lambda head: hash_elements(head.reshape(-1)), bits)]


def row_choice(seed, rows):
    """The rows of a head whose bits are written out: the first, the last and two others; ascending."""
    choice = {0, rows - 1}
    for k in range(2):
        choice.add(int(_mix(np.array([seed * 0x1000003 + k], np.uint64))[0]) % rows)
    return sorted(choice)


def self_check():
    """Raises AssertionError unless the elements equal the literals of data/random_test.cc and data/golden_test.cc."""
    literals = {(0, 0): 1.649627685546875, (0, 1): -0.713043212890625, (100, 0): -1.563995361328125,
                (100, 1): -2.8509521484375, (101, 12345): 1.142333984375}
    for (seed, index), value in literals.items():
        assert hash_normal(seed, (index + 1,))[index] == value, (seed, index)
    whole = hash_normal(42, (3000,))
    assert (hash_normal(42, (3000,), chunk=999) == whole).all()
    assert hash_elements(np.array([0], np.uint16)) == 0xE220A8397B1DCDAF
    bits = np.array([0x3F80, 0, 0xFFFF], np.uint16)
    assert hash_elements(bits) == hash_elements(bits, chunk=2) == 0x970C7762B6D16B63
