"""The CUDA kernels of this repository as Python functions (launch_c.cc). For bench.py."""
import ctypes

import torch


class Problem(ctypes.Structure):
    _fields_ = ([(n, ctypes.c_int64) for n in (
        "batch", "heads_q", "heads_kv", "seqlen_q", "seqlen_k", "head_dim", "causal", "bf16", "fp32_scores", "chunk",
        "page_size", "pages_per_sequence")] + [("strides", ctypes.c_int64 * 12)] +
        [(n, ctypes.c_void_p) for n in ("q", "k", "v", "o", "lse", "workspace", "seqlens_k", "block_table",
                                        "cu_seqlens_q", "cu_seqlens_k")])


class Refused(RuntimeError):
    """A kernel does not take the problem; the library has said why on stderr."""


class Prepared:
    """A call of a kernel with tensors of its own: call it to launch it."""

    def __init__(self, library, name, problem, o, lse, workspace, inputs):
        self.library, self.name, self.problem, self.o = library, name.encode(), problem, o
        self.written = (o, lse, workspace)
        self.inputs = inputs  # keeps them alive
        self.launch = library.bitflash_bench_launch

    def __call__(self):
        if self.launch(self.name, ctypes.byref(self.problem)):
            raise Refused(self.name.decode())

    def fresh(self):
        """O of a launch that found NaN in all that it writes."""
        for tensor in self.written:
            tensor.view(torch.uint8).fill_(255)
        self()
        torch.cuda.synchronize()
        return self.o


class Library:
    def __init__(self, path):
        self.lib = ctypes.CDLL(path)
        self.lib.bitflash_bench_stream.restype = ctypes.c_void_p
        self.lib.bitflash_bench_workspace_bytes.restype = ctypes.c_int64
        self.stream = torch.cuda.ExternalStream(self.lib.bitflash_bench_stream())

    def prepare(self, name, q, k, v, causal=False, fp32_scores=False, chunk=1024, table=None, seqlens=None, starts=None):
        """The kernel on [batch, heads, rows, d] tensors; None when it is not built or refuses the problem.

        K and V of a paged cache (`table`) have pages first. With `starts`, the first rows of packed sequences and the end,
        [batch + 1] of queries and of keys on the host, tensors are [rows, heads, d].
        """
        o = torch.empty_like(q)
        if starts:
            longest = [max(b - a for a, b in zip(s, s[1:])) for s in starts]
            batch, (_, heads, d), heads_kv, (rows, keys) = len(starts[0]) - 1, q.shape, k.shape[1], longest
            strides = [s for x in (q, k, v, o) for s in (0, x.stride(1), x.stride(0))]
        else:
            batch, heads, rows, d = q.shape
            heads_kv, keys = k.shape[1], k.shape[2] if table is None else k.shape[2] * table.shape[1]
            strides = [s for x in (q, k, v, o) for s in x.stride()[:3]]
        lse = torch.empty((batch, heads, rows), device="cuda")
        problem = Problem(batch, heads, heads_kv, rows, keys, d, causal, q.dtype == torch.bfloat16, fp32_scores, chunk,
                          0 if table is None else k.shape[2], 0 if table is None else table.shape[1])
        problem.strides[:] = strides
        size = self.lib.bitflash_bench_workspace_bytes(name.encode(), ctypes.byref(problem))
        if size < 0:
            return None
        workspace = torch.empty((size,), dtype=torch.uint8, device="cuda")
        problem.q, problem.k, problem.v, problem.o = (x.data_ptr() for x in (q, k, v, o))
        problem.lse, problem.workspace = lse.data_ptr(), workspace.data_ptr()
        problem.block_table = None if table is None else table.data_ptr()
        problem.seqlens_k = None if seqlens is None else seqlens.data_ptr()
        cu = [torch.tensor(s, dtype=torch.int32, device="cuda") for s in starts or ()]
        if cu:
            problem.cu_seqlens_q, problem.cu_seqlens_k = (x.data_ptr() for x in cu)
        prepared = Prepared(self.lib, name, problem, o, lse, workspace, (q, k, v, table, seqlens, cu))
        try:
            prepared.fresh()
        except Refused:
            return None
        return prepared
