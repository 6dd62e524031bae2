// The executable as its users see it: results, streams, exit codes, files.
#include <doctest/doctest.h>

#include <sstream>

#include "verify/cli/command_testing.h"

namespace bitflash::verify {
namespace {

TEST_CASE("explain: every note about a built-in model is in the language of the text") {
  int notes = 0;
  const Json list = Json::parse(Run("bitflash list models --json").out);
  for (const Json& model : list["models"]) {
    const Finished finished = Run("bitflash explain --brief --phase decode --seqlen 300000 --lang zh --model " +
                                  model["name"].get<std::string>());
    CHECK(finished.exit_code == 0);
    std::istringstream lines(finished.err);
    for (std::string line; std::getline(lines, line); ++notes) {
      CAPTURE(line);
      const bool chinese = line.find("未建模：") != std::string::npos || line.find("最大位置数") != std::string::npos;
      CHECK(chinese);
      CHECK(line.find(" the ") == std::string::npos);
      CHECK(line.find(" that ") == std::string::npos);
    }
  }
  CHECK(notes > 10);
}

TEST_CASE("control characters in the titles of a user's files do not reach the terminal") {
  const TemporaryFolder folder;
  const Json gpu = Json::parse(ReadText(BITFLASH_SOURCE_DIR "/data/gpus/h200.json"));
  Json hostile = gpu;
  hostile["title"] = "A\x1b[31mB\nC\u202e";
  WriteText(folder.path() + "/gpu.json", hostile.dump());
  Json model = Json::parse(ReadText(BITFLASH_SOURCE_DIR "/data/models/llama-3-8b.json"));
  model["_title"] = "M\x1b]0;x\x07N";
  WriteText(folder.path() + "/model.json", model.dump());
  for (const char* command : {"traffic", "explain"}) {
    const Finished finished =
        Shell(std::string("bitflash ") + command + " --model model.json --gpu gpu.json --seqlen 999999 --color never",
              folder);
    CAPTURE(finished.err);
    CHECK(finished.exit_code == 0);
    for (const std::string& text : {finished.out, finished.err}) {
      CHECK(text.find('\x1b') == std::string::npos);
      CHECK(text.find('\x07') == std::string::npos);
      CHECK(text.find("\u202e") == std::string::npos);
    }
    CHECK(finished.out.find("A\\x1b[31mB\\nC\\u202e") != std::string::npos);
  }
}

TEST_CASE("list and doctor: valid JSON; each topic alone is what the whole list says") {
  const Json all = ValidJson("bitflash list --json", "list");
  for (const char* topic : {"gpus", "models", "kernels", "recipes", "formats", "masks", "distributions", "faults"}) {
    const Json one = ValidJson(std::string("bitflash list --json ") + topic, "list");
    CHECK(one.size() == (one.contains("cpu_kernels") ? 4 : 3));
    CHECK(one[topic] == all[topic]);
    CHECK(all[topic].size() >= 3);
    CHECK(Run(std::string("bitflash list ") + topic).out.size() > 100);
  }
  const Json doctor = ValidJson("bitflash doctor --json -j 1", "doctor");
  CHECK(doctor["threads"]["used"] == 1);
  CHECK(doctor["gpu"]["device"].is_null() != doctor["gpu"]["no_device"].is_null());
  if (doctor["build"]["gpu"] == false) CHECK(doctor["gpu"]["kernels"].empty());
  CHECK(Run("bitflash doctor").exit_code == 0);
}

TEST_CASE("every listed name is accepted where it belongs") {
  const Json all = Json::parse(Run("bitflash list --json").out);
  for (const Json& model : all["models"]) {
    for (const Json& group : model["groups"]) {
      const std::string command = "bitflash traffic --quiet --dtype bf16 --seqlen 512 --phase decode --model " +
                                  model["name"].get<std::string>() + " --layers '" + group["name"].get<std::string>() +
                                  "'";
      const Finished finished = Run(command);
      CAPTURE(command);
      CAPTURE(finished.err);
      CHECK(finished.exit_code == 0);
    }
  }
  for (const Json& gpu : all["gpus"]) {
    const std::string command =
        "bitflash traffic --kernel standard --dtype fp16 --heads-q 8 --head-dim 64 --seqlen 512 --gpu " +
        gpu["name"].get<std::string>();
    const Finished finished = Run(command);
    CAPTURE(command);
    CAPTURE(finished.err);
    CHECK(finished.exit_code == 0);
  }
}

TEST_CASE("a closed pipe ends the program silently with the documented code") {
  // POSIX sh has no pipefail: the code is written to a file.
  const TemporaryFolder folder;
  const Finished finished = Shell(
      "(sleep 0.2; bitflash traffic --heads-q 8 --head-dim 64 --seqlen 1:4096:+1 --csv; echo $? > code) | true; sleep "
      "0.6; "
      "while [ ! -s code ]; do sleep 0.1; done",
      folder);
  CHECK(ReadText(folder.path() + "/code") == "6\n");
  CHECK(finished.err.empty());
}

TEST_CASE("colours: never without a terminal, always when asked, and NO_COLOR does not override the flag") {
  const std::string list = "bitflash list masks ";
  CHECK(Run(list).out.find('\x1b') == std::string::npos);
  CHECK(Run(list + "--color always").out.find('\x1b') != std::string::npos);
  CHECK(Run("NO_COLOR=1 " + list + "--color always").out.find('\x1b') != std::string::npos);
  CHECK(Run(list + "--color never").out.find('\x1b') == std::string::npos);
  CHECK(Run(list + "--no-color").out.find('\x1b') == std::string::npos);
  // script(1) gives a terminal where it is installed.
  if (Run("command -v script").exit_code == 0) {
    // Needs a pseudo-terminal, which a container may not have.
    if (Run("script -qec true /dev/null").exit_code == 0)
      CHECK(Run("script -qec '" + list + "' /dev/null").out.find('\x1b') != std::string::npos);
    CHECK(Run("NO_COLOR=1 script -qec '" + list + "' /dev/null").out.find('\x1b') == std::string::npos);
  }
}

TEST_CASE(
    "--json=FILE and --csv=FILE are written beside the text; an old file is replaced, none is left half written") {
  const TemporaryFolder folder;
  WriteText(folder.path() + "/x.json", "old");
  const Finished finished =
      Shell("bitflash traffic --heads-q 8 --head-dim 64 --seqlen 512 --json=x.json --csv=x.csv && ls -a", folder);
  CHECK(finished.exit_code == 0);
  CHECK(finished.out.find("HBM read") != std::string::npos);
  CHECK(finished.out.find("tmp") == std::string::npos);
  CHECK(Json::parse(ReadText(folder.path() + "/x.json"))["schema"] == "bitflash.traffic/1");
  CHECK(ReadText(folder.path() + "/x.csv").rfind("kernel,batch,", 0) == 0);
}

TEST_CASE("notes go to standard error unless --quiet") {
  const std::string command = "bitflash traffic --model llama-3-8b --seqlen 16384 --json ";
  CHECK(Run(command).err.find("bitflash traffic: note: Llama 3 8B is configured for 8192 positions") == 0);
  CHECK(Run(command + "--quiet").err.empty());
}

}  // namespace
}  // namespace bitflash::verify
