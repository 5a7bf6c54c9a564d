// fairway: the command line. Exit codes: 0 done, 1 failed, 2 bad usage or input, 130 interrupted.

#include <fmt/format.h>

#include <cstdio>
#include <exception>
#include <new>

#include "cli.h"
#include "fairway/base/error.h"
#include "fairway/pipeline/model_file.h"
#include "signals.h"

namespace fairway::app {
namespace {

int exit_code(base::ErrorKind kind) {
  switch (kind) {
    case base::ErrorKind::input:
      return 2;
    case base::ErrorKind::interrupted:
      return 130;
    default:
      return 1;
  }
}

const char* kind_name(base::ErrorKind kind) {
  switch (kind) {
    case base::ErrorKind::input:
      return "input";
    case base::ErrorKind::interrupted:
      return "interrupted";
    default:
      return "failure";
  }
}

/// One line, whatever file names or arguments were quoted in it.
std::string one_line(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == '\n') {
      out += "\\n";
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      out += '?';
    } else {
      out += c;
    }
  }
  return out;
}

int report_error(Context& context, base::ErrorKind kind, std::string_view message) {
  context.progress().finish();
  const auto line = one_line(message);
  fmt::print(stderr, "fairway: {}{}\n", kind == base::ErrorKind::interrupted ? "" : "error: ", line);
  if (context.options.json) {
    const Json json = {
        {"error", {{"kind", kind_name(kind)}, {"message", line}, {"exit_code", exit_code(kind)}}}};
    fmt::print("{}\n", json.dump(2, ' ', false, Json::error_handler_t::replace));
  }
  return exit_code(kind);
}

void add_commands(CLI::App& app, Context& context, Action& action) {
  add_run(app, context, action);
  add_pack(app, context, action);
  add_score(app, context, action);
  add_adapt(app, context, action);
  add_verify(app, context, action);
  add_inspect(app, context, action);
  add_export(app, context, action);
  add_explain(app, context, action);
  add_bench(app, context, action);
  add_generate(app, context, action);
  add_tokenizer(app, context, action);
  add_data(app, context, action);
  add_sweep(app, context, action);
  add_recipes(app, context, action);
  add_doctor(app, context, action);
}

int run(int argc, char** argv, Context& context) {
  CLI::App app{"Trains, quantises, packs and scores small language models under a byte budget.", "fairway"};
  app.set_version_flag("--version", pipeline::build_version());
  app.footer("`fairway run` without more trains the demo. Every command has --help.");
  app.require_subcommand(1);
  app.get_formatter()->column_width(34);
  Action action;
  add_commands(app, context, action);
  for (int i = 0; i < argc; ++i) context.command_line += (i > 0 ? " " : "") + std::string(argv[i]);
  // An error of the command line itself must keep to --json too.
  for (int i = 1; i < argc; ++i) context.options.json |= std::string_view(argv[i]) == "--json";
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    return app.exit(CLI::CallForHelp());
  } catch (const CLI::CallForVersion&) {
    fmt::print("{}\n", pipeline::build_version());
    return 0;
  } catch (const CLI::ParseError& error) {
    rethrow_usage(app, error);
  }
  action(context);
  return context.exit_code();
}

}  // namespace
}  // namespace fairway::app

int main(int argc, char** argv) {
  using namespace fairway;
  app::SignalWatcher signals;
  app::Context context(signals.token());
  try {
    return app::run(argc, argv, context);
  } catch (const base::Error& error) {
    return app::report_error(context, error.kind(), error.what());
  } catch (const std::bad_alloc&) {
    return app::report_error(context, base::ErrorKind::failure,
                             "out of memory; a smaller train.micro_batch, model or --scale needs less");
  } catch (const std::exception& error) {
    return app::report_error(context, base::ErrorKind::failure, error.what());
  }
}
