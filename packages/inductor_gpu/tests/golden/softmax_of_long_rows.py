# looped reduction: 1 x 16384, 32 warps
import triton
import triton.language as tl
from lampwork_inductor_gpu.device_functions import add_power, join_powers, maximum


@triton.jit
def softmax_703e184fb1f9(in0, out0, X_BLOCK: tl.constexpr, R_BLOCK: tl.constexpr):
    x = tl.program_id(0) * X_BLOCK + tl.arange(0, X_BLOCK)[:, None]
    largest0 = tl.broadcast_to(tl.full([], float("-inf"), tl.float32), [X_BLOCK, R_BLOCK])
    powers1 = tl.full([X_BLOCK, R_BLOCK], 0.0, tl.float32)
    for r_start in range(0, 40000, R_BLOCK):
        r = r_start + tl.arange(0, R_BLOCK)[None, :]
        r_mask = r < 40000
        # _softmax
        tmp2 = tl.load(in0 + (r + 40000*x), r_mask, 0, eviction_policy="evict_last")
        part3 = tl.where(r_mask, tmp2, tl.full([], float("-inf"), tl.float32))
        powers1 = add_power(largest0, powers1, part3)
        largest0 = maximum(largest0, part3)
    largest0, powers1 = tl.reduce((largest0, powers1), 1, join_powers)
    largest0 = largest0[:, None]
    powers1 = tl.where(tl.abs(largest0) == float("inf"), float("nan"), powers1[:, None])
    reduced4 = largest0
    sum5 = powers1
    for r_start in range(0, 40000, R_BLOCK):
        r = r_start + tl.arange(0, R_BLOCK)[None, :]
        r_mask = r < 40000
        tmp6 = tl.load(in0 + (r + 40000*x), r_mask, 0, eviction_policy="evict_first")
        tmp7 = tmp6 - reduced4
        tmp8 = tl.exp(tmp7)
        tmp9 = tl.div_rn(tmp8, sum5)
        tl.store(out0 + (r + 40000*x), tmp9, r_mask)
