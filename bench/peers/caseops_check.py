"""The peer of the CaseOps models beside the golden files: loss, logits, gradients, packed rows, Muon.

In fp32 and in double: gains of heads are sums that cancel, in fp32 they differ by up to 3e-5 as in our own program
in double nothing does by more than the 1e-5 of the files.
"""

import math

import torch

from caseops_attention import make, pad_table, segment_table
from caseops_model import CaseOps, Config
from caseops_optim import POLAR_EXPRESS, update
from train_step import read_safetensors, relative

TOLERANCE, GAIN_TOLERANCE = 1e-5, 3e-5


def config_of(c, lanes):
    return Config(
        vocab_size=c["vocab_size"],
        layers=c["num_layers"],
        width=c["model_dim"],
        heads=c["num_heads"],
        kv_heads=c["num_kv_heads"],
        mlp_mult=c["mlp_mult"],
        rope_dims=c["rope_dims"],
        rope_base=c["rope_base"],
        loop=(c["loop_start"], c["loop_end"]),
        loop_runs=c["num_loops"] + 1,
        parallel_start=c["parallel_start_layer"],
        lanes=lanes,
        xsa_start=c["num_layers"] - c["xsa_last_n"],
        gate_scale=c["sparse_attn_gate_scale"],
        gate_channels=c["gate_window"],
        q_gain=c["qk_gain_init"],
        softcap=c["logit_softcap"],
    )


def originals(config, mine):
    """(name in the golden files, index into it, view of my tensor) for all of `mine`, tensors by my names."""
    L, D, kv = config.layers, config.width, config.kv_heads * config.head_dim
    q, k, v = mine["qkv"].split((D, kv, kv), 1)
    all_of = slice(None)
    single = {"tok_emb.weight": "embed", "smear_gate.weight": "smear_gate"}
    single |= {name: name for name in ("smear_lambda", "skip_weights", "skip_gates")}
    if config.lanes:
        single |= {"parallel_post_lambdas": "lane_writes", "parallel_resid_lambdas": "lane_keeps"}
    for name, own in single.items():
        yield name, all_of, mine[own]
    first, second = slice(0, L), slice(L, 2 * L)
    if config.lanes:
        yield from (("qo_bank", first, q), ("qo_bank", second, mine["out"]))
        yield from (("kv_bank", first, k), ("kv_bank", second, v))
        yield from (("mlp_up_bank", all_of, mine["up"]), ("mlp_down_bank", all_of, mine["down"]))
    for layer in range(L):
        block = {"attn.attn_gate_w": "gate", "attn.q_gain": "q_gain", "resid_mix": "mix"}
        block |= {"attn_scale": "attn_scale", "mlp_scale": "mlp_scale"}
        views = {name: mine[own][layer] for name, own in block.items()}
        if not config.lanes:
            views |= {f"attn.c_{name}.weight": x[layer] for name, x in zip("qkv", (q, k, v))}
            views |= {"attn.proj.weight": mine["out"][layer]}
            views |= {"mlp.fc.weight": mine["up"][layer], "mlp.proj.weight": mine["down"][layer]}
        for name, view in views.items():
            yield f"blocks.{layer}.{name}", all_of, view


def golden_model(folder, pull, dtype=torch.float32):
    """With the parameters that the file with recurrence has for both."""
    golden, c = read_safetensors(folder / f"caseops_{pull}_loop.safetensors")
    config = config_of(c, pull == "pr1855")
    model = CaseOps(config, make(""), 256, dtype).to(dtype)
    seen = set()
    with torch.no_grad():
        for name, index, view in originals(config, dict(model.named_parameters())):
            view.copy_(golden[f"param/{name}"][index].view(view.shape))
            seen.add(f"param/{name}")
    assert seen == {name for name in golden if name.startswith("param/")}, "parameters that no one reads"
    return model


def say_worst(name, errors, tolerance=TOLERANCE, gain_tolerance=None):
    """Prints the worst of all and of all but the heads' gains; whether they are small enough."""
    worst = sorted(errors, key=lambda key: math.inf if math.isnan(errors[key]) else errors[key])[::-1]
    rest = next(key for key in worst if not key.endswith("q_gain"))
    limits = {worst[0]: gain_tolerance or tolerance} | {rest: tolerance}
    ok = all(errors[key] <= limit for key, limit in limits.items())
    said = ", ".join(f"{errors[key]:.1e} ({key})" for key in limits)
    print(f"{name:32} {len(errors):3} tensors, worst {said} {'ok' if ok else 'WRONG'}", flush=True)
    return ok


def check_model(folder, pull, looped, compiled, dtype=torch.float32):
    name = f"caseops_{pull}_{'loop' if looped else 'noloop'}"
    golden, _ = read_safetensors(folder / f"{name}.safetensors")
    model = golden_model(folder, pull, dtype)
    step = torch.compile(model, fullgraph=True, dynamic=False) if compiled else model
    tokens, targets = golden["input_ids"].long(), golden["target_ids"].long()
    loss = step(tokens, targets, None, looped)
    loss.backward()
    errors = {"loss": relative(loss, golden["loss"][0])}
    errors["logits"] = relative(model.logits(tokens, None, looped), golden["logits"])
    seen = set()
    # Without recurrence the last skip has no pair: no gradient of its own where the originals have zeros.
    gradients = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in model.named_parameters()}
    for key, index, mine in originals(model.config, gradients):
        reference = golden.get(f"grad/{key}")
        if reference is not None:
            part, largest = reference[index].view(mine.shape), reference.abs().max().clamp_min(1e-30)
            errors[f"grad/{key}"] = max(errors.get(f"grad/{key}", 0.0), ((mine - part).abs().max() / largest).item())
            seen.add(f"grad/{key}")
    assert seen == {key for key in golden if key.startswith("grad/")}, "gradients that no one compares"
    double = dtype == torch.float64
    return say_worst(name + " in double" * double, errors, TOLERANCE, TOLERANCE if double else GAIN_TOLERANCE)


def check_packed(folder, pull):
    """A packed row of documents has the loss and the gradients of its segments alone."""
    model, config = golden_model(folder, pull), golden_model(folder, pull).config
    torch.manual_seed(7)
    lengths, longest = (40, 1, 75, 12), 32
    row = torch.randint(config.bos + 1, config.vocab_size, (sum(lengths) + 1,))
    at = 0
    for length in lengths:
        row[at], at = config.bos, at + length
    tokens, targets = row[:-1], row[1:]
    table = segment_table(tokens, config.bos, longest, 8)
    assert table == pad_table([0, 32, 40, 41, 73, 105, 116, 128], 8), table
    model.attend = make("masked")
    loss = model(tokens[None], targets[None], torch.tensor(table, dtype=torch.int32))
    loss.backward()
    packed = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    model.attend = make("one_by_one")
    again = model(tokens[None], targets[None], torch.tensor(table, dtype=torch.int32))
    again.backward()
    errors = {"loss": relative(loss, again.detach())}
    errors |= {f"grad/{name}": relative(packed[name], p.grad) for name, p in model.named_parameters()}
    # Documents no longer than a segment, each in a window of its own: what nothing leaks into.
    model.attend = make("")
    starts = [0, 40, 41, 116]
    table = torch.tensor([*starts, 128], dtype=torch.int32)
    alone = torch.cat([model.logits(tokens[None, a:b]) for a, b in zip(starts, [*starts[1:], 128])], 1)
    model.attend = make("masked")
    errors["documents alone"] = relative(model.logits(tokens[None], table), alone.detach())
    return say_worst(f"packed row, {pull}", errors)


def check_muon(folder, case, matrices, coefficients):
    """Four steps in fp32: the difference from the original's weights by how far they went."""
    golden, _ = read_safetensors(folder / "muon_row_normalised.safetensors")
    errors = {}
    for i in matrices:
        start = golden[f"W{i}/0"]
        w = start.reshape(-1, *start.shape[-2:]).clone()
        momentum = torch.zeros_like(w)
        for step in range(1, 5):
            mu, lr = torch.tensor((236 + 2 * step) / 256), torch.tensor(0.026 * (1 - 0.1 * step))
            update([w], [golden[f"g{i}/{step}"].view(w.shape)], momentum, mu, lr, 0.095, coefficients, torch.float32)
        end = golden[f"{case}/W{i}/4"].view(w.shape)
        errors[f"W{i}"] = ((w - end).norm() / (end - start.view(w.shape)).norm()).item()
    return say_worst(f"Muon, {case}", errors, 1e-4)


def check(folder, compiled=False):
    results = []
    for pull in ("pr1855", "pr2143"):
        for dtype in (torch.float32, torch.float64):
            results += [check_model(folder, pull, looped, compiled, dtype) for looped in (True, False)]
        results.append(check_packed(folder, pull))
    results.append(check_muon(folder, "pr1855_fp32", (0, 1, 2), POLAR_EXPRESS))
    return all(results)
