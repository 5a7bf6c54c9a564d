// fairway pack

#include <fmt/format.h>

#include "cli.h"
#include "fairway/pipeline/run/run.h"

namespace fairway::app {

void add_pack(CLI::App& app, Context& context, Action& action) {
  struct Arguments {
    std::string checkpoint, out;
    std::vector<std::string> set;
  };
  auto arguments = std::make_shared<Arguments>();
  auto* command = add_command(app, "pack", "Quantise a checkpoint and pack it into an artifact", context,
                              action, [arguments](Context& c) {
                                const auto result = pipeline::pack_checkpoint(
                                    arguments->checkpoint, arguments->out, arguments->set, c.engine());
                                c.print_result(result.json);
                              });
  command->add_option("checkpoint", arguments->checkpoint, "A .fwck checkpoint, or the folder of a run")
      ->required()
      ->type_name("CHECKPOINT");
  command->add_option("--out", arguments->out, "The artifact to write")
      ->required()
      ->type_name("FILE.fairway");
  command
      ->add_option("--set", arguments->set, "KEY=VALUE: a quant key other than the checkpoint's recipe has")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
}

}  // namespace fairway::app
