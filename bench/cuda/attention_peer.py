"""Times PyTorch's attention (cuDNN and FlashAttention back ends) at the reference shape, medians by CUDA events.

Where NVIDIA's `cudnn` package (nvidia-cudnn-frontend) is there too, cuDNN's backward in its default and in its deterministic
mode, which PyTorch does not offer.
"""
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


def cudnn_graph(cudnn, nodes):
    """Builds the graph that `nodes` adds to; returns what runs it and the bytes of its workspace."""
    graph = cudnn.pygraph(io_data_type=cudnn.data_type.BFLOAT16, intermediate_data_type=cudnn.data_type.FLOAT,
                          compute_data_type=cudnn.data_type.FLOAT)
    tensors = nodes(graph)
    graph.validate()
    graph.build_operation_graph()
    graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
    graph.check_support()
    graph.build_plans()
    workspace = torch.empty(max(1, graph.get_workspace_size()), device="cuda", dtype=torch.uint8)
    return lambda: graph.execute(tensors, workspace), workspace.numel()


def output(tensor, like):
    return tensor.set_output(True).set_dim(list(like.shape)).set_stride(list(like.stride()))


def cudnn_modes(sets):
    """cuDNN itself: forward, then backward in both modes; does the same work twice give the same bytes?"""
    try:
        import cudnn
    except ImportError:
        return
    q, k, v, g = (x.detach() for x in sets[0])
    o, dq, dk, dv = (torch.empty_like(x) for x in (q, q, k, v))
    stats = torch.empty(*q.shape[:3], 1, device="cuda", dtype=torch.float32)
    options = {"attn_scale": q.shape[-1] ** -0.5, "use_causal_mask": True}

    def forward(graph):
        inputs = [graph.tensor_like(x) for x in (q, k, v)]
        out, lse = graph.sdpa(*inputs, is_inference=False, name="sdpa", **options)
        output(lse, stats).set_data_type(cudnn.data_type.FLOAT)
        return dict(zip([*inputs, output(out, o), lse], (q, k, v, o, stats)))

    def backward(deterministic):
        def nodes(graph):
            inputs = [graph.tensor_like(x) for x in (q, k, v, o, g, stats)]
            grads = graph.sdpa_backward(*inputs, use_deterministic_algorithm=deterministic, name="sdpa_backward", **options)
            return dict(zip([*inputs, *(output(t, x) for t, x in zip(grads, (dq, dk, dv)))],
                            (q, k, v, o, g, stats, dq, dk, dv)))
        return nodes

    print(f"cuDNN {cudnn.backend_version()}, frontend {cudnn.__version__}")
    run, size = cudnn_graph(cudnn, forward)
    print(f"peer cuDNN: forward {median_ms(lambda i: run()):.3f} ms  workspace {size / 2**20:.0f} MiB")
    for deterministic in (False, True):
        try:
            run, size = cudnn_graph(cudnn, backward(deterministic))
            run()
            first = [x.clone() for x in (dq, dk, dv)]
            run()
            same = all(torch.equal(a, b) for a, b in zip(first, (dq, dk, dv)))
            print(f"peer cuDNN: backward, deterministic {deterministic}: {median_ms(lambda i: run()):.3f} ms  "
                  f"workspace {size / 2**20:.0f} MiB  same bytes twice: {same}")
        except (RuntimeError, cudnn.cudnnGraphNotSupportedError) as e:
            print(f"peer cuDNN: backward, deterministic {deterministic}: {str(e).splitlines()[0]}")


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
    cudnn_modes(sets)


main()
