"""A training micro-batch and sliding-window scoring in PyTorch: the other side of `fairway bench` and of scoring.

    python bench/peers/step.py                              # 48 x 2,048 of cosine_ttt50, sliding 2,048 / 64, on one GPU
    python bench/peers/step.py --ours build/bin/fairway     # with our micro-batch before and after, in the same run
    python bench/peers/step.py --device cpu --tiny --eager  # a trial of this program in seconds

Micro-batch: forward and backward of windows of random tokens, everything trained, gradients added up in .grad, no
optimiser; milliseconds are the median of steps timed by events with nothing between them. Sliding scoring: batches of
full windows, each forwarded whole, of whose losses the last --stride are kept and summed in fp64, as the published
programs do it; they are spared what costs them more: the text and its windows are on the GPU, the cross-entropy is
compiled too, no loop goes through windows or counts bytes. A sample of batches is timed and stands for all.

Both with torch.compile, bf16 autocast (training over fp32 weights with tables as [optim] says, scoring with matrices
rounded once) and the faster of PyTorch's attention backends. Each has a process and a compiler's cache of its own, one
after the other, so that the seconds of compilation are those of a first run.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import recipe_file
import torch

from adapt import choose_attention, save, say
from adapt_unit import Unit, backward_at_once, environment

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
TINY, SAMPLE = 32, 5  # --tiny divides by it, as it makes the window 64; batches scored for a step trained


class MicroBatch(Unit):
    """Forward and backward of a micro-batch, one of many in a step."""

    def __init__(self, spec):
        phase = {"train": ["all"], "lr_groups": [], "optimizer": "sgd", "lr": 0.0, "momentum": 0.0}  # never steps
        super().__init__(spec | {"kind": "train", "phase": phase})

    def step(self):
        tokens, targets = self.batches[self.count % len(self.batches)]
        self.count += 1
        with torch.autocast(self.device, torch.bfloat16):
            loss = self.call(tokens, targets)
        (loss * 0.125).backward()  # a step has eight
        self.result = loss.detach()

    def as_ours(self):
        """Tokens as `fairway bench` draws them: as uneven as those of text, so that their gradients collide."""
        vocab, shape = self.config.vocab_size, (2, self.spec["batch"], self.config.window)
        draws = (torch.rand(shape, device=self.device) for _ in self.batches)
        self.batches = [tuple((vocab * u**3).long().clamp(max=vocab - 1)) for u in draws]

    def measure(self):
        even = super().measure()
        self.as_ours()
        return super().measure() | {"ms_even_tokens": even["ms"], "loss": self.result.item()}


class Sliding(Unit):
    """Batches of a text's full windows in order, the losses of the last `stride` targets of each kept."""

    def __init__(self, spec):
        super().__init__(spec | {"kind": "score", "working_weights": True})
        window, stride, rows = self.config.window, spec["stride"], spec["batch"]
        self.batches = None  # Unit's windows do not overlap
        targets = max(spec["targets"], window + (rows - 1) * stride)
        self.text = torch.randint(self.config.vocab_size, (targets + 1,), device=self.device)
        self.full = ((targets - window) // stride + 1) // rows  # batches
        self.index = torch.arange(window, device=self.device)
        self.index = self.index + stride * torch.arange(rows, device=self.device)[:, None]
        self.sum = torch.zeros((), device=self.device, dtype=torch.float64)

    @torch.inference_mode()
    def kept(self, number):
        """Losses of batch `number` [rows, stride]."""
        index = self.index + number * len(self.index) * self.spec["stride"]
        with torch.autocast(self.device, torch.bfloat16):
            return self.call(self.text[index], self.text[index + 1])[:, -self.spec["stride"] :]

    def step(self):
        with torch.inference_mode():
            self.sum += self.kept(self.count % self.full).sum(dtype=torch.float64)
        self.count += 1

    def measure(self):
        self.count, self.spec["steps"] = 0, min(self.full, self.spec["steps"])
        self.sum.zero_()
        return super().measure() | {"loss": self.sum.item() / (self.count * len(self.index) * self.spec["stride"])}


def measure_part(spec):
    """Compiles and measures one part in this process."""
    warnings.filterwarnings("ignore")
    torch.set_float32_matmul_precision("high")
    backward_at_once(True)
    unit = {"micro": MicroBatch, "sliding": Sliding}[spec["part"]](spec)
    start = time.perf_counter()
    unit.warm_up()
    seconds = time.perf_counter() - start
    result = unit.measure()
    result["compile_s"] = max(0.0, seconds - 2 * result["ms"] / 1e3)  # two steps warm up
    return result | environment(spec["device"])


# ---- the whole: parts one after the other ----


def run(name, command, limit):
    """The JSON that a program prints; None if it fails."""
    say(f"# {name} ...")
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache:  # compilers may outlive a killed part
        caches = {"TORCHINDUCTOR_CACHE_DIR": cache, "TRITON_CACHE_DIR": str(Path(cache) / "triton")}
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=limit, env=os.environ | caches)
            last = (done.stderr.strip().splitlines() or [""])[-1]
            error = done.returncode and f"ended with {done.returncode}: {last}"
            result = None if error else json.loads(done.stdout)
        except subprocess.TimeoutExpired:
            error = f"given up after {limit:.0f} s"
        except (OSError, ValueError) as failure:
            error = f"{type(failure).__name__}: {failure}"
    if error:
        say(f"# {name}: {error}"[:400])
        return None
    say(f"# {name}: {time.perf_counter() - began:.0f} s{'; ' + result['note'] if result.get('note') else ''}")
    return result


def run_ours(args, when):
    """`fairway bench` without its list of steps."""
    command = [args.ours, "bench", str(args.path), "--device", args.device, "--json", "--quiet"]
    result = run(f"ours, {when}", command + ["--scale", "tiny"] * args.tiny, args.limit)
    return result and {key: value for key, value in result.items() if key != "steps"}


def specs_of(args):
    optim = recipe_file.read(args.path).get("optim", {})
    common = {"recipe": str(args.path), "tiny": args.tiny, "device": args.device, "compile": not args.eager}
    common |= {"tables": optim.get("tables", "f32"), "patience": 0}
    sliding = {"batch": args.score_rows, "steps": SAMPLE * args.steps, "stride": args.stride, "targets": args.targets}
    micro = {"batch": args.rows, "steps": args.steps}
    return {"micro": common | micro | {"part": "micro"}, "sliding": common | sliding | {"part": "sliding"}}


def row(name, ms, tokens, peak, note=""):
    peak = f"{peak / 2**30:6.1f} GiB" if peak else f"{'':10}"
    say(f"  {name:34} {ms:9.2f} ms {tokens / ms * 1e3:12,.0f} tokens/s {peak} {note}".rstrip())


def report_micro(args, content):
    """Prints the micro-batches of both sides; ratios are of the time for a token."""
    theirs, ours = content.get("micro"), {k: r for k, r in content["ours"].items() if r}
    ratios, per_token = {}, [r["micro_seconds"] * 1e3 / r["micro_batch_tokens"] for r in ours.values()]
    say("training micro-batch, forward and backward")
    for when, r in ours.items():
        row(f"ours, {when}", r["micro_seconds"] * 1e3, r["micro_batch_tokens"], 0, f"{r['micro_batch_rows']} windows")
    if theirs:
        tokens = theirs["batch"] * theirs["window"]
        note = f"{theirs['batch']} windows, mean {theirs['ms_mean']:.2f}, compiled in {theirs['compile_s']:.0f} s"
        row("PyTorch", theirs["ms"], tokens, theirs["peak_bytes"], note)
        row("PyTorch, on even tokens", theirs["ms_even_tokens"], tokens, 0)
    if theirs and per_token:
        mine = tokens * sum(per_token) / len(per_token)
        ratios = {f"micro_{key}": theirs[key] / mine for key in ("ms", "ms_even_tokens")}
        say(f"  PyTorch takes {ratios['micro_ms']:.2f}x as long, on even tokens {ratios['micro_ms_even_tokens']:.2f}x")
    return ratios


def report_sliding(args, content):
    """Prints the seconds of scoring the whole text; windows begin at every multiple of the stride in it."""
    r, ratios = content.get("sliding"), {}
    if not r:
        return ratios
    windows, millions = -(-args.targets // args.stride), args.targets / 1e6
    batches = -(-windows // args.score_rows)
    r["seconds"] = batches * r["ms_mean"] / 1e3
    r["seconds_in_all"] = r["seconds"] + r["compile_s"]
    say(f"sliding scoring {r['window']:,} / {args.stride}, {args.targets:,} targets, {windows:,} windows")
    row(f"PyTorch, a batch ({r['steps']} timed)", r["ms_mean"], r["batch"] * r["window"], r["peak_bytes"])
    for key, what in (("seconds", "PyTorch"), ("compile_s", "its compilation"), ("seconds_in_all", "both")):
        r[f"{key}_per_million"] = r[key] / millions
        say(f"  {what:34} {r[key]:9.2f} s  {r[key] / millions:12.2f} s for a million targets")
    if args.ours_score_seconds:
        ours = args.ours_score_seconds
        ratios = {f"sliding_{key}": r[key] / ours for key in ("seconds", "seconds_in_all")}
        say(f"  {'ours, as told':34} {ours:9.2f} s  {ours / millions:12.2f} s for a million targets")
        say(f"  PyTorch takes {r['seconds'] / ours:.2f}x as long, with compilation {r['seconds_in_all'] / ours:.2f}x")
    return ratios


def main():
    if sys.argv[1:2] == ["--part"]:
        with contextlib.redirect_stdout(sys.stderr):
            result = measure_part(json.loads(sys.argv[2]))
        print(json.dumps(result))
        return
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--recipe", default="cosine_ttt50", help="a file, or the name of one in recipes/")
    parser.add_argument("--rows", type=int, default=48, help="windows of a micro-batch")
    parser.add_argument("--steps", type=int, default=20, help=f"timed steps; {SAMPLE} times as many batches are scored")
    parser.add_argument("--targets", type=int, default=651000, help="of the text that is scored")
    parser.add_argument("--stride", type=int, default=64)
    parser.add_argument("--score-rows", type=int, default=32, help="windows scored at a time")
    parser.add_argument("--ours", help="our program: its micro-batch is timed before and after PyTorch's")
    parser.add_argument("--ours-score-seconds", type=float, default=0, help="what ours takes to score those targets")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a tiny model and less of it; not to be compared with ours")
    parser.add_argument("--eager", action="store_true", help="un-compiled")
    parser.add_argument("--attention", help="cudnn or flash, ':expanded' for repeated heads; default: measured")
    parser.add_argument("--limit", type=float, default=300, help="seconds after which a part is given up")
    parser.add_argument("--json", type=Path, help="also write every number there")
    args = parser.parse_args()
    args.path = Path(args.recipe) if Path(args.recipe).is_file() else RECIPES / f"{args.recipe}.toml"
    if args.tiny:
        for key in ("rows", "targets", "stride", "score_rows"):
            setattr(args, key, max(2, getattr(args, key) // TINY))
    began, content = time.perf_counter(), {"compiled": not args.eager, "ours": {}, "ratios": {}}
    specs = specs_of(args)
    attention, content["attention"], content["header"] = choose_attention(args, specs["micro"])
    if args.ours:
        content["ours"]["before"] = run_ours(args, "before")
    for part, spec in specs.items():
        command = [sys.executable, str(Path(__file__).resolve()), "--part"]
        spec = json.dumps(spec | {"attention": attention["train" if part == "micro" else "score"]})
        content[part] = run(f"PyTorch, {part}", command + [spec], args.limit)
        save(args, content)
    if args.ours:
        content["ours"]["after"] = run_ours(args, "after")
    for report in (report_micro, report_sliding):
        try:
            content["ratios"] |= report(args, content)
        except Exception as error:  # noqa: BLE001: the other's results must not be lost
            say(f"# {report.__name__}: {type(error).__name__}: {error}")
    content["seconds"] = time.perf_counter() - began
    save(args, content)
    say(f"# {content['seconds']:.0f} s in all")
    sys.exit(0 if all(content[part] for part in specs) and all(content["ours"].values()) else 1)


if __name__ == "__main__":
    main()
