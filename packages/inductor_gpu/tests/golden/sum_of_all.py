# looped reduction: 1 x 8192, 16 warps
import triton
import triton.language as tl
from lampwork_inductor_gpu.device_functions import add


@triton.jit
def sum_5c37ab482883(in0, out0, X_BLOCK: tl.constexpr, R_BLOCK: tl.constexpr):
    x = tl.program_id(0) * X_BLOCK + tl.arange(0, X_BLOCK)[:, None]
    acc0 = tl.broadcast_to(tl.full([], 0.0, tl.float32), [X_BLOCK, R_BLOCK])
    for r_start in range(0, 15360, R_BLOCK):
        r = r_start + tl.arange(0, R_BLOCK)[None, :]
        r_mask = r < 15360
        # sum_1
        tmp1 = tl.load(in0 + (r + 15360*x), r_mask, 0)
        part2 = tl.where(r_mask, tmp1, tl.full([], 0.0, tl.float32))
        acc0 = add(acc0, part2)
    sum3 = tl.sum(acc0, 1)[:, None]
    tl.store(out0 + x, sum3)


# persistent reduction: 1 x 32, 1 warps
import triton
import triton.language as tl


@triton.jit
def sum_89b67bc370ae(in0, out0, X_BLOCK: tl.constexpr, R_BLOCK: tl.constexpr):
    r = tl.arange(0, R_BLOCK)[None, :]
    r_mask = r < 30
    # sum_1
    tmp0 = tl.load(in0 + r, r_mask, 0)
    part1 = tl.where(r_mask, tl.broadcast_to(tmp0, [X_BLOCK, R_BLOCK]), tl.full([], 0.0, tl.float32))
    sum2 = tl.sum(part1, 1)[:, None]
    tl.store(out0 + tl.full([X_BLOCK, 1], 0, tl.int32), sum2)
