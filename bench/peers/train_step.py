"""One training step (forward, backward, optimiser) of the family in PyTorch: checked, then timed.

    python train_step.py --check tests/golden           # the same losses, gradients and 20 steps as the golden files
    python train_step.py recipes/demo.toml              # a table of the modes
    python train_step.py recipes/reference_run.toml --mode compiled --precision bf16 --threads 2 --serve

PyTorch is needed for this comparison only. Its CPU wheel or any other with a CPU backend will do. With --serve the
program says "ready" and then runs one step for each line it reads: compare.py alternates the two sides that way.
"""

import argparse
import json
import math
import os
import resource
import struct
import sys
import time
from pathlib import Path


import torch

from family import Config, Family, Optimizer

MODES = ("eager", "compiled")


def read_safetensors(path):
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    body = bytearray(data[8 + length :])
    types = {"F32": torch.float32, "I32": torch.int32, "BF16": torch.bfloat16}
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        (begin, end), kind = entry["data_offsets"], types[entry["dtype"]]
        tensors[name] = torch.frombuffer(body, dtype=kind, count=(end - begin) // kind.itemsize, offset=begin)
        tensors[name] = tensors[name].reshape(entry["shape"])
    return tensors, json.loads(header["__metadata__"].get("config", "null"))


# ---- the same numbers as the golden files ----


def golden_model(golden, config, activation, gqa):
    layers = config["num_layers"]
    model = Family(
        Config(
            vocab_size=config["vocab_size"],
            layers=layers,
            width=config["model_dim"],
            heads=config["num_heads"],
            kv_heads=config["num_kv_heads"],
            mlp_mult=config["mlp_mult"],
            activation=activation,
            window=config["T"],
            rope_dims=config["rope_dims"],
            bigram_rows=config["bigram_vocab_size"],
            bigram_dim=config["bigram_dim"],
            ve_dim=config["ve_dim"] if config["ve_enabled"] else 0,
            ve_layers=[int(l) for l in config["ve_layers"].split(",")] if config["ve_enabled"] else [],
            xsa_layers=list(range(layers - config["xsa_last_n"], layers)),
            fake_quantize=config.get("late_qat_active", False),
        ),
        gqa,
    )
    state = {name[6:]: value.clone() for name, value in golden.items() if name.startswith("param/")}
    model.load_state_dict(state)
    return model


def relative(mine, reference):
    return ((mine.detach() - reference).abs().max() / reference.abs().max().clamp_min(1e-30)).item()


def largest(errors):
    """NaN where one of them is: max() alone may pass it by."""
    return math.nan if any(math.isnan(e) for e in errors) else max(errors)


def check_gradients(folder, name, activation, compiled, gqa):
    golden, config = read_safetensors(folder / f"{name}.safetensors")
    own = any(key.startswith("param/") for key in golden)
    parameters = golden if own else read_safetensors(folder / "sp1024_params.safetensors")[0]
    model = golden_model(parameters, config, activation, gqa)
    step = torch.compile(model) if compiled else model
    tokens, targets = golden["input_ids"].long(), golden["target_ids"].long()
    loss = step(tokens, targets)
    loss.backward()
    errors = {"loss": relative(loss, golden["loss"][0])}
    if "logits" in golden:
        errors["logits"] = relative(model.logits(tokens), golden["logits"])
    named = dict(model.named_parameters())
    for key, reference in golden.items():
        if key.startswith("grad/"):
            errors[key] = relative(named[key[5:]].grad.reshape(reference.shape), reference)
    worst = max(errors, key=lambda name: math.inf if math.isnan(errors[name]) else errors[name])
    ok = errors[worst] <= 1e-5
    print(f"{name:28} {len(errors):3} tensors, worst {errors[worst]:.1e} ({worst}) {'ok' if ok else 'WRONG'}")
    return ok


def check_steps(folder, gqa):
    golden, c = read_safetensors(folder / "train20.safetensors")
    model = golden_model(*read_safetensors(folder / "sp1024_params.safetensors"), "leaky_square", gqa)
    optimizer = Optimizer(model, torch.float32)
    loss_errors = []
    for s in range(20):
        optimizer.zero_grad()
        total = 0.0
        for half in (slice(0, 2), slice(2, 4)):
            loss = 0.5 * model(golden["input_ids"][s, half].long(), golden["target_ids"][s, half].long())
            loss.backward()
            total += loss.item()
        loss_errors.append(abs(total - golden["loss"][s].item()) / golden["loss"][s].item())
        optimizer.step(0.92 + 0.07 * min(s / 12, 1), min(1.0, (20 - s) / 8))
    named = dict(model.named_parameters())
    parameter_errors = [
        relative(named[key[6:]].reshape(value.shape), value) for key, value in golden.items() if key.startswith("final/")
    ]
    loss_error, parameter_error = largest(loss_errors), largest(parameter_errors)
    ok = loss_error <= 1e-4 and parameter_error <= 1e-3
    print(f"{'train20':28} losses {loss_error:.1e}, parameters {parameter_error:.1e} {'ok' if ok else 'WRONG'}")
    return ok


def check(folder, compiled, gqa):
    cases = [
        ("sp1024_pr518", "leaky_square"),
        ("sp1024_pr518_long", "leaky_square"),
        ("sp1024_pr417", "relu_square"),
        ("sp1024_plain_no_ve_no_xsa", "relu_square"),
        ("sp1024_pr518_qat", "leaky_square"),
    ]
    results = [check_gradients(folder, name, activation, compiled, gqa) for name, activation in cases]
    results.append(check_steps(folder, gqa))
    return all(results)


# ---- timing ----


class Step:
    """A model with its optimiser; run() makes one step on fresh random tokens and says how long its parts took."""

    def __init__(self, config, rows, mode, precision, gqa):
        torch.manual_seed(1337)
        self.config, self.rows, self.bf16 = config, rows, precision == "bf16"
        self.model = Family(config, gqa)
        self.optimizer = Optimizer(self.model, torch.bfloat16 if self.bf16 else torch.float32)
        self.call = torch.compile(self.model, fullgraph=True, dynamic=False) if mode == "compiled" else self.model

    def run(self):
        tokens = torch.randint(self.config.vocab_size, (self.rows, self.config.window + 1))
        start, processor = time.perf_counter(), time.process_time()
        self.optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            loss = self.call(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
        loss.backward()
        value = loss.item()
        middle = time.perf_counter()
        self.optimizer.step()
        end = time.perf_counter()
        return {
            "model_ms": (middle - start) * 1e3,
            "optimizer_ms": (end - middle) * 1e3,
            "step_ms": (end - start) * 1e3,
            "cpu_ms": (time.process_time() - processor) * 1e3,
            "loss": value,
        }


def peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def median(values):
    values = sorted(values)
    return (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2


def measure(args, rows, mode, precision, threads):
    torch.set_num_threads(threads)
    step = Step(args.config, rows, mode, precision, args.gqa)
    for _ in range(args.warmup):
        step.run()
    runs = [step.run() for _ in range(args.repeats)]
    return {key: median(run[key] for run in runs) for key in runs[0] if key != "loss"}


def table(args, rows):
    results = []
    print(f"{'mode':9} {'precision':9} {'threads':>7} {'model ms':>9} {'optimiser':>9} {'step ms':>9} {'cpu ms':>9}")
    for threads in args.threads:
        for precision in args.precision:
            for mode in args.mode:
                r = measure(args, rows, mode, precision, threads)
                results.append({"mode": mode, "precision": precision, "threads": threads, **r})
                print(
                    f"{mode:9} {precision:9} {threads:7} {r['model_ms']:9.1f} {r['optimizer_ms']:9.1f}"
                    f" {r['step_ms']:9.1f} {r['cpu_ms']:9.1f}",
                    flush=True,
                )
                torch._dynamo.reset()
    print(f"peak memory of all modes together {peak_bytes() / 2**20:.0f} MiB")
    return results


def serve(args, rows):
    torch.set_num_threads(args.threads[0])
    base = peak_bytes()
    step = Step(args.config, rows, args.mode[0], args.precision[0], args.gqa)
    for _ in range(args.warmup):
        step.run()
    parameters = sum(p.numel() for p in step.model.parameters())
    print(json.dumps({"ready": True, "parameters": parameters, "rows": rows, "base_bytes": base}), flush=True)
    for _ in sys.stdin:
        print(json.dumps({**step.run(), "peak_bytes": peak_bytes()}), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("recipe", nargs="?", type=Path, help="a recipe file; its [model] is built")
    parser.add_argument("--check", type=Path, metavar="GOLDEN", help="compare with the golden files and stop")
    parser.add_argument("--rows", type=int, default=0, help="windows per step; 0: 4,096 tokens")
    parser.add_argument("--mode", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--precision", nargs="+", choices=("f32", "bf16"), default=["f32", "bf16"])
    parser.add_argument("--threads", nargs="+", type=int, default=[len(os.sched_getaffinity(0))])
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--gqa", action="store_true", help="enable_gqa of scaled_dot_product_attention, not repeats")
    parser.add_argument("--serve", action="store_true", help="one step for each line of standard input")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.check:
        ok = check(args.check, "compiled" in args.mode and len(args.mode) == 1, args.gqa)
        sys.exit(0 if ok else 1)
    if not args.recipe:
        parser.error("give a recipe or --check")
    args.config = Config.from_recipe(args.recipe)
    rows = args.rows or max(1, 4096 // args.config.window)
    if args.serve:
        serve(args, rows)
        return
    results = table(args, rows)
    if args.json:
        print(json.dumps({"torch": torch.__version__, "cpu": torch.backends.cpu.get_cpu_capability(), "results": results}))


if __name__ == "__main__":
    main()
