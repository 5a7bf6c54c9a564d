"""A training step of the CaseOps models in PyTorch: checked, then timed on one GPU; the other side of `fairway bench`.

    python bench/peers/caseops.py --check tests/golden        # loss, logits, gradients, packed rows, Muon: on a CPU
    python bench/peers/caseops.py                             # both models, recurrence on and off, about 5 minutes
    python bench/peers/caseops.py --models pr1855 --loops on --packed-attention varlen
    python bench/peers/caseops.py --device cpu --tiny --eager # a trial of this program in seconds

Prints one JSON line for each model with and without recurrence (notes go to the standard error): milliseconds (medians)
of forward and backward of a micro-batch of 98,304 tokens, gradients added up, and of a whole step with one micro-batch
(clip, Muon, AdamW, EMA), timed by events with nothing between them, peak memory, seconds of compilation. PR 2143 has
48 dense rows of 2,048; PR 1855 a packed row of documents in segments of at most 2,048. Attention is the fastest of
PyTorch's forms, measured beforehand, whose results are right. Tokens are random, as uneven as `fairway bench` draws
them; documents have lengths as those of web text (log-normal, --document-tokens on average), with --document-tokens 0
one begins wherever the token that begins documents is drawn, as in `fairway bench`.
Each configuration is compiled in a process of its own with an empty cache, --jobs at once, and timed when the machine
is quiet. A failure costs only its own line.
"""

import argparse
import dataclasses
import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

import torch

import caseops_attention as attention
from adapt_unit import autotune_in_turn, backward_at_once, environment, last_line, median, synchronize, timed
from caseops_model import MODELS, CaseOps
from caseops_optim import Optimizer

TINY = dict(vocab_size=128, layers=5, width=64, heads=4, kv_heads=2, rope_dims=8, mlp_mult=2.0)
TINY |= dict(loop=(1, 2), parallel_start=3)
BATCHES = 4


def config_of(spec):
    config = MODELS[spec["model"]]
    return dataclasses.replace(config, **TINY) if spec["tiny"] else config


def shape_of(spec):
    """Rows and their length."""
    length = 64 if spec["tiny"] else 2048
    rows = max(1, spec["tokens"] // length)
    return (1, rows * length) if spec["packed"] else (rows, length)


def draw_row(config, length, document_tokens):
    """[length + 1] tokens, as uneven as those of text; documents begin with BOS."""
    V, bos = config.vocab_size, config.bos
    row = (V * torch.rand(length + 1) ** 3).long().clamp(max=V - 1)
    if document_tokens:
        row[row == bos] = bos + 1
        lengths = torch.randn(length).exp() * (document_tokens / 1.6487)  # e^(1/2): the mean of e^N(0, 1)
        begins = lengths.long().clamp(min=2).cumsum(0) - int(document_tokens / 2)  # a row begins inside of one
        row[begins[(begins > 0) & (begins <= length)]] = bos
    return row


def batches_of(spec, config, count=BATCHES):
    """(tokens, targets, segment table or None); the tables are padded to one size, so that one graph serves all."""
    torch.manual_seed(1337)
    rows, length = shape_of(spec)
    drawn = [torch.stack([draw_row(config, length, spec["document_tokens"]) for _ in range(rows)]) for _ in range(count)]
    tables = [None] * count
    if spec["packed"]:
        tables = [attention.segment_table(x[0, :-1], config.bos) for x in drawn]
        longest = max(map(len, tables))
        tables = [torch.tensor(t + [length] * (longest - len(t)), dtype=torch.int32) for t in tables]
    move = spec["device"]
    return [
        (x[:, :-1].contiguous().to(move), x[:, 1:].contiguous().to(move), None if t is None else t.to(move))
        for x, t in zip(drawn, tables)
    ]


class Unit:
    """A model with its optimiser in one configuration."""

    def __init__(self, spec):
        self.spec, self.device, self.looped = spec, spec["device"], spec["looped"]
        self.config, self.notes, self.count = config_of(spec), [], 0
        self.batches = batches_of(spec, self.config)
        torch.manual_seed(1337)
        with torch.device(self.device):
            self.model = CaseOps(self.config, None, shape_of(spec)[1])
        self.model.randomize()
        self.ways = [(name, spec["compile"]) for name in spec["attention"]]
        if spec["compile"]:
            self.ways.append((spec["attention"][0], False))
        self.use(*self.ways.pop(0))

    def use(self, name, compiled):
        """This form of attention, compiled or not."""
        torch._dynamo.reset()
        self.attention, self.compiled = name, compiled
        self.model.attend = attention.make(name)
        if name == "cudnn_varlen":  # its operator learns shapes from a first call
            inputs = attention.examples(self.config, *shape_of(self.spec), self.device)
            attention.results_of(self.model.attend, inputs, self.batches[0][2])
        self.call = torch.compile(self.model, fullgraph=True, dynamic=False) if compiled else self.model
        self.optimizer = Optimizer(self.model, compiled)

    def micro(self):
        tokens, targets, table = self.batches[self.count % len(self.batches)]
        self.count += 1
        loss = self.call(tokens, targets, table, self.looped)
        loss.backward()
        self.loss = loss.detach()

    def step(self):
        self.optimizer.zero_grad()
        self.micro()
        self.optimizer.step()

    def release(self):
        """Gives memory back while others compile."""
        self.optimizer.zero_grad()
        self.loss = None
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()

    def attempt(self):
        try:
            for _ in range(2):
                self.step()
            synchronize(self.device)
            return ""
        except Exception as error:  # noqa: BLE001: whatever the compiler throws is reported
            return last_line(error)  # as text, since the error's frames hold the activations

    def warm_up(self):
        """Compiles. While others use the same GPU: where memory is short, again a little later."""
        until = time.monotonic() + self.spec["patience"]
        while error := self.attempt():
            self.release()
            short = any(text in error for text in ("OutOfMemory", "out of memory", "ALLOC_FAILED"))
            if short and time.monotonic() < until:
                time.sleep(2)
            elif self.ways and not short:
                self.notes.append(f"{self.attention}{' compiled' * self.compiled} failed: {error}")
                backward_at_once(False)
                self.use(*self.ways.pop(0))
            else:
                raise RuntimeError(error)
        self.release()

    def timed(self, call):
        """Median milliseconds and the peak of memory."""
        for _ in range(2):
            call()
        synchronize(self.device)
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        ms = timed(call, self.device, self.spec["steps"])
        return median(ms), (torch.cuda.max_memory_allocated() if self.device == "cuda" else 0) / 2**30

    def measure(self):
        rows, length = shape_of(self.spec)
        for p in self.optimizer.all:
            p.grad = torch.zeros_like(p)  # as in the second and later micro-batches of a step
        micro, micro_peak = self.timed(self.micro)
        update, _ = self.timed(self.optimizer.step)
        step, step_peak = self.timed(self.step)
        tables = [batch[2] for batch in self.batches]
        return {
            "model": self.spec["model"],
            "loops": self.looped,
            "tokens": rows * length,
            "micro_ms": micro,
            "micro_tokens_per_s": rows * length / micro * 1e3,
            "micro_peak_gib": micro_peak,
            "update_ms": update,
            "step_ms": step,
            "step_tokens_per_s": rows * length / step * 1e3,
            "step_peak_gib": step_peak,
            "steps": self.spec["steps"],
            "attention": self.attention,
            "compiled": self.compiled,
            "rows": rows,
            "segments": [len(set(t.tolist())) - 1 for t in tables] if self.spec["packed"] else None,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "loss": self.loss.item(),
            "notes": self.notes,
        } | environment(self.device)


# ---- parts, each a process ----


def measure_attention(spec):
    """Rows of what was measured for one kind of rows, the fastest right one first."""
    config, (rows, length) = config_of(spec), shape_of(spec)
    names = attention.PACKED if spec["packed"] else attention.DENSE
    if spec["device"] == "cpu":
        names = ("masked",) if spec["packed"] else ("",)
    table = batches_of(spec, config, 1)[0][2]
    found = attention.measure_all(names, config, rows, length, table, spec["device"], spec["compile"])
    return sorted(found, key=lambda row: (not attention.right(row), row.get("ms", 0.0)))


def serve(spec):
    """Says "ready" when compiled, measures when it reads a line."""
    warnings.filterwarnings("ignore")
    torch.set_float32_matmul_precision("high")
    out, sys.stdout = sys.stdout, sys.stderr  # whatever else prints must not disturb
    if spec["part"] == "attention":
        print(json.dumps(measure_attention(spec)), file=out, flush=True)
        return
    if spec["device"] == "cuda":
        try:
            autotune_in_turn(spec["lock"])
        except (ImportError, AttributeError):
            pass
    backward_at_once(True)
    start = time.perf_counter()
    unit = Unit(spec)
    unit.warm_up()
    seconds = time.perf_counter() - start
    print(json.dumps({"ready": True, "seconds": seconds}), file=out, flush=True)
    if sys.stdin.readline():
        result = unit.measure()
        # Without the two steps that warmed up; building the model is little.
        result["compile_s"] = max(0.0, seconds - 2 * result["step_ms"] / 1e3) if unit.compiled else 0.0
        print(json.dumps(result), file=out, flush=True)


def say(text):
    print(text, file=sys.stderr, flush=True)


class Part:
    """A process of this program with a compiler's cache of its own."""

    def __init__(self, name, spec, limit):
        self.name, self.folder = name, tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.errors = tempfile.TemporaryFile("w+")
        caches = {"TORCHINDUCTOR_CACHE_DIR": self.folder.name, "TRITON_CACHE_DIR": f"{self.folder.name}/triton"}
        command = [sys.executable, str(Path(__file__).resolve()), "--part", json.dumps(spec)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=os.environ | caches,
        )
        self.timer = threading.Timer(limit, self.process.kill)
        self.timer.daemon = True
        self.timer.start()
        self.error = ""

    def read(self):
        """The next line's value; None and self.error if there is none."""
        if line := self.process.stdout.readline():
            return json.loads(line)
        code = self.process.wait()
        self.errors.seek(0)
        lines = [text for text in self.errors.read().splitlines() if text.strip()]
        why = "killed after its time limit?" if code < 0 else lines[-1] if lines else ""
        self.error = f"ended with {code}: {why}"[:400]
        return None

    def measure(self):
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        except OSError:
            pass  # read() says why it ended
        return self.read()

    def close(self):
        self.timer.cancel()
        if self.process.poll() is None:
            self.process.stdin.close()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process.stdout.close()
        self.errors.close()
        self.folder.cleanup()


def choose_attention(args, spec):
    """Names of forms of attention for these rows, the best first: as told, or measured."""
    kind = "packed" if spec["packed"] else "dense"
    told = getattr(args, f"{kind}_attention")
    if told is not None:
        return [told]
    part = Part(f"{kind} attention", spec | {"part": "attention"}, min(args.limit, 120))
    rows = part.read() or []
    for row in rows:
        what = row.get("error") or "%(ms).3f ms forward and backward, %(difference).1e off" % row
        say(f"# {kind} attention by {row['attention'] or 'default'}: {what}")
    if part.error:
        say(f"# {part.name} {part.error}")
    part.close()
    good = [row["attention"] for row in rows if attention.right(row)]
    return good or (["varlen", "flex"] if spec["packed"] else [""])


def run(args, specs):
    """Compiles and measures `specs` together; prints their lines. True if all have one."""
    parts = [(spec, Part(f"{spec['model']}, loops {'on' if spec['looped'] else 'off'}", spec, args.limit)) for spec in specs]
    for _, part in parts:
        if ready := part.read():
            say(f"# {part.name}: ready after {ready['seconds']:.0f} s")
    complete = True
    for spec, part in parts:
        result = None if part.error else part.measure()
        if result is None:
            complete, result = False, {"model": spec["model"], "loops": spec["looped"], "error": part.error}
        print(json.dumps(result), flush=True)
        part.close()
    return complete


def main():
    if sys.argv[1:2] == ["--part"]:
        serve(json.loads(sys.argv[2]))
        return
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", type=Path, metavar="GOLDEN", help="compare with the golden files and stop")
    parser.add_argument("--models", nargs="+", choices=tuple(MODELS), default=list(MODELS))
    parser.add_argument("--loops", nargs="+", choices=("on", "off"), default=["on", "off"], help="recurrence")
    parser.add_argument("--steps", type=int, default=10, help="of each kind that is timed")
    parser.add_argument("--tokens", type=int, default=98304, help="of a micro-batch")
    parser.add_argument("--document-tokens", type=int, default=900, help="mean length of documents; 0: as drawn")
    parser.add_argument("--dense-attention", help="cudnn or flash, ':expanded' for repeated heads; default: measured")
    parser.add_argument("--packed-attention", choices=attention.PACKED, help="default: measured")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="tiny models and few tokens")
    parser.add_argument("--eager", action="store_true", help="un-compiled, as --check is without --compiled")
    parser.add_argument("--compiled", action="store_true", help="with --check: compiled")
    parser.add_argument("--jobs", type=int, default=2, help="configurations that compile at once")
    parser.add_argument("--limit", type=float, default=280, help="seconds after which a process is given up")
    args = parser.parse_args()
    if args.check:
        from caseops_check import check

        sys.exit(0 if check(args.check, args.compiled) else 1)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        common = {"device": args.device, "tiny": args.tiny, "compile": not args.eager, "steps": args.steps}
        common |= {"tokens": 512 if args.tiny else args.tokens, "document_tokens": args.document_tokens}
        if args.tiny:
            common["document_tokens"] = min(args.document_tokens, 50)
        common |= {"part": "step", "lock": str(Path(folder) / "lock"), "patience": args.limit / 2}
        forms, specs = {}, []
        for looped in args.loops:
            for model in args.models:
                spec = common | {"model": model, "packed": MODELS[model].lanes, "looped": looped == "on"}
                if model not in forms:
                    forms[model] = choose_attention(args, spec)
                specs.append(spec | {"attention": forms[model]})
        good = [run(args, specs[i : i + args.jobs]) for i in range(0, len(specs), args.jobs)]
    say(f"# {time.perf_counter() - began:.0f} s in all")
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
