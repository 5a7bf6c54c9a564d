#include "fairway/artifact/artifact.h"

#include <algorithm>

#include "container.h"
#include "corrections.h"
#include "fairway/base/bytes.h"
#include "fairway/base/error.h"
#include "fairway/base/text.h"
#include "groups.h"
#include "json.h"
#include "sections.h"
#include "weights.h"

namespace fairway::artifact {
namespace {

std::string encode_provenance(const Provenance& p) {
  nlohmann::json j;
  j["build"] = p.build;
  j["device"] = p.device;
  j["isa"] = p.isa;
  j["seed"] = p.seed;
  j["data"] = parse_json(p.data_manifest, "data manifest", kMaxJsonDepth);
  return dump_json(j);
}

Provenance decode_provenance(std::string_view text, const std::string& what) {
  const auto j = parse_json(text, what, kMaxJsonDepth);
  const auto string = [&](const char* key) {
    if (!j.is_object() || !j.contains(key) || !j[key].is_string())
      base::fail_input("{}: no text '{}'", what, key);
    return j[key].get<std::string>();
  };
  Provenance p;
  p.build = string("build");
  p.device = string("device");
  p.isa = string("isa");
  if (!j.contains("seed") || !j["seed"].is_number_unsigned()) base::fail_input("{}: no number 'seed'", what);
  p.seed = j["seed"].get<std::uint64_t>();
  if (!j.contains("data")) base::fail_input("{}: no 'data'", what);
  p.data_manifest = dump_json(j["data"]);
  return p;
}

ContainerWriter prepare(const Artifact& artifact, const WriteOptions& options) {
  ContainerWriter writer(kArtifactKind);
  if (options.groups) {
    add_grouped_weights(writer, artifact.tensors, options);
  } else {
    writer.add(kWeights, true, encode_weights(artifact.tensors, options.planes), options);
  }
  if (options.planes) writer.require_feature(kFeaturePlanes);
  auto text = options;  // the shuffle is for numbers
  text.shuffle = 1;
  if (const auto corrections = encode_corrections(artifact.tensors); !corrections.empty())
    writer.add(kCorrections, true, corrections, text);
  if (artifact.tokenizer) writer.add(kTokenizer, true, encode_tokenizer(*artifact.tokenizer), text);
  writer.add(kRecipe, true, base::as_bytes(artifact.recipe_text), text);
  writer.add(kProvenance, false, base::as_bytes(encode_provenance(artifact.provenance)), text);
  return writer;
}

}  // namespace

const StoredTensor* Artifact::find(std::string_view name) const {
  const auto found =
      std::find_if(tensors.begin(), tensors.end(), [&](const StoredTensor& t) { return t.name == name; });
  return found == tensors.end() ? nullptr : &*found;
}

std::vector<std::byte> encode_artifact(const Artifact& artifact, const WriteOptions& options) {
  return prepare(artifact, options).to_bytes();
}

Artifact decode_artifact(std::span<const std::byte> bytes, std::string_view what, const ReadLimits& limits) {
  const Container c = parse_container(bytes, what, kArtifactKind, kArtifactSections, limits);
  const auto named = [&](const char* name) { return fmt::format("{}: section '{}'", what, name); };
  Artifact a;
  a.tensors = decode_weights(whole_weights(c, limits).bytes.span(), c.required_features & kFeaturePlanes,
                             named(kWeights), limits);
  if (const auto* s = c.find(kCorrections))
    decode_corrections(c.decoded(*s, limits.max_decoded).span(), a.tensors, named(kCorrections), limits);
  if (const auto* s = c.find(kTokenizer))
    a.tokenizer = decode_tokenizer(c.decoded(*s, limits.max_tokenizer).span(), named(kTokenizer), limits);
  a.recipe_text = decode_text(c.decoded(c.at(kRecipe), limits.max_json).span(), named(kRecipe));
  const auto provenance = c.decoded(c.at(kProvenance), limits.max_json);
  a.provenance = decode_provenance(decode_text(provenance.span(), named(kProvenance)), named(kProvenance));
  return a;
}

SizeLedger write_artifact(const std::filesystem::path& path, const Artifact& artifact,
                          const WriteOptions& options, const LedgerOptions& ledger) {
  const auto bytes = encode_artifact(artifact, options);
  auto sizes = size_ledger(bytes, path.string(), ledger);  // also proves that the file can be read back
  base::write_file(path, bytes);
  return sizes;
}

Artifact read_artifact(const std::filesystem::path& path, const ReadLimits& limits) {
  const base::MappedFile file(path);
  return decode_artifact(file.bytes(), path.string(), limits);
}

}  // namespace fairway::artifact
