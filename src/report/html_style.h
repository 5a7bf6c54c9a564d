#pragma once
#include <string_view>

namespace fairway::report {

/// The page's looks: system fonts, one column, light and dark.
inline constexpr std::string_view kStyle = R"css(
:root{--ink:#1c2430;--soft:#5d6b7c;--line:#dde3ea;--paper:#fff;--wash:#f5f7fa;--good:#177245;--bad:#b3261e;--c0:#2563a8;--c1:#c2571a;--c2:#3d8b57;--c3:#7a4fa3}
@media (prefers-color-scheme:dark){:root{--ink:#e4e9f0;--soft:#96a3b3;--line:#323b47;--paper:#161b22;--wash:#1e252e;--good:#4cc38a;--bad:#ff7b72;--c0:#6cb0f0;--c1:#f0985c;--c2:#74c98f;--c3:#b99be0}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:60rem;margin:0 auto;padding:2.5rem 1.25rem 4rem}
h1{font-size:1.8rem;margin:0}
h2{font-size:1.15rem;margin:2.5rem 0 .75rem}
.sub{color:var(--soft);margin:.25rem 0 0}
.heads{display:flex;flex-wrap:wrap;gap:.75rem;margin:1.75rem 0 0;padding:0;list-style:none}
.heads li{flex:1 1 9rem;background:var(--wash);border:1px solid var(--line);border-radius:.6rem;padding:.8rem 1rem}
.heads b{display:block;font-size:1.5rem;font-variant-numeric:tabular-nums;line-height:1.2}
.heads span{color:var(--soft);font-size:.85rem}
.good b{color:var(--good)}.bad b{color:var(--bad)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.92rem;font-variant-numeric:tabular-nums}
th{color:var(--soft);font-weight:600;text-align:left;border-bottom:2px solid var(--line)}
th,td{padding:.35rem .75rem .35rem 0}
td{border-bottom:1px solid var(--line)}
.r{text-align:right}
.total td{font-weight:600}
svg{width:100%;height:auto;display:block}
svg text{fill:var(--soft);font:12px system-ui,sans-serif}
.grid{stroke:var(--line);stroke-width:1}
.curve{fill:none;stroke-width:1.8;stroke-linejoin:round}
blockquote{margin:0;padding:1rem 1.25rem;background:var(--wash);border-left:3px solid var(--c0);border-radius:0 .6rem .6rem 0;white-space:pre-wrap;font-family:Georgia,serif}
.prompt{color:var(--soft)}
details{margin-top:1rem}
summary{cursor:pointer;color:var(--soft)}
pre{background:var(--wash);border:1px solid var(--line);border-radius:.6rem;padding:1rem;overflow-x:auto;font-size:.82rem}
)css";

}  // namespace fairway::report
