"""One training step of Fairway and of PyTorch, alternating on one machine, like for like.

    python bench/peers/compare.py --bench build/bin/fairway-bench-train --torch /tmp/venv-torch/bin/python \\
        recipes/reference_run.toml recipes/demo.toml --markdown out.md

For each recipe, precision and number of threads, the contestants (Fairway, PyTorch eager, PyTorch compiled) are
started, warm up, and then make one step after the other, each in its turn, so that whatever else the machine does
falls on all of them. A step is forward, backward, clip, Muon and AdamW on 4,096 random tokens; the same shapes, fp32
weights and tables, Newton-Schulz in the precision of the products. PyTorch's processes stay asleep between turns.
Runs with any Python from 3.11; only the contestants need PyTorch (train_step.py --check proves it computes the same).
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path


HERE = Path(__file__).resolve().parent
NAMES = {"fairway": "Fairway", "eager": "PyTorch eager", "compiled": "PyTorch compiled"}


class Contestant:
    def __init__(self, name, command, threads):
        self.name, self.runs = name, []
        environment = dict(os.environ, OMP_NUM_THREADS=str(threads), TORCHINDUCTOR_FX_GRAPH_CACHE="1")
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended:\n{self.process.stderr.read()[-2000:]}")
        return json.loads(line)

    def step(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.runs.append(self.read())

    def median(self, key):
        values = sorted(run[key] for run in self.runs)
        return (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


def command_of(args, name, recipe, precision, threads):
    common = [str(recipe), "--threads", str(threads), "--warmup", str(args.warmup), "--serve"]
    if name == "fairway":
        return [args.bench, *common, "--products", precision]
    extra = ["--gqa"] if args.gqa else []
    return [args.torch, str(HERE / "train_step.py"), *common, "--mode", name, "--precision", precision, *extra]


def compare(args, recipe, precision, threads):
    """Rows of one table, Fairway first."""
    names = [n for n in ("fairway", "eager", "compiled") if n in args.contestants]
    start = time.perf_counter()
    contestants, ready = [], []
    try:
        for name in names:  # one after the other: a warm-up beside another one would take as long and tell less
            contestants.append(Contestant(name, command_of(args, name, recipe, precision, threads), threads))
            ready.append(contestants[-1].read())
        assert len({r["parameters"] for r in ready}) == 1 and len({r["rows"] for r in ready}) == 1, ready
        began = time.perf_counter()
        # Whole rounds until there are enough and the time is used: short steps are repeated more often.
        while len(contestants[0].runs) < args.repeats or (
            time.perf_counter() - began < args.seconds and len(contestants[0].runs) < 200
        ):
            for contestant in contestants:
                contestant.step()
    finally:
        for contestant in contestants:
            contestant.close()
    rows = []
    for contestant, r in zip(contestants, ready):
        row = {
            "recipe": Path(recipe).stem,
            "precision": precision,
            "threads": threads,
            "contestant": contestant.name,
            "parameters": r["parameters"],
            "rows": r["rows"],
            "repeats": len(contestant.runs),
            "base_bytes": r["base_bytes"],
            "peak_bytes": contestant.runs[-1]["peak_bytes"],
        }
        for key in ("model_ms", "optimizer_ms", "step_ms", "cpu_ms"):
            row[key] = contestant.median(key)
        row["fastest_ms"] = min(run["step_ms"] for run in contestant.runs)
        rows.append(row)
    print(f"# {Path(recipe).stem} {precision} {threads} threads: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    for row in rows:  # at once, so that an interrupted comparison is not lost
        print(f"#   {NAMES[row['contestant']]:17} step {row['step_ms']:.1f} ms, processor {row['cpu_ms']:.1f} ms", file=sys.stderr)
    sys.stderr.flush()
    return rows


def markdown(results, header):
    lines = [header, ""]
    lines.append(
        "| model | precision | threads | program | forward + backward ms | optimiser ms | step ms | fastest ms |"
        " processor ms | peak MiB (of it before the model) | Fairway is faster by |"
    )
    lines.append("| --- | --- | --: | --- | --: | --: | --: | --: | --: | --: | --: |")
    ours = {}
    for r in results:
        key = (r["recipe"], r["precision"], r["threads"])
        if r["contestant"] == "fairway":
            ours[key] = r
        ratio = f"{r['step_ms'] / ours[key]['step_ms']:.2f}x" if key in ours and r is not ours[key] else ""
        lines.append(
            f"| {r['recipe']} ({r['parameters']:,} parameters, {r['rows']} windows) | {r['precision']} | {r['threads']} |"
            f" {NAMES[r['contestant']]} | {r['model_ms']:.1f} | {r['optimizer_ms']:.1f} | {r['step_ms']:.1f} |"
            f" {r['fastest_ms']:.1f} | {r['cpu_ms']:.1f} |"
            f" {r['peak_bytes'] / 2**20:.0f} ({r['base_bytes'] / 2**20:.0f}) | {ratio} |"
        )
    return "\n".join(lines) + "\n"


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("recipes", nargs="+", type=Path)
    parser.add_argument("--bench", required=True, help="the built fairway-bench-train")
    parser.add_argument("--torch", required=True, help="a Python that has PyTorch")
    parser.add_argument("--threads", nargs="+", type=int, default=[len(os.sched_getaffinity(0)), 1])
    parser.add_argument("--precision", nargs="+", choices=("f32", "bf16"), default=["f32", "bf16"])
    parser.add_argument("--contestants", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5, help="rounds at least")
    parser.add_argument("--seconds", type=float, default=10, help="further rounds while a comparison is shorter")
    parser.add_argument("--gqa", action="store_true", help="enable_gqa in PyTorch's attention instead of repeats")
    parser.add_argument("--markdown", type=Path, help="also write the table there")
    parser.add_argument("--json", type=Path, help="also write every number there")
    args = parser.parse_args()
    version = subprocess.run(
        [args.torch, "-c", "import torch; print(torch.__version__, torch.backends.cpu.get_cpu_capability())"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    load = os.getloadavg()[0]
    results = []
    for recipe in args.recipes:
        for precision in args.precision:
            for threads in args.threads:
                results += compare(args, recipe, precision, threads)
    header = f"{processor()}, {len(os.sched_getaffinity(0))} cores, load before {load:.1f}, PyTorch {version}, medians"
    text = markdown(results, header)
    print(text)
    if args.markdown:
        args.markdown.write_text(text)
    if args.json:
        args.json.write_text(json.dumps({"header": header, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
