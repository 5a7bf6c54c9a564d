// The models of PR 2143 and PR 1855 (docs/spec/caseops_model.md): golden values of the originals, the order
// of their layers, and documents that do not see each other.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/folded.h"
#include "model/small_family.h"
#include "support/errors.h"

namespace fairway::testing {
namespace {

using tensor::DType;
using ::testing::HasSubstr;

std::vector<int> range(int first, int end) {
  std::vector<int> list;
  for (int l = first; l < end; ++l) list.push_back(l);
  return list;
}

/// What both systems have in common at any size.
ModelConfig caseops() {
  ModelConfig c;
  c.rope_rescale_length = 0;
  c.smear = false;
  c.smear_channels = 12;
  c.skip_gates = true;
  c.attn_gate = model::AttentionGate::sigmoid;
  c.bigram_rows = c.ve_dim = 0;
  c.ve_layers = {};
  return c;
}

ModelConfig golden_caseops(const GoldenFile& file, model::Parallel parallel) {
  const auto j = file.json("config");
  auto c = caseops();
  set_golden_sizes(c, file);
  c.attn_gate_scale = j["sparse_attn_gate_scale"];
  c.loop_layers = range(j["loop_start"], j["loop_end"].get<int>() + 1);
  c.loop_runs = j["num_loops"].get<int>() + 1;
  c.xsa_layers = range(c.layers - j["xsa_last_n"].get<int>(), c.layers);
  c.parallel_layers = range(j["parallel_start_layer"], c.layers);
  c.parallel = parallel;
  model::validate(c);
  return c;
}

/// The leader's banks hold the layers of a role one after the other: qo all Wq then all Wo, kv likewise.
void split_banks(GoldenFile& file, const std::string& prefix, int layers) {
  const auto split = [&](const char* bank, int from, const char* role) {
    const auto found = file.arrays.find(prefix + bank);
    if (found == file.arrays.end()) return;
    const auto& all = found->second;
    const auto each = all.bytes.size() / static_cast<std::size_t>(all.shape[0]);
    for (int l = 0; l < layers; ++l) {
      const auto at = all.bytes.begin() + static_cast<std::ptrdiff_t>(each) * (from + l);
      file.arrays[fmt::format("{}blocks.{}.{}.weight", prefix, l, role)] = {
          all.dtype, {all.shape[1], all.shape[2]}, {at, at + static_cast<std::ptrdiff_t>(each)}};
    }
  };
  split("qo_bank", 0, "attn.c_q");
  split("qo_bank", layers, "attn.proj");
  split("kv_bank", 0, "attn.c_k");
  split("kv_bank", layers, "attn.c_v");
  split("mlp_up_bank", 0, "mlp.fc");
  split("mlp_down_bank", 0, "mlp.proj");
}

enum class Form { doubles, floats, passes };

struct Case {
  std::string system;
  bool looped;
  Form form;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.system << c.looped; }

class CaseOpsGolden : public ::testing::TestWithParam<Case> {
 protected:
  CaseOpsGolden() {
    const auto& c = GetParam();
    const auto name = [&](bool looped) { return "caseops_" + c.system + (looped ? "_loop" : "_noloop"); };
    file = golden(name(c.looped));
    config = golden_caseops(file, c.system == "pr1855" ? model::Parallel::lanes : model::Parallel::sum);
    auto parameters = golden(name(true));
    split_banks(parameters, "param/", config.layers);
    split_banks(file, "grad/", config.layers);
    options.dtype = c.form == Form::doubles ? DType::f64 : DType::f32;
    store.emplace(model::make_layout(config), tensor::Device{}, true, options.dtype);
    for (const auto& p : store->layout().parameters())
      fill(store->value(p.name), parameters.floats("param/" + p.name));
    options.rows = static_cast<int>(file.at("input_ids").shape[0]);
    options.looped = c.looped;
    if (c.form == Form::passes) options.passes = graph::all_passes();
  }
  static void fill(const tensor::View& to, const std::vector<float>& values) {
    if (to.dtype() == DType::f64)
      std::ranges::copy(values, to.span<double>().begin());
    else
      std::ranges::copy(values, to.span<float>().begin());
  }
  static std::vector<double> values(const tensor::View& from) {
    if (from.dtype() == DType::f64) return {from.span<double>().begin(), from.span<double>().end()};
    return {from.span<float>().begin(), from.span<float>().end()};
  }
  void put(graph::Program& program, const char* name, const char* array) const {
    std::ranges::copy(file.at(array).as<std::int32_t>(), program.view(name).span<std::int32_t>().begin());
  }

  base::ThreadPool pool{2};
  GoldenFile file;
  ModelConfig config;
  std::optional<graph::ParameterStore> store;
  model::BuildOptions options;
};

TEST_P(CaseOpsGolden, LossAndGradients) {
  graph::Plan plan(*store, runtime_on(pool));
  const FoldedProgram folded(plan, config, options);
  auto& program = *folded.program;
  plan.allocate();
  put(program, "tokens", "input_ids");
  put(program, "targets", "target_ids");
  const auto weights = program.view("weights");
  const auto count = static_cast<std::size_t>(weights.elements());
  fill(weights, std::vector<float>(count, 1.0f / static_cast<float>(count)));
  folded.run();
  const auto loss = file.floats("loss")[0];
  EXPECT_NEAR(values(program.view("loss"))[0], loss, 1e-5 * loss);
  std::size_t compared = 0, given = 0;
  for (const auto& [name, array] : file.arrays)
    given += name.starts_with("grad/") && !name.ends_with("_bank");
  for (const auto& p : store->layout().parameters()) {
    if (!file.has("grad/" + p.name)) continue;
    // A gain's gradient is a sum over all positions that nearly cancels: float's rounding is seen in it.
    const bool cancels = GetParam().form != Form::doubles && p.name.ends_with("q_gain");
    EXPECT_LE(max_relative(values(store->gradient(p.name)), file.floats("grad/" + p.name)),
              cancels ? 3e-5 : 1e-5)
        << p.name;
    ++compared;
  }
  EXPECT_EQ(compared, given) << "every array of the file";
  EXPECT_GE(compared, GetParam().looped ? store->layout().parameters().size() : 30);
}

TEST_P(CaseOpsGolden, Logits) {
  options.mode = model::Mode::logits;
  graph::Plan plan(*store, runtime_on(pool));
  const FoldedProgram folded(plan, config, options);
  plan.allocate();
  put(*folded.program, "tokens", "input_ids");
  if (folded.refresh) folded.refresh->run();
  folded.program->run();
  EXPECT_LE(max_relative(values(folded.program->view("logits")), file.floats("logits")), 1e-5);
}

/// docs/spec/leaders.md section 6.
class FusedMarkersGolden : public CaseOpsGolden {};

TEST_P(FusedMarkersGolden, NothingPassesTheSmearGateBehindThem) {
  file = golden("marker_fusion");
  config.smear_closed = file.json("smear")["donors"].get<std::vector<int>>();
  config.window = static_cast<int>(file.at("smear/input_ids").shape[1]);
  options.mode = model::Mode::logits;
  graph::Plan plan(*store, runtime_on(pool));
  const FoldedProgram folded(plan, config, options);
  plan.allocate();
  put(*folded.program, "tokens", "smear/input_ids");
  if (folded.refresh) folded.refresh->run();
  folded.program->run();
  EXPECT_LE(max_relative(values(folded.program->view("logits")), file.floats("smear/logits")), 1e-5);
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const auto* system : {"pr2143", "pr1855"})
    for (const bool looped : {true, false})
      for (const auto form : {Form::doubles, Form::floats, Form::passes})
        cases.push_back({system, looped, form});
  return cases;
}
std::string case_name(const ::testing::TestParamInfo<Case>& test) {
  constexpr const char* forms[] = {"doubles", "floats", "passes"};
  return fmt::format("{}_{}_{}", test.param.system, test.param.looped ? "loop" : "noloop",
                     forms[static_cast<int>(test.param.form)]);
}
INSTANTIATE_TEST_SUITE_P(Systems, CaseOpsGolden, ::testing::ValuesIn(all_cases()), case_name);
INSTANTIATE_TEST_SUITE_P(Leader, FusedMarkersGolden,
                         ::testing::Values(Case{"pr1855", true, Form::doubles},
                                           Case{"pr1855", true, Form::passes}),
                         case_name);

ModelConfig pr2143() {
  auto c = caseops();
  c.layers = 12;
  c.vocab_size = 12288;
  c.mlp_mult = 4;
  c.loop_layers = {3, 4, 5};
  c.loop_runs = 3;
  c.xsa_layers = range(1, 12);
  c.parallel_layers = range(7, 12);
  c.q_gain_init = 5.25f;
  return c;
}
ModelConfig leader() {
  auto c = pr2143();
  c.layers = 11;
  c.vocab_size = 8192;
  c.xsa_layers = range(0, 11);
  c.parallel_layers = range(8, 11);
  c.parallel = model::Parallel::lanes;
  c.attn_gate_scale = 0.5f;
  return c;
}

TEST(CaseOps, ParameterCountsAreThePublishedOnes) {
  for (const auto& [config, count] : {std::pair{pr2143(), 40929517}, {leader(), 35945671}}) {
    std::int64_t sum = 0;
    const auto layout = model::make_layout(config);
    for (const auto& p : layout.parameters()) sum += p.elements();
    EXPECT_EQ(sum, count);
  }
}

/// "3 4 5<2 ...": the layers in order; behind '<' what the skip it takes was saved by.
std::string order(const ModelConfig& c, bool looped) {
  std::vector<int> saved;
  std::string text;
  for (const auto& slot : model::execution_slots(c, looped)) {
    text += (text.empty() ? "" : " ") + std::to_string(slot.layer);
    if (slot.skip >= 0) text += "<" + std::to_string(saved.back()), saved.pop_back();
    if (slot.saved) saved.push_back(slot.layer);
  }
  return text;
}

TEST(CaseOps, LayersRunAndSkipAsPublished) {  // docs/spec/caseops_model.md section 3
  EXPECT_EQ(order(pr2143(), false), "0 1 2 3 4 5 6<5 7<4 8<3 9<2 10<1 11<0");
  EXPECT_EQ(order(pr2143(), true), "0 1 2 3 4 5 3 4 5 3<5 4<4 5<3 6<5 7<4 8<3 9<2 10<1 11<0");
  EXPECT_EQ(order(leader(), false), "0 1 2 3 4 5<4 6<3 7<2 8<1 9<0 10");
  EXPECT_EQ(order(leader(), true), "0 1 2 3 4 5 3 4 5<4 3<3 4<5 5<4 6<3 7<2 8<1 9<0 10");
}

/// Small, with every part: three runs of a layer, lanes, gates.
ModelConfig tiny() {
  auto c = caseops();
  c.layers = 5;
  c.vocab_size = 64;
  c.width = 48;
  c.heads = 6;
  c.kv_heads = 3;
  c.window = 24;
  c.rope_dims = 4;
  c.loop_layers = {1, 2};
  c.loop_runs = 2;
  c.xsa_layers = range(0, 5);
  c.parallel_layers = {3, 4};
  c.parallel = model::Parallel::lanes;
  model::validate(c);
  return c;
}

class CaseOpsPrograms : public Family {
 protected:
  std::vector<float> nll(const ModelConfig& c, graph::ParameterStore& store, std::vector<std::int32_t> ids,
                         const std::vector<std::int32_t>& segments, int last = 0) {
    model::BuildOptions options;
    options.mode = model::Mode::score;
    options.length = static_cast<int>(ids.size());
    options.last = last;
    graph::Plan plan(store, runtime_on(pool_));
    auto& program = plan.add(model::build(c, store.layout(), options));
    plan.allocate();
    std::ranges::copy(ids, program.view("tokens").span<std::int32_t>().begin());
    if (c.documents) std::ranges::copy(segments, program.view("segments").span<std::int32_t>().begin());
    std::ranges::rotate(ids, ids.begin() + 1);  // targets
    auto targets = program.view("targets").span<std::int32_t>();
    std::copy(ids.end() - std::ssize(targets), ids.end(), targets.begin());
    program.run();
    const auto values = program.view("nll").span<float>();
    return {values.begin(), values.end()};
  }
};

TEST_F(CaseOpsPrograms, DocumentsOfAPackedRowDoNotSeeEachOther) {
  auto c = tiny();
  c.documents = true;
  auto store = disturbed(c);
  auto ids = tokens(c.window, c.vocab_size);
  std::ranges::replace(ids, c.bos_id, 2);
  ids[0] = ids[9] = c.bos_id;
  std::vector<std::int32_t> segments(ids.size(), 0);
  std::fill(segments.begin() + 9, segments.end(), 9);
  const auto packed = nll(c, store, ids, segments);
  // Alone: rotary angles are relative, so that only their rounding differs.
  const std::vector<std::int32_t> second(ids.begin() + 9, ids.end());
  const auto alone = nll(c, store, second, std::vector<std::int32_t>(second.size(), 0));
  const std::vector<float> behind(packed.begin() + 9, packed.end() - 1);
  EXPECT_LE(max_relative(behind, std::vector<float>(alone.begin(), alone.end() - 1)), 1e-4);
  // Another first document: not one bit of the second changes.
  for (int i = 1; i < 9; ++i) ids[static_cast<std::size_t>(i)] = 3 + i;
  const auto changed = nll(c, store, ids, segments);
  EXPECT_EQ(std::vector<float>(changed.begin() + 9, changed.end() - 1), behind);
  c.documents = false;  // as PR 2143 trains: across documents
  EXPECT_NE(nll(c, store, ids, {})[15], changed[15]);
}

TEST_F(CaseOpsPrograms, APackedRowsLengthDoesNotRescaleItsAngles) {
  auto c = tiny();
  c.documents = true;
  c.rope_dims = 8;
  c.rope_rescale_length = c.window / 2;
  auto store = disturbed(c);
  const auto n = static_cast<std::size_t>(c.window);
  auto ids = tokens(2 * c.window, c.vocab_size);
  std::ranges::replace(ids, c.bos_id, 2);
  ids[0] = ids[n] = c.bos_id;
  std::vector<std::int32_t> segments(2 * n, 0);
  std::fill(segments.begin() + c.window, segments.end(), c.window);
  const auto packed = nll(c, store, ids, segments);
  ids.resize(n);
  const auto alone = nll(c, store, ids, std::vector<std::int32_t>(n, 0));
  EXPECT_LE(max_relative(std::span(packed).first(n - 1), std::span(alone).first(n - 1)), 1e-6);
}

TEST_F(CaseOpsPrograms, ScoringTheLastPositionsEqualsScoringAll) {
  for (const auto parallel : {model::Parallel::lanes, model::Parallel::sum}) {
    auto c = tiny();
    c.parallel = parallel;
    auto store = disturbed(c);
    const auto ids = tokens(c.window, c.vocab_size);
    const auto all = nll(c, store, ids, {});
    EXPECT_LE(max_relative(nll(c, store, ids, {}, 5), std::vector<float>(all.end() - 5, all.end())), 1e-5);
  }
}

TEST_F(CaseOpsPrograms, DecodingEqualsTheWholeWindow) {
  auto c = tiny();
  c.smear_closed = {3, 4};
  auto store = disturbed(c);
  const auto ids = tokens(c.window, c.vocab_size);
  graph::Plan plan(store, runtime_on(pool_));
  model::BuildOptions options;
  options.mode = model::Mode::logits;
  auto& whole = plan.add(model::build(c, store.layout(), options));
  options.mode = model::Mode::decode;
  options.length = 1;
  auto& step = plan.add(model::build(c, store.layout(), options));
  plan.allocate();
  std::ranges::copy(ids, whole.view("tokens").span<std::int32_t>().begin());
  whole.run();
  const auto logits = whole.view("logits").span<float>();
  const std::vector<float> all(logits.begin(), logits.end());  // programs share memory
  plan.zero_state(model::previous_norm_state);
  for (std::size_t t = 0; t < ids.size(); ++t) {
    step.fill("tokens", ids[t]);
    step.fill("length", static_cast<int>(t));
    step.fill("previous", t ? ids[t - 1] : -1);
    step.run();
    const auto now = step.view("logits").span<float>();
    EXPECT_LE(max_relative(now, std::span(all).subspan(t * now.size(), now.size())), 1e-4) << t;
  }
}

TEST(CaseOpsConfig, BadConfigurationsAreNamed) {
  const auto refused = [](auto change) {
    auto c = tiny();
    change(c);
    return input_error([&] { model::validate(c); });
  };
  EXPECT_THAT(refused([](auto& c) { c.loop_layers = {2, 5}; }), HasSubstr("model.loop_layers names layer 5"));
  EXPECT_THAT(refused([](auto& c) { c.loop_layers = {0, 2}; }), HasSubstr("neighbouring layers"));
  EXPECT_THAT(refused([](auto& c) { c.loop_layers = {}; }), HasSubstr("model.loop_runs = 2 needs"));
  EXPECT_THAT(refused([](auto& c) { c.parallel_layers = {2, 3}; }), HasSubstr("end with the last layer 4"));
  EXPECT_THAT(refused([](auto& c) { c.parallel_layers = {2, 3, 4}; }), HasSubstr("inside model.loop_layers"));
  EXPECT_THAT(refused([](auto& c) {
                c.loop_layers = {0};
                c.parallel_layers = {1, 2, 3, 4};
              }),
              HasSubstr("saves skips"));
  EXPECT_THAT(refused([](auto& c) { c.unet_skips = false; }), HasSubstr("model.skip_gates"));
  EXPECT_THAT(refused([](auto& c) { c.smear = true; }), HasSubstr("model.smear_channels"));
  EXPECT_THAT(refused([](auto& c) { c.smear_channels = 49; }), HasSubstr("model.smear_channels = 49"));
  EXPECT_THAT(refused([](auto& c) { c.attn_gate_channels = 49; }), HasSubstr("model.attn_gate_channels"));
  EXPECT_THAT(refused([](auto& c) { c.memory_tokens = 2; }), HasSubstr("model.memory_tokens"));
}

}  // namespace
}  // namespace fairway::testing
