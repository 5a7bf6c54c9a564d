"""Test-time training in PyTorch: the other side of the speed of [adapt].

    python bench/peers/adapt.py                              # the four published protocols on one GPU, about 2 minutes
    python bench/peers/adapt.py --protocols cosine_ttt50 --steps 50 --json out.json
    python bench/peers/adapt.py --device cpu --tiny          # the same with a tiny model, a trial of the program; --eager for seconds

For each recipe's [adapt] it makes the same batches as src/adapt (virtual_ranks = 1, --windows of random tokens, the same
tensors trained, optimiser, clip, fake quantisation) with torch.compile, bf16 autocast over fp32 weights with bf16 tables
as the originals have them, fused optimisers, and the faster of PyTorch's attention backends. Each phase is compiled in
a process of its own, all at once, since compiling takes a minute for each; when the last is ready, they are timed one
after the other on the quiet machine. Compilation is not in any figure; steps are of full batches, and an epoch is
counted by its windows. Results are printed as they come, and one phase's failure costs only its own.
Runs with any Python from 3.11 that has PyTorch (adapt_unit.py uses it).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import recipe_file

HERE = Path(__file__).resolve().parent
PROTOCOLS = ("two_phase_ttt", "ema_ttt20", "streaming_min3", "cosine_ttt50")
# Of [adapt], as src/pipeline/recipe/recipe_schema_adapt.cpp has them.
DEFAULTS = dict(train=["all"], optimizer="adamw", lr=5e-4, lr_groups=[], beta1=0.9, beta2=0.999, eps=1e-8)
DEFAULTS |= dict(weight_decay=0.0, momentum=0.9, clip=1.0, epochs=1)


class Process:
    """One adapt_unit.py: it compiles at once and measures when told."""

    def __init__(self, name, spec, limit):
        self.name, self.error, self.ready, self.result = name, "", None, None
        self.errors = tempfile.TemporaryFile("w+")
        environment = dict(os.environ)
        if spec["device"] == "cuda":
            environment.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "4")
            environment.setdefault("OMP_NUM_THREADS", "2")
        command = [sys.executable, str(HERE / "adapt_unit.py"), json.dumps(spec)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, env=environment
        )
        self.timer = threading.Timer(limit, self.process.kill)
        self.timer.daemon = True
        self.timer.start()

    def read(self):
        """The next line's value; None and self.error if there is none."""
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        self.errors.seek(0)
        lines = [text for text in self.errors.read().splitlines() if text.strip()]
        code = self.process.wait()
        self.error = f"{self.name} ended with {code}: {lines[-1] if lines else 'killed after its time limit?'}"
        return None

    def wait_ready(self):
        self.ready = self.read()
        if self.error:
            say(f"# {self.error}")
        else:
            say(f"# {self.name}: ready after {self.ready.get('seconds', 0):.0f} s {self.ready.get('note', '')}".rstrip())

    def measure(self):
        if self.ready is not None and self.result is None and not self.error:
            try:
                self.process.stdin.write("\n")
                self.process.stdin.flush()
                self.result = self.read()
                self.process.stdin.close()
                self.process.wait()
            except OSError as error:
                self.error = f"{self.name}: {error}"
            if self.error:
                say(f"# {self.error}")
        self.timer.cancel()
        return self.result


def say(text):
    print(text, flush=True)


# ---- what the recipes ask for, as src/adapt/text_plan.cpp and streaming.cpp have it for one rank ----


def batches_of(windows, batch):
    """Windows of each batch of a shard of equal targets: starts run while they are below the end less a window."""
    count = -(-(windows - 1) // batch) if windows > 1 else 0
    return [min(batch, windows - i * batch) for i in range(count)]


def epoch_plan(adapt, windows):
    """Windows and steps of an epoch over the whole text."""
    batch = adapt["batch_windows"]
    if adapt.get("shards") == "targets":
        parts = batches_of(windows, batch)
        return sum(parts), len(parts)
    if adapt.get("order") == "permuted" and windows >= batch:
        windows = windows // batch * batch  # the rest is never trained on
    return windows, -(-windows // batch)


def streaming_plan(adapt, windows):
    """Windows scored by each pass, windows and steps trained on by all passes together."""
    chunk, passes = adapt["chunk_windows"], adapt["pass_lr"]
    if adapt.get("shards") == "targets":
        chunks = batches_of(windows, chunk)
    else:
        chunks = [min(chunk, windows - i) for i in range(0, windows, chunk)]
    trained = steps = 0
    for k, factor in enumerate(passes):
        if not factor:
            continue
        first = len(chunks) * k // len(passes) if adapt.get("rotate") else 0
        order = chunks[first:] + chunks[:first]
        trained += sum(order[:-1])  # what is learnt from the last chunk scores nothing
        steps += sum(-(-n // adapt["batch_windows"]) for n in order[:-1])
    return sum(chunks), trained, steps


class Protocol:
    def __init__(self, args, name):
        path = args.recipes / f"{name}.toml"
        adapt = recipe_file.read(path)["adapt"]
        if args.tiny:
            for key in ("batch_windows", "chunk_windows"):
                adapt[key] = max(1, adapt.get(key, 4) // 16)
        self.name, self.adapt, self.windows = name, adapt, args.windows
        own = {key: value for key, value in adapt.items() if key != "then"}
        self.phases = [DEFAULTS | own]
        if adapt.get("then", {}).get("epochs", 0):
            self.phases.append(DEFAULTS | adapt["then"])
        self.streaming = adapt["when"] == "streaming"
        common = {"recipe": str(path), "tiny": args.tiny, "device": args.device, "steps": args.steps}
        common |= {"tables": adapt.get("tables", "f32"), "compile": not args.eager}
        common |= {"lock": args.lock, "patience": args.limit / 2}
        self.specs = {}
        for i, phase in enumerate(self.phases):
            own = {"kind": "train", "phase": phase, "batch": adapt["batch_windows"]}
            own["fake_quantize"] = adapt.get("fake_quantize", False)
            self.specs[f"{name} phase {i + 1}"] = common | own
        # A chunk's weights are new every time; those of a text scored in the end are rounded once.
        rows = adapt["chunk_windows"] if self.streaming else max(1, 32 // (16 if args.tiny else 1))
        own = {"kind": "score", "batch": rows, "working_weights": not self.streaming}
        self.specs[f"{name} scoring"] = common | own

    def report(self, results):
        """Figures of the protocol from those of its units; prints them."""
        rows, total = [], 0.0
        passes = len(self.adapt.get("pass_lr", [1]))
        scored, trained, steps = streaming_plan(self.adapt, self.windows) if self.streaming else (self.windows, 0, 0)
        for i, phase in enumerate(self.phases):
            r = results.get(f"{self.name} phase {i + 1}")
            if not r:
                total = None
                continue
            if self.streaming:
                repeats = sum(1 for factor in self.adapt["pass_lr"] if factor)
                windows, count = trained / repeats, steps // repeats
                repeats *= phase["epochs"]
            else:
                (windows, count), repeats = epoch_plan(self.adapt, self.windows), phase["epochs"]
            per_window = r["ms"] / r["batch"] / 1e3
            row = {"phase": i + 1, "optimizer": phase["optimizer"], "windows": windows, "steps_per_epoch": count}
            row |= {"epochs": repeats, "ms_per_step": r["ms"], "tokens_per_s": r["window"] / per_window}
            row |= {"epoch_s": windows * per_window, "phase_s": windows * per_window * repeats}
            rows.append(row)
            if total is not None:
                total += row["phase_s"]
            unit = "pass" if self.streaming else "epoch"
            say(
                f"{self.name} phase {i + 1} ({phase['optimizer']}, {r['trained_elements']:,} trained, {r['batch']} windows):"
                f" {r['ms']:.2f} ms per step (mean {r['ms_mean']:.2f}, fastest {r['ms_fastest']:.2f}),"
                f" {row['tokens_per_s']:,.0f} tokens/s, {row['epoch_s']:.3f} s per {unit} of {windows:.0f} windows,"
                f" {row['phase_s']:.2f} s for {repeats}; peak {r['peak_bytes'] / 2**30:.1f} GiB"
                f"{'; ' + r['note'] if r['note'] else ''}"
            )
        r, out = results.get(f"{self.name} scoring"), {"protocol": self.name, "phases": rows}
        if r:
            per_window = r["ms"] / r["batch"] / 1e3
            out["score_ms"] = per_window * self.windows * 1e3
            out["score_tokens_per_s"] = r["window"] / per_window
            say(
                f"{self.name} scoring {self.windows} plain windows, {r['batch']} at a time: {out['score_ms']:.1f} ms"
                f" ({r['ms']:.2f} ms per batch), {out['score_tokens_per_s']:,.0f} tokens/s"
                f"{'; ' + r['note'] if r['note'] else ''}"
            )
        if self.streaming and total is not None:
            total = total + passes * scored * per_window if r else None
        out["protocol_s"] = total
        if total is not None:
            what = f"{passes} passes, scoring and training" if self.streaming else "all epochs and phases, without scoring"
            say(f"{self.name} whole protocol ({what}): {total:.2f} s")
        return out


def choose_attention(args, spec):
    """Backend and heads for training and for scoring: as told, or measured."""
    if args.attention:
        backend, _, heads = args.attention.partition(":")
        one = {"backend": backend, "gqa": heads != "expanded"}
        return {"train": one, "score": one}, [], {}
    process = Process("attention", spec | {"kind": "attention", "batch": 2 if args.tiny else 32}, args.limit)
    process.wait_ready()
    rows = process.measure() or []
    for row in rows:
        how = f"{row['backend'] or 'default'} {'enable_gqa' if row['gqa'] else 'expanded heads'}"
        times = {k: f"{row[k]:.3f} ms" for k in ("score_ms", "train_ms") if k in row}
        say(f"# attention {how}: {row.get('error') or '%(score_ms)s forward, %(train_ms)s with backward' % times}")
    chosen = {}
    for use in ("train", "score"):
        able = [row for row in rows if f"{use}_ms" in row]
        best = min(able, key=lambda row: row[f"{use}_ms"], default={"backend": "", "gqa": False})
        chosen[use] = {"backend": best["backend"], "gqa": best["gqa"]}
        say(f"# attention for {use}: {chosen[use]['backend'] or 'default'}, gqa {chosen[use]['gqa']}")
    return chosen, rows, process.ready or {}


def save(args, content):
    if args.json:
        partial = args.json.with_name(args.json.name + ".partial")
        partial.write_text(json.dumps(content, indent=1) + "\n")
        partial.replace(args.json)


def start_all(args, specs):
    """Compiles every unit, --jobs at once; returns when all are ready or have failed."""
    places, processes, threads = threading.Semaphore(args.jobs), {}, []

    def start(name, spec):
        try:
            processes[name] = Process(name, spec, args.limit)
            processes[name].wait_ready()
        except Exception as error:  # noqa: BLE001: the others' results must not be lost
            say(f"# {name}: {type(error).__name__}: {error}")
        finally:
            places.release()

    for name, spec in specs.items():
        places.acquire()
        threads.append(threading.Thread(target=start, args=(name, spec)))
        threads[-1].start()
    for thread in threads:
        thread.join()
    return processes


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--protocols", default=",".join(PROTOCOLS), help="recipes' names, separated by commas")
    parser.add_argument("--recipes", type=Path, default=HERE.parents[1] / "recipes")
    parser.add_argument("--steps", type=int, default=0, help="timed steps of each unit; 0: 20, tiny 3")
    parser.add_argument("--windows", type=int, default=0, help="of the text; 0: 318 as fineweb_val/dev, tiny 19")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a tiny model and batches of a sixteenth")
    parser.add_argument("--eager", action="store_true", help="un-compiled, as most of the originals run it")
    parser.add_argument("--attention", help="cudnn or flash, ':expanded' for repeated heads; default: measured")
    parser.add_argument("--jobs", type=int, default=0, help="units compiling at once; 0: all on a GPU, 2 else")
    parser.add_argument("--limit", type=float, default=300, help="seconds after which a unit is given up")
    parser.add_argument("--json", type=Path, help="also write every number there")
    args = parser.parse_args()
    args.steps = args.steps or (3 if args.tiny else 20)
    args.windows = args.windows or (19 if args.tiny else 318)
    args.jobs = args.jobs or (32 if args.device == "cuda" else 2)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        args.lock = str(Path(folder) / "autotune.lock")
        protocols = []
        for name in args.protocols.split(","):
            try:
                protocols.append(Protocol(args, name))
            except (OSError, KeyError, ValueError) as error:
                say(f"# {name}: {type(error).__name__}: {error}")
        if not protocols:
            sys.exit("no protocol to time")
        specs = {name: spec for protocol in protocols for name, spec in protocol.specs.items()}
        attention, attention_rows, header = choose_attention(args, next(iter(specs.values())))
        content = {"header": header, "attention": attention_rows, "chosen": attention, "windows": args.windows}
        content |= {"compiled": not args.eager, "units": {}, "protocols": []}
        say(f"# PyTorch {header.get('torch', '?')} on {header.get('device', args.device)}")
        # Those that compile longest first.
        order = sorted(specs, key=lambda name: specs[name]["kind"] == "score")
        processes = start_all(args, {n: specs[n] | {"attention": attention[specs[n]["kind"]]} for n in order})
        say(f"# all ready or given up after {time.perf_counter() - began:.0f} s")
        for protocol in protocols:
            try:
                for name in protocol.specs:
                    if name in processes and (result := processes[name].measure()):
                        content["units"][name] = result
                content["protocols"].append(protocol.report(content["units"]))
            except Exception as error:  # noqa: BLE001: the others' results must not be lost
                say(f"# {protocol.name}: {type(error).__name__}: {error}")
            content["seconds"] = time.perf_counter() - began
            save(args, content)
    say(f"# {time.perf_counter() - began:.0f} s in all")
    wanted = sum(len(protocol.specs) for protocol in protocols)
    sys.exit(0 if len(content["units"]) == wanted else 1)


if __name__ == "__main__":
    main()
