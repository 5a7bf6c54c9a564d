"""One compiled piece of test-time training in PyTorch: what adapt.py starts, one process for each.

    python adapt_unit.py '{"kind": "train", ...}'    # says "ready" when compiled, measures when it reads a line

Kinds: "train" (a step of a phase: forward, backward, clip, optimiser), "score" (plain windows, forward only) and
"attention" (scaled_dot_product_attention alone, to choose its backend). Everything is on random tokens and weights:
the time does not depend on them.
"""

import contextlib
import dataclasses
import fcntl
import fnmatch
import gc
import json
import math
import sys
import time
import warnings

import torch
import torch.nn.functional as F

from family import Config, Family, rope_table

TINY = dict(vocab_size=128, layers=5, width=64, heads=4, kv_heads=2, window=64, rope_dims=8, bigram_rows=64)
TINY |= dict(bigram_dim=16)
SCALES = (".attn_scale", ".mlp_scale", ".resid_mix")


def config_of(spec):
    config = Config.from_recipe(spec["recipe"])
    if spec["tiny"]:
        last = [TINY["layers"] - 2, TINY["layers"] - 1]
        ve, xsa = last if config.ve_layers else [], last if config.xsa_layers else []
        config = dataclasses.replace(config, **TINY, ve_dim=config.ve_dim and 16, ve_layers=ve, xsa_layers=xsa)
    return dataclasses.replace(config, fake_quantize=spec.get("fake_quantize", False))


def build(config, spec, gqa):
    """The model with random weights, its tables in bf16 where the recipe says so."""
    device = torch.device(spec["device"])
    with torch.device("meta"):  # the initialisation, orthogonal matrices and all, would take longer than the timing
        model = Family(config, gqa)
    model.to_empty(device=device)
    torch.manual_seed(1337)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.normal_(std=1 / math.sqrt(p.shape[-1])) if name.endswith(".weight") else p.fill_(0.7)
        for buffer, value in zip((model.cos, model.sin), rope_table(config, config.window)):
            buffer.copy_(value)
    if spec["tables"] == "bf16":
        for table in model.tables().values():
            table.data = table.data.bfloat16()
    return model


def selects(selector, name, model):
    """Selectors of adapt.train, as src/adapt/selection.cpp reads them."""
    matrix = name.endswith(".weight") and name not in model.tables()
    if selector in ("all", "scales", "tables", "matrices", "scalars"):
        is_table = name in model.tables()
        kinds = {"all": True, "scales": name.endswith(SCALES), "tables": is_table, "matrices": matrix}
        return kinds.get(selector, not is_table and not matrix)
    if selector.startswith("last:"):
        layers = model.config.layers
        return any(name.startswith(f"blocks.{l}.") for l in range(layers - int(selector[5:]), layers))
    return fnmatch.fnmatchcase(name, selector)


def optimizer_of(phase, model):
    """The phase's optimiser in PyTorch's fastest form over what the phase trains; the rest gets no gradients."""
    by_factor = {}
    for name, p in model.named_parameters():
        p.requires_grad_(any(selects(s, name, model) for s in phase["train"]))
        if not p.requires_grad:
            continue
        groups = (g.rsplit("=", 1) for g in phase["lr_groups"])
        factor = next((float(f) for pattern, f in groups if fnmatch.fnmatchcase(name, pattern)), 1.0)
        by_factor.setdefault(factor, []).append(p)
    groups = [{"params": ps, "lr": phase["lr"] * factor} for factor, ps in by_factor.items()]
    if phase["optimizer"] == "sgd":
        return torch.optim.SGD(groups, momentum=phase["momentum"], fused=True)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[phase["optimizer"]]
    betas = (phase["beta1"], phase["beta2"])
    return kind(groups, betas=betas, eps=phase["eps"], weight_decay=phase["weight_decay"], fused=True)


def use_backend(name):
    """Attention by this backend and no other, so that nothing slower steps in unnoticed; "" lets PyTorch choose."""
    cuda = torch.backends.cuda
    cuda.enable_cudnn_sdp(name in ("", "cudnn"))
    cuda.enable_flash_sdp(name in ("", "flash"))
    cuda.enable_mem_efficient_sdp(name == "")
    cuda.enable_math_sdp(name == "")


def synchronize(device):
    if device == "cuda":
        torch.cuda.synchronize()


def timed(call, device, steps):
    """Milliseconds of each call, without a pause between calls."""
    if device != "cuda":
        marks = [time.perf_counter()]
        for _ in range(steps):
            call()
            marks.append(time.perf_counter())
        return [(b - a) * 1e3 for a, b in zip(marks, marks[1:])]
    events = [torch.cuda.Event(enable_timing=True) for _ in range(steps + 1)]
    torch.cuda.synchronize()
    events[0].record()
    for event in events[1:]:
        call()
        event.record()
    torch.cuda.synchronize()
    return [a.elapsed_time(b) for a, b in zip(events, events[1:])]


def median(values):
    values = sorted(values)
    return (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2


def last_line(error):
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


class Unit:
    """A training step or a scoring pass, and its compiled form."""

    def __init__(self, spec):
        self.spec, self.device = spec, spec["device"]
        self.config, self.note = config_of(spec), ""
        attention = spec["attention"]
        if self.device == "cuda":
            use_backend(attention["backend"])
        self.model = build(self.config, spec, attention["gqa"])
        self.training = spec["kind"] == "train"
        if self.training:
            self.optimizer = optimizer_of(spec["phase"], self.model)
            self.rates = [group["lr"] for group in self.optimizer.param_groups]
            self.trained = [p for p in self.model.parameters() if p.requires_grad]
            self.total = torch.zeros((), device=self.device)
            self.call = self.model
        else:
            self.trained = []
            self.model.requires_grad_(False)
            if spec["working_weights"]:  # weights that no longer change are rounded once
                for name, p in self.model.named_parameters():
                    p.data = p.data.bfloat16() if p.dim() == 2 and name.endswith(".weight") else p.data
            self.call = self.model.nll
        self.compiled = spec["compile"]
        self.plain = self.call
        if self.compiled:
            self.call = torch.compile(self.call, fullgraph=True, dynamic=False)
        n, window = spec["batch"], self.config.window
        stream = torch.randint(self.config.vocab_size, (4, n * window + 1), device=self.device)
        self.batches = [(s[:-1].view(n, window).clone(), s[1:].view(n, window).clone()) for s in stream]
        self.count = 0

    def step(self):
        tokens, targets = self.batches[self.count % len(self.batches)]
        self.count += 1
        if not self.training:
            with torch.no_grad(), torch.autocast(self.device, torch.bfloat16):
                self.result = self.call(tokens, targets)
            return
        for group, rate in zip(self.optimizer.param_groups, self.rates):
            group["lr"] = rate * 0.5 * (1 + math.cos(self.count * 1e-4))
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device, torch.bfloat16):
            loss = self.call(tokens, targets)
        loss.backward()
        self.total += loss.detach()
        if self.spec["phase"]["clip"] > 0:
            torch.nn.utils.clip_grad_norm_(self.trained, self.spec["phase"]["clip"], foreach=True)
        self.optimizer.step()

    def release(self):
        """Gives memory back while others compile."""
        if self.training:
            self.optimizer.zero_grad(set_to_none=True)
        self.result = None
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
        """Compiles. Others do so on the same GPU: where memory is short, again a little later."""
        until = time.monotonic() + self.spec["patience"]
        while error := self.attempt():
            short = any(text in error for text in ("OutOfMemory", "out of memory", "ALLOC_FAILED"))
            if short and time.monotonic() < until:
                self.release()
                time.sleep(2)
            elif not short and self.compiled:
                self.fall_back(error)
            else:
                raise RuntimeError(error)
        self.release()

    def fall_back(self, error):
        """First to the compiler's own settings and PyTorch's choice of attention, then to un-compiled code."""
        torch._dynamo.reset()
        if self.device == "cuda":
            use_backend("")
        if not self.note:
            self.note = f"second try, after {error}"
            backward_at_once(False)
            self.call = torch.compile(self.plain, fullgraph=True, dynamic=False)
        else:
            self.note = f"NOT COMPILED: {error}"
            self.call, self.compiled = self.plain, False
        self.release()

    def measure(self):
        for _ in range(3):
            self.step()
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        ms = timed(self.step, self.device, self.spec["steps"])
        peak = torch.cuda.max_memory_allocated() if self.device == "cuda" else 0
        return {
            "ms": median(ms),
            "ms_mean": sum(ms) / len(ms),
            "ms_fastest": min(ms),
            "steps": len(ms),
            "batch": self.spec["batch"],
            "window": self.config.window,
            "trained_tensors": len(self.trained),
            "trained_elements": sum(p.numel() for p in self.trained),
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "compiled": self.compiled,
            "note": self.note,
            "peak_bytes": peak,
        }


def measure_attention(spec):
    """Milliseconds of causal attention, forward and with backward, for each backend and way with shared heads."""
    c, device, n = config_of(spec), spec["device"], spec["batch"]
    kind = torch.bfloat16

    def heads(count):
        return torch.randn(n, c.window, count, c.head_dim, device=device, dtype=kind).transpose(1, 2).requires_grad_()

    q, k, v = heads(c.heads), heads(c.kv_heads), heads(c.kv_heads)
    gradient, group, results = torch.randn_like(q), c.heads // c.kv_heads, []
    for backend in ("cudnn", "flash") if device == "cuda" else ("",):
        for gqa in (True, False):
            if device == "cuda":
                use_backend(backend)

            def forward():
                if gqa:
                    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
                wide = (x.repeat_interleave(group, 1) for x in (k, v))
                return F.scaled_dot_product_attention(q, *wide, is_causal=True)

            def both():
                q.grad = k.grad = v.grad = None
                forward().backward(gradient)

            row = {"backend": backend, "gqa": gqa}
            try:
                for _ in range(3):
                    both()
                row["train_ms"] = median(timed(both, device, 10))
                with torch.no_grad():
                    row["score_ms"] = median(timed(forward, device, 10))
            except Exception as error:  # noqa: BLE001: a backend may not support the shape
                row["error"] = last_line(error)
            results.append(row)
    return results


def autotune_in_turn(path):
    """Kernels are chosen by timing them: one process at a time, or the choice would be by chance."""
    from torch._inductor.runtime.triton_heuristics import CachingAutotuner

    original = CachingAutotuner.benchmark_all_configs

    def locked(self, *args, **kwargs):
        with open(path, "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            torch.cuda.synchronize()
            return original(self, *args, **kwargs)

    CachingAutotuner.benchmark_all_configs = locked


def backward_at_once(on):
    """The backward compiles with the forward, where PyTorch can: no activations are held meanwhile."""
    import torch._functorch.config as functorch

    if hasattr(functorch, "force_non_lazy_backward_lowering"):
        functorch.force_non_lazy_backward_lowering = on


def environment(device):
    name = torch.cuda.get_device_name() if device == "cuda" else torch.backends.cpu.get_cpu_capability()
    return {"torch": torch.__version__, "device": name}


def main():
    spec = json.loads(sys.argv[1])
    warnings.filterwarnings("ignore")
    torch.set_float32_matmul_precision("high")
    if spec["kind"] == "attention":
        print(json.dumps({"ready": True, **environment(spec["device"])}), flush=True)
        sys.stdin.readline()
        print(json.dumps(measure_attention(spec)), flush=True)
        return
    if spec["device"] == "cuda":
        with contextlib.suppress(ImportError, AttributeError):
            autotune_in_turn(spec["lock"])
    backward_at_once(True)
    start = time.perf_counter()
    unit = Unit(spec)
    unit.warm_up()
    print(json.dumps({"ready": True, "seconds": time.perf_counter() - start, "note": unit.note}), flush=True)
    sys.stdin.readline()
    print(json.dumps(unit.measure()), flush=True)


if __name__ == "__main__":
    main()
