// A report of `verify` (report.h) for machines that run tests: JUnit XML, and GitHub's annotations and step summary.
#ifndef BITFLASH_VERIFY_CLI_CI_REPORT_H_
#define BITFLASH_VERIFY_CLI_CI_REPORT_H_

#include <string>
#include <vector>

#include "verify/report.h"

namespace bitflash::verify {

// One <testcase> for each case and check, in the form that Jenkins, GitLab and GitHub's actions read
// (https://github.com/testmoapp/junitxml): <failure> for what is wrong, <error> for a plug-in that broke, <skipped> for
// what was not decided.
std::string JUnitXml(const Report& report);

// "::error title=...::..." for each case that does not pass, ::warning where nothing was decided; GitHub's "workflow
// commands". One line each, without its end.
std::vector<std::string> GithubAnnotations(const Report& report);

// Markdown: a table of the cases, for $GITHUB_STEP_SUMMARY.
std::string GithubSummary(const Report& report);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_CI_REPORT_H_
