# looped reduction: 128 x 32, 4 warps
import triton
import triton.language as tl
from lampwork_inductor_gpu.device_functions import add


@triton.jit
def to_copy_sub_mul_sum_6d0940f35e50(in0, in1, in2, in3, out0, out1, X_BLOCK: tl.constexpr, R_BLOCK: tl.constexpr):
    start = tl.program_id(0) * X_BLOCK
    x_high = start // 768
    x_low = start % 768 + tl.arange(0, X_BLOCK)[:, None]
    acc0 = tl.broadcast_to(tl.full([], 0.0, tl.float32), [X_BLOCK, R_BLOCK])
    acc1 = tl.broadcast_to(tl.full([], 0.0, tl.float32), [X_BLOCK, R_BLOCK])
    for r_start in range(0, 128, R_BLOCK):
        r = r_start + tl.arange(0, R_BLOCK)[None, :]
        # _to_copy_1, _to_copy, sub, mul, mul_5, sum_3
        tmp2 = tl.load(in0 + (768*r + 98304*x_high + x_low))
        tmp3 = tmp2.to(tl.float32)
        tmp4 = tl.load(in1 + (768*r + 98304*x_high + x_low))
        tmp5 = tmp4.to(tl.float32)
        tmp6 = tl.load(in2 + (r + 128*x_high))
        tmp7 = tmp5 - tmp6
        tmp8 = tl.load(in3 + (r + 128*x_high))
        tmp9 = tmp7 * tmp8
        tmp10 = tmp3 * tmp9
        acc0 = add(acc0, tmp10)
        # _to_copy_1, sum_4
        acc1 = add(acc1, tmp3)
    sum11 = tl.sum(acc0, 1)[:, None]
    sum12 = tl.sum(acc1, 1)[:, None]
    tl.store(out0 + (768*x_high + x_low), sum11)
    tl.store(out1 + (768*x_high + x_low), sum12)


# persistent reduction: 32 x 4, 1 warps
import triton
import triton.language as tl


@triton.jit
def to_copy_sub_mul_sum_e894d3167aad(in0, out0, X_BLOCK: tl.constexpr, R_BLOCK: tl.constexpr):
    x = tl.program_id(0) * X_BLOCK + tl.arange(0, X_BLOCK)[:, None]
    r = tl.arange(0, R_BLOCK)[None, :]
    # _to_copy_1, _to_copy, sub, mul, mul_5, sum_3
    tmp0 = tl.load(in0 + (768*r + x))
    sum1 = tl.sum(tmp0, 1)[:, None]
    tl.store(out0 + x, sum1)


# persistent reduction: 32 x 4, 1 warps
import triton
import triton.language as tl


@triton.jit
def to_copy_sum_cf1460e85edd(in0, out0, X_BLOCK: tl.constexpr, R_BLOCK: tl.constexpr):
    x = tl.program_id(0) * X_BLOCK + tl.arange(0, X_BLOCK)[:, None]
    r = tl.arange(0, R_BLOCK)[None, :]
    # _to_copy_1, sum_4
    tmp0 = tl.load(in0 + (768*r + x))
    sum1 = tl.sum(tmp0, 1)[:, None]
    tl.store(out0 + x, sum1)


# persistent reduction: 1 x 1024, 2 warps
import triton
import triton.language as tl


@triton.jit
def to_copy_mul_sum_sub_add_div_c07f39047ead(in0, in1, in2, in3, in4, out0, X_BLOCK: tl.constexpr, R_BLOCK: tl.constexpr):
    x = tl.program_id(0) * X_BLOCK + tl.arange(0, X_BLOCK)[:, None]
    r = tl.arange(0, R_BLOCK)[None, :]
    r_mask = r < 768
    tmp0 = tl.load(in0 + x)
    tmp1 = tl.load(in1 + x)
    # _to_copy_1, mul_1, sum_1
    tmp2 = tl.load(in2 + (r + 768*x), r_mask, 0)
    tmp3 = tmp2.to(tl.float32)
    tmp4 = tl.load(in3 + r, r_mask, 0)
    tmp5 = tmp3 * tmp4
    part6 = tl.where(r_mask, tmp5, tl.full([], 0.0, tl.float32))
    sum7 = tl.sum(part6, 1)[:, None]
    # _to_copy_1, mul_1, _to_copy, sub, mul, mul_2, sum_2
    tmp8 = tl.load(in4 + (r + 768*x), r_mask, 0)
    tmp9 = tmp8.to(tl.float32)
    tmp10 = tmp9 - tmp1
    tmp11 = tmp10 * tmp0
    tmp12 = tmp5 * tmp11
    part13 = tl.where(r_mask, tmp12, tl.full([], 0.0, tl.float32))
    sum14 = tl.sum(part13, 1)[:, None]
    # _to_copy_1, mul_1, _to_copy, sub, mul, mul_3, add, div, sub_1, mul_4, _to_copy_2
    tmp15 = tmp11 * sum14
    tmp16 = sum7 + tmp15
    tmp17 = tmp16 * tl.full([], 0.0013020833721384406, tl.float32)
    tmp18 = tmp5 - tmp17
    tmp19 = tmp18 * tmp0
    tmp20 = tmp19.to(tl.float16)
    tl.store(out0 + (r + 768*x), tmp20, r_mask)
