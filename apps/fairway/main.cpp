// fairway: the command line. Exit codes: 0 done, 1 failed, 2 bad usage or input, 130 interrupted.

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <filesystem>
#include <new>
#include <sstream>

#include "cli.h"
#include "fairway/base/error.h"
#include "fairway/base/text.h"
#include "fairway/pipeline/stages/model_file.h"
#include "fairway/report/metrics.h"
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

/// One line of UTF-8, whatever file names or arguments were quoted in it.
std::string one_line(std::string_view text) {
  std::string out;
  for (char c : base::printable(text)) {
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

/// A message that nobody can read stops nothing.
void try_to_write(std::FILE* out, const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), out) == text.size()) std::fflush(out);
}

int report_error(Context& context, base::ErrorKind kind, std::string_view message) {
  context.progress().finish();
  const auto line = one_line(message);
  try_to_write(stderr,
               fmt::format("fairway: {}{}\n", kind == base::ErrorKind::interrupted ? "" : "error: ", line));
  if (context.options.json) {
    const Json json = {
        {"error", {{"kind", kind_name(kind)}, {"message", line}, {"exit_code", exit_code(kind)}}}};
    try_to_write(stdout, report::json_text(json));
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
  take_one_value_each(app);
  for (int i = 0; i < argc; ++i) context.command_line += (i > 0 ? " " : "") + std::string(argv[i]);
  // An error of the command line itself must keep to --json too.
  for (int i = 1; i < argc; ++i) context.options.json |= std::string_view(argv[i]) == "--json";
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp& call) {
    std::ostringstream help, none;
    const int code = app.exit(call, help, none);
    write_output(help.str());
    return code;
  } catch (const CLI::CallForVersion&) {
    write_output(pipeline::build_version() + "\n");
    return 0;
  } catch (const CLI::ParseError& error) {
    rethrow_usage(app, error);
  }
  action(context);
  return context.exit_code();
}

/// A file that is opened must not become standard error, or messages would be written into it. What takes
/// the place of a closed stream fails as that does: results cannot be written, input cannot be read.
void fill_closed_streams() {
  const auto fill = [](int stream, int flags) {
    if (fcntl(stream, F_GETFD) >= 0) return;
    const int file = open("/dev/null", flags);
    if (file >= 0 && file != stream && dup2(file, stream) >= 0) close(file);
  };
  fill(STDIN_FILENO, O_WRONLY);
  fill(STDOUT_FILENO, O_RDONLY);
  fill(STDERR_FILENO, O_WRONLY);
}

/// The safety net: names are looked at with base::exists and its like, which say it better.
std::string in_our_words(const std::filesystem::filesystem_error& error) {
  return fmt::format("cannot use {}: {}", error.path1().string(), error.code().message());
}

}  // namespace
}  // namespace fairway::app

int main(int argc, char** argv) {
  using namespace fairway;
  app::fill_closed_streams();
  app::SignalWatcher signals;
  app::Context context(signals.token());
  try {
    return app::run(argc, argv, context);
  } catch (const base::Error& error) {
    return app::report_error(context, error.kind(), error.what());
  } catch (const std::bad_alloc&) {
    return app::report_error(context, base::ErrorKind::failure,
                             "out of memory; a smaller train.micro_batch, model or --scale needs less");
  } catch (const std::filesystem::filesystem_error& error) {
    return app::report_error(context, base::ErrorKind::input, app::in_our_words(error));
  } catch (const std::exception& error) {
    return app::report_error(context, base::ErrorKind::failure, error.what());
  }
}
