// Question: what does the CUDA runtime say about this device?
//
// These are the capacities and limits of a GPU fact file (data/gpus/README.md) that nothing has to measure:
// gpu/device.h names them. run_all.py puts them beside what the other probes measure.
#include "gpu/probes/report.h"

using namespace bitflash::gpu;

int main() {
  return probe::Main("device_facts", [] {
    const Device device = CurrentDevice();
    probe::Json json;
    json.Begin('{');
    AddDevice(json, "device_facts", device);
    json.Add("arch", device.arch());
    json.Add("sms", device.sms);
    json.Add("memory_bytes", device.memory_bytes);
    json.Add("l2_bytes", device.l2_bytes);
    json.Add("shared_bytes_per_block", device.shared_bytes_per_block);
    json.Add("shared_bytes_per_sm", device.shared_bytes_per_sm);
    json.Add("shared_bytes_reserved", device.shared_bytes_reserved);
    json.Add("registers_per_sm", device.registers_per_sm);
    json.Add("threads_per_sm", device.threads_per_sm);
    json.Add("threads_per_block", device.threads_per_block);
    json.Add("blocks_per_sm", device.blocks_per_sm);
    json.Add("clock_khz", device.clock_khz);
    json.Add("memory_clock_khz", device.memory_clock_khz);
    json.Add("memory_bus_bits", device.memory_bus_bits);
    json.End('}');
    std::printf("%s\n", json.text().c_str());
    return 0;
  });
}
