// fairway doctor: what this machine and this build can do, and how to get what is missing.

#include <brotli/encode.h>
#include <fmt/format.h>
#include <lzma.h>
#include <sys/utsname.h>
#include <unistd.h>
#include <xxhash.h>
#include <zlib.h>
#include <zstd.h>

#include <oneapi/dnnl/dnnl.h>
#include <toml++/toml.h>
#include <fstream>

#include "cli.h"
#include "fairway/base/cpu.h"
#include "fairway/base/text.h"
#include "fairway/base/thread_pool.h"
#include "fairway/ops/cuda.h"
#include "fairway/pipeline/stages/model_file.h"
#include "fairway/tensor/cuda.h"

namespace fairway::app {
namespace {

struct Finding {
  std::string what, remedy;
};

std::string system_name() {
  std::ifstream release("/etc/os-release");
  constexpr std::string_view kKey = "PRETTY_NAME=\"";
  for (std::string line; std::getline(release, line);)
    if (line.starts_with(kKey)) return line.substr(kKey.size(), line.rfind('"') - kKey.size());
  utsname name{};
  return uname(&name) == 0 ? fmt::format("{} {}", name.sysname, name.release) : "unknown";
}

Json memory_json() {
  const auto page = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  return {{"total_bytes", page * static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES))},
          {"free_bytes", page * static_cast<std::uint64_t>(sysconf(_SC_AVPHYS_PAGES))}};
}

Json libraries() {
  const auto* dnnl = dnnl_version();
  return {{"oneDNN", fmt::format("{}.{}.{}", dnnl->major, dnnl->minor, dnnl->patch)},
          {"SentencePiece", FAIRWAY_SENTENCEPIECE_VERSION},
          {"zstd", ZSTD_versionString()},
          {"brotli", fmt::format("{}.{}.{}", BrotliEncoderVersion() >> 24,
                                 BrotliEncoderVersion() >> 12 & 0xfff, BrotliEncoderVersion() & 0xfff)},
          {"liblzma", lzma_version_string()},
          {"zlib", zlibVersion()},
          {"xxHash", fmt::format("{}.{}.{}", XXH_versionNumber() / 10000, XXH_versionNumber() / 100 % 100,
                                 XXH_versionNumber() % 100)},
          {"toml++", fmt::format("{}.{}.{}", TOML_LIB_MAJOR, TOML_LIB_MINOR, TOML_LIB_PATCH)},
          {"nlohmann json", fmt::format("{}.{}.{}", NLOHMANN_JSON_VERSION_MAJOR, NLOHMANN_JSON_VERSION_MINOR,
                                        NLOHMANN_JSON_VERSION_PATCH)},
          {"CLI11", CLI11_VERSION},
          {"fmt", fmt::format("{}.{}.{}", FMT_VERSION / 10000, FMT_VERSION / 100 % 100, FMT_VERSION % 100)}};
}

Json cuda_json() {
  const auto versions = tensor::cuda_versions();
  Json devices = Json::array();
  for (const auto& d : tensor::cuda_devices())
    devices.push_back({{"index", d.index},
                       {"name", d.name},
                       {"memory_bytes", d.memory_bytes},
                       {"free_bytes", d.free_bytes},
                       {"capability", fmt::format("{}.{}", d.capability_major, d.capability_minor)},
                       {"problem", d.problem()}});
  return {{"compiled_in", tensor::cuda_compiled_in()},
          {"driver", versions.driver},
          {"runtime", versions.runtime},
          {"reason", tensor::cuda_unavailable_reason()},
          {"products_built", ops::cuda::gemm_library_built_version()},
          {"products_found", ops::cuda::gemm_library_version()},
          {"products_missing", tensor::cuda_compiled_in() ? ops::cuda::gemm_unavailable_reason() : ""},
          {"devices", devices}};
}

Json disk_json() {
  std::error_code error;
  const auto here = std::filesystem::current_path(error);
  const auto space = std::filesystem::space(here, error);
  return {{"folder", here.string()},
          {"free_bytes", error ? 0 : space.available},
          {"writable", access(".", W_OK) == 0}};
}

Json examine(Context& context) {
  auto& engine = context.engine();
  const auto best = base::best_isa();
  return {{"version", pipeline::build_version()},
          {"system", system_name()},
          {"cpu",
           {{"model", base::cpu_model()},
            {"cores", base::available_cores()},
            {"threads", engine.pool().threads()},
            {"best_isa", base::isa_name(best)},
            {"kernels", base::isa_name(engine.isa())},
            {"bf16_products", engine.isa() >= base::Isa::avx512_bf16}}},
          {"memory", memory_json()},
          {"cuda", cuda_json()},
          {"disk", disk_json()},
          {"libraries", libraries()}};
}

std::vector<Finding> findings(const Json& report) {
  constexpr std::uint64_t kLittleMemory = 2ull << 30, kLittleDisk = 1ull << 30;
  std::vector<Finding> out;
  const auto& cuda = report["cuda"];
  if (!cuda["compiled_in"].get<bool>()) {
    out.push_back({"no CUDA in this build",
                   "install a CUDA toolkit (nvcc on PATH) and build again; everything else works without"});
  } else if (cuda["devices"].empty()) {
    out.push_back({fmt::format("no GPU to use: {}", cuda["reason"].get<std::string>()),
                   "install the NVIDIA driver, or stay with --device cpu"});
  }
  if (const auto missing = cuda["products_missing"].get<std::string>(); !missing.empty())
    out.push_back({"no matrix products on the GPU", missing});
  const auto built = cuda["products_built"].get<int>(), found = cuda["products_found"].get<int>();
  if (found > 0 && found / 100 < built / 100)
    out.push_back({"cuBLASLt is older than the one that this was built with",
                   fmt::format("install CUDA {}.{} or newer", built / 10'000, built / 100 % 100)});
  for (const auto& d : cuda["devices"])
    if (const auto problem = d["problem"].get<std::string>(); !problem.empty())
      out.push_back({fmt::format("cuda:{} cannot be used", d["index"].get<int>()), problem});
  if (!report["cpu"]["bf16_products"].get<bool>())
    out.push_back({"no bf16 instructions", "train.products = \"f32\" is the fast choice on this processor"});
  if (report["cpu"]["best_isa"] == "scalar")
    out.push_back(
        {"only scalar kernels", "training is slow on this processor; AVX2 or better is much faster"});
  if (report["memory"]["total_bytes"].get<std::uint64_t>() < kLittleMemory)
    out.push_back(
        {"less than 2 GiB of memory", "the demo fits; larger recipes need a small train.micro_batch"});
  if (report["disk"]["free_bytes"].get<std::uint64_t>() < kLittleDisk)
    out.push_back({"less than 1 GiB of disk here", "write elsewhere with --out"});
  if (!report["disk"]["writable"].get<bool>())
    out.push_back({"this folder is not writable", "write elsewhere with --out"});
  return out;
}

/// As cuBLAS counts: 130100 is 13.1.0.
std::string products_version(int v) {
  return v ? fmt::format("{}.{}.{}", v / 10'000, v / 100 % 100, v % 100) : "none";
}

std::string cuda_text(const Json& cuda) {
  if (cuda["devices"].empty()) return fmt::format("none ({})\n", cuda["reason"].get<std::string>());
  std::string text;
  for (const auto& d : cuda["devices"])
    text += fmt::format("{}{}: {}, {} of {} free, compute capability {}\n", text.empty() ? "" : "          ",
                        d["index"].get<int>(), d["name"].get<std::string>(),
                        base::human_bytes(d["free_bytes"].get<std::uint64_t>()),
                        base::human_bytes(d["memory_bytes"].get<std::uint64_t>()),
                        d["capability"].get<std::string>());
  return text;
}

std::string as_text(const Json& r, const std::vector<Finding>& notes) {
  const auto& cpu = r["cpu"];
  std::string text =
      fmt::format("{} on {}\n\n", r["version"].get<std::string>(), r["system"].get<std::string>());
  text += fmt::format("processor {}: {} cores, {} threads\n", cpu["model"].get<std::string>(),
                      cpu["cores"].get<int>(), cpu["threads"].get<int>());
  text += fmt::format("kernels   {} (the best here: {}), bf16 products: {}\n",
                      cpu["kernels"].get<std::string>(), cpu["best_isa"].get<std::string>(),
                      cpu["bf16_products"].get<bool>() ? "in hardware" : "emulated");
  text += fmt::format("memory    {} of {} free\n",
                      base::human_bytes(r["memory"]["free_bytes"].get<std::uint64_t>()),
                      base::human_bytes(r["memory"]["total_bytes"].get<std::uint64_t>()));
  text += "GPU       " + cuda_text(r["cuda"]);
  const auto dotted = [](int v) { return v ? fmt::format("{}.{}", v / 1000, v % 1000 / 10) : "none"; };
  if (r["cuda"]["compiled_in"].get<bool>())
    text += fmt::format("CUDA      built with {}, driver for {}; cuBLASLt built with {}, found {}\n",
                        dotted(r["cuda"]["runtime"].get<int>()), dotted(r["cuda"]["driver"].get<int>()),
                        products_version(r["cuda"]["products_built"].get<int>()),
                        products_version(r["cuda"]["products_found"].get<int>()));
  text += fmt::format("disk      {} free in {}\n",
                      base::human_bytes(r["disk"]["free_bytes"].get<std::uint64_t>()),
                      r["disk"]["folder"].get<std::string>());
  text += "libraries ";
  for (const auto& [name, version] : r["libraries"].items())
    text += fmt::format("{}{} {}", name == "oneDNN" ? "" : ", ", name, version.get<std::string>());
  text += notes.empty() ? "\n\nNothing is missing.\n" : "\n\n";
  for (const auto& note : notes) text += fmt::format("- {}: {}\n", note.what, note.remedy);
  return text;
}

}  // namespace

void add_doctor(CLI::App& app, Context& context, Action& action) {
  add_command(app, "doctor", "What this machine and this build can do, and what is missing", context, action,
              [](Context& c) {
                auto report = examine(c);
                const auto notes = findings(report);
                report["missing"] = Json::array();
                for (const auto& note : notes)
                  report["missing"].push_back({{"what", note.what}, {"remedy", note.remedy}});
                c.print(report, as_text(report, notes));
              });
}

}  // namespace fairway::app
