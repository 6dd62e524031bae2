// The estimated time of a kernel (sim/time), as JSON and as text.
#ifndef BITFLASH_VERIFY_CLI_TIME_RESULT_H_
#define BITFLASH_VERIFY_CLI_TIME_RESULT_H_

#include <string>

#include "sim/time/estimate.h"
#include "verify/cli/output.h"

namespace bitflash::verify {

// {"seconds", "bottleneck", "parts": {"tensor": seconds, ..., "launch": seconds}}: $defs/launch_time of
// traffic.schema.json.
Json TimeJson(const sim::LaunchTime& time);
// {"seconds", "bottleneck", "calibrated"}: $defs/time.
Json TimeJson(const sim::TimeEstimate& time);

// "tensor cores 209 us, stalls 124 us, idle SMs 13.0 us, launch 5.00 us": what adds up to the launch's time.
std::string TimeParts(const sim::LaunchTime& time);

// "  time, estimated: 355 us = tensor cores 209 us + stalls ...; bottleneck: tensor cores".
std::string TimeLine(const sim::LaunchTime& time);
// "  time of all launches, estimated: 1.20 ms; bottleneck: HBM".
std::string TimeLine(const sim::TimeEstimate& time);

// What a reader must know about an estimate whose constants were fitted elsewhere; empty otherwise.
std::string TimeCaveat(const sim::TimeEstimate& time);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_CLI_TIME_RESULT_H_
