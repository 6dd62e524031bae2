#include "data/gpu.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <variant>

#include "data/embedded.h"
#include "data/error.h"
#include "data/strict_json.h"

namespace bitflash::data {

const std::vector<EmbeddedFile>& EmbeddedGpus();

namespace {

using nlohmann::json;

using Member = std::variant<int64_t Gpu::*, double Gpu::*, std::optional<int64_t> Gpu::*, std::optional<double> Gpu::*>;

// What parsing, printing and the documentation know about a field. A value outside [least, most] is a wrong unit or a
// typing error, not a GPU: the limits are at least ten times away from every part that has been built.
struct Field {
  const char* name;
  const char* unit;
  const char* meaning;
  Member member;
  double least;
  double most;
};

constexpr double kMostBytes = 1e15;  // below 2^53, so that a double holds the limit exactly

const std::vector<Field>& Fields() {
  static const std::vector<Field> fields = {
      {"sms", "", "streaming multiprocessors that are enabled", &Gpu::sms, 1, 10000},
      {"clock_mhz", "MHz", "the clock that tensor_16bit_flops is stated for", &Gpu::clock_mhz, 1, 100000},
      {"hbm_bytes_per_second", "bytes/s", "memory bandwidth of the data sheet", &Gpu::hbm_bytes_per_second, 1e8, 1e15},
      {"hbm_read_bytes_per_second", "bytes/s", "sustained reads, measured", &Gpu::hbm_read_bytes_per_second, 1e8, 1e15},
      {"hbm_bytes", "bytes", "memory capacity", &Gpu::hbm_bytes, 1e6, kMostBytes},
      {"l2_bytes", "bytes", "L2 capacity that the device reports", &Gpu::l2_bytes, 1024, 1e12},
      {"l2_bytes_effective", "bytes", "L2 capacity that a probe finds usable", &Gpu::l2_bytes_effective, 1024, 1e12},
      {"l2_partitions", "", "L2 partitions, each caching what its own SMs read", &Gpu::l2_partitions, 1, 64},
      {"l2_lru_bytes", "bytes", "L2 capacity that explains DRAM counts when replacement is taken for LRU",
       &Gpu::l2_lru_bytes, 1024, 1e12},
      {"l2_ways", "", "granules of 4096 bytes that compete for a place in L2", &Gpu::l2_ways, 1, 1e6},
      {"l2_dirty_bytes", "bytes", "the most that stays dirty in L2", &Gpu::l2_dirty_bytes, 1024, 1e12},
      {"l2_dirty_at_start_bytes", "bytes", "dirty in L2 before a launch whose caches a profiler flushed",
       &Gpu::l2_dirty_at_start_bytes, 0, 1e12},
      {"launch_dram_bytes", "bytes", "read from DRAM by a launch beside its tensors", &Gpu::launch_dram_bytes, 0, 1e9},
      {"l2_read_bytes_per_second", "bytes/s", "L2 reads of data that all SMs share, measured",
       &Gpu::l2_read_bytes_per_second, 1e8, 1e16},
      {"shared_bytes_per_sm", "bytes", "shared memory of an SM", &Gpu::shared_bytes_per_sm, 1024, 1e9},
      {"shared_bytes_per_block", "bytes", "shared memory that a block may ask for", &Gpu::shared_bytes_per_block, 1024,
       1e9},
      {"shared_bytes_reserved", "bytes", "shared memory that the system takes per block", &Gpu::shared_bytes_reserved,
       0, 1e6},
      {"registers_per_sm", "", "32-bit registers of an SM", &Gpu::registers_per_sm, 1024, 1e8},
      {"registers_per_thread", "", "32-bit registers that a thread may use", &Gpu::registers_per_thread, 16, 1e5},
      {"threads_per_sm", "", "threads resident on an SM", &Gpu::threads_per_sm, 32, 1e6},
      {"threads_per_block", "", "threads of a block", &Gpu::threads_per_block, 32, 1e6},
      {"blocks_per_sm", "", "blocks resident on an SM", &Gpu::blocks_per_sm, 1, 1e5},
      {"tensor_16bit_flops", "FLOP/s", "dense fp16 or bf16 matrix multiply-adds with an fp32 accumulator",
       &Gpu::tensor_16bit_flops, 1e9, 1e18},
      {"tensor_8bit_flops", "FLOP/s", "dense e4m3 or e5m2 matrix multiply-adds with an fp32 accumulator",
       &Gpu::tensor_8bit_flops, 1e9, 1e18},
      {"fp32_flops", "FLOP/s", "fp32 outside the tensor cores", &Gpu::fp32_flops, 1e9, 1e18},
      {"mufu_per_clock_sm", "1/clock", "special functions (ex2, rcp, ...) per clock and SM", &Gpu::mufu_per_clock_sm, 1,
       10000},
      {"shared_bytes_per_clock_sm", "bytes/clock", "shared-memory bandwidth of an SM", &Gpu::shared_bytes_per_clock_sm,
       1, 100000},
  };
  return fields;
}

bool IsOptional(const Field& field) { return field.member.index() >= 2; }
bool IsInteger(const Field& field) { return field.member.index() % 2 == 0; }

// The shortest text that reads back as the same number.
std::string ToText(double value) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value).ptr;
  return std::string(text, end);
}
std::string ToText(int64_t value) { return std::to_string(value); }

// Empty: the fact is unknown.
std::string ValueText(const Gpu& gpu, const Field& field) {
  return std::visit(
      [&](auto member) -> std::string {
        const auto& value = gpu.*member;
        if constexpr (requires { value.has_value(); }) {
          return value ? ToText(*value) : "";
        } else {
          return ToText(value);
        }
      },
      field.member);
}

// Reads one GPU's file and remembers how errors call it.
class GpuReader {
 public:
  GpuReader(const json& file, std::string_view origin) : file_(file), origin_(origin) {}

  Gpu Read() {
    if (!file_.is_object()) throw Fail("", "is " + DescribeJson(file_) + ": expected an object of facts");
    RefuseUnknownKeys();
    gpu_.name = Text("name");
    if (gpu_.name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789.-_") != std::string::npos) {
      throw Fail("name", "is \"" + gpu_.name + "\": expected lower-case letters, digits, '.', '-' and '_'");
    }
    gpu_.title = Text("title");
    ReadArch();
    for (const Field& field : Fields()) ReadField(field);
    Require(gpu_.shared_bytes_per_block <= gpu_.shared_bytes_per_sm, "shared_bytes_per_block", "shared_bytes_per_sm");
    Require(gpu_.threads_per_block <= gpu_.threads_per_sm, "threads_per_block", "threads_per_sm");
    Require(gpu_.l2_bytes_effective.value_or(0) <= gpu_.l2_bytes, "l2_bytes_effective", "l2_bytes");
    return gpu_;
  }

 private:
  InputError Fail(const std::string& field, const std::string& what) const {
    return InputError(origin_ + ": " + (field.empty() ? "" : field + " ") + what);
  }

  void RefuseUnknownKeys() const {
    for (const auto& [key, unused] : file_.items()) {
      if (key == "name" || key == "title" || key == "arch") continue;
      const auto known = [&, &name = key](const Field& field) { return field.name == name; };
      if (std::ranges::any_of(Fields(), known)) continue;
      std::string accepted = "name, title, arch";
      for (const Field& field : Fields()) accepted += std::string(", ") + field.name;
      throw Fail(DescribeJson(json(key)), "is not a field: expected " + accepted);
    }
  }

  // A string that says something.
  std::string Text(const char* key) const {
    if (!file_.contains(key)) throw Fail(key, "is missing: expected a string");
    return NonEmpty(file_[key], key);
  }
  std::string NonEmpty(const json& value, const std::string& field) const {
    if (!value.is_string() || value.get_ref<const std::string&>().empty()) {
      throw Fail(field, "is " + DescribeJson(value) + ": expected a string that is not empty");
    }
    return value.get<std::string>();
  }

  // The value of {"value": ..., "source": ..., "checked_by": ...}; keeps the source.
  const json& Fact(const std::string& field) {
    const json& fact = file_[field];
    if (!fact.is_object()) {
      throw Fail(field, "is " + DescribeJson(fact) + ": expected {\"value\": ..., \"source\": \"...\"}");
    }
    for (const auto& [key, unused] : fact.items()) {
      if (key != "value" && key != "source" && key != "checked_by") {
        throw Fail(field, "has the key " + DescribeJson(json(key)) + ": expected value, source and checked_by");
      }
    }
    if (!fact.contains("value")) throw Fail(field, "has no value: expected {\"value\": ..., \"source\": \"...\"}");
    if (!fact.contains("source")) throw Fail(field, "has no source: expected where the value is published");
    FactSource source{NonEmpty(fact["source"], field + ".source"), ""};
    if (fact.contains("checked_by")) {
      if (!fact["checked_by"].is_string()) {
        throw Fail(field + ".checked_by", "is " + DescribeJson(fact["checked_by"]) + ": expected a string");
      }
      source.checked_by = fact["checked_by"];
    }
    gpu_.sources[field] = source;
    return fact["value"];
  }

  void ReadArch() {
    if (!file_.contains("arch")) throw Fail("arch", "is missing: expected a fact such as \"sm90\"");
    gpu_.arch = NonEmpty(Fact("arch"), "arch");
    const std::string_view digits = std::string_view(gpu_.arch).substr(std::min<size_t>(2, gpu_.arch.size()));
    if (!gpu_.arch.starts_with("sm") || digits.size() < 2 || digits.size() > 3 ||
        digits.find_first_not_of("0123456789") != digits.npos) {
      throw Fail("arch",
                 "is " + DescribeJson(json(gpu_.arch)) + ": expected sm and the compute capability, as in sm90");
    }
  }

  void ReadField(const Field& field) {
    if (!file_.contains(field.name)) {
      if (IsOptional(field)) return;
      throw Fail(field.name, "is missing: expected " + Expected(field));
    }
    const json& value = Fact(field.name);
    if (value.is_null() && IsOptional(field)) return;
    const bool fits = IsInteger(field) ? value.is_number_integer() : value.is_number();
    const double number = fits ? value.get<double>() : 0;  // an integer beyond int64 is out of range as a double too
    if (!fits || !(number >= field.least && number <= field.most)) {
      throw Fail(field.name, "is " + DescribeJson(value) + ": expected " + Expected(field));
    }
    std::visit(
        [&](auto member) {
          if constexpr (std::is_same_v<decltype(member), int64_t Gpu::*> ||
                        std::is_same_v<decltype(member), std::optional<int64_t> Gpu::*>) {
            gpu_.*member = value.get<int64_t>();
          } else {
            gpu_.*member = number;
          }
        },
        field.member);
  }

  static std::string Expected(const Field& field) {
    return std::string(IsInteger(field) ? "an integer from " : "a number from ") + ToText(field.least) + " to " +
           ToText(field.most) + (*field.unit ? std::string(" ") + field.unit : "") +
           (IsOptional(field) ? ", or null" : "") + " (" + field.meaning + ")";
  }

  void Require(bool holds, const char* smaller, const char* larger) const {
    if (!holds) throw Fail(smaller, std::string("is larger than ") + larger + ": expected at most that");
  }

  const json& file_;
  std::string origin_;
  Gpu gpu_;
};

std::string NameOf(const EmbeddedFile& file) { return std::string(file.name.substr(0, file.name.rfind('.'))); }

std::string Quoted(const std::string& text) { return json(text).dump(-1, ' ', false, json::error_handler_t::replace); }

std::string FactJson(const Gpu& gpu, const std::string& field, const std::string& value) {
  const auto found = gpu.sources.find(field);
  const FactSource source = found == gpu.sources.end() ? FactSource{"not stated", ""} : found->second;
  return "  " + Quoted(field) + ": {\"value\": " + value + ", \"source\": " + Quoted(source.source) +
         ", \"checked_by\": " + Quoted(source.checked_by) + "}";
}

}  // namespace

std::vector<GpuField> GpuFields() {
  std::vector<GpuField> fields = {{"arch", "", "compute capability: sm75, sm80, sm89, sm90, sm100, ...", true}};
  for (const Field& field : Fields()) fields.push_back({field.name, field.unit, field.meaning, !IsOptional(field)});
  return fields;
}

std::vector<GpuFact> Describe(const Gpu& gpu) {
  const auto fact = [&](const std::string& field, const std::string& value, const char* unit) {
    const auto found = gpu.sources.find(field);
    const FactSource source = found == gpu.sources.end() ? FactSource{} : found->second;
    return GpuFact{field, value.empty() ? "unknown" : value, unit, source.source, source.checked_by};
  };
  std::vector<GpuFact> facts = {fact("arch", gpu.arch, "")};
  for (const Field& field : Fields()) facts.push_back(fact(field.name, ValueText(gpu, field), field.unit));
  return facts;
}

std::string ToJson(const Gpu& gpu) {
  std::string text = "{\n  \"name\": " + Quoted(gpu.name) + ",\n  \"title\": " + Quoted(gpu.title) + ",\n";
  text += FactJson(gpu, "arch", Quoted(gpu.arch));
  for (const Field& field : Fields()) {
    const std::string value = ValueText(gpu, field);
    if (value.empty() && !gpu.sources.contains(field.name)) continue;
    text += ",\n" + FactJson(gpu, field.name, value.empty() ? "null" : value);
  }
  return text + "\n}\n";
}

std::vector<std::string> GpuNames() {
  std::vector<std::string> names;
  for (const EmbeddedFile& file : EmbeddedGpus()) names.push_back(NameOf(file));
  std::ranges::sort(names);
  return names;
}

Gpu LoadGpu(std::string_view name_or_file) {
  const std::string name(name_or_file);
  if (NamesAFile(name)) return ParseGpu(ReadTextFile(name), name);
  for (const EmbeddedFile& file : EmbeddedGpus()) {
    if (NameOf(file) == name) return ParseGpu(file.bytes, file.name);
  }
  std::string accepted;
  for (const std::string& known : GpuNames()) accepted += known + ", ";
  throw UsageError("GPU \"" + name + "\" is not known: expected " + accepted + "or the path of a .json file");
}

Gpu ParseGpu(std::string_view text, std::string_view origin) {
  const json file = ParseStrictJson(text, origin);
  return GpuReader(file, origin).Read();
}

bool HasWgmma(const Gpu& gpu) { return gpu.arch == "sm90"; }

}  // namespace bitflash::data
