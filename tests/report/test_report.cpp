#include <gmock/gmock.h>

#include <cstdio>
#include <filesystem>
#include <limits>
#include <regex>

#include "fairway/base/error.h"
#include "fairway/base/file.h"
#include "fairway/report/fit.h"
#include "fairway/report/html.h"
#include "fairway/report/metrics.h"
#include "fairway/report/progress.h"
#include "fairway/report/table.h"
#include "support/folder.h"

namespace fairway::report {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(Table, AlignsByColumnsNotBytes) {
  Table table{"Sizes", {{"part"}, {"bytes", Align::right}, {"kind"}}, {}, 1};
  table.add({"émbed", "1,024", "int8"});
  table.add({"blocks", "12", ""});
  table.add({"total", "1,036", ""});
  EXPECT_EQ(to_text(table),
            "Sizes\n"
            "part    bytes  kind\n"
            "------  -----  ----\n"
            "émbed   1,024  int8\n"
            "blocks     12\n"
            "------  -----  ----\n"
            "total   1,036\n");
  table.add({"too", "few"});
  EXPECT_ANY_THROW(to_text(table));
}

TEST(Table, WidthsAreOfCharacters) {
  const std::pair<const char*, std::size_t> cases[] = {
      {"", 0}, {"abc", 3}, {"\xC3\xA9", 1}, {"\xE2\x98\x83", 1}, {"\xF0\x9F\x98\x80", 1}, {"a…é☃b", 5}};
  for (const auto& [text, width] : cases) EXPECT_EQ(display_width(text), width) << text;
  Table table{"", {{"a"}, {"n", Align::right}}, {}, 0};
  table.add({"☃☃☃", "1"});
  table.add({"xyz", "☃☃"});
  EXPECT_EQ(to_text(table),
            "a     n\n"
            "---  --\n"
            "☃☃☃   1\n"
            "xyz  ☃☃\n");
}

TEST(Fit, ShortensTextAndNoNumber) {
  Table table{"", {{"step"}, {"inputs"}, {"ms", Align::right}}, {}, 0};
  table.add({"a long name of a step", "16x256x192 384x192", "123.456"});
  table.add({"ünï", "-", "1"});
  auto wide = table, narrow = table, none = table;
  fit(wide, 80);
  EXPECT_EQ(to_text(wide), to_text(table));
  fit(narrow, 40);
  EXPECT_EQ(to_text(narrow),
            "step            inputs                ms\n"
            "--------------  ---------------  -------\n"
            "a long name o…  16x256x192 384…  123.456\n"
            "ünï             -                      1\n");
  fit(none, 5);
  EXPECT_THAT(to_text(none), HasSubstr("a long …  16x256x…  123.456\n")) << "no narrower than is of use";
}

TEST(Fit, BreaksLinesAtSpaces) {
  EXPECT_EQ(wrap("one two three", 80), "one two three");
  EXPECT_EQ(wrap("one two three", 8), "one two\nthree");
  EXPECT_EQ(wrap("a incomprehensible b", 4), "a\nincomprehensible\nb");
  EXPECT_EQ(wrap("", 4), "");
  EXPECT_EQ(short_shapes("[16, 256, 192] [384, 192] - []"), "16x256x192 384x192 - ");
}

TEST(MetricsLog, KeepsWhatAResumedRunDoesNotRepeat) {
  fairway::testing::Folder folder;
  const auto path = folder / "metrics.jsonl";
  {
    MetricsLog log(path);
    for (int step = 1; step <= 5; ++step) log.append({{"step", step}, {"loss", 1.0 / step}});
    EXPECT_EQ(read_metrics(path).size(), 5u) << "every line is on disk at once";
  }
  MetricsLog resumed(path, 3);
  resumed.append({{"step", 4}, {"loss", 0.5}});
  const auto lines = read_metrics(path);
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_EQ(lines[2].dump(), R"({"step":3,"loss":0.3333333333333333})");
  EXPECT_EQ(lines[3]["loss"], 0.5);
  EXPECT_ANY_THROW(resumed.append({{"loss", 1}}));
}

TEST(MetricsLog, ALineCutShortIsLeftOutAndDamageIsNamed) {
  fairway::testing::Folder folder;
  const auto path = folder / "metrics.jsonl";
  base::write_file(path, std::string_view("{\"step\":1}\n{\"step\":2}\n{\"st"));
  EXPECT_EQ(read_metrics(path).size(), 2u);
  base::write_file(path, std::string_view("{\"step\":1}\nnonsense\n{\"step\":3}\n"));
  try {
    read_metrics(path);
    FAIL();
  } catch (const base::Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("line 2 is not a JSON object"));
  }
  EXPECT_ANY_THROW(MetricsLog(folder / "no/such/folder/metrics.jsonl"));
}

TEST(MetricsLog, JsonIsWrittenWholeAndReadable) {
  EXPECT_EQ(json_text({{"b", 1}, {"a", "x\xff"}}), "{\n  \"b\": 1,\n  \"a\": \"x\xEF\xBF\xBD\"\n}\n");
}

base::Progress train_progress(std::int64_t done) {
  base::Progress p;
  p.task = "train";
  p.done = done;
  p.total = 400;
  p.unit = "step";
  p.rate = 41'234;
  p.rate_unit = "tokens";
  p.loss = 3.14159;
  p.budget_left_seconds = 123;
  return p;
}

TEST(Progress, TheBarFitsAnyWidth) {
  for (int width = 1; width < 140; ++width)
    EXPECT_LT(static_cast<int>(display_width(render_bar(train_progress(100), 65, width))), std::max(width, 1))
        << width;
  EXPECT_EQ(render_bar(train_progress(100), 65, 120),
            "train  [########......................]  25%  100/400 step  loss 3.1416  left 1m05s  41.2k "
            "tokens/s  budget 2m03s");
  EXPECT_EQ(render_bar(train_progress(100), 65, 50), "train  [##......]  25%  100/400 step  loss 3.1416")
      << "what matters least goes first";
}

TEST(Progress, TheRooflineIsShownWhereThereIsRoom) {
  auto p = train_progress(100);
  p.roofline = 0.714;
  EXPECT_EQ(
      render_line(p, 65),
      "train  100/400 step  loss 3.1416  left 1m05s  41.2k tokens/s (71 % of the roofline)  budget 2m03s");
  EXPECT_EQ(render_bar(p, 65, 140),
            "train  [########......................]  25%  100/400 step  loss 3.1416  left 1m05s  41.2k "
            "tokens/s (71 % of the roofline)  budget 2m03s");
  EXPECT_EQ(render_bar(p, 65, 100), render_bar(train_progress(100), 65, 100));
}

TEST(Progress, UnknownTotalsHaveNoBar) {
  base::Progress p;
  p.task = "read";
  p.done = 7;
  p.unit = "MB";
  EXPECT_EQ(render_bar(p, -1, 80), "read  7 MB");
  EXPECT_EQ(render_line(train_progress(400), 0),
            "train  400/400 step  loss 3.1416  left 0.0s  41.2k tokens/s  budget 2m03s");
}

std::string printed(bool terminal, bool quiet, const std::function<void(ProgressPrinter&, double&)>& work) {
  std::FILE* file = std::tmpfile();
  double now = 0;
  {
    ProgressOptions options{
        .out = file, .terminal = terminal, .width = 60, .quiet = quiet, .now = [&] { return now; }};
    ProgressPrinter printer(options);
    work(printer, now);
  }
  std::string text(static_cast<std::size_t>(std::ftell(file)), '\0');
  std::rewind(file);
  EXPECT_EQ(std::fread(text.data(), 1, text.size(), file), text.size());
  std::fclose(file);
  return text;
}

void hundred_seconds(ProgressPrinter& printer, double& now) {
  for (int step = 1; step <= 400; ++step) {
    now = step * 0.25;
    printer.update(train_progress(step));
  }
}

TEST(Progress, WithoutATerminalALineEveryTenSecondsAndTheLast) {
  const auto text = printed(false, false, hundred_seconds);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 11);
  EXPECT_THAT(text, Not(HasSubstr("\r")));
  EXPECT_THAT(text, HasSubstr("train  400/400 step"));
}

TEST(Progress, LinesOfALogCarryTheTime) {
  std::FILE* file = std::tmpfile();
  double now = 1000;
  ProgressPrinter printer({.out = file, .times = true, .now = [&] { return now; }});
  now += 65;
  printer.note("packing");
  now += 3600;
  printer.warning("slow");
  std::string text(static_cast<std::size_t>(std::ftell(file)), '\0');
  std::rewind(file);
  EXPECT_EQ(std::fread(text.data(), 1, text.size(), file), text.size());
  EXPECT_EQ(text, "[0:01:05] packing\n[1:01:05] warning: slow\n");
  std::fclose(file);
}

TEST(Progress, AStreamThatTakesNothingStopsNothing) {
  for (const bool terminal : {false, true}) {
    std::FILE* full = std::fopen("/dev/full", "w");
    ASSERT_NE(full, nullptr);
    double now = 0;
    {
      ProgressPrinter printer({.out = full, .terminal = terminal, .now = [&] { return now; }});
      EXPECT_NO_THROW(hundred_seconds(printer, now));
      EXPECT_NO_THROW(printer.note("a note"));
      EXPECT_NO_THROW(printer.warning("a warning"));
      EXPECT_NO_THROW(printer.finish());
    }
    std::fclose(full);
  }
}

TEST(Progress, TimeLeftCountsFromWhereAResumedRunBegan) {
  const auto text = printed(false, false, [](ProgressPrinter& printer, double& now) {
    printer.update(train_progress(300));
    now = 50;
    printer.update(train_progress(350));  // 50 steps in 50 s: 50 s for the other 50
  });
  EXPECT_THAT(text, HasSubstr("350/400 step  loss 3.1416  left 50s"));
}

TEST(Progress, OnATerminalOneLineStaysInPlace) {
  const auto text = printed(true, false, [](ProgressPrinter& printer, double& now) {
    hundred_seconds(printer, now);
    printer.note("checkpoint written");
  });
  EXPECT_GT(std::count(text.begin(), text.end(), '\r'), 100);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2) << "the finished bar and the note";
  EXPECT_THAT(text, ::testing::EndsWith("checkpoint written\n"));
}

TEST(Progress, QuietKeepsWarnings) {
  const auto text = printed(true, true, [](ProgressPrinter& printer, double& now) {
    hundred_seconds(printer, now);
    printer.note("a note");
    printer.warning("the disk is nearly full");
  });
  EXPECT_THAT(text, ::testing::EndsWith("warning: the disk is nearly full\n"));
  EXPECT_THAT(text, Not(HasSubstr("note")));
  EXPECT_THAT(text, Not(HasSubstr("train")));
}

TEST(Html, EscapesEverythingAndLoadsNothing) {
  HtmlReport report;
  report.title = "<script>alert(1)</script>";
  report.headlines = {{"1.23 & up", "bits per byte", Headline::Tone::good}};
  report.tables = {{"Sizes", {{"a<b"}, {"n", Align::right}}, {{"<i>", "1"}, {"sum", "2"}}, 1}};
  report.sample_prompt = "Once \"upon\"";
  report.sample = std::string(" a <time>\xff\x01 & ☃", 17);
  report.appendices = {{"Recipe", "x = \"<y>\""}};
  const auto page = to_html(report);
  EXPECT_THAT(page, Not(HasSubstr("<script")));
  EXPECT_THAT(page, Not(HasSubstr("http")));
  EXPECT_THAT(page, HasSubstr("a&lt;b"));
  EXPECT_THAT(page, HasSubstr("<li class=\"good\"><b>1.23 &amp; up</b>"));
  EXPECT_THAT(page, HasSubstr("<tr class=\"total\"><td>sum</td><td class=\"r\">2</td></tr>"));
  EXPECT_THAT(page, HasSubstr("a &lt;time&gt;\xEF\xBF\xBD\xEF\xBF\xBD &amp; ☃"));
  EXPECT_THAT(page, HasSubstr("x = &quot;&lt;y&gt;&quot;"));
}

TEST(Html, ChartsStayInTheirFrame) {
  Chart chart{"Loss", "step", "nats", {{"train", {}}, {"validation", {{1, 6.9}, {5000, 2.1}}}}};
  for (int i = 1; i <= 5000; ++i) chart.curves[0].points.push_back({i, 7.0 / i});
  chart.curves[0].points[7].second = std::numeric_limits<double>::quiet_NaN();
  const auto svg = to_svg(chart);
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
  EXPECT_THAT(svg, Not(::testing::ContainsRegex("[\", ]-[0-9]"))) << "no negative coordinate";
  EXPECT_LT(svg.size(), 40'000u) << "points beyond the pixels are left out";
  EXPECT_THAT(svg, HasSubstr(">validation</text>"));
  EXPECT_THAT(to_svg({"Empty", "x", "y", {}}), HasSubstr("</svg>"));
  EXPECT_THAT(to_svg({"One", "x", "y", {{"c", {{3, 3}}}}}), Not(HasSubstr("nan")));
}

TEST(Html, ChartsGrowUpwardsAndToTheRight) {
  const std::vector<std::pair<double, double>> points = {{1, 4}, {2, 3}, {3, 1}, {4, 2}};
  const auto svg = to_svg({"Loss", "step", "nats", {{"c", points}}});
  const auto all = [&](const char* pattern) {  // pairs of numbers
    const std::regex regex(pattern);
    std::vector<std::pair<double, double>> found;
    for (std::sregex_iterator at(svg.begin(), svg.end(), regex), end; at != end; ++at)
      found.emplace_back(std::stod((*at)[1]), std::stod((*at)[2]));
    return found;
  };
  const auto drawn = all("([0-9.]+),([0-9.]+) ");
  ASSERT_EQ(drawn.size(), points.size());
  for (std::size_t i = 0; i < points.size(); ++i)
    for (std::size_t k = 0; k < points.size(); ++k) {
      EXPECT_EQ(drawn[i].first < drawn[k].first, points[i].first < points[k].first) << i << " " << k;
      EXPECT_EQ(drawn[i].second > drawn[k].second, points[i].second < points[k].second) << i << " " << k;
    }
  // The numbers beside the axis stand where the curve has that value.
  const auto ticks = all("y=\"([0-9.]+)\" text-anchor=\"end\">([0-9.]+)<");
  ASSERT_EQ(ticks.size(), points.size());
  for (const auto& [y, value] : ticks) {
    const auto at = std::ranges::find(points, value, &std::pair<double, double>::second);
    ASSERT_NE(at, points.end()) << value;
    EXPECT_NEAR(drawn[static_cast<std::size_t>(at - points.begin())].second, y - 4, 0.11) << value;
  }
}

TEST(Html, TicksAreRoundAndInside) {
  EXPECT_THAT(axis_ticks(0, 400, 8), ElementsAre(0, 50, 100, 150, 200, 250, 300, 350, 400));
  EXPECT_THAT(axis_ticks(1.9, 7.1, 5), ElementsAre(2, 4, 6));
  EXPECT_THAT(axis_ticks(0.1, 0.2, 5).size(), ::testing::Le(6u));
}

}  // namespace
}  // namespace fairway::report
