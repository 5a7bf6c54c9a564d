"""The model family and its optimiser in PyTorch, as its user would write them: the other side of train_step.py.

Written from the same specification as src/model (the family of pull requests 417, 398, 573 and 518). Parameter names
are the originals', so that the golden files load as they are.
"""

import math
from dataclasses import dataclass, field, fields

import recipe_file
import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class Config:
    """[model] of a recipe; the defaults are those of src/model/include/fairway/model/config.h."""

    vocab_size: int = 1024
    layers: int = 11
    width: int = 512
    heads: int = 8
    kv_heads: int = 4
    mlp_mult: float = 3.0
    activation: str = "leaky_square"
    leaky_slope: float = 0.5
    window: int = 2048
    rope_dims: int = 16
    rope_base: float = 10000.0
    rope_rescale_length: int = 1024
    ln_scale: bool = True
    norm_eps: float = 2.0**-23
    smear: bool = True
    bigram_rows: int = 2048
    bigram_dim: int = 128
    ve_dim: int = 128
    ve_layers: list = field(default_factory=lambda: [9, 10])
    xsa_layers: list = field(default_factory=lambda: [7, 8, 9, 10])
    softcap: float = 30.0
    fake_quantize: bool = False  # not of [model]: matrices pass the int6 straight-through quantiser (test-time training)

    @classmethod
    def from_recipe(cls, path):
        table = recipe_file.read(path)["model"]
        if not table.get("unet_skips", True):
            raise ValueError(f"{path}: model.unet_skips = false is not written here")
        known = {f.name for f in fields(cls)}
        return cls(**{key: value for key, value in table.items() if key in known})

    @property
    def head_dim(self):
        return self.width // self.heads


def norm(x, eps):
    return F.rms_norm(x, (x.shape[-1],), eps=eps).to(x.dtype)  # autocast must not widen a bf16 stream


def rope_table(config, length):
    """Cosines and sines [length, rope_dims / 2]; the base grows for windows beyond rope_rescale_length."""
    dims, base = config.rope_dims, config.rope_base
    if config.rope_rescale_length and length > config.rope_rescale_length:
        base *= (length / config.rope_rescale_length) ** (dims / (dims - 2))
    frequencies = base ** (-torch.arange(0, dims, 2, dtype=torch.float32) / dims)
    angles = torch.outer(torch.arange(length, dtype=torch.float32), frequencies)
    return angles.cos(), angles.sin()


def rotate(x, cos, sin):
    """x [B, H, S, dh]: pairs (i, i + half) of the first rope_dims dimensions turn by -angle."""
    half = cos.shape[-1]
    p, r, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return torch.cat((p * cos + r * sin, r * cos - p * sin, rest), dim=-1)


def fake_int6(weight):
    """Rows rounded to 6 bits of their maximum; the gradient goes straight through (docs/spec/training.md section 11)."""
    with torch.no_grad():
        scale = (weight.abs().amax(dim=1, keepdim=True) / 31).clamp_min(1 / 31)
        step = torch.round(weight / scale).clamp(-32, 31) * scale - weight
    return weight + step


class Linear(nn.Module):
    def __init__(self, config, inputs, outputs, scale=1.0):
        super().__init__()
        self.fake_quantize = config.fake_quantize
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        if scale:
            nn.init.orthogonal_(self.weight, scale)
        else:
            nn.init.zeros_(self.weight)

    def forward(self, x):
        return F.linear(x, fake_int6(self.weight) if self.fake_quantize else self.weight)


def side_projection(config, columns, rows):
    """As in the originals there is none between equal widths."""
    return nn.Identity() if columns == rows else Linear(config, columns, rows, 1 / math.sqrt(2 * config.layers))


class HashedBigram(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.rows = config.bigram_rows
        self.embed = nn.Embedding(config.bigram_rows, config.bigram_dim)
        nn.init.zeros_(self.embed.weight)
        self.proj = side_projection(config, config.bigram_dim, config.width)
        self.scale = nn.Parameter(torch.tensor(0.05))

    def forward(self, tokens):
        ids = tokens.to(torch.int32)
        hashed = torch.bitwise_xor(36313 * ids[:, 1:], 27191 * ids[:, :-1]) % (self.rows - 1)
        index = F.pad(hashed, (1, 0), value=self.rows - 1)
        return self.scale * self.proj(self.embed(index))


class Smear(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(config.width))

    def forward(self, x):
        s = torch.sigmoid(self.gate).to(x.dtype)
        return (1 - s) * x + s * F.pad(x[:, :-1], (0, 0, 1, 0))


class ValueEmbedding(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embed = nn.Embedding(config.vocab_size, config.ve_dim)
        nn.init.normal_(self.embed.weight, std=0.01)
        self.proj = side_projection(config, config.ve_dim, config.kv_heads * config.head_dim)
        self.scale = nn.Parameter(torch.tensor(0.1))

    def forward(self, tokens):
        return self.scale * self.proj(self.embed(tokens))


class Attention(nn.Module):
    def __init__(self, config, layer, gqa):
        super().__init__()
        self.config, self.xsa, self.gqa = config, layer in config.xsa_layers, gqa
        kv_width = config.kv_heads * config.head_dim
        self.c_q = Linear(config, config.width, config.width)
        self.c_k = Linear(config, config.width, kv_width)
        self.c_v = Linear(config, config.width, kv_width)
        self.proj = Linear(config, config.width, config.width, 0)
        self.q_gain = nn.Parameter(torch.full((config.heads,), 1.5))

    def forward(self, x, ve, cos, sin):
        c = self.config
        B, S, _ = x.shape
        group = c.heads // c.kv_heads
        q = self.c_q(x).view(B, S, c.heads, c.head_dim).transpose(1, 2)  # [B, H, S, dh]
        k = self.c_k(x).view(B, S, c.kv_heads, c.head_dim).transpose(1, 2)  # [B, Hkv, S, dh]
        v = self.c_v(x)
        if ve is not None:
            v = v + ve
        v = v.view(B, S, c.kv_heads, c.head_dim).transpose(1, 2)
        # Rotations and gain widen to fp32 under autocast; attention gets the type of v, as in the originals.
        q = (self.q_gain[:, None, None] * rotate(norm(q, c.norm_eps), cos, sin)).to(v.dtype)
        k = rotate(norm(k, c.norm_eps), cos, sin).to(v.dtype)
        if self.gqa:
            o = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        else:
            o = F.scaled_dot_product_attention(
                q, k.repeat_interleave(group, 1), v.repeat_interleave(group, 1), is_causal=True
            )
        if self.xsa:
            direction = F.normalize(v.float(), dim=-1, eps=1e-12)[:, :, None]  # [B, Hkv, 1, S, dh]
            o = o.view(B, c.kv_heads, group, S, c.head_dim)
            o = o - (o * direction).sum(-1, keepdim=True) * direction
            o = o.view(B, c.heads, S, c.head_dim)
        return self.proj(o.transpose(1, 2).reshape(B, S, c.width))


class Mlp(nn.Module):
    def __init__(self, config):
        super().__init__()
        hidden = int(config.mlp_mult * config.width)
        self.slope = config.leaky_slope if config.activation == "leaky_square" else 0.0
        self.fc = Linear(config, config.width, hidden)
        self.proj = Linear(config, hidden, config.width, 0)

    def forward(self, x):
        a = self.fc(x)
        a = F.leaky_relu(a, self.slope) if self.slope else F.relu(a)
        return self.proj(a.square())


class Block(nn.Module):
    def __init__(self, config, layer, gqa):
        super().__init__()
        self.eps = config.norm_eps
        self.ln_scale = 1 / math.sqrt(layer + 1) if config.ln_scale else 1.0
        self.attn = Attention(config, layer, gqa)
        self.mlp = Mlp(config)
        self.attn_scale = nn.Parameter(torch.ones(config.width))
        self.mlp_scale = nn.Parameter(torch.ones(config.width))
        self.resid_mix = nn.Parameter(torch.stack((torch.ones(config.width), torch.zeros(config.width))))

    def forward(self, u, x0, ve, cos, sin):
        mix = self.resid_mix.to(u.dtype)  # a stream of bf16 stays one
        m = mix[0] * u + mix[1] * x0
        p = m + self.attn_scale.to(u.dtype) * self.attn(norm(m, self.eps) * self.ln_scale, ve, cos, sin)
        return p + self.mlp_scale.to(u.dtype) * self.mlp(norm(p, self.eps) * self.ln_scale)


class Family(nn.Module):
    def __init__(self, config, gqa=False, length=0):
        super().__init__()
        self.config = config
        self.tok_emb = nn.Embedding(config.vocab_size, config.width)
        nn.init.normal_(self.tok_emb.weight, std=0.005)
        self.bigram = HashedBigram(config) if config.bigram_rows else None
        self.smear = Smear(config) if config.smear else None
        self.ve_shared = ValueEmbedding(config) if config.ve_dim and config.ve_layers else None
        if self.ve_shared:
            self.ve_layer_scales = nn.ParameterList(nn.Parameter(torch.ones(1)) for _ in config.ve_layers)
        self.blocks = nn.ModuleList(Block(config, layer, gqa) for layer in range(config.layers))
        self.skip_weights = nn.Parameter(torch.ones(config.layers // 2, config.width))
        cos, sin = rope_table(config, length or config.window)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def tables(self):
        """The embedding tables by name."""
        owners = {"tok_emb": self.tok_emb, "bigram.embed": self.bigram and self.bigram.embed}
        owners["ve_shared.embed"] = self.ve_shared and self.ve_shared.embed
        return {f"{name}.weight": owner.weight for name, owner in owners.items() if owner is not None}

    def logits(self, tokens):
        """Soft-capped logits [B, S, V]."""
        c = self.config
        e = self.tok_emb(tokens)
        if self.bigram:
            e = e + self.bigram(tokens)
        u = norm(e, c.norm_eps)
        if self.smear:
            u = self.smear(u)
        x0, stack = u, []
        ve = self.ve_shared(tokens) if self.ve_shared else None
        encoders = c.layers // 2
        for layer, block in enumerate(self.blocks):
            if layer >= encoders and stack:
                u = u + self.skip_weights[layer - encoders].to(u.dtype) * stack.pop()
            mine = None
            if ve is not None and layer in c.ve_layers:
                mine = self.ve_layer_scales[c.ve_layers.index(layer)].to(ve.dtype) * ve
            u = block(u, x0, mine, self.cos, self.sin)
            if layer < encoders:
                stack.append(u)
        z = F.linear(norm(u, c.norm_eps), self.tok_emb.weight)
        return c.softcap * torch.tanh(z / c.softcap)

    def forward(self, tokens, targets):
        """Mean cross-entropy."""
        return F.cross_entropy(self.logits(tokens).flatten(0, 1).float(), targets.flatten())

    def nll(self, tokens, targets):
        """Cross-entropy of every target [B, S]."""
        z = self.logits(tokens).flatten(0, 1).float()
        return F.cross_entropy(z, targets.flatten(), reduction="none").view(targets.shape)


def newton_schulz(g, dtype, steps=5):
    """Five steps towards the nearest orthogonal matrix (spec of Muon; constants of the originals)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.to(dtype)
    x = x / (x.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.T.contiguous()
    for _ in range(steps):
        s = x @ x.T
        x = torch.addmm(x, torch.addmm(s, s, s, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


class Muon:
    """Momentum, Nesterov, Newton-Schulz, decoupled decay; every list operation is a fused foreach call."""

    def __init__(self, parameters, dtype, lr=0.025, weight_decay=0.04):
        self.parameters, self.dtype, self.lr, self.weight_decay = list(parameters), dtype, lr, weight_decay
        self.momentum = [torch.zeros_like(p) for p in self.parameters]

    @torch.no_grad()
    def step(self, momentum=0.92, lr_scale=1.0):
        gradients = [p.grad for p in self.parameters]
        torch._foreach_mul_(self.momentum, momentum)
        torch._foreach_add_(self.momentum, gradients)
        directions = torch._foreach_add(gradients, self.momentum, alpha=momentum)
        lr = self.lr * lr_scale
        torch._foreach_mul_(self.parameters, 1 - lr * self.weight_decay)
        for p, g in zip(self.parameters, directions):
            shape = math.sqrt(max(1, p.shape[0] / p.shape[1]))
            p.add_(newton_schulz(g, self.dtype) * shape, alpha=-lr)


class Optimizer:
    """Clip at 0.3, Muon for the matrices, fused AdamW for tables and scalars."""

    def __init__(self, model, newton_schulz_dtype, clip=0.3):
        named = dict(model.named_parameters())
        tables = [n for n in named if n in ("tok_emb.weight", "bigram.embed.weight", "ve_shared.embed.weight")]
        matrices = [n for n in named if n.endswith(".weight") and n not in tables]
        scalars = [n for n in named if n not in tables and n not in matrices]
        self.all, self.clip = list(named.values()), clip
        self.muon = Muon([named[n] for n in matrices], newton_schulz_dtype)
        common = {"betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.04, "fused": True}
        self.adam = torch.optim.AdamW(
            [{"params": [named[n] for n in tables], "lr": 0.035}, {"params": [named[n] for n in scalars], "lr": 0.025}],
            **common,
        )
        self.rates = [group["lr"] for group in self.adam.param_groups]

    def step(self, momentum=0.92, lr_scale=1.0):
        total = nn.utils.clip_grad_norm_(self.all, self.clip, foreach=True)
        for group, rate in zip(self.adam.param_groups, self.rates):
            group["lr"] = rate * lr_scale
        self.muon.step(momentum, lr_scale)
        self.adam.step()
        return total

    def zero_grad(self):
        for p in self.all:
            p.grad = None
