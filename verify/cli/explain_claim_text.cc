// The claims in words: each with the numbers that decide it.
#include <stdexcept>

#include "verify/cli/explain_writer.h"
#include "verify/cli/units.h"

namespace bitflash::verify {
namespace {

// The evidence of a claim, formatted on request.
class Evidence {
 public:
  explicit Evidence(const Claim& claim) : claim_(claim) {}

  double value(std::string_view name) const {
    const auto found = claim_.numbers.find(name);
    if (found == claim_.numbers.end()) throw std::logic_error("no number " + std::string(name));
    return found->second;
  }
  bool has(std::string_view name) const { return claim_.numbers.contains(name); }
  int64_t integer(std::string_view name) const { return static_cast<int64_t>(value(name)); }

  Argument bytes(std::string_view name) const { return {name, Amount(integer(name))}; }
  Argument count(std::string_view name) const { return {name, Grouped(integer(name))}; }
  Argument factor(std::string_view name) const { return {name, Ratio(value(name))}; }
  Argument flop(std::string_view name) const { return {name, Flop(value(name))}; }
  Argument plain(std::string_view name) const { return {name, Prefixed(value(name))}; }
  Argument percent(std::string_view name) const { return {name, Percent(value(name))}; }

 private:
  const Claim& claim_;
};

}  // namespace

std::string ExplainWriter::ClaimTitle(const Claim& claim) const {
  const std::string_view id = claim.id;
  if (id == "fewer-flops") return Say("claim.fewer_flops");
  if (id == "only-fusion") return Say("claim.only_fusion");
  if (id == "linear-memory") return Say("claim.linear_memory");
  if (id == "kv-read-once") return Say("claim.read_once");
  if (id == "bigger-tiles") return Say("claim.bigger_tiles");
  if (id == "changes-result") return Say("claim.changes_result");
  if (id == "memory-bound") return Say("claim.memory_bound");
  if (id == "every-length") return Say("claim.every_length");
  if (id == "decode-from-scores") return Say("claim.decode_scores");
  if (id == "split-kv-bytes") return Say("claim.split_bytes");
  throw std::logic_error("no title for the claim " + std::string(id));
}

std::string ExplainWriter::ClaimReason(const Claim& claim) const {
  const Evidence n(claim);
  const std::string_view id = claim.id;
  if (id == "fewer-flops") {
    return Say(claim.verdict == ClaimVerdict::kRefuted ? "claim.fewer_flops.refuted" : "claim.fewer_flops.depends",
               {n.flop("standard_flops"), n.flop("flash_flops"), n.flop("useful_flops")});
  }
  if (id == "only-fusion") {
    return claim.verdict == ClaimVerdict::kRefuted
               ? Say("claim.only_fusion.refuted", {{"rows", text_.Count("count.rows", n.integer("rows"))},
                                                   n.bytes("rows_bytes"),
                                                   n.bytes("shared_limit_bytes"),
                                                   n.count("longest_row_keys")})
               : Say("claim.only_fusion.depends", {{"rows", text_.Count("count.rows", n.integer("rows"))},
                                                   n.bytes("rows_bytes"),
                                                   n.bytes("shared_limit_bytes"),
                                                   n.count("longest_row_keys")});
  }
  if (id == "linear-memory") {
    const std::vector<Argument> arguments = {n.bytes("standard_stored_bytes"), n.bytes("flash_stored_bytes"),
                                             n.factor("standard_stored_growth"), n.factor("flash_hbm_growth"),
                                             n.factor("requested_growth")};
    return Say(
        claim.verdict == ClaimVerdict::kDepends ? "claim.linear_memory.depends" : "claim.linear_memory.supported",
        arguments);
  }
  if (id == "kv-read-once") {
    if (claim.verdict == ClaimVerdict::kSupported) {
      return Say("claim.read_once.supported", {n.bytes("requested_bytes"), n.bytes("once_bytes")});
    }
    const std::vector<Argument> arguments = {n.bytes("requested_bytes"), n.bytes("once_bytes"), n.factor("times"),
                                             n.bytes("kv_head_bytes"), n.factor("hbm_read_times")};
    return Say(claim.verdict == ClaimVerdict::kDepends ? "claim.read_once.depends" : "claim.read_once.refuted",
               arguments);
  }
  if (id == "bigger-tiles") {
    const auto tile = [&](std::string_view rows, std::string_view keys) {
      return n.count(rows).value + " x " + n.count(keys).value;
    };
    if (n.value("fits") == 0) {
      return Say("claim.bigger_tiles.refuted", {{"tile", tile("Br", "Bc")},
                                                {"bigger_tile", tile("bigger_Br", "bigger_Bc")},
                                                n.bytes("requested_bytes"),
                                                n.bytes("bigger_requested_bytes"),
                                                n.bytes("shared_bytes"),
                                                n.bytes("shared_limit_bytes"),
                                                n.count("registers"),
                                                n.count("registers_limit"),
                                                n.count("threads"),
                                                n.count("threads_limit")});
    }
    return Say("claim.bigger_tiles.depends",
               {{"tile", tile("Br", "Bc")},
                {"bigger_tile", tile("bigger_Br", "bigger_Bc")},
                n.bytes("requested_bytes"),
                n.bytes("bigger_requested_bytes"),
                {"now", text_.Count("count.blocks", n.integer("blocks_per_sm"))},
                {"then", text_.Count("count.blocks", n.integer("bigger_blocks_per_sm"))}});
  }
  if (id == "changes-result") {
    return Say("claim.changes_result.refuted",
               {{"tiles", text_.Count("count.key_tiles", n.integer("key_tiles"))},
                {"rescalings", text_.Count("count.rescalings", n.integer("rescalings"))},
                n.plain("score_rounding"),
                n.plain("fp32_rounding")});
  }
  if (id == "memory-bound") {
    return Say(claim.verdict == ClaimVerdict::kDepends ? "claim.memory_bound.depends" : "claim.memory_bound.supported",
               {n.plain("ridge"), n.plain("standard_prefill_intensity"), n.plain("flash_prefill_intensity"),
                n.plain("decode_intensity")});
  }
  if (id == "every-length") {
    std::string reason = claim.verdict == ClaimVerdict::kRefuted
                             ? Say("claim.every_length.refuted", {n.count("shortest"), n.bytes("shortest_stored_bytes"),
                                                                  n.bytes("shortest_in_hbm_bytes")})
                             : Say("claim.every_length.depends", {n.count("shortest"), n.factor("shortest_floor_ratio"),
                                                                  n.count("longest"), n.factor("longest_floor_ratio")});
    if (n.has("reaches_hbm_at")) {
      reason += Say("space") +
                Say("claim.every_length.from", {{"tokens", text_.Count("count.tokens", n.integer("reaches_hbm_at"))}});
    }
    return reason;
  }
  if (id == "decode-from-scores") {
    const std::vector<Argument> arguments = {n.bytes("score_bytes"), n.bytes("kv_bytes"), n.percent("share"),
                                             n.bytes("in_hbm_bytes")};
    std::string reason;
    switch (claim.verdict) {
      case ClaimVerdict::kRefuted:
        reason = Say("claim.decode_scores.refuted", arguments);
        break;
      case ClaimVerdict::kDepends:
        reason = Say("claim.decode_scores.depends", arguments);
        break;
      case ClaimVerdict::kSupported:
        reason = Say("claim.decode_scores.supported", arguments);
        break;
    }
    if (n.has("multi_head_share")) {
      reason += Say("space") +
                Say("claim.decode_scores.group", {n.count("group"), n.percent("multi_head_share"), n.percent("share")});
    }
    return reason;
  }
  if (id == "split-kv-bytes") {
    return Say("claim.split_bytes.refuted", {{"splits", text_.Count("count.parts", n.integer("splits"))},
                                             n.bytes("split_bytes"),
                                             n.bytes("whole_bytes"),
                                             n.bytes("partial_bytes"),
                                             n.bytes("whole_partial_bytes"),
                                             n.count("split_blocks"),
                                             n.count("whole_blocks"),
                                             n.count("sms")});
  }
  throw std::logic_error("no reason for the claim " + std::string(id));
}

}  // namespace bitflash::verify
