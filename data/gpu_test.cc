#include "data/gpu.h"

#include <doctest/doctest.h>

#include <fstream>
#include <functional>
#include <map>

#include "data/embedded.h"
#include "data/error.h"
#include "data/strict_json.h"

namespace bitflash::data {

const std::vector<EmbeddedFile>& EmbeddedGpus();

namespace {

using nlohmann::json;

constexpr const char* kFolder = BITFLASH_SOURCE_DIR "/data/gpus/";

json Parsed(const char* name) { return json::parse(ReadTextFile(std::string(kFolder) + name + ".json")); }

// `change` is applied to the H200's file; parsing the result must throw InputError with `what`.
void Refused(const std::function<void(json&)>& change, const char* what) {
  json file = Parsed("h200");
  change(file);
  CHECK_THROWS_WITH_AS(ParseGpu(file.dump(), "mine.json"), doctest::Contains(what), InputError);
  CHECK_THROWS_WITH_AS(ParseGpu(file.dump(), "mine.json"), doctest::Contains("mine.json: "), InputError);
}

TEST_CASE("the built-in GPUs are the files of data/gpus, byte for byte") {
  CHECK(GpuNames() == std::vector<std::string>{"a100-80gb", "b200", "h100", "h200", "l40s", "rtx-4090", "t4"});
  for (const EmbeddedFile& file : EmbeddedGpus()) {
    CAPTURE(file.name);
    CHECK(file.bytes == ReadTextFile(kFolder + std::string(file.name)));
  }
}

TEST_CASE("every built-in file has every field, its own name, a source for each, and the form that ToJson writes") {
  for (const std::string& name : GpuNames()) {
    CAPTURE(name);
    const Gpu gpu = LoadGpu(name);
    CHECK(gpu.name == name);
    CHECK(gpu.sources.size() == GpuFields().size());
    CHECK(ToJson(gpu) == ReadTextFile(kFolder + name + ".json"));
    for (const GpuFact& fact : Describe(gpu)) {
      CAPTURE(fact.field);
      CHECK(fact.source.size() > 20);
      if (fact.value == "unknown") {
        const bool says_why = fact.source.find("only a probe can know") != std::string::npos ||
                              fact.source.find("the GPU has no") != std::string::npos;
        CHECK_MESSAGE(says_why, fact.source);
      }
    }
  }
}

// Written down here a second time, from the data sheets.
TEST_CASE("the headline facts of each GPU") {
  struct Row {
    const char* name;
    const char* arch;
    int64_t sms;
    double hbm_gb_per_second;
    int64_t l2_kib;
    int64_t shared_kib_per_block;
    int64_t threads_per_sm;
    int64_t blocks_per_sm;
    double tensor_tflops;
  };
  const Row rows[] = {
      {"t4", "sm75", 40, 320, 4096, 64, 1024, 16, 65},
      {"a100-80gb", "sm80", 108, 2039, 40960, 163, 2048, 32, 312},
      {"h100", "sm90", 132, 3352, 51200, 227, 2048, 32, 989.4},
      {"h200", "sm90", 132, 4800, 61440, 227, 2048, 32, 989.4},
      {"b200", "sm100", 148, 7672, 129536, 227, 2048, 32, 2250},
      {"l40s", "sm89", 142, 864, 98304, 99, 1536, 24, 362.05},
      {"rtx-4090", "sm89", 128, 1008, 73728, 99, 1536, 24, 165.2},
  };
  for (const Row& row : rows) {
    CAPTURE(row.name);
    const Gpu gpu = LoadGpu(row.name);
    CHECK(gpu.arch == row.arch);
    CHECK(gpu.sms == row.sms);
    CHECK(gpu.hbm_bytes_per_second == doctest::Approx(row.hbm_gb_per_second * 1e9).epsilon(1e-12));
    CHECK(gpu.l2_bytes == row.l2_kib * 1024);
    CHECK(gpu.shared_bytes_per_block == row.shared_kib_per_block * 1024);
    CHECK(gpu.threads_per_sm == row.threads_per_sm);
    CHECK(gpu.blocks_per_sm == row.blocks_per_sm);
    CHECK(gpu.tensor_16bit_flops == doctest::Approx(row.tensor_tflops * 1e12).epsilon(1e-12));
    CHECK(HasWgmma(gpu) == (std::string(row.arch) == "sm90"));
  }
}

TEST_CASE("rates are consistent with clock, SMs and the FLOP per clock that the architecture can do") {
  const std::map<std::string, double> flop_per_clock = {{"t4", 1024},     {"a100-80gb", 2048}, {"h100", 4096},
                                                        {"h200", 4096},   {"b200", 8192},      {"l40s", 1024},
                                                        {"rtx-4090", 512}};
  for (const auto& [key, flop] : flop_per_clock) {
    const std::string name = key;  // clang 14 captures no structured bindings
    CAPTURE(name);
    const Gpu gpu = LoadGpu(name);
    const double derived = static_cast<double>(gpu.sms) * flop * gpu.clock_mhz * 1e6;
    CHECK(gpu.tensor_16bit_flops == doctest::Approx(derived).epsilon(0.003));
    if (gpu.tensor_8bit_flops) CHECK(*gpu.tensor_8bit_flops == doctest::Approx(2 * derived).epsilon(0.015));
    CHECK(gpu.shared_bytes_per_block + gpu.shared_bytes_reserved == gpu.shared_bytes_per_sm);
    if (gpu.hbm_read_bytes_per_second) CHECK(*gpu.hbm_read_bytes_per_second < gpu.hbm_bytes_per_second);
    if (gpu.l2_read_bytes_per_second) CHECK(*gpu.l2_read_bytes_per_second > gpu.hbm_bytes_per_second);
  }
}

TEST_CASE("a user's file works, with optional fields left out") {
  json file = Parsed("h200");
  file["name"] = "my-gpu";
  for (const char* field : {"hbm_read_bytes_per_second", "l2_bytes_effective", "l2_partitions",
                            "l2_read_bytes_per_second", "tensor_8bit_flops"}) {
    file.erase(field);
  }
  file["sms"].erase("checked_by");
  const std::string path = "gpu_test_user.json";
  std::ofstream(path) << file.dump();
  const Gpu gpu = LoadGpu("./" + path);
  std::remove(path.c_str());
  CHECK(gpu.name == "my-gpu");
  CHECK(!gpu.l2_partitions);
  CHECK(gpu.sources.size() == GpuFields().size() - 5);
  CHECK(ToJson(ParseGpu(ToJson(gpu), "x")) == ToJson(gpu));
  for (const GpuFact& fact : Describe(gpu)) CHECK((fact.field == "l2_partitions") <= (fact.value == "unknown"));
}

TEST_CASE("every field survives writing and reading") {
  Gpu gpu = LoadGpu("h200");
  gpu.title = "quotes \" backslash \\ umlaut \xc3\xa4 newline \n end";
  gpu.clock_mhz = 1234.567890123;
  gpu.hbm_bytes_per_second = 0.1 + 4.8e12;
  gpu.tensor_8bit_flops = 1.0 / 3 * 1e15;
  gpu.hbm_bytes = 123456789012345;
  const Gpu back = ParseGpu(ToJson(gpu), "x");
  CHECK(back.title == gpu.title);
  CHECK(back.clock_mhz == gpu.clock_mhz);
  CHECK(back.hbm_bytes_per_second == gpu.hbm_bytes_per_second);
  CHECK(back.tensor_8bit_flops == gpu.tensor_8bit_flops);
  CHECK(back.hbm_bytes == gpu.hbm_bytes);
}

TEST_CASE("an unknown GPU is refused with the known ones") {
  CHECK_THROWS_WITH_AS(LoadGpu("h300"),
                       doctest::Contains("expected a100-80gb, b200, h100, h200, l40s, rtx-4090, t4, or"), UsageError);
  CHECK_THROWS_AS(LoadGpu(""), UsageError);
  CHECK_THROWS_AS(LoadGpu("H200"), UsageError);
  CHECK_THROWS_AS(LoadGpu("/no/such/file"), InputError);
}

TEST_CASE("a wrong file is refused by the field's name and what was expected") {
  CHECK_THROWS_WITH_AS(ParseGpu("[]", "x"), doctest::Contains("is a list: expected an object of facts"), InputError);
  Refused([](json& f) { f["smss"] = f["sms"]; }, "\"smss\" is not a field: expected name, title, arch, sms, clock_mhz");
  Refused([](json& f) { f["sms"]["souce"] = ""; }, "sms has the key the string \"souce\"");
  Refused([](json& f) { f.erase("sms"); }, "sms is missing: expected an integer from 1 to 10000");
  Refused([](json& f) { f.erase("name"); }, "name is missing");
  Refused([](json& f) { f["name"] = "My GPU"; }, "name is \"My GPU\": expected lower-case letters");
  Refused([](json& f) { f["title"] = ""; }, "title is the string \"\": expected a string that is not empty");
  Refused([](json& f) { f.erase("arch"); }, "arch is missing");
  for (const char* arch : {"sm", "sm9", "90", "sm9x", "sm9000", "s"}) {
    Refused([&](json& f) { f["arch"]["value"] = arch; }, "expected sm and the compute capability");
  }
  Refused([](json& f) { f["sms"] = 132; }, "sms is 132: expected {\"value\"");
  Refused([](json& f) { f["sms"].erase("value"); }, "sms has no value");
  Refused([](json& f) { f["sms"].erase("source"); }, "sms has no source");
  Refused([](json& f) { f["sms"]["source"] = ""; }, "sms.source is the string \"\"");
  Refused([](json& f) { f["sms"]["checked_by"] = 1; }, "sms.checked_by is 1");
  for (const json& value : {json(0), json(-1), json(132.0), json(true), json("132"), json(nullptr), json(1e300),
                            json(int64_t{1} << 62), json(~uint64_t{0}), json::array({1}), json::object()}) {
    CAPTURE(value.dump());
    Refused([&](json& f) { f["sms"]["value"] = value; }, "sms is ");
    Refused([&](json& f) { f["sms"]["value"] = value; }, "expected an integer from 1 to 10000");
  }
  for (const json& value : {json(0), json(-1.5), json(1e300), json("fast"), json(nullptr), json(false)}) {
    CAPTURE(value.dump());
    Refused([&](json& f) { f["hbm_bytes_per_second"]["value"] = value; },
            "expected a number from 1e+08 to 1e+15 bytes/s");
  }
  Refused([](json& f) { f["l2_partitions"]["value"] = "2"; }, "expected an integer from 1 to 64, or null");
  Refused([](json& f) { f["shared_bytes_per_block"]["value"] = 233473; }, "is larger than shared_bytes_per_sm");
  Refused([](json& f) { f["threads_per_sm"]["value"] = 512; }, "threads_per_block is larger than threads_per_sm");
  Refused([](json& f) { f["l2_bytes_effective"]["value"] = 62914561; }, "l2_bytes_effective is larger than l2_bytes");
}

TEST_CASE("data/gpus/README.md lists every field with its unit") {
  const std::string readme = ReadTextFile(std::string(kFolder) + "README.md");
  for (const GpuField& field : GpuFields()) {
    const std::string row = "| `" + field.name + "` | " + field.unit + (field.unit.empty() ? "|" : " |") + " " +
                            (field.required ? "yes" : "no") + " | " + field.meaning + " |";
    CHECK_MESSAGE(readme.find(row) != std::string::npos, row);
  }
}

}  // namespace
}  // namespace bitflash::data
