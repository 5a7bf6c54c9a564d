"""Causal attention of dense rows and of packed rows in PyTorch, in every form that is fast; measured to choose one.

    attend = make("varlen"); o = attend(q, k, v, context)    # q, o [B, S, H, dh], k, v [B, S, Hkv, dh]

Dense rows: "BACKEND" or "BACKEND:expanded" of scaled_dot_product_attention ("" lets PyTorch choose), context None.
Packed rows (B = 1): the context is the segment table, int32 offsets padded with the row's length
(docs/spec/caseops_training.md section 5.2); attention is causal inside each segment.
"""

import functools
import inspect

import torch
import torch.nn.functional as F

from adapt_unit import last_line, median, synchronize, timed, use_backend

LONGEST = 2048  # tokens of a segment
DENSE = ("cudnn", "cudnn:expanded", "flash", "flash:expanded")
PACKED = ("varlen", "flex", "cudnn_varlen")  # last what PyTorch does not offer openly: its errors may stay
BLOCK = 128  # of flex_attention's mask


def segment_table(tokens, bos, longest=LONGEST, multiple=64):
    """Offsets (a list) of a packed row [S]: a segment starts at each BOS and every `longest` tokens after it."""
    starts = (tokens == bos).nonzero().flatten().tolist()
    starts = starts if starts[:1] == [0] else [0, *starts]
    cuts = [at for begin, end in zip(starts, [*starts[1:], len(tokens)]) for at in range(begin, end, longest)]
    return pad_table([*cuts, len(tokens)], multiple)


def pad_table(table, multiple):
    return table + [table[-1]] * (-len(table) % multiple)


def dense(q, k, v, context, gqa):
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    if not gqa:
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=gqa).transpose(1, 2)


def masked(q, k, v, table):
    """By a mask of the whole row: for rows of a few thousand tokens and any device."""
    document = torch.bucketize(torch.arange(q.shape[1], device=q.device, dtype=table.dtype), table, right=True)
    mask = (document[:, None] == document).tril()
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True).transpose(1, 2)


def one_by_one(q, k, v, table):
    """Segment after segment: what the fast forms are checked against."""
    table = table.tolist()
    parts = [
        dense(q[:, a:b], k[:, a:b], v[:, a:b], None, False) for a, b in zip(table, table[1:]) if b > a
    ]
    return torch.cat(parts, 1)


def varlen(q, k, v, table, operator, options):
    same = (q[0], k[0], v[0], table, table, LONGEST, LONGEST)
    return operator(*same, **options)[None]


def make_varlen():
    """Flash attention of torch.nn.attention.varlen, whose signature changes from version to version."""
    from torch.nn.attention.varlen import varlen_attn

    names = inspect.signature(varlen_attn).parameters
    options = {"window_size": (-1, 0)} if "window_size" in names else {"is_causal": True}
    options |= {"enable_gqa": True} if "enable_gqa" in names else {}
    return functools.partial(varlen, operator=varlen_attn, options=options)


def flex(q, k, v, table):
    """flex_attention with a block mask made from the table; the compiler makes one mask for all layers."""
    from torch.nn.attention.flex_attention import BlockMask, flex_attention

    S = q.shape[1]
    document = torch.bucketize(torch.arange(S, device=q.device, dtype=table.dtype), table, right=True)

    def inside(b, h, q_at, k_at):
        return (q_at >= k_at) & (document[q_at] == document[k_at])

    ends = document.view(-1, BLOCK)
    low, high, number = ends[:, 0], ends[:, -1], torch.arange(S // BLOCK, device=q.device)
    below = number[:, None] >= number
    some = below & (high >= low[:, None])  # documents are in order
    whole = (number[:, None] > number) & (low == high[:, None])

    def ordered(blocks):
        counts = blocks.sum(-1, dtype=torch.int32)
        indices = blocks.to(torch.int32).argsort(dim=-1, descending=True, stable=True).to(torch.int32)
        return counts[None, None].contiguous(), indices[None, None].contiguous()

    mask = BlockMask.from_kv_blocks(*ordered(some & ~whole), *ordered(whole), BLOCK_SIZE=BLOCK, mask_mod=inside)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return flex_attention(q, k, v, block_mask=mask, enable_gqa=True).transpose(1, 2)


@functools.cache
def cudnn_operator():
    """cuDNN's attention of ragged rows, which PyTorch reaches by nested tensors only, as an operator that compiles.

    The shape of its log-sum-exp is not documented: the first call, not compiled, notes it.
    """
    shapes = {}

    @torch.library.custom_op("caseops_peer::cudnn_varlen", mutates_args={})
    def forward(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, table: torch.Tensor) -> list[torch.Tensor]:
        r = torch.ops.aten._cudnn_attention_forward(
            q, k, v, None, table, table, LONGEST, LONGEST, True, 0.0, True, False, scale=q.shape[-1] ** -0.5
        )
        results = [x.clone() if x.numel() <= 2 else x.contiguous() for x in (r[0], r[1], r[6], r[7])]
        shapes.setdefault(q.shape, [(x.shape, x.dtype, x.device) for x in results])
        return results

    @forward.register_fake
    def _(q, k, v, table):
        return [torch.empty(shape, dtype=dtype, device=device) for shape, dtype, device in shapes[q.shape]]

    @torch.library.custom_op("caseops_peer::cudnn_varlen_backward", mutates_args={})
    def backward(
        g: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, table: torch.Tensor, saved: list[torch.Tensor]
    ) -> list[torch.Tensor]:
        out, lse, seed, offset = saved
        r = torch.ops.aten._cudnn_attention_backward(
            g.contiguous(), q, k, v, out, lse, seed, offset, None, table, table, LONGEST, LONGEST, 0.0, True,
            scale=q.shape[-1] ** -0.5,
        )  # fmt: skip
        return [x.contiguous() for x in r]

    @backward.register_fake
    def _(g, q, k, v, table, saved):
        return [torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v)]

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, q, k, v, table):
            saved = forward(q, k, v, table)
            ctx.save_for_backward(q, k, v, table, *saved)
            return saved[0]

        @staticmethod
        def backward(ctx, g):
            q, k, v, table, *saved = ctx.saved_tensors
            return *backward(g, q, k, v, table, saved), None

    return Function.apply


def cudnn_varlen(q, k, v, table, operator):
    return operator(q[0].contiguous(), k[0].contiguous(), v[0].contiguous(), table)[None]


def make_cudnn_varlen():
    return functools.partial(cudnn_varlen, operator=cudnn_operator())


def make(name):
    """The form of this name; sets PyTorch's switches of backends where it is for dense rows."""
    forms = {"flex": flex, "masked": masked, "one_by_one": one_by_one}
    makers = {"varlen": make_varlen, "cudnn_varlen": make_cudnn_varlen}
    if name in forms or name in makers:
        use_backend("")
        return forms[name] if name in forms else makers[name]()
    backend, _, heads = name.partition(":")
    use_backend(backend)
    return functools.partial(dense, gqa=heads != "expanded")


# ---- which is fastest, and right ----


def examples(config, rows, length, device):
    """Random heads and the gradient of their result; queries and keys as long as the models have them."""
    torch.manual_seed(1337)

    def heads(count, size=1.0):
        x = torch.randn(rows, length, count, config.head_dim, device=device)
        return (F.rms_norm(x, x.shape[-1:]) * size).bfloat16()

    return [heads(config.heads, 2.0), heads(config.kv_heads), heads(config.kv_heads), heads(config.heads)]


def results_of(attend, inputs, context):
    q, k, v = (x.detach().requires_grad_() for x in inputs[:3])
    o = attend(q, k, v, context)
    o.backward(inputs[3])
    return [x.detach() for x in (o, q.grad, k.grad, v.grad)]


def measure_one(name, inputs, context, reference, compiled, steps):
    """Milliseconds of forward and backward, and the difference from the reference; or an error."""
    row = {"attention": name}
    try:
        attend = make(name)
        call = attend
        if name == "cudnn_varlen":
            results_of(attend, inputs, context)  # notes shapes
        if compiled and name in PACKED:
            torch._dynamo.reset()
            call = torch.compile(attend, fullgraph=True, dynamic=False)
        results = results_of(call, inputs, context)
        synchronize(inputs[0].device.type)
        row["difference"] = max(
            ((a.float() - b.float()).norm() / b.float().norm()).item() for a, b in zip(results, reference)
        )
        for _ in range(2):
            results_of(call, inputs, context)
        row["ms"] = median(timed(lambda: results_of(call, inputs, context), inputs[0].device.type, steps))
    except Exception as error:  # noqa: BLE001: a form may not support the shape, or this PyTorch
        row["error"] = last_line(error)
    return row


def right(row):
    return "error" not in row and row["difference"] < 2e-2  # False for NaN too


def measure_all(names, config, rows, length, table, device, compiled=True, steps=10):
    """Rows for `names`; table: None for dense rows."""
    inputs = examples(config, rows, length, device)
    use_backend("")
    reference = results_of(make("") if table is None else one_by_one, inputs, table)
    return [measure_one(name, inputs, table, reference, compiled, steps) for name in names]
