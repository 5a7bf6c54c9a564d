// fairway inspect: what is in a file of ours, and where its bytes go.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli.h"
#include "fairway/artifact/artifact.h"
#include "fairway/artifact/checkpoint.h"
#include "fairway/artifact/coders.h"
#include "fairway/artifact/safetensors.h"
#include "fairway/base/error.h"
#include "fairway/base/text.h"
#include "fairway/pipeline/stages/model_file.h"
#include "fairway/report/result.h"
#include "fairway/report/table.h"

namespace fairway::app {
namespace {

using report::Align;
using report::Table;

std::string shape_text(const std::vector<std::int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

Table tensor_table() {
  return {"Tensors", {{"name"}, {"type"}, {"shape"}, {"elements", Align::right}}, {}, 0};
}

void add_tensor(Table& table, Json& json, const std::string& name, std::string_view type,
                const std::vector<std::int64_t>& shape) {
  std::int64_t elements = 1;
  for (auto extent : shape) elements *= extent;
  table.add({name, std::string(type), shape_text(shape), base::with_commas(elements)});
  json.push_back({{"name", name}, {"type", type}, {"shape", shape}});
}

/// What each coder makes of the artifact's integers.
std::string compare_coders(const artifact::Artifact& file, Json& json, Context& context) {
  context.progress().note("packing the weights with every coder");
  const auto compared = artifact::compare_coders(file, context.engine().pool().threads());
  const auto count = [](std::uint64_t n) { return base::with_commas(static_cast<std::int64_t>(n)); };
  const auto bits_per_weight = [&](std::uint64_t bytes) {
    return 8.0 * static_cast<double>(bytes) /
           static_cast<double>(std::max<std::uint64_t>(compared.weights, 1));
  };
  Table table{"Coders",
              {{"coder"},
               {"weights", Align::right},
               {"file", Align::right},
               {"bits per weight", Align::right},
               {"seconds to code", Align::right},
               {"to decode", Align::right}},
              {},
              0};
  auto& list = json["coders"] = {{"weights", compared.weights},
                                 {"raw_bytes", compared.raw_bytes},
                                 {"plain_bytes", compared.plain_bytes},
                                 {"entropy_bytes", compared.entropy_bytes},
                                 {"list", Json::array()}};
  for (const auto& r : compared.coders) {
    table.add({r.name(), count(r.weights_bytes), count(r.file_bytes),
               fmt::format("{:.4f}", r.bits_per_weight), fmt::format("{:.2f}", r.encode_seconds),
               fmt::format("{:.2f}", r.decode_seconds)});
    list["list"].push_back({{"coder", artifact::coder_name(r.how.coder)},
                            {"level", r.how.level},
                            {"shuffle", r.how.shuffle},
                            {"groups", r.how.groups},
                            {"weights_bytes", r.weights_bytes},
                            {"file_bytes", r.file_bytes},
                            {"bits_per_weight", r.bits_per_weight},
                            {"encode_seconds", r.encode_seconds},
                            {"decode_seconds", r.decode_seconds}});
  }
  for (const auto& [what, bytes] : {std::pair{"(bits packed)", compared.plain_bytes},
                                    std::pair{"(entropy by tensor)", compared.entropy_bytes}})
    table.add({what, count(bytes), "", fmt::format("{:.4f}", bits_per_weight(bytes)), "", ""});
  table.total_rows = 2;
  return "\n" + report::to_text(table);
}

void inspect_artifact(const std::string& path, bool tensors, bool coders, Context& context) {
  const auto file = artifact::read_artifact(path);
  const auto& from = file.provenance;
  Json json = artifact::size_ledger(path).to_json();
  json["path"] = path;
  json["provenance"] = {
      {"build", from.build}, {"device", from.device}, {"isa", from.isa}, {"seed", from.seed}};
  json["data"] = Json::parse(from.data_manifest, nullptr, false);
  json["recipe"] = file.recipe_text;
  std::string text = fmt::format("{}: artifact of {}, {} ({}), seed {}\n", path, from.build, from.device,
                                 from.isa, from.seed);
  if (file.tokenizer) {
    const auto& t = *file.tokenizer;
    json["tokenizer"] = {{"bytes", t.model.size()}, {"transform", t.transform}, {"byte_rule", t.byte_rule}};
    text +=
        fmt::format("tokenizer inside: {} bytes, transform {}, byte rule {}\n",
                    base::with_commas(static_cast<std::int64_t>(t.model.size())), t.transform, t.byte_rule);
  }
  text += "\n" + report::to_text(report::ledger_table(json));
  if (tensors) {
    auto table = tensor_table();
    json["tensors"] = Json::array();
    for (const auto& tensor : file.tensors)
      add_tensor(table, json["tensors"], tensor.name, artifact::kind_name(tensor.kind), tensor.shape);
    text += "\n" + report::to_text(table);
  }
  if (coders) text += compare_coders(file, json, context);
  context.print(json, text);
}

void inspect_checkpoint(const std::string& path, Context& context) {
  const auto file = artifact::Checkpoint::open(path);
  auto table = tensor_table();
  Json json = {{"path", path},
               {"kind", "checkpoint"},
               {"metadata", Json::parse(file.metadata(), nullptr, false)},
               {"tensors", Json::array()}};
  for (const auto& tensor : file.tensors())
    add_tensor(table, json["tensors"], tensor.name, "f32", tensor.shape);
  Table buffers{"Buffers", {{"name"}, {"bytes", Align::right}}, {}, 0};
  json["buffers"] = Json::array();
  for (const auto& buffer : file.buffers()) {
    buffers.add({buffer.name, base::with_commas(static_cast<std::int64_t>(buffer.bytes.size()))});
    json["buffers"].push_back({{"name", buffer.name}, {"bytes", buffer.bytes.size()}});
  }
  json["recipe"] = file.recipe_text();
  context.print(json, fmt::format("{}: checkpoint\n{}\n\n{}\n{}", path, file.metadata(),
                                  report::to_text(table), report::to_text(buffers)));
}

void inspect_safetensors(const std::string& path, Context& context) {
  const auto file = artifact::SafeTensors::open(path);
  auto table = tensor_table();
  Json json = {
      {"path", path}, {"kind", "safetensors"}, {"metadata", file.metadata()}, {"tensors", Json::array()}};
  for (const auto& tensor : file.tensors())
    add_tensor(table, json["tensors"], tensor.name, tensor::dtype_name(tensor.dtype), tensor.shape);
  context.print(json, fmt::format("{}: safetensors\n\n{}", path, report::to_text(table)));
}

}  // namespace

void add_inspect(CLI::App& app, Context& context, Action& action) {
  struct Arguments {
    std::string path;
    bool tensors = false, coders = false;
  };
  auto arguments = std::make_shared<Arguments>();
  auto* command =
      add_command(app, "inspect", "What is in an artifact and where its bytes go", context, action,
                  [arguments](Context& c) {
                    const auto path = pipeline::model_path(arguments->path).string();
                    switch (artifact::file_kind(std::filesystem::path(path))) {
                      case artifact::FileKind::artifact:
                        return inspect_artifact(path, arguments->tensors, arguments->coders, c);
                      case artifact::FileKind::checkpoint:
                        return inspect_checkpoint(path, c);
                      case artifact::FileKind::other:
                        break;
                    }
                    if (path.ends_with(".safetensors")) return inspect_safetensors(path, c);
                    base::fail_input(
                        "{}: neither an artifact (.fairway) nor a checkpoint (.fwck) nor .safetensors", path);
                  });
  command
      ->add_option("file", arguments->path,
                   "An artifact, a checkpoint, a .safetensors file, or a run's folder")
      ->required()
      ->type_name("FILE");
  command->add_flag("--tensors", arguments->tensors, "List the artifact's tensors too");
  command->add_flag("--coders", arguments->coders, "Compare all entropy coders on the artifact's integers");
}

}  // namespace fairway::app
