// fairway inspect: what is in a file of ours, and where its bytes go.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli.h"
#include "fairway/artifact/artifact.h"
#include "fairway/artifact/checkpoint.h"
#include "fairway/artifact/safetensors.h"
#include "fairway/base/error.h"
#include "fairway/base/text.h"
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

void inspect_artifact(const std::string& path, bool tensors, Context& context) {
  const auto file = artifact::read_artifact(path);
  const auto& from = file.provenance;
  Json json = Json::parse(artifact::size_ledger(path).to_json());
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
    bool tensors = false;
  };
  auto arguments = std::make_shared<Arguments>();
  auto* command =
      add_command(app, "inspect", "What is in an artifact and where its bytes go", context, action,
                  [arguments](Context& c) {
                    const auto& path = arguments->path;
                    switch (artifact::file_kind(std::filesystem::path(path))) {
                      case artifact::FileKind::artifact:
                        return inspect_artifact(path, arguments->tensors, c);
                      case artifact::FileKind::checkpoint:
                        return inspect_checkpoint(path, c);
                      case artifact::FileKind::other:
                        break;
                    }
                    if (path.ends_with(".safetensors")) return inspect_safetensors(path, c);
                    base::fail_input(
                        "{}: neither an artifact (.fairway) nor a checkpoint (.fwck) nor .safetensors", path);
                  });
  command->add_option("file", arguments->path, "An artifact, a checkpoint or a .safetensors file")
      ->required()
      ->type_name("FILE");
  command->add_flag("--tensors", arguments->tensors, "List the artifact's tensors too");
}

}  // namespace fairway::app
