"""The optimiser of the CaseOps runs in PyTorch: clip, Muon in batches of equal shapes, fused AdamW, EMA.

From docs/spec/caseops_training.md sections 3, 4 and 9. PR 2143: momentum in fp32, the fixed quintic; PR 1855: momentum
and all of Muon in bf16, Polar Express.
"""

import math

import torch
from torch import nn

from caseops_model import BANKS

QUINTIC = ((3.4445, -4.7750, 2.0315),) * 5
POLAR_EXPRESS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)


def newton_schulz(x, coefficients):
    """x [n, rows, columns], each towards its nearest orthogonal matrix, in x's type."""
    tall = x.shape[1] > x.shape[2]
    size = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True, dtype=torch.float32)
    x = (x / (size + 1e-7)).to(x.dtype)
    if tall:
        x = x.mT.contiguous()
    for a, b, c in coefficients:
        s = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(s, s, s, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def update(weights, gradients, momentum, mu, lr, decay, coefficients, dtype):
    """One Muon step of matrices of one shape. weights, gradients: lists of [..., rows, columns] (views of banks);
    momentum [all of them, rows, columns]; mu, lr: tensors, so that their changes compile nothing."""
    g = torch.cat([x.flatten(0, -3).to(momentum.dtype) for x in gradients])
    momentum.copy_((mu * momentum).to(momentum.dtype) + g)
    u = g + mu.to(g.dtype) * momentum
    rows = torch.linalg.vector_norm(u, dim=-1, keepdim=True, dtype=torch.float32).to(u.dtype)
    u = (u / rows.clamp_min(1e-7)).to(dtype)
    step = newton_schulz(u, coefficients) * math.sqrt(max(1, u.shape[1] / u.shape[2]))
    for w, s in zip(weights, step.split([w.shape[:-2].numel() for w in weights])):
        w.copy_(w * (1 - lr * decay) - lr * s.view(w.shape).to(w.dtype))


def same_shapes(model, tensors):
    """Views of the banks by the shape of their matrices: (name, list of [..., rows, columns])."""
    D, kv = model.config.width, model.kv
    qkv, out, up, down = (tensors[name] for name in BANKS)
    kv = qkv[:, D:].unflatten(1, (2, kv))  # [L, 2, kv, D]
    return [("square", [qkv[:, :D], out]), ("kv", [kv]), ("up", [up]), ("down", [down])]


class Optimizer:
    def __init__(self, model, compiled=True, dtype=torch.bfloat16):
        c, self.model, self.dtype = model.config, model, dtype
        self.leader = c.lanes
        named = dict(model.named_parameters())
        self.all, self.banks = list(named.values()), [named[name] for name in BANKS]
        scalars = [p for name, p in named.items() if name not in (*BANKS, "embed")]
        device = model.embed.device
        self.coefficients = POLAR_EXPRESS if self.leader else QUINTIC
        self.momentum = {
            name: torch.cat([x.flatten(0, -3) for x in views]).to(dtype if self.leader else torch.float32).zero_()
            for name, views in same_shapes(model, {name: named[name].detach() for name in BANKS})
        }
        self.mu, self.lr = (torch.zeros((), device=device) for _ in range(2))
        groups = [
            {"params": [model.embed], "lr": 0.03, "weight_decay": 0.085 if self.leader else 0.095},
            {"params": scalars, "lr": 0.02, "weight_decay": 0.02},
        ]
        self.adam = torch.optim.AdamW(groups, betas=(0.9, 0.99), eps=1e-8, fused=True)
        self.rates = [group["lr"] for group in self.adam.param_groups]
        self.fp32 = [p for p in self.all if p.dtype == torch.float32]
        self.averages = [p.detach().clone() for p in self.fp32]
        self.rest = [p for p in self.all if p.dtype != torch.float32]
        self.rest_averages = [p.detach().float() for p in self.rest]
        self.update = torch.compile(update, fullgraph=True, dynamic=False) if compiled else update

    @torch.no_grad()
    def step(self, momentum=0.92, lr_scale=1.0, decay=0.095):
        total = nn.utils.clip_grad_norm_(self.all, 0.3, foreach=True)
        for group, rate in zip(self.adam.param_groups, self.rates):
            group["lr"] = rate * lr_scale
        self.adam.step()
        self.mu.fill_(momentum)
        self.lr.fill_(0.026 * lr_scale)
        weights = same_shapes(self.model, {name: p.detach() for name, p in zip(BANKS, self.banks)})
        gradients = same_shapes(self.model, {name: p.grad for name, p in zip(BANKS, self.banks)})
        for (name, w), (_, g) in zip(weights, gradients):
            self.update(w, g, self.momentum[name], self.mu, self.lr, decay, self.coefficients, self.dtype)
        self.average()
        return total

    def average(self, rate=0.0035):
        torch._foreach_lerp_(self.averages, [p.detach() for p in self.fp32], rate)
        for average, p in zip(self.rest_averages, self.rest):
            average.lerp_(p.detach().float(), rate)

    def zero_grad(self):
        for p in self.all:
            p.grad = None
