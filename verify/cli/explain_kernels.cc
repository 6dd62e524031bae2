// Parts 1 to 3: the standard kernels, what FlashAttention keeps on chip, and its loop.
#include <algorithm>

#include "verify/cli/explain_writer.h"
#include "verify/cli/units.h"

namespace bitflash::verify {
namespace {

using sim::TensorId;

struct Transfer {
  std::string_view launch;
  TensorId tensor;
  bool write;
  int64_t bytes;
};

constexpr const char* kLetters[] = {"Q", "K", "V", "S", "P", "O"};

// Every HBM read and write of Q, K, V, S, P and O, launch by launch: what the ledgers hold.
std::vector<Transfer> Transfers(const sim::Count& count) {
  std::vector<Transfer> transfers;
  for (const sim::LaunchCount& launch : count.launches) {
    for (const bool write : {false, true}) {
      for (const TensorId tensor :
           {TensorId::kQ, TensorId::kK, TensorId::kS, TensorId::kP, TensorId::kV, TensorId::kO}) {
        const sim::Traffic& traffic = sim::At(launch.ledger.hbm_compulsory, tensor);
        const int64_t bytes = write ? traffic.write : traffic.read;
        if (bytes > 0) transfers.push_back({launch.name, tensor, write, bytes});
      }
    }
  }
  return transfers;
}

}  // namespace

std::string ExplainWriter::ScoresAtRest(const Contrast& c) const {
  const std::vector<Argument> arguments = {{"stored", Amount(c.standard.stored_bytes)},
                                           {"l2", Amount(e_.l2_bytes)},
                                           {"score_bytes", Amount(c.standard.score_bytes)},
                                           {"seen", Amount(c.scores_in_hbm())}};
  return c.scores_stay_in_l2() ? Say("p1.fits", arguments) : Say("p1.leaves", arguments);
}

DocumentPart ExplainWriter::Standard() const {
  const Contrast& c = e_.asked();
  DocumentPart part = Part("1", "p1.title");
  part.Paragraph(Say("p1.intro"));

  DocumentTable table;
  table.columns = {{"", Align::kRight},
                   {Say("table.kernel"), Align::kLeft},
                   {Say("table.access"), Align::kLeft},
                   {Say("table.bytes"), Align::kRight},
                   {Say("table.transfer_share"), Align::kRight}};
  int step = 0;
  for (const Transfer& t : Transfers(c.standard.count)) {
    const std::vector<Argument> tensor = {{"tensor", kLetters[static_cast<int>(t.tensor)]}};
    table.rows.push_back({std::to_string(++step), std::string(t.launch),
                          t.write ? Say("p1.write", tensor) : Say("p1.read", tensor), Amount(t.bytes),
                          Percent(static_cast<double>(t.bytes) / static_cast<double>(c.standard.hbm.compulsory))});
  }
  table.rows.push_back({});
  table.rows.push_back({"", "", Say("table.total"), Amount(c.standard.hbm.compulsory), ""});
  part.Add(std::move(table));

  const std::vector<Argument> sums = {{"score_bytes", Amount(c.standard.score_bytes)},
                                      {"operand_bytes", Amount(c.standard.operand_bytes)},
                                      {"share", Percent(c.score_share())}};
  if (decode()) {
    std::vector<Argument> with_kv = sums;
    with_kv.push_back({"kv_bytes", Amount(KvBytes(c.standard))});
    part.Paragraph(Say("p1.sum.decode", with_kv) + Say("space") + ScoresAtRest(c));
  } else {
    part.Paragraph(Say("p1.sum.prefill", sums) + Say("space") + ScoresAtRest(c));
  }
  if (c.attention.v_is_in_k) {
    part.Paragraph(Say("p1.latent",
                       {{"head_dim_v", Grouped(c.attention.head_dim_v)}, {"head_dim", Grouped(c.attention.head_dim)}}));
  }
  if (e_.unmasked_score_bytes > c.standard.score_bytes) {
    part.Paragraph(Say("p1.mask", {{"mask", data::ToString(c.attention.mask)},
                                   {"score_bytes", Amount(c.standard.score_bytes)},
                                   {"unmasked", Amount(e_.unmasked_score_bytes)}}));
  }
  return part;
}

DocumentPart ExplainWriter::OnChipPart() const {
  const Contrast& c = e_.asked();
  const KernelCost& flash = c.flash;
  const sim::LaunchCount& launch = flash.count.launches[flash.main_launch];
  DocumentPart part = Part("2", "p2.title");
  const std::vector<Argument> who = {{"kernel", flash.kernel}, {"rows", Grouped(flash.tiling.Br)}};
  const bool keys_outside = flash.kernel == "fa1";
  part.Paragraph(keys_outside            ? Say("p2.intro.fa1", who)
                 : flash.tiling.pack_gqa ? Say("p2.intro.packed", who)
                                         : Say("p2.intro", who));

  DocumentTable table;
  table.columns = {{Say("table.tile"), Align::kLeft},
                   {Say("table.where"), Align::kLeft},
                   {Say("table.shape"), Align::kRight},
                   {Say("table.format"), Align::kLeft},
                   {Say("table.bytes"), Align::kRight}};
  int64_t score_tile_bytes = 0;
  for (const OnChipTile& tile : e_.on_chip.tiles) {
    std::string shape = Grouped(tile.rows) + " x " + Grouped(tile.cols);
    if (tile.copies > 1) shape = Grouped(tile.copies) + " x " + shape;
    const bool shared = tile.space == sim::Space::kShared;
    table.rows.push_back({std::string(tile.tensor), shared ? Say("space.shared") : Say("space.register"), shape,
                          std::string(data::Name(tile.format)), Amount(tile.bytes)});
    if (tile.tensor == "S") score_tile_bytes = std::max(score_tile_bytes, tile.bytes);
  }
  part.Add(std::move(table));

  part.Paragraph(Say("p2.fits", {{"shared", Amount(e_.on_chip.shared_bytes)},
                                 {"shared_limit", Amount(e_.input.gpu.shared_bytes_per_block)},
                                 {"threads", Grouped(launch.resources.threads)},
                                 {"registers", Amount(e_.on_chip.register_bytes)},
                                 {"register_file", Amount(e_.input.gpu.registers_per_sm * 4)},
                                 {"blocks", text_.Count("count.blocks", e_.on_chip.occupancy.blocks_per_sm)}}));
  part.Paragraph(Say("p2.scores", {{"Br", Grouped(flash.tiling.Br)},
                                   {"Bc", Grouped(flash.tiling.Bc)},
                                   {"tile_bytes", Amount(score_tile_bytes)},
                                   {"stored", Amount(c.standard.stored_bytes)}}));
  const std::string o_bytes = Amount(sim::At(flash.count.total.hbm_compulsory, TensorId::kO).write);
  if (keys_outside) {
    const int64_t state_bytes = sim::At(flash.count.total.hbm_compulsory, TensorId::kM).write +
                                sim::At(flash.count.total.hbm_compulsory, TensorId::kL).write;
    part.Paragraph(Say("p2.leaves.fa1", {{"o_bytes", o_bytes}, {"state_bytes", Amount(state_bytes)}}));
  } else {
    part.Paragraph(Say("p2.leaves", {{"o_bytes", o_bytes}, {"lse_bytes", Amount(flash.lse_bytes)}}));
  }
  return part;
}

DocumentPart ExplainWriter::LoopPart() const {
  const Contrast& c = e_.asked();
  const data::Attention& a = c.attention;
  const sim::Tiling& t = c.flash.tiling;
  DocumentPart part = Part("3", "p3.title");
  const int64_t element = data::StorageBytes(a.format);
  const std::string Br = Grouped(t.Br), Bc = Grouped(t.Bc);
  const int64_t kv_tile = t.Bc * (a.head_dim + (a.v_is_in_k ? 0 : a.head_dim_v)) * element;
  const bool keys_outside = c.flash.kernel == "fa1";
  if (keys_outside) {
    part.Item("1.", Say("p3.fa1.outer", {{"keys", Bc}, {"bytes", Amount(kv_tile)}}));
    part.Item("2.", Say("p3.fa1.inner", {{"rows", Br}}));
  } else {
    part.Item("1.", Say("p3.load_q", {{"rows", Br}, {"bytes", Amount(t.Br * a.head_dim * element)}}));
    part.Item("2.", Say("p3.load_kv", {{"keys", Bc}, {"bytes", Amount(kv_tile)}}));
  }
  part.Item("3.", Say("p3.scores", {{"Br", Br}, {"Bc", Bc}}));
  part.Item("4.", Say("p3.softmax"));
  part.Item("5.", Say("p3.multiply"));
  part.Item("6.", keys_outside ? Say("p3.fa1.next") : Say("p3.next"));

  const std::vector<Argument> counts = {{"Tr", text_.Count("count.query_tiles", e_.loop.Tr)},
                                        {"Tc", text_.Count("count.key_tiles", e_.loop.Tc)},
                                        {"tiles", text_.Count("count.tile_steps", e_.loop.tiles)}};
  std::string sentence = Say("p3.counts", counts);
  if (e_.loop.tiles < e_.loop.tiles_full) {
    sentence += text_.Say("space") +
                Say("p3.skipped", {{"tiles_full", Grouped(e_.loop.tiles_full)}, {"mask", data::ToString(a.mask)}});
  }
  part.Paragraph(sentence);
  part.Paragraph(Say("p3.why"));
  part.Paragraph(
      Say("p3.state", {{"scores", text_.Count("count.scores", a.seqlen_k)},
                       {"row_bytes", Amount(a.seqlen_k * 4)},
                       {"rescalings", text_.Count("count.rescalings", std::max<int64_t>(0, e_.loop.Tc - 1))}}));
  return part;
}

}  // namespace bitflash::verify
