// bitflash verify --plugin as its users see it: what each failure looks like, what is saved, and that nothing is left.
#include <doctest/doctest.h>

#include <filesystem>
#include <set>

#include "verify/cli/verdict_testing.h"
#include "verify/cli/xml_check.h"
#include "verify/subjects/leftovers_testing.h"

namespace bitflash::verify {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr const char* kShape = " --heads-q 2 --head-dim 16 --seqlen 20 --dtype fp16 ";

// Quoted: the build may lie under a folder with a space in its name.
std::string Library(const std::string& name) { return "--plugin '" BITFLASH_BINARY_DIR "/" + name + ".so' "; }
std::string Faulty(const std::string& fault) {
  return Library("plugin_faulty") + "--init '{\"fault\": \"" + fault + "\"}' ";
}

std::set<std::string> Files(const TemporaryFolder& folder) {
  std::set<std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder.path())) {
    if (entry.is_regular_file()) files.insert(fs::relative(entry.path(), folder.path()));
  }
  return files;
}

// The options of a command that a report gave.
std::string Options(const Json& command) {
  const std::string text = command, start = "bitflash verify ";
  REQUIRE(text.starts_with(start));
  return text.substr(start.size());
}

TEST_CASE("verify --plugin: a correct one passes every check, over one shape and over generated cases") {
  const TemporaryFolder folder;
  const Leftovers leftovers;
  const Judged one = RunVerify(Library("plugin_correct") + kShape, folder);
  CHECK(one.exit_code == 0);
  CHECK(one.only()["calls"]["unwritten_o"] == 0);
  CHECK(one.only()["relations"].size() == 8);
  for (const Json& relation : one.only()["relations"]) CHECK(relation["outcome"] != "fail");
  CHECK(one.text.find("relations    8 of 8 hold") != std::string::npos);
  CHECK(one.text.find("gpu = ") == std::string::npos);  // it runs where it likes

  const Judged many = RunVerify(Library("plugin_correct") + "--cases 3 --no-relations --seed 3 --dtype fp16", folder);
  CHECK(many.exit_code == 0);
  CHECK(many.json["result"]["pass"] == 3);
  // Any one of them again, by its name.
  const Judged again = RunVerify(Options(many.json["cases"][1]["command"]), folder);
  CHECK(again.only()["name"] == many.json["cases"][1]["name"]);
  CHECK(WithoutTimes(again.only()["judgement"]["tensors"]) ==
        WithoutTimes(many.json["cases"][1]["judgement"]["tensors"]));
  leftovers.CheckNone();
  CHECK(Files(folder).empty());
}

TEST_CASE("verify --plugin: what breaks is named, ends with 4 and is saved; nothing else is left behind") {
  const struct {
    const char* fault;
    const char* says;
  } faults[] = {{"crash", "crashed in forward(): SIGSEGV"},
                {"hang", "did not come back within 1 s in forward()"},
                {"write-outside", "behind the end of O in forward()"},
                {"write-input", "Q"},
                {"exit", "exit"},
                {"init-error", "init"},
                {"forks", ""}};
  for (const auto& fault : faults) {
    CAPTURE(fault.fault);
    const TemporaryFolder folder;
    const Leftovers leftovers;
    const Judged judged = RunVerify(Faulty(fault.fault) + kShape + "--timeout 1", folder);
    leftovers.CheckNone();
    if (std::string(fault.says).empty()) continue;  // any verdict
    CHECK(judged.exit_code == 4);
    CHECK(judged.only()["outcome"] == "broken");
    CHECK(judged.only()["judgement"].is_null());
    CHECK(judged.text.find(": plug-in failed\n") != std::string::npos);
    CHECK(judged.only()["reason"].get<std::string>().find(fault.says) != std::string::npos);
    const std::string saved = "bitflash-cases/b1_h2-2_s20x20_d16_fp16_full_hash-normal_seed0.safetensors";
    CHECK(Files(folder) == std::set<std::string>{saved});
    const Judged again = RunVerify(Options(judged.only()["command"]), folder);
    CHECK(again.exit_code == 4);
    CHECK(again.only()["reason"] == judged.only()["reason"]);
    CHECK(Files(folder) == std::set<std::string>{saved});
    leftovers.CheckNone();
  }
}

TEST_CASE("verify --plugin: libraries that are no plug-in, and kernels that take nothing") {
  const TemporaryFolder folder;
  for (const char* library : {"plugin_no_entry", "plugin_other_major", "plugin_null_table", "plugin_too_small",
                              "plugin_no_forward", "plugin_unresolved", "plugin_crash_on_load"}) {
    CAPTURE(library);
    const Judged judged = RunVerify(Library(library) + kShape + "--save none", folder);
    CHECK(judged.exit_code == 4);
    CHECK(judged.only()["reason"].get<std::string>().find(library) != std::string::npos);
  }
  for (const char* library : {"plugin_older_minor", "plugin_newer_minor", "plugin_flush_on_load"}) {
    CAPTURE(library);
    CHECK(RunVerify(Library(library) + kShape + "--no-relations", folder).exit_code == 0);
  }
  const Judged unsupported = RunVerify(Faulty("unsupported") + "--cases 2", folder);
  CHECK(unsupported.exit_code == 5);
  CHECK(unsupported.json["result"]["undecided"] == 2);
  CHECK(Files(folder).empty());
}

TEST_CASE("verify --plugin: unwritten and stale outputs fail, and the smallest case replays it") {
  for (const char* fault : {"unwritten", "stale"}) {
    CAPTURE(fault);
    const TemporaryFolder folder;
    const Leftovers leftovers;
    const Judged judged = RunVerify(Faulty(fault) + kShape + "--save cases --no-diagnosis", folder);
    CHECK(judged.exit_code == 1);
    CHECK(judged.only()["calls"][fault + std::string("_o")] > 0);
    CHECK(judged.only()["saved_problem"].get<std::string>().find("heads 1/1, seqlen 1 x 1") != std::string::npos);
    CHECK(Files(folder) == std::set<std::string>{judged.only()["saved"]});
    const Judged again = RunVerify(Options(judged.only()["command"]), folder);
    CHECK(again.exit_code == 1);
    CHECK(again.only()["calls"][fault + std::string("_o")] > 0);
    CHECK(Files(folder).size() == 1);
    leftovers.CheckNone();
  }
  // A folder that cannot be made costs the file, not the verdict.
  const TemporaryFolder folder;
  const Judged judged =
      RunVerify(Faulty("stale") + kShape + "--save /dev/null/cases --no-relations --no-diagnosis", folder);
  CHECK(judged.exit_code == 1);
  CHECK(judged.only()["saved"].is_null());
  CHECK(judged.text.find("the case could not be saved: /dev/null/cases") != std::string::npos);
}

TEST_CASE("verify: annotations and the step summary of GitHub") {
  const TemporaryFolder folder;
  const std::string summary = "GITHUB_STEP_SUMMARY=summary.md; export GITHUB_STEP_SUMMARY; echo before > summary.md; ";
  const std::string stale =
      "bitflash verify --github --no-relations --no-diagnosis --save none " + Faulty("stale") + kShape;
  const Finished failed = Shell(summary + stale, folder);
  CHECK(failed.exit_code == 1);
  CHECK(failed.err.starts_with(
      "::error title=bitflash verify%3A batch 1%2C heads 2/2%2C seqlen 20 x 20%2C head_dim 16%2C fp16%2C full::640 "
      "elements of O did not change when V was negated; to repeat: bitflash verify --no-relations --no-diagnosis "
      "--plugin "));
  CHECK(std::count(failed.err.begin(), failed.err.end(), '\n') == 1);
  const std::string text = ReadText(folder.path() + "/summary.md");
  CHECK(text.starts_with("before\n### bitflash verify: plugin\\_faulty.so\n\n0 pass, 1 fail, 0 undecided\n\n| case |"));

  const Finished passed =
      Shell(summary + "bitflash verify --github --no-relations " + Library("plugin_correct") + kShape, folder);
  CHECK(passed.exit_code == 0);
  CHECK(passed.err == "");
  CHECK(Shell("GITHUB_STEP_SUMMARY=no/such/file; export GITHUB_STEP_SUMMARY; " + stale, folder).exit_code == 6);
  CHECK(Shell("unset GITHUB_STEP_SUMMARY; " + stale, folder).exit_code == 1);
  CHECK(Shell(stale + "--junit no/such/file.xml", folder).exit_code == 6);
}

TEST_CASE("verify --plugin: inputs from a file, whatever its name") {
  const TemporaryFolder folder;
  const std::string name = "$(printf 'a\\n\\033[31m\\377<&\"|%%::,b').npz";
  REQUIRE(Shell("bitflash gen --quiet -o in.npz" + std::string(kShape) + "&& mv in.npz \"" + name + "\"", folder).err ==
          "");
  const Judged judged = RunVerify(Faulty("stale") + "--no-relations --in \"" + name + "\" --save cases", folder);
  CHECK(judged.exit_code == 1);
  CHECK(judged.only()["saved"] == "cases/a___31m_________b-minimal.safetensors");
  CHECK(RunVerify(Options(judged.only()["command"]), folder).exit_code == 1);
}

TEST_CASE("verify --plugin: what it printed is shown, cut and harmless") {
  const TemporaryFolder folder;
  const Judged judged = RunVerify(Faulty("prints") + kShape + "--no-relations", folder);
  CHECK(judged.exit_code == 0);
  CHECK(judged.text.find("printed      the last line\n") != std::string::npos);
}

TEST_CASE("verify --plugin: the same bytes for every number of threads") {
  const TemporaryFolder folder;
  const std::string options = Library("plugin_correct") + "--cases 3 --no-relations --dtype fp16 --quiet ";
  Judged one = RunVerify(options + "-j 1", folder), two = RunVerify(options + "-j 2", folder);
  for (Judged* judged : {&one, &two}) {
    for (Json& c : judged->json["cases"]) c["command"] = "";
  }
  CHECK(WithoutTimes(one.json).dump() == WithoutTimes(two.json).dump());
}

}  // namespace
}  // namespace bitflash::verify
