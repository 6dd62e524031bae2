// Plug-ins that fail in every way, and what stays behind.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <functional>
#include <thread>

#include "data/error.h"
#include "verify/cli/shell.h"
#include "verify/subjects/leftovers_testing.h"
#include "verify/subjects/plugin_testing.h"

namespace bitflash::verify {
namespace {

using data::Attention;
using Kind = PluginError::Kind;

// True as soon as the condition is, within a time that is long enough on a busy machine.
bool Eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < 1000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

TEST_SUITE_BEGIN("plugin");

TEST_CASE("every way to fail is named, three times in a row, and nothing stays behind") {
  const struct {
    std::string fault;
    Kind kind;
    const char* message;
  } faults[] = {
      {"crash", Kind::kCrash, "crashed in forward(): SIGSEGV"},
      {"overflow", Kind::kCrash, "crashed in forward(): SIGSEGV"},
      {"abort", Kind::kCrash, "crashed in forward(): SIGABRT"},
      {"init-crash", Kind::kCrash, "crashed in init(): SIGSEGV"},
      {"exit", Kind::kExit, "exit status 3 in forward()"},
      {"close-all", Kind::kExit, "exit status 0"},
      {"kill-group", Kind::kCrash, "SIGKILL"},
      {"error-code", Kind::kErrorCode, "returned -42 from forward(): 'the device is on fire'"},
      {"init-error", Kind::kErrorCode, "init() returned -7"},
      {"write-outside", Kind::kGuardPage, "wrote right behind the end of O in forward() (SIGSEGV)"},
      {"write-input", Kind::kWroteOutside, "wrote to the input Q, at byte 0 in forward()"},
      {"unprotect-input", Kind::kErrorCode, "returned -42"},
      {"read-outside", Kind::kGuardPage, "read right behind the end of K"},
      {"hang", Kind::kTimeout, "did not come back within 0.3 s in forward()"},
      {"babbles", Kind::kTimeout, "in forward(); it printed '"},
      {"init-hang", Kind::kTimeout, "did not come back within 0.3 s in init()"},
  };
  const Leftovers leftovers;
  const Problem p = MakeProblem(Small());
  for (const auto& expected : faults) {
    const Kind kind = expected.kind;
    CAPTURE(expected.fault);
    PluginSubject subject(Faulty(expected.fault, kind == Kind::kTimeout ? 0.3 : 60));
    for (int round = 0; round < 3; ++round) {
      try {
        subject.Run(p);
        FAIL("no error");
      } catch (const PluginError& error) {
        CHECK(Name(error.kind) == Name(kind));
        CHECK_MESSAGE(std::string(error.what()).find(expected.message) != std::string::npos, error.what());
      }
      leftovers.CheckNone();
    }
  }
}

TEST_CASE("accesses before a tensor and beside an unaligned one are found by the second call and by canaries") {
  const auto kind_of = [](PluginOptions options, const Problem& p) -> std::string {
    try {
      PluginSubject(options).RunChecked(p);
    } catch (const PluginError& error) {
      return std::string(Name(error.kind)) + ": " + error.what();
    }
    return "";
  };
  const Problem p = MakeProblem(Small());  // LSE has 160 bytes
  CHECK(kind_of(Faulty("read-before"), p).find("read 1 bytes before the start of K") != std::string::npos);
  CHECK(kind_of(Faulty("write-before"), p).find("guard-page") == std::string::npos);  // slack of the first call
  CHECK(
      kind_of(Faulty("write-before"), p).find("2 bytes that do not belong to O, the first 2 bytes before its start") !=
      std::string::npos);
  CHECK(kind_of(Faulty("write-beside-lse"), p).find("behind the end of LSE") != std::string::npos);
  Attention a = Small();
  a.batch = 1;
  a.heads_q = 2;  // LSE has 40 bytes: 8 bytes of slack at its end
  CHECK(kind_of(Faulty("write-beside-lse"), MakeProblem(a)).find("to LSE, the first right behind its end") !=
        std::string::npos);
  PluginOptions gaps = Faulty("write-between");
  gaps.row_padding = 8;
  CHECK(kind_of(gaps, p).find("wrote-outside") == 0);
  CHECK(kind_of(gaps, p).find("between its rows") != std::string::npos);
}

TEST_CASE("processes that a plug-in starts are killed at its end, also those that hide") {
  const Leftovers leftovers;
  for (int round = 0; round < 3; ++round) {
    PluginSubject subject(Faulty("forks"));
    CheckClean(subject.RunOnce(MakeProblem(Small())));
    CHECK(Eventually([&] { return leftovers.Processes() >= 5; }));  // two of the host and three of the plug-in
    subject.Close();
    leftovers.CheckNone();
  }
  PluginSubject orphan(Faulty("kill-host"));
  CHECK_THROWS_WITH_AS(orphan.Run(MakeProblem(Small())), doctest::Contains("killed its own host"), PluginError);
  leftovers.CheckNone();
}

TEST_CASE("a plug-in that hangs does not outlive a bitflash that is killed") {
  const Leftovers leftovers;
  const pid_t child = fork();
  if (child == 0) {
    try {
      PluginSubject(Faulty("hang")).Run(MakeProblem(Small()));
    } catch (const std::exception&) {
    }
    _exit(0);
  }
  CHECK(Eventually([&] { return leftovers.Processes() == 2; }));
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  CHECK(Eventually([&] { return leftovers.Processes() == 0; }));
  leftovers.CheckNone();
}

TEST_CASE("a crash costs only one call, and the end in order can fail") {
  const Problem p = MakeProblem(Small());
  PluginSubject subject(Faulty("crash-second"));
  const Outputs first = subject.Run(p);
  CHECK_THROWS_AS(subject.Run(p), PluginError);
  CHECK(subject.Run(p).o == first.o);  // a new process, whose first call this is

  PluginSubject later(Faulty("crash-later"));
  later.Run(p);
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  CHECK_THROWS_WITH_AS(later.Run(p), doctest::Contains("crashed between calls: SIGABRT"), PluginError);
  later.Run(p);

  PluginSubject ends_badly(Faulty("destroy-crash"));
  ends_badly.Run(p);
  CHECK_THROWS_WITH_AS(ends_badly.Close(), doctest::Contains("crashed in destroy(): SIGSEGV"), PluginError);
  PluginSubject ends_never(Faulty("destroy-hang", 0.3));
  ends_never.Run(p);
  CHECK_THROWS_WITH_AS(ends_never.Close(), doctest::Contains("within 0.3 s in destroy()"), PluginError);
  ends_never.Close();
  const Leftovers leftovers;
  PluginSubject(Faulty("destroy-crash")).Run(p);  // the destructor says nothing
  leftovers.CheckNone();
}

TEST_CASE("the memory of a plug-in can be limited") {
  const Problem p = MakeProblem(Small());
  PluginOptions options = Faulty("allocate");
  PluginSubject(options).Run(p);
#if !defined(__SANITIZE_ADDRESS__)
  options.memory_limit_bytes = int64_t{1} << 30;
  CHECK_THROWS_WITH_AS(PluginSubject(options).Run(p), doctest::Contains("returned -42"), PluginError);
  options.memory_limit_bytes = 16 << 20;  // too little even for the tensors' guards
  CHECK_THROWS_AS(PluginSubject(options).Run(p), PluginError);
#endif
}

TEST_CASE("files that are no plug-in") {
  const TemporaryFolder folder;
  const Leftovers leftovers;
  const Problem p = MakeProblem(Small());
  const auto refused = [&](const std::string& path, Kind kind, const char* message) {
    CAPTURE(path);
    for (int round = 0; round < 3; ++round) {
      try {
        PluginSubject({.path = path}).Run(p);
        FAIL("no error");
      } catch (const PluginError& error) {
        CHECK(Name(error.kind) == Name(kind));
        CHECK_MESSAGE(std::string(error.what()).find(message) != std::string::npos, error.what());
      }
    }
    leftovers.CheckNone();
  };
  WriteText(folder.path() + "/text.so", "not a library");
  refused(folder.path() + "/text.so", Kind::kLoad, "cannot be loaded");
  WriteText(folder.path() + "/empty.so", "");
  refused(folder.path() + "/empty.so", Kind::kLoad, "cannot be loaded");
  refused(Library("plugin_unresolved"), Kind::kLoad, "bitflash_test_defined_nowhere");
  refused(Library("plugin_crash_on_load"), Kind::kCrash, "crashed while it was loaded: SIGABRT");
  refused(Library("plugin_no_entry"), Kind::kAbi, "does not export bitflash_plugin_entry");
  refused(Library("plugin_other_major"), Kind::kAbi, "it speaks version 2 of the interface: expected 1");
  refused(Library("plugin_null_table"), Kind::kAbi, "it does not serve version 1");
  refused(Library("plugin_too_small"), Kind::kAbi, "struct_size 32: expected at least 40");
  refused(Library("plugin_no_forward"), Kind::kAbi, "lacks init or forward");

  CHECK_THROWS_AS(PluginSubject({.path = ""}), data::UsageError);
  CHECK_THROWS_AS(PluginSubject({.path = folder.path() + "/none.so"}), data::InputError);
  CHECK_THROWS_AS(PluginSubject({.path = folder.path()}), data::InputError);
  const std::string fifo = folder.path() + "/fifo.so";
  REQUIRE(mkfifo(fifo.c_str(), 0600) == 0);
  CHECK_THROWS_WITH_AS(PluginSubject({.path = fifo}), doctest::Contains("not a regular file"), data::InputError);
}

TEST_CASE("options and installations that cannot work are refused with the value") {
  const auto with = [](const std::function<void(PluginOptions&)>& change) {
    PluginOptions options = Correct();
    change(options);
    return options;
  };
  CHECK_THROWS_AS(PluginSubject(with([](auto& o) { o.timeout_s = 0; })), data::UsageError);
  CHECK_THROWS_AS(PluginSubject(with([](auto& o) { o.timeout_s = std::nan(""); })), data::UsageError);
  CHECK_THROWS_AS(PluginSubject(with([](auto& o) { o.alignment_bytes = 48; })), data::UsageError);
  CHECK_THROWS_AS(PluginSubject(with([](auto& o) { o.row_padding = -1; })), data::UsageError);
  CHECK_THROWS_AS(PluginSubject(with([](auto& o) { o.init_json = std::string(1 << 17, ' '); })), data::UsageError);
  const Problem p = MakeProblem(Small());
  const Leftovers leftovers;
  for (const char* host : {"/nowhere/host", "/bin/true", "/bin/false"}) {
    try {
      PluginSubject(with([&](auto& o) { o.host_path = host; })).Run(p);
      FAIL("no error");
    } catch (const PluginError& error) {
      CHECK(Name(error.kind) == Name(Kind::kHost));
    }
    leftovers.CheckNone();
  }
}

TEST_SUITE_END();

}  // namespace
}  // namespace bitflash::verify
