"""Writes the files of this folder with the reference implementations, whose bytes the tests compare with ours.

Made with numpy 2.4.6, ml_dtypes 0.6.0 and safetensors 0.8.0 (python3.11):
    python3 data/testdata/make.py
Every numeric tensor holds 0, 1, 2, ... in row-major order.
"""
import io
import pathlib
import zipfile

import ml_dtypes
import numpy as np
import safetensors.numpy

HERE = pathlib.Path(__file__).parent


def count(dtype, *shape):
    return np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)


def npy(name, array, version=None):
    with open(HERE / "npy" / name, "wb") as f:
        np.lib.format.write_array(f, array, version=version)


for dtype in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"):
    npy(f"{dtype}.npy", count(dtype, 2, 3))
npy("bf16.npy", count(ml_dtypes.bfloat16, 2, 3))
npy("e4m3.npy", count(ml_dtypes.float8_e4m3fn, 2, 3))
npy("e5m2.npy", count(ml_dtypes.float8_e5m2, 2, 3))
npy("fortran.npy", np.asfortranarray(count("f4", 2, 3, 4)))
npy("scalar.npy", count("f4"))
npy("vector.npy", count("f4", 3))
npy("empty.npy", count("f4", 0, 4))
npy("version2.npy", count("f4", 2, 3), (2, 0))
npy("version3.npy", count("f4", 2, 3), (3, 0))

tensors = {"q": count("f2", 2, 3), "k": count("f4", 2, 3)}
np.savez(HERE / "npz" / "stored.npz", **tensors)
np.savez_compressed(HERE / "npz" / "deflated.npz", **tensors)
np.savez(HERE / "npz" / "names.npz", **{"a/b": count("u1", 3), "\u00e4|1": count("u1", 2)})
np.savez(HERE / "npz" / "none.npz")


class Pipe(io.RawIOBase):
    """A stream that cannot seek, so that zipfile writes data descriptors."""

    def __init__(self):
        self.bytes = b""

    def writable(self):
        return True

    def write(self, data):
        self.bytes += bytes(data)
        return len(data)


for name, method in (("streamed", zipfile.ZIP_STORED), ("streamed_deflated", zipfile.ZIP_DEFLATED)):
    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", method) as archive:
        for key, value in tensors.items():
            for force_zip64 in (False, True):
                with archive.open(f"{key}{force_zip64:d}.npy", "w", force_zip64=force_zip64) as entry:
                    np.lib.format.write_array(entry, value)
    (HERE / "npz" / f"{name}.npz").write_bytes(pipe.bytes)

mixed = {"q": count("f2", 2, 3), "k": count("f4", 2, 3), "cu_seqlens_q": count("i4", 3), "none": count("f4", 0, 4),
         "block_table": count("u1", 3), "scale": count("f8"), "bf16": count(ml_dtypes.bfloat16, 2, 3),
         "e4m3": count(ml_dtypes.float8_e4m3fn, 2, 3), "e5m2": count(ml_dtypes.float8_e5m2, 2, 3),
         "i8": count("i8", 2), "u8": count("u8", 2), "i2": count("i2", 2), "u2": count("u2", 2), "u4": count("u4", 2),
         "i1": count("i1", 2)}
safetensors.numpy.save_file(mixed, HERE / "safetensors" / "mixed.safetensors", metadata={"scale": "0x1p-3 \"\u00e4\""})
safetensors.numpy.save_file({}, HERE / "safetensors" / "none.safetensors")
