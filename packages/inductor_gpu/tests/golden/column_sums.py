# looped reduction: 64 x 64, 4 warps
import triton
import triton.language as tl
from lampwork_inductor_gpu.device_functions import add


@triton.jit
def sum_mul_4b363e855be8(in0, out0, out1, X_BLOCK: tl.constexpr, R_BLOCK: tl.constexpr):
    x = tl.program_id(0) * X_BLOCK + tl.arange(0, X_BLOCK)[:, None]
    acc0 = tl.broadcast_to(tl.full([], 0.0, tl.float32), [X_BLOCK, R_BLOCK])
    acc1 = tl.broadcast_to(tl.full([], 0.0, tl.float32), [X_BLOCK, R_BLOCK])
    for r_start in range(0, 256, R_BLOCK):
        r = r_start + tl.arange(0, R_BLOCK)[None, :]
        # sum_1
        tmp2 = tl.load(in0 + (96*r + 24576*(x // 96) + x % 96))
        acc0 = add(acc0, tmp2)
        # mul, sum_2
        tmp3 = tmp2 * tmp2
        acc1 = add(acc1, tmp3)
    sum4 = tl.sum(acc0, 1)[:, None]
    sum5 = tl.sum(acc1, 1)[:, None]
    tl.store(out0 + x, sum4)
    tl.store(out1 + x, sum5)


# persistent reduction: 8 x 16, 1 warps
import triton
import triton.language as tl


@triton.jit
def sum_020d08890fcb(in0, out0, X_BLOCK: tl.constexpr, R_BLOCK: tl.constexpr):
    x = tl.program_id(0) * X_BLOCK + tl.arange(0, X_BLOCK)[:, None]
    r = tl.arange(0, R_BLOCK)[None, :]
    # sum_1
    tmp0 = tl.load(in0 + (96*r + x))
    sum1 = tl.sum(tmp0, 1)[:, None]
    tl.store(out0 + x, sum1)


# persistent reduction: 8 x 16, 1 warps
import triton
import triton.language as tl


@triton.jit
def mul_sum_edd3e9690ecd(in0, out0, X_BLOCK: tl.constexpr, R_BLOCK: tl.constexpr):
    x = tl.program_id(0) * X_BLOCK + tl.arange(0, X_BLOCK)[:, None]
    r = tl.arange(0, R_BLOCK)[None, :]
    # mul, sum_2
    tmp0 = tl.load(in0 + (96*r + x))
    sum1 = tl.sum(tmp0, 1)[:, None]
    tl.store(out0 + x, sum1)
