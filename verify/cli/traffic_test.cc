// `bitflash traffic`: tables, JSON, CSV, sweeps and assertions.
#include <doctest/doctest.h>

#include <algorithm>
#include <sstream>

#include "verify/cli/command_testing.h"

namespace bitflash::verify {
namespace {

constexpr const char* kFa2 =
    "bitflash traffic --kernel fa2 --tile 128x64 --batch 1 --heads-q 16 --heads-kv 16 --seqlen-q 4096 --seqlen-k 4096 "
    "--head-dim 128 --dtype bf16 --gpu h200 ";

TEST_CASE("traffic: FlashAttention-2, 16 heads of 4096 x 4096 x 128 in bf16") {
  const Json json = ValidJson(std::string(kFa2) + "--json", "traffic");
  const Json& total = json["total"];
  // 32 query tiles of each head read all of K and V, 1 MiB each; Q is read once.
  const int64_t requested = 16 * (32 * 2 + 1) * int64_t{1 << 20};
  CHECK(requested == 1090519040);
  CHECK(total["l2_to_sm"]["read"] == requested);
  CHECK(total["hbm"]["read"]["requested"] == requested);
  CHECK(total["hbm"]["read"]["compulsory"] == 3 * (16 << 20));
  // K and V of three heads fit L2 twice: HBM sees every operand once, and what a launch reads beside them.
  CHECK(total["hbm"]["read"]["predicted"] >= 3 * (16 << 20));
  CHECK(total["hbm"]["read"]["predicted"] < 3.1 * (16 << 20));
  // O and LSE in the end, and the registers that this build spills once a block.
  CHECK(total["hbm"]["write"]["predicted"] >= total["hbm"]["write"]["compulsory"]);
  CHECK(total["hbm"]["write"]["predicted"] < 20'000'000);
  CHECK(json["l2_mode"] == "exact");
  CHECK(total["hbm"]["write"]["compulsory"] == (16 << 20) + 16 * 4096 * 4);  // O, and LSE in fp32
  CHECK(total["flops"]["matrix"] == int64_t{4} * 16 * 4096 * 4096 * 128);
  REQUIRE(json["launches"].size() == 1);
  CHECK(json["launches"][0]["grid"] == Json{{"x", 32}, {"y", 16}, {"z", 1}});
}

TEST_CASE("traffic: near the L2's capacity sweeps print a range, and their CSV has its ends") {
  // K and V in flight are 0.75 of an A100's L2 at 4096 keys, far less at 512.
  const std::string command =
      "bitflash traffic --kernel fa2 --gpu a100-80gb --heads-q 16 --head-dim 128 --seqlen 512,6144 ";
  const Finished text = Run(command);
  const size_t near = text.out.find("6,144     6,144");
  REQUIRE(near != std::string::npos);
  CHECK(text.out.find(" to ", near) != std::string::npos);
  CHECK(text.out.substr(0, near).find(" to ") == std::string::npos);
  const Finished csv = Run(command + "--csv");
  CHECK(csv.out.find("hbm_read_predicted_low_bytes,hbm_read_predicted_high_bytes\r\n") != std::string::npos);
  int64_t commas = -1;
  std::istringstream lines(csv.out);
  for (std::string line; std::getline(lines, line);) {
    const auto here = std::ranges::count(line, ',');
    CHECK((commas == -1 || here == commas));
    commas = here;
  }
}

TEST_CASE("traffic: without keys only O is written, and the JSON holds to its schema") {
  for (const char* kernel : {"standard", "fa2", "fa3", "split-kv"}) {
    CAPTURE(kernel);
    const Json json = ValidJson(
        std::string("bitflash traffic --heads-q 8 --head-dim 40 --seqlen-q 1 --seqlen-k 0 --json --kernel ") + kernel,
        "traffic");
    CHECK(json["total"]["tensors"]["o"]["hbm"]["write"]["compulsory"] == 8 * 40 * 2);
  }
}

TEST_CASE("traffic: what the launches of standard attention move adds up to its total, tensor by tensor") {
  const Json json =
      ValidJson("bitflash traffic --model llama-3-8b --seqlen 8192 --mask full --kernel standard --json", "traffic");
  REQUIRE(json["launches"].size() == 3);
  CHECK(json["total"]["tensors"]["s"]["hbm"]["write"]["compulsory"] == int64_t{4} << 30);
  for (const char* side : {"read", "write"}) {
    int64_t launches = 0, tensors = 0;
    for (const Json& launch : json["launches"]) launches += launch["l2_to_sm"][side].get<int64_t>();
    for (const Json& tensor : json["total"]["tensors"]) tensors += tensor["l2_to_sm"][side].get<int64_t>();
    CHECK(launches == json["total"]["l2_to_sm"][side]);
    CHECK(tensors == json["total"]["l2_to_sm"][side]);
  }
}

TEST_CASE("traffic: behind the L2, by two ways, from three starts, or not at all") {
  const std::string standard =
      "bitflash traffic --heads-q 8 --head-dim 128 --seqlen 1024 --kernel standard --gpu h100 ";
  for (const char* mode : {"exact", "closed"}) {
    const std::string with = standard + "--l2 " + mode + " --json --l2-start ";
    const Json stream = ValidJson(with + "stream", "traffic"), flushed = ValidJson(with + "flushed", "traffic");
    CHECK(stream["l2_mode"] == mode);
    // The softmax finds the scores, 16.8 MB, where the launch before left them, unless a profiler flushes.
    CHECK(stream["launches"][1]["hbm"]["read"]["predicted"] < 3'000'000);
    CHECK(flushed["launches"][1]["hbm"]["read"]["predicted"] > 16'000'000);
    CHECK(stream["launches"][1]["l2"]["dirty_at_end"] > 16'000'000);
    CHECK(ValidJson(with + "again", "traffic")["total"]["hbm"]["read"]["predicted"] <=
          stream["total"]["hbm"]["read"]["predicted"]);
  }
  const Json off = ValidJson(standard + "--l2 off --json", "traffic");
  CHECK(off["l2_mode"].is_null());
  CHECK(off["total"]["l2"].is_null());
  CHECK(off["total"]["hbm"]["read"]["predicted"].is_null());
}

TEST_CASE("traffic: near the L2's capacity the prediction is a range") {
  const Json json =
      ValidJson("bitflash traffic --heads-q 2 --head-dim 128 --seqlen 24576 --kernel fa2 --gpu h100 --l2 exact --json",
                "traffic");
  CHECK(json["total"]["l2"]["in_knee"] == true);
  CHECK(json["total"]["l2"]["dram_read"]["low"] < json["total"]["l2"]["dram_read"]["high"]);
  const Finished text = Run("bitflash traffic --heads-q 2 --head-dim 128 --seqlen 24576 --kernel fa2 --gpu h100");
  CHECK(text.out.find("near its capacity: predicted reads") != std::string::npos);
}

TEST_CASE("traffic: a sweep is the single runs, in order, kernels innermost") {
  const Json sweep = ValidJson(
      "bitflash traffic --heads-q 8 --head-dim 64 --seqlen 512:2048:x2 --batch 1,3 --kernel fa1,fa2 --l2 closed --json",
      "traffic-sweep");
  REQUIRE(sweep["results"].size() == 12);
  const Json single = ValidJson(
      "bitflash traffic --heads-q 8 --head-dim 64 --seqlen 1024 --batch 3 --kernel fa2 --l2 closed --json", "traffic");
  const Json& same = sweep["results"][9];  // batch 3, the second length, the second kernel
  CHECK(same["problem"] == single["problem"]);
  CHECK(same["kernel"] == single["kernel"]);
  CHECK(same["total"] == single["total"]);
}

TEST_CASE("traffic: CSV has the numbers of JSON in the same cells of every line") {
  const Finished csv = Run(std::string(kFa2) + "--mask 'window(127,0)' --csv");
  CHECK(csv.exit_code == 0);
  std::istringstream lines(csv.out);
  std::string header, line, last;
  std::getline(lines, header);
  const auto commas = std::count(header.begin(), header.end(), ',');
  int count = 0;
  while (std::getline(lines, line)) {
    CHECK(line.back() == '\r');
    CHECK(std::count(line.begin(), line.end(), ',') == commas + 1);  // the quoted mask has one of its own
    CHECK(line.find("\"window(127,0)\"") != std::string::npos);
    last = line;
    ++count;
  }
  CHECK(count > 2);
  const Json json = ValidJson(std::string(kFa2) + "--mask 'window(127,0)' --json", "traffic");
  CHECK(last.find(",total,all,") != std::string::npos);
  for (const Json& number : {json["total"]["hbm"]["read"]["requested"], json["total"]["flops"]["matrix"]}) {
    std::string cell = ",";
    cell.append(number.dump()).append(",");
    CHECK(last.find(cell) != std::string::npos);
  }
}

TEST_CASE("traffic --assert: exit code 1 names the point and the value; every point is checked") {
  CHECK(Run(std::string(kFa2) + "--assert 'l2_to_sm.read==1090519040'").exit_code == 0);
  const Finished failed = Run(std::string(kFa2) + "--l2 off --assert 'hbm.read<=1GB' --assert 'hbm.write<=1GB'");
  CHECK(failed.exit_code == 1);
  CHECK(failed.out.find("assert hbm.read<=1GB: FAILS (hbm.read.requested = 1,090,519,040)") != std::string::npos);
  CHECK(failed.out.find("assert hbm.write<=1GB: holds") != std::string::npos);
  CHECK(failed.err ==
        "bitflash traffic: assertion failed: hbm.read<=1GB: hbm.read.requested = 1090519040 (kernel fa2)\n");
  // Behind the L2 the same claim holds.
  CHECK(Run(std::string(kFa2) + "--assert 'hbm.read<=1GB'").out.find("holds (hbm.read.predicted = ") !=
        std::string::npos);
  const std::string sweep =
      "bitflash traffic --heads-q 8 --head-dim 64 --seqlen 512:2048:x2 --assert 'hbm.read.requested<=8MiB' ";
  const Finished some = Run(sweep);
  CHECK(some.exit_code == 1);
  CHECK(some.err.find("seqlen 2048") != std::string::npos);
  CHECK(some.err.find("seqlen 512") == std::string::npos);
  const Json json = ValidJson(sweep + "--json 2>/dev/null", "traffic-sweep", 1);
  CHECK(json["results"][0]["assertions"][0]["holds"] == true);
  CHECK(json["results"][2]["assertions"][0]["holds"] == false);
}

TEST_CASE("traffic: an infeasible point is a row with its reason, and fails every assertion; the sweep goes on") {
  // Half a gibi queries would be more tiles than are counted.
  const std::string sweep =
      "bitflash traffic --heads-q 8 --head-dim 64 --seqlen-q 512,536870912,1024 --seqlen-k 64 --l2 closed ";
  const std::string reason = "the queries would be cut into 4194304 tiles";
  const Json json = ValidJson(sweep + "--json", "traffic-sweep");
  REQUIRE(json["results"].size() == 3);
  CHECK(json["results"][1]["infeasible"].get<std::string>().rfind(reason, 0) == 0);
  CHECK(json["results"][1]["total"].is_null());
  CHECK(json["results"][1]["launches"].empty());
  const Json last = ValidJson(
      "bitflash traffic --heads-q 8 --head-dim 64 --seqlen-q 1024 --seqlen-k 64 --l2 closed --json", "traffic");
  CHECK(json["results"][2]["infeasible"].is_null());
  CHECK(json["results"][2]["total"] == last["total"]);

  const Finished text = Run(sweep);
  CHECK(text.exit_code == 0);
  CHECK(text.out.find("infeasible: " + reason) != std::string::npos);

  std::istringstream lines(Run(sweep + "--csv").out);
  std::string header, line, found;
  std::getline(lines, header);
  while (std::getline(lines, line)) {
    CHECK(std::count(line.begin(), line.end(), ',') == std::count(header.begin(), header.end(), ','));
    if (line.find(reason) != std::string::npos) found = line;
  }
  CHECK(header.find(",fp32_ops,infeasible,time_seconds,time_bottleneck,hbm_read_predicted_low_bytes,") !=
        std::string::npos);
  CHECK(found.find(",total,all,,,,,,,,,,,,,,," + reason) != std::string::npos);  // 14 empty counts

  const Json failed = ValidJson(sweep + "--assert 'hbm.read>0' --json 2>/dev/null", "traffic-sweep", 1);
  CHECK(failed["results"][0]["assertions"][0]["holds"] == true);
  CHECK(failed["results"][1]["assertions"][0]["holds"] == false);
  const std::string err = Run(sweep + "--assert 'hbm.read>0'").err;
  CHECK(err.rfind("bitflash traffic: assertion failed: hbm.read>0: infeasible: " + reason, 0) == 0);
  CHECK(err.find("(kernel fa2, seqlen_q 536870912)\n") != std::string::npos);

  const Finished kernels =
      Run("bitflash traffic --kernel fa3,fa2 --gpu a100-80gb --heads-q 8 --head-dim 64 --seqlen 64");
  CHECK(kernels.exit_code == 0);
  CHECK(kernels.out.rfind("fa3  infeasible: kernel fa3 needs sm90", 0) == 0);
}

TEST_CASE("traffic: --json=/dev/stdout into a file keeps what else is written there") {
  const TemporaryFolder folder;
  REQUIRE(Shell(std::string(kFa2) + "--json=/dev/stdout > both", folder).exit_code == 0);
  const std::string both = ReadText(folder.path() + "/both");
  CHECK(both.rfind("{", 0) == 0);
  CHECK(both.find("FlashAttention-2 forward") != std::string::npos);
  CHECK(both.find("matrix FLOP per byte") != std::string::npos);
}

}  // namespace
}  // namespace bitflash::verify
