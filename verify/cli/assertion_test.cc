#include "verify/cli/assertion.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "data/error.h"

namespace bitflash::verify {
namespace {

using data::UsageError;

const Json kTotal = {{"hbm",
                      {{"read", {{"compulsory", 100}, {"predicted", nullptr}, {"requested", 1200000000}}},
                       {"write", {{"compulsory", 7}, {"predicted", 8}, {"requested", 9}}}}},
                     {"l2_to_sm", {{"read", 9007199254740993}, {"write", 0}}},
                     {"flops", {{"matrix", 5}}},
                     {"tensors", {{"k", {{"l2_to_sm", {{"read", 3}}}}}}}};

bool Holds(std::string_view text) { return Evaluate(ParseAssertion(text), kTotal).holds; }

TEST_CASE("every operator, on both sides of the limit") {
  CHECK(Holds("flops.matrix<6"));
  CHECK_FALSE(Holds("flops.matrix<5"));
  CHECK(Holds("flops.matrix<=5"));
  CHECK_FALSE(Holds("flops.matrix<=4"));
  CHECK(Holds("flops.matrix==5"));
  CHECK_FALSE(Holds("flops.matrix==4"));
  CHECK(Holds("flops.matrix!=4"));
  CHECK_FALSE(Holds("flops.matrix!=5"));
  CHECK(Holds("flops.matrix>=5"));
  CHECK_FALSE(Holds("flops.matrix>=6"));
  CHECK(Holds("flops.matrix>4"));
  CHECK_FALSE(Holds("flops.matrix>5"));
}

TEST_CASE("hbm.read is predicted where known, else requested; each can be named") {
  CHECK(Evaluate(ParseAssertion("hbm.read<=1GB"), kTotal).field == "hbm.read.requested");
  CHECK(Evaluate(ParseAssertion("hbm.write<=1GB"), kTotal).field == "hbm.write.predicted");
  CHECK(Evaluate(ParseAssertion("hbm.read.compulsory<=1GB"), kTotal).value == 100);
  CHECK_THROWS_AS(Evaluate(ParseAssertion("hbm.read.predicted<=1GB"), kTotal), UsageError);
}

TEST_CASE("units are exact: 1.2GB is 1200000000 bytes, and so is nothing else") {
  CHECK(Holds("hbm.read==1.2GB"));
  CHECK(Holds("hbm.read == 1.2 GB"));
  CHECK(Holds("hbm.read==1200MB"));
  CHECK(Holds("hbm.read==1200M"));
  CHECK(Holds("hbm.read==1200000000B"));
  CHECK(Holds("hbm.read==1.2e9"));
  CHECK(Holds("hbm.read<1.2GiB"));
  CHECK(ParseAssertion("x==1KiB").limit == 1024);
  CHECK(ParseAssertion("x==1MiB").limit == 1048576);
  CHECK(ParseAssertion("x==1.5GiB").limit == 1610612736);
  CHECK(ParseAssertion("x==2TiB").limit == 2199023255552);
  CHECK(ParseAssertion("x==1TB").limit == 1000000000000);
}

TEST_CASE("a whole number beyond 53 bits is compared exactly") {
  CHECK(Holds("l2_to_sm.read==9007199254740993"));
  CHECK_FALSE(Holds("l2_to_sm.read==9007199254740992"));
}

TEST_CASE("tensors can be named") { CHECK(Holds("tensors.k.l2_to_sm.read==3")); }

TEST_CASE("wrong claims are refused") {
  for (const char* text : {"", "hbm.read", "<=1", "hbm.read<=", "hbm.read<=x", "hbm.read<=1XB", "hbm.read<=1GBB",
                           "hbm.read=1", "hbm.read<=-1", "hbm.read<=nan", "hbm.read<=inf", "hbm.read<=1 2",
                           "hbm.read=<1", "hbm.read<=1kB", "!hbm.read"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(ParseAssertion(text), UsageError);
  }
  for (const char* text :
       {"hbm<=1", "hbm.reed<=1", "hbm.read.x<=1", "nothing<=1", "hbm.<=1", ".hbm<=1", "tensors.k<=1"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(Evaluate(ParseAssertion(text), kTotal), UsageError);
  }
}

TEST_CASE("a wrong field suggests the nearest and lists the accepted ones") {
  try {
    Evaluate(ParseAssertion("hbm.reed<=1"), kTotal);
    FAIL("no error");
  } catch (const UsageError& error) {
    CHECK(std::string(error.what()).find("did you mean 'hbm.read'") != std::string::npos);
    CHECK(std::string(error.what()).find("flops.matrix") != std::string::npos);
  }
}

}  // namespace
}  // namespace bitflash::verify
