// fairway export

#include <fmt/format.h>

#include "cli.h"
#include "fairway/base/text.h"
#include "fairway/pipeline/stages/model_file.h"

namespace fairway::app {

void add_export(CLI::App& app, Context& context, Action& action) {
  struct Arguments {
    std::string model, out;
    bool raw = false;
  };
  auto arguments = std::make_shared<Arguments>();
  auto* command = add_command(
      app, "export", "Write a model's weights as fp32 safetensors", context, action, [arguments](Context& c) {
        const auto model = pipeline::open_model(
            arguments->model, arguments->raw ? pipeline::Weights::raw : pipeline::Weights::exported);
        pipeline::export_safetensors(model, arguments->out);
        const auto count = model.weights->layout().count();
        c.print({{"path", arguments->out}, {"parameters", count}, {"source", model.source}},
                fmt::format("{}: {} parameters of {}\n", arguments->out,
                            base::with_commas(static_cast<std::int64_t>(count)), model.source));
      });
  command->add_option("model", arguments->model, "A .fairway artifact or a .fwck checkpoint")
      ->required()
      ->type_name("MODEL");
  command->add_option("--out", arguments->out, "The file to write")
      ->required()
      ->type_name("FILE.safetensors");
  command->add_flag("--raw", arguments->raw, "Of a checkpoint: the last step's weights, not the average");
}

}  // namespace fairway::app
