// `bitflash tune` and `bitflash traffic --trace` as their users see them.
#include <doctest/doctest.h>

#include <sstream>

#include "data/strict_json.h"
#include "verify/cli/command_testing.h"

namespace bitflash::verify {
namespace {

constexpr const char* kPrefill = "bitflash tune --heads-q 16 --head-dim 128 --seqlen 4096 --gpu h100 ";

TEST_CASE("tune --json is of its schema, with the rejected ones when asked for") {
  for (const char* flags : {"", "--all ", "--kernel split-kv --all ", "--kernel fa3 ", "--kernel standard "}) {
    CAPTURE(flags);
    const Json json = ValidJson(std::string(kPrefill) + flags + "--json", "tune");
    CHECK(json["ranked"].size() == json["feasible"].get<size_t>());
    const bool all = std::string_view(flags).find("--all") != std::string_view::npos;
    CHECK(json["rejected"].size() == (all ? json["infeasible"].get<size_t>() : 0));
    for (size_t n = 0; n < json["ranked"].size(); ++n) CHECK(json["ranked"][n]["rank"] == n + 1);
  }
}

TEST_CASE("tune: a table of the first ones and the published one, and a sentence") {
  const Finished finished = Run(std::string(kPrefill) + "--top 3");
  CHECK(finished.exit_code == 0);
  int rows = 0;
  bool table = false;
  std::istringstream lines(finished.out);
  for (std::string line; std::getline(lines, line);) {
    if (line.find("rank") != std::string::npos && line.find("blocks/SM") != std::string::npos) {
      table = true;
    } else if (line.empty()) {
      table = false;
    } else {
      rows += table;
    }
  }
  CHECK((rows == 3 || rows == 4));
  CHECK(finished.out.find("published") != std::string::npos);
  CHECK(finished.out.find("the published choice (128x64, 4 warps) is ") != std::string::npos);
  CHECK(finished.out.find("(--all shows why)") != std::string::npos);
  const Finished all = Run(std::string(kPrefill) + "--all");
  CHECK(all.out.find("rejected because") != std::string::npos);
  CHECK(all.out.find("registers per thread") != std::string::npos);
}

TEST_CASE("tune: beside the kernel's own tile stands what others publish, with its place or why it does not fit") {
  const std::string command = "bitflash tune --kernel fa3 --heads-q 16 --seqlen 4096 --gpu h100 --top 1 ";
  const Finished ranked = Run(command + "--head-dim 128");
  CHECK(ranked.out.find("FlashAttention-3 publishes 128x176, 8 warps, 2 stages (hopper/tile_size.h); it is number ") !=
        std::string::npos);
  CHECK(Run(command + "--head-dim 128 --causal").out.find("(hopper/tile_size.h): the default, too") !=
        std::string::npos);
  const Finished rejected = Run(command + "--head-dim 64");
  CHECK(rejected.out.find("it does not run here: ") != std::string::npos);
  CHECK(rejected.out.find("(theirs passes P through shared memory") != std::string::npos);
  CHECK(ValidJson(command + "--head-dim 64 --json", "tune")["reference"]["verdict"] == "infeasible");
  CHECK(ValidJson(command + "--head-dim 64 --tile 128x64 --json", "tune")["reference"].is_null());
}

TEST_CASE("tune --csv: as many cells in every line, and the fixed choices in every row") {
  const Finished finished = Run(std::string(kPrefill) + "--stages 2 --all --csv");
  CHECK(finished.exit_code == 0);
  std::istringstream lines(finished.out);
  std::string header;
  std::getline(lines, header);
  CHECK(header.starts_with("rank,kernel,br,bc,warps,stages,"));
  int rows = 0;
  for (std::string line; std::getline(lines, line); ++rows) {
    if (line.find('"') == std::string::npos) CHECK(std::ranges::count(line, ',') == std::ranges::count(header, ','));
    CHECK(line.find(",2,1,0,") != std::string::npos);
  }
  CHECK(rows > 20);
}

TEST_CASE("tune refuses what it cannot do") {
  const Finished several = Run(std::string(kPrefill) + "--kernel fa2,fa3");
  CHECK(several.exit_code == 2);
  CHECK(several.err.find("--kernel names 2 kernels: expected one") != std::string::npos);
  CHECK(Run(std::string(kPrefill) + "--top 0").exit_code == 2);
  const Finished none = Run("bitflash tune --kernel fa3 --heads-q 4 --head-dim 128 --seqlen 512 --gpu a100-80gb");
  CHECK(none.exit_code == 2);
  CHECK(none.err.find("needs sm90") != std::string::npos);
}

TEST_CASE("traffic --trace writes a trace and says so") {
  const TemporaryFolder folder;
  const std::string command = "bitflash traffic --heads-q 8 --head-dim 128 --seqlen 2048 --gpu h100 --trace t.json ";
  const Finished finished = Shell(command, folder);
  CHECK(finished.exit_code == 0);
  CHECK(finished.err.find("t.json") != std::string::npos);
  const Json json = Json::parse(data::ReadTextFile(folder.path() + "/t.json"));
  CHECK(json["traceEvents"].size() > 100);
  CHECK(json["otherData"]["kernel"] == "fa2");
  CHECK(Shell(command + "--trace-sms 1 --quiet", folder).err.empty());
  CHECK(Json::parse(data::ReadTextFile(folder.path() + "/t.json"))["otherData"]["drawn_sms"] == 1);
  CHECK(Shell(command + "--kernel fa2,fa3", folder).exit_code == 2);
  CHECK(Shell("bitflash traffic --heads-q 8 --head-dim 128 --seqlen 512,1024 --trace t.json", folder).exit_code == 2);
  CHECK(Shell("bitflash traffic --heads-q 8 --head-dim 128 --seqlen 512 --trace-sms 4", folder).exit_code == 2);
  CHECK(Shell("bitflash traffic --heads-q 8 --head-dim 128 --seqlen 512 --trace none/t.json", folder).exit_code == 6);
}

TEST_CASE("traffic says how long it takes") {
  const Finished text = Run("bitflash traffic --heads-q 16 --head-dim 128 --seqlen 4096 --gpu h100");
  CHECK(text.out.find("  time, estimated: ") != std::string::npos);
  CHECK(text.out.find("; bottleneck: tensor cores\n") != std::string::npos);
  CHECK(text.out.find("no times of this kernel") == std::string::npos);
  const Finished other = Run("bitflash traffic --heads-q 16 --head-dim 128 --seqlen 4096 --gpu a100-80gb");
  CHECK(other.out.find("no times of this kernel") != std::string::npos);
  const Finished sweep = Run("bitflash traffic --heads-q 16 --head-dim 128 --seqlen 512,4096 --gpu h100");
  CHECK(sweep.out.find("time, est.") != std::string::npos);
}

}  // namespace
}  // namespace bitflash::verify
