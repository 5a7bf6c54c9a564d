"""Times PyTorch's attention (cuDNN and FlashAttention back ends) at the reference shape, medians by CUDA events."""
import statistics

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


def median_ms(work, repeats=40):
    times = []
    for i in range(repeats + 5):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        work(i)
        end.record()
        end.synchronize()
        if i >= 5:
            times.append(begin.elapsed_time(end))
    return statistics.median(times)


def main():
    shape, kv_shape = (48, 2048, 8, 64), (48, 2048, 4, 64)
    sets = []
    for _ in range(2):
        q, g = (torch.randn(shape, device="cuda", dtype=torch.bfloat16) for _ in range(2))
        k, v = (torch.randn(kv_shape, device="cuda", dtype=torch.bfloat16) for _ in range(2))
        sets.append([x.transpose(1, 2).requires_grad_() for x in (q, k, v)] + [g.transpose(1, 2)])
    for name in ("CUDNN_ATTENTION", "FLASH_ATTENTION"):
        with sdpa_kernel([getattr(SDPBackend, name)]):
            attention = lambda i: torch.nn.functional.scaled_dot_product_attention(
                *sets[i % 2][:3], is_causal=True, enable_gqa=True)
            try:
                outs = [attention(0), attention(1)]
                forward = median_ms(attention)
                backward = median_ms(lambda i: torch.autograd.grad(outs[i % 2], sets[i % 2][:3], sets[i % 2][3],
                                                                   retain_graph=True))
                print(f"peer {name}: forward {forward:.3f} ms  backward {backward:.3f} ms")
            except RuntimeError as e:
                print(f"peer {name}: {str(e).splitlines()[0]}")


main()
