// `bitflash ncu` as its users see it.
#include <doctest/doctest.h>

#include <string>

#include "verify/cli/command_testing.h"

namespace bitflash::verify {
namespace {

const std::string kFolder = BITFLASH_SOURCE_DIR "/data/testdata/nsight/";

// Quoted: the folder's name may have a space.
std::string Quoted(const std::string& name) { return "'" + kFolder + name + "'"; }
const std::string kTorch = Quoted("torch.csv");
const std::string kShape = " --heads-q 8 --head-dim 128 --seqlen 2048 --gpu h100 ";

TEST_CASE("ncu without a file: predictions, and the commands that would falsify them") {
  const Finished text = Run("bitflash ncu --kernel fa2" + kShape);
  CHECK(text.exit_code == 0);
  for (const char* part :
       {"sm.read                  138,412,032  exact", "l1tex__m_xbar2l1tex_read_bytes.sum",
        "  ncu --metrics l1tex__m_xbar2l1tex_read_bytes.sum,", "--kernel-name 'regex:fa2_forward|flash_fwd_kernel'",
        "--csv --page raw --print-units base --log-file counters.csv PROGRAM\n",
        "  bitflash ncu counters.csv --kernel fa2 --heads-q 8 --head-dim 128 --seqlen 2048 --gpu h100\n",
        "Names on GPUs of other compute capabilities", "dram__bytes_op_read.sum"}) {
    CAPTURE(part);
    CHECK(text.out.find(part) != std::string::npos);
  }
  const Json json = ValidJson("bitflash ncu --json --kernel standard" + kShape, "ncu");
  CHECK(json["measured"].is_null());
  CHECK(json["predictions"].size() == 3);
  CHECK(json["predictions"][1]["launch"] == "standard_softmax");
  CHECK(json["compute_capability"] == 90);
  const Json blackwell = ValidJson("bitflash ncu --heads-q 8 --head-dim 128 --seqlen 2048 --gpu b200 --json", "ncu");
  CHECK(blackwell["profile"].get<std::string>().find("dram__bytes_op_read.sum,") != std::string::npos);
  CHECK(blackwell["profile"].get<std::string>().find("dram__bytes_read.sum,") == std::string::npos);
}

TEST_CASE("ncu with a file: the kernels that it shows, with signed errors; the limit decides the exit code") {
  const std::string command = "bitflash ncu " + kTorch + kShape;
  const Finished text = Run(command + "--limit 0.1");
  CHECK(text.exit_code == 0);
  CHECK(text.err.empty());
  for (const char* part : {"assumed: kernel = pytorch-fa2,cudnn-9.19-sm90 (of the launches in the file)",
                           "0  pytorch_flash::flash_fwd_kernel  grid (16, 1, 8)", "+0.000 %  holds", "-87.666 %",
                           "not compared: PyTorch's memory-efficient attention is not simulated",
                           "4 of 6 launches compared; of 10 values held to 0.1 %, none fail"}) {
    CAPTURE(part);
    CHECK(text.out.find(part) != std::string::npos);
  }
  const Json json = ValidJson(command + "--limit 50 --fields sm.write --json", "ncu", 1);
  CHECK(json["measured"]["held"] == 4);
  CHECK(json["measured"]["failed"] == 2);  // registers that PyTorch's kernel spills
  const Json& launch = json["measured"]["launches"][0];
  CHECK(launch["kernel"] == "pytorch-fa2");
  CHECK(launch["fields"][1]["field"] == "sm.write");
  CHECK(launch["fields"][1]["passes"] == false);
  CHECK(launch["fields"][0]["held"] == false);
  CHECK(launch["fields"][0]["measured"] == 138412032);
  CHECK(json["measured"]["launches"][5]["kernel"].is_null());
  const Json unlimited = ValidJson("bitflash ncu --json --csv " + kTorch + kShape, "ncu");
  CHECK(unlimited["measured"]["limit_percent"].is_null());
  CHECK(unlimited["measured"]["failed"].is_null());
}

TEST_CASE("ncu reads standard input, and maps kernels") {
  const Finished piped = Run("cat " + Quoted("mangled.csv") +
                             " | bitflash ncu - --kernel fa2 --heads-q 8 --head-dim 128 "
                             "--seqlen-q 1000 --seqlen-k 1111 --gpu h100 --limit 0");
  CHECK(piped.exit_code == 0);
  CHECK(piped.out.find("1 of 3 launches compared; of 2 values held to 0 %, none fail") != std::string::npos);
  // Two problems in one file: the other launch of fa2_forward is of another one, and is said to be.
  const std::string two = "bitflash ncu " + Quoted("wide.csv") +
                          " --kernel fa2 --heads-q 8 --head-dim 128 --seqlen-q 1000 "
                          "--seqlen-k 1111 --gpu h100 --limit 0.1 ";
  const Finished both = Run(two);
  CHECK(both.exit_code == 1);
  CHECK(both.out.find("the grid is not the predicted one, which has 64 blocks: is it another problem or tile?") !=
        std::string::npos);
  CHECK(Run(two + "--id 0").exit_code == 0);
  CHECK(Run(two + "--id 0,1").exit_code == 1);
  const Finished mapped = Run("bitflash ncu " + kTorch + " --kernel fa2 --map fmha_cutlassF=fa2_forward" + kShape);
  CHECK(mapped.exit_code == 0);
  CHECK(mapped.out.find("4 of 6 launches compared") != std::string::npos);
}

TEST_CASE("ncu: what is wrong is said with the exit code of its kind") {
  struct Case {
    std::string arguments;
    int exit_code;
    std::string message;
  };
  const TemporaryFolder folder;
  WriteText(folder.path() + "/broken.csv", "ID,Kernel Name,a__b\n0,k,\"1\n");
  WriteText(folder.path() + "/text.csv", "hello\n");
  WriteText(folder.path() + "/unit.csv",
            "ID,Kernel Name,l1tex__m_xbar2l1tex_read_bytes.sum\n,,furlong\n0,fa2_forward,1\n");
  for (const Case& c : {
           Case{"broken.csv" + kShape, 3, "bitflash ncu: broken.csv:2:5: a quote (\") is opened and never closed"},
           Case{"text.csv" + kShape, 3, "text.csv:1:1: no table of Nsight Compute: expected a line with the columns"},
           Case{"unit.csv" + kShape, 3,
                "unit.csv:3:15: 'l1tex__m_xbar2l1tex_read_bytes.sum' has the unit 'furlong': "
                "expected byte"},
           Case{"missing.csv" + kShape, 3, "missing.csv"},
           Case{Quoted("summary.csv") + kShape, 3, "it is a summary of several launches"},
           Case{kTorch + " --kernel standard" + kShape, 5, "none of the 6 launches in"},
           Case{kTorch + kShape + "--limit 1 --fields shared.wavefronts", 5, "no measured field is held to --limit"},
           Case{kTorch + kShape + "--limit 1 --fields hbm.raed", 2, "did you mean 'hbm.read'?"},
           Case{kTorch + kShape + "--limit much", 2, "--limit: 'much' is not a finite number"},
           Case{kTorch + kShape + "--fields sm.read", 2, "--fields needs --limit"},
           Case{kShape + "--limit 1", 2, "--id, --limit and --fields need FILE"},
           Case{kTorch + " --csv " + kTorch + kShape, 2, "FILE and --csv are the same"},
           Case{kTorch + kShape + "--map x=fa3_forward", 2, "--map: unknown launch 'fa3_forward'"},
           Case{kTorch + kShape + "--map x", 2, "expected TEXT=LAUNCH"},
           Case{kTorch + kShape + "--id 0,9", 2, "--id: '9' is no launch in " + kFolder + "torch.csv: expected 0 to 5"},
           Case{kTorch + " --heads-q 8 --seqlen 2048", 2, "--head-dim is missing"},
       }) {
    CAPTURE(c.arguments);
    const Finished finished = Shell("bitflash ncu " + c.arguments, folder);
    CAPTURE(finished.err);
    CHECK(finished.exit_code == c.exit_code);
    CHECK(finished.err.find(c.message) != std::string::npos);
  }
}

}  // namespace
}  // namespace bitflash::verify
