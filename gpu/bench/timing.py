"""Timing in two thermal states, and the clock and power that go with it. For bench.py."""
import ctypes
import random
import statistics
import time

import torch


class Sensors:
    """SM clock and power of the current device by NVML, the driver's own library. Without it, samples are None."""
    _SM_CLOCK, _POWER_INSTANT = 1, 186  # nvml.h: NVML_CLOCK_SM, NVML_FI_DEV_POWER_INSTANT

    class _Field(ctypes.Structure):  # nvmlFieldValue_t
        _fields_ = [("id", ctypes.c_uint), ("scope", ctypes.c_uint), ("timestamp", ctypes.c_longlong),
                    ("latency", ctypes.c_longlong), ("type", ctypes.c_int), ("status", ctypes.c_int),
                    ("value", ctypes.c_ulonglong)]

    def __init__(self):
        self.nvml = self.device = None
        try:
            nvml = ctypes.CDLL("libnvidia-ml.so.1")
            properties = torch.cuda.get_device_properties(torch.cuda.current_device())
            device = ctypes.c_void_p()
            # By UUID: NVML counts all devices, CUDA those that CUDA_VISIBLE_DEVICES leaves.
            uuid = f"GPU-{getattr(properties, 'uuid', '')}".encode()
            if nvml.nvmlInit_v2() == 0 and (nvml.nvmlDeviceGetHandleByUUID(uuid, ctypes.byref(device)) == 0 or
                                            nvml.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(device)) == 0):
                self.nvml, self.device = nvml, device
        except (OSError, AttributeError):
            pass

    def sample(self):
        """MHz and watts now."""
        if self.nvml is None:
            return None
        clock, milliwatts = ctypes.c_uint(), ctypes.c_uint()
        if self.nvml.nvmlDeviceGetClockInfo(self.device, self._SM_CLOCK, ctypes.byref(clock)):
            return None
        field = self._Field(id=self._POWER_INSTANT)
        if self.nvml.nvmlDeviceGetFieldValues(self.device, 1, ctypes.byref(field)) == 0 and field.status == 0:
            return clock.value, (field.value & 0xFFFFFFFF) / 1000
        # The mean of the last second on most parts.
        if self.nvml.nvmlDeviceGetPowerUsage(self.device, ctypes.byref(milliwatts)):
            return None
        return clock.value, milliwatts.value / 1000


def timed(run, launches, sensors=None):
    """Milliseconds of a launch; with sensors, also a sample taken while they run."""
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(launches):
        run()
    end.record()
    sample = sensors.sample() if sensors else None
    end.synchronize()
    milliseconds = begin.elapsed_time(end) / launches
    return (milliseconds, sample) if sensors else milliseconds


def burst(runs, rounds, budget_ms=12, pause=0.2):
    """Milliseconds of each run after some seconds of idling: the median over rounds, all runs once a round.

    In another order every round: what a run finds in L2 is what the one before left, and that is worth a percent.
    """
    times = {name: [] for name in runs}
    counts = {}
    for name, run in runs.items():
        run()
        counts[name] = max(2, min(20, round(budget_ms / max(1e-3, timed(run, 2)))))
    for _ in range(rounds):
        for name, run in random.sample(list(runs.items()), len(runs)):
            torch.cuda.synchronize()
            time.sleep(pause)
            run()
            times[name].append(timed(run, counts[name]))
    return {name: statistics.median(t) for name, t in times.items()}


def sustained(runs, sensors, seconds=0.5):
    """Of each run, alone for so long, in the second half: median milliseconds, MHz and watts (None without NVML)."""
    def one(run, seconds):
        batch = max(1, round(10 / max(1e-3, timed(run, 2))))
        samples, begin = [], time.perf_counter()
        while time.perf_counter() - begin < seconds:
            samples.append(timed(run, batch, sensors))
        samples = samples[len(samples) // 2:]
        seen = [sample for _, sample in samples if sample]
        return {"ms": statistics.median(t for t, _ in samples),
                "mhz": statistics.median(mhz for mhz, _ in seen) if seen else None,
                "watts": statistics.median(watts for _, watts in seen) if seen else None}

    for run in runs.values():  # the first on a cool card would flatter
        one(run, seconds / 2)
    return {name: one(run, seconds) for name, run in runs.items()}


def rotate(functions):
    """Calls one function after another: each works on inputs of its own."""
    state = [0]

    def run():
        state[0] += 1
        functions[state[0] % len(functions)]()
    return run
