"""The CaseOps models of pull requests 2143 and 1855 in PyTorch, as their user would write them: what caseops.py times.

Written from docs/spec/caseops_model.md. Matrices and scales of all layers lie in banks, query, key and value are one
product; `dtype` is what autocast would make of the fp32 weights and of the stream: bf16 for speed, fp32 to be checked.
Layouts: tokens [B, S], the stream [B, S, D], heads [B, S, H, dh]; a packed row of documents has B = 1.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

EPS = 2.0**-23  # of every norm
BANKS = ("qkv", "out", "up", "down")  # Muon's; the rest but `embed` are scalars to the optimiser


@dataclass(frozen=True)
class Config:
    vocab_size: int = 12288
    layers: int = 12
    width: int = 512
    heads: int = 8
    kv_heads: int = 4
    mlp_mult: float = 4.0
    rope_dims: int = 16
    rope_base: float = 10000.0
    loop: tuple = (3, 5)  # first and last layer of the segment that runs three times
    loop_runs: int = 3
    parallel_start: int = 7
    lanes: bool = False  # two streams from parallel_start on, not one sum
    xsa_start: int = 1
    gate_scale: float = 1.0
    gate_channels: int = 12
    q_gain: float = 5.25
    bos: int = 1
    softcap: float = 30.0

    @property
    def head_dim(self):
        return self.width // self.heads

    @property
    def hidden(self):
        return int(self.mlp_mult * self.width)

    def order(self, looped):
        """Layers of the encoder and of the decoder as they run."""
        first, last = self.loop
        runs = self.loop_runs if looped else 1
        layers = [*range(first), *list(range(first, last + 1)) * runs, *range(last + 1, self.layers)]
        return layers[: len(layers) // 2], layers[len(layers) // 2 :]

    @property
    def skips(self):
        return min(map(len, self.order(True)))


PR2143 = Config()
PR1855 = Config(
    vocab_size=8192, layers=11, parallel_start=8, lanes=True, xsa_start=0, gate_scale=0.5, q_gain=5.0
)
MODELS = {"pr2143": PR2143, "pr1855": PR1855}


def norm(x):
    return F.rms_norm(x, (x.shape[-1],), eps=EPS)


def wide(x):
    """At least fp32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def rotate(x, cos, sin):
    """x [B, S, H, dh]: pairs (i, i + half) of the first dimensions turn by -angle."""
    half = cos.shape[-1]
    p, r, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return torch.cat((p * cos + r * sin, r * cos - p * sin, rest), dim=-1)


def few_channels(x, weight):
    """weight [n, 12] times the first channels of x; with zeros to 16, where a product's rows are aligned."""
    wide = min(-(-weight.shape[1] // 8) * 8, x.shape[-1])
    return F.linear(x[..., :wide], F.pad(weight, (0, wide - weight.shape[1])))


def remove_values(o, v):
    """XSA: o [B, S, H, dh] without its part along the position's own value v [B, S, Hkv, dh]."""
    B, S, H, dh = o.shape
    direction = F.normalize(wide(v), dim=-1, eps=1e-12)[:, :, :, None]
    grouped = wide(o.view(B, S, v.shape[2], -1, dh))
    return (grouped - (grouped * direction).sum(-1, keepdim=True) * direction).view(B, S, H, dh).to(o.dtype)


class CaseOps(nn.Module):
    """`attend(q, k, v, context)` is one of caseops_attention.py; `rows` the longest S."""

    def __init__(self, config, attend, rows, dtype=torch.bfloat16):
        super().__init__()
        c, L, D, H = config, config.layers, config.width, config.heads
        self.config, self.attend, self.dtype = config, attend, dtype
        self.kv = c.kv_heads * c.head_dim
        shapes = {"qkv": (L, D + 2 * self.kv, D), "out": (L, D, D), "up": (L, c.hidden, D), "down": (L, D, c.hidden)}
        shapes |= {"q_gain": (L, H), "gate": (L, H, c.gate_channels), "mix": (L, 2, D)}
        shapes |= {"attn_scale": (L, D), "mlp_scale": (L, D), "skip_weights": (c.skips, D), "skip_gates": (c.skips, D)}
        shapes |= {"smear_gate": (1, c.gate_channels), "smear_lambda": (1,)}
        if c.lanes:
            shapes |= {"lane_writes": (L, 2, 2), "lane_keeps": (L, 2)}
        self.embed = nn.Parameter(torch.empty(c.vocab_size, D, dtype=dtype))
        for name, shape in shapes.items():
            setattr(self, name, nn.Parameter(torch.empty(shape)))
        frequencies = c.rope_base ** (-torch.arange(0, c.rope_dims, 2, dtype=torch.float32) / c.rope_dims)
        angles = torch.outer(torch.arange(rows, dtype=torch.float32), frequencies)[:, None]  # [S, 1, dims / 2]
        self.register_buffer("cos", angles.cos().to(dtype), persistent=False)
        self.register_buffer("sin", angles.sin().to(dtype), persistent=False)

    @torch.no_grad()
    def randomize(self):
        """Near the published start, but nothing is zero: zeros would cost less power (orthogonal ones more time)."""
        self.embed.normal_(std=0.005)
        for name in BANKS:
            getattr(self, name).normal_(std=1 / math.sqrt(getattr(self, name).shape[-1]))
        for name in ("gate", "skip_gates", "smear_gate", "smear_lambda"):
            getattr(self, name).normal_(std=0.02)
        for name in ("attn_scale", "mlp_scale", "skip_weights") + self.config.lanes * ("lane_writes", "lane_keeps"):
            getattr(self, name).fill_(1.0)
        self.q_gain.fill_(self.config.q_gain)
        self.mix[:, 0].fill_(1.0)
        self.mix[:, 1].fill_(0.0)

    def attention(self, w, layer, n, context):
        """n: the normed input, times the layer's constant; returns the branch before its scale."""
        c, (B, S, D) = self.config, n.shape
        q, k, v = F.linear(n, w["qkv"][layer]).split((D, self.kv, self.kv), -1)
        q, k, v = (x.view(B, S, -1, c.head_dim) for x in (q, k, v))
        cos, sin = self.cos[:S], self.sin[:S]
        q = rotate(norm(q), cos, sin) * w["q_gain"][layer][:, None]
        o = self.attend(q, rotate(norm(k), cos, sin), v, context)
        if layer >= c.xsa_start:
            o = remove_values(o, v)
        gate = torch.sigmoid(c.gate_scale * few_channels(n, w["gate"][layer]))
        return F.linear((o * gate[..., None]).view(B, S, D), w["out"][layer])

    def mlp(self, w, layer, n):
        return F.linear(F.leaky_relu(F.linear(n, w["up"][layer]), 0.5).square(), w["down"][layer])

    def block(self, w, layer, x, x0, context):
        c_l = 1 / math.sqrt(layer + 1)
        mix = w["mix"][layer]
        x = mix[0] * x + mix[1] * x0
        n = norm(x) * c_l
        middle = x + w["attn_scale"][layer] * self.attention(w, layer, n, context)
        n = n if layer >= self.config.parallel_start else norm(middle) * c_l
        return middle + w["mlp_scale"][layer] * self.mlp(w, layer, n)

    def lanes_block(self, w, layer, lanes, x0, context):
        c_l = 1 / math.sqrt(layer + 1)
        mix, keep, write = w["mix"][layer], w["lane_keeps"][layer], w["lane_writes"][layer]
        read = mix[0] * lanes[0] + mix[1] * x0
        attention = w["attn_scale"][layer] * self.attention(w, layer, norm(read) * c_l, context)
        mlp = w["mlp_scale"][layer] * self.mlp(w, layer, norm(lanes[1]) * c_l)
        return [keep[i] * lanes[i] + write[0, i] * attention + write[1, i] * mlp for i in range(2)]

    def inputs(self, tokens):
        """The smeared, normed embedding [B, S, D]."""
        u = F.embedding(tokens, self.embed)
        gate = torch.sigmoid(few_channels(u, self.smear_gate.to(self.dtype)))
        gate = self.smear_lambda.to(self.dtype) * gate * (tokens != self.config.bos)[..., None]
        return norm(u + gate * F.pad(u[:, :-1], (0, 0, 1, 0)))

    def raw_logits(self, tokens, context=None, looped=True):
        """[B, S, V] before the cap."""
        c = self.config
        own = ("embed", "skip_weights", "skip_gates", "smear_gate", "smear_lambda")
        w = {name: p.to(self.dtype).unbind(0) for name, p in self.named_parameters() if name not in own}
        skip_weights, skip_gates = self.skip_weights.to(self.dtype), torch.sigmoid(self.skip_gates).to(self.dtype)
        encoder, decoder = c.order(looped)
        x0 = x = self.inputs(tokens)
        stack, lanes = [], None
        for layer in encoder:
            x = self.block(w, layer, x, x0, context)
            stack.append(x)
        for k, layer in enumerate(decoder):
            if c.lanes and layer >= c.parallel_start and lanes is None:
                lanes = [x, x]
            if k < c.skips and stack:
                merged = torch.lerp(skip_weights[k] * stack.pop(), lanes[0] if lanes else x, skip_gates[k])
                x, lanes = (x, [merged, lanes[1]]) if lanes else (merged, None)
            if lanes:
                lanes = self.lanes_block(w, layer, lanes, x0, context)
            else:
                x = self.block(w, layer, x, x0, context)
        if lanes:
            x = 0.5 * (lanes[0] + lanes[1])
        return F.linear(norm(x), self.embed)

    def logits(self, tokens, context=None, looped=True):
        """Soft-capped, in fp32."""
        return self.config.softcap * torch.tanh(wide(self.raw_logits(tokens, context, looped)) / self.config.softcap)

    def forward(self, tokens, targets, context=None, looped=True):
        """Mean cross-entropy; `context` is what the attention needs to know of segments."""
        return F.cross_entropy(self.logits(tokens, context, looped).flatten(0, 1), targets.flatten())
