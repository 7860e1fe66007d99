# persistent reduction: 1 x 1024, 4 warps
import triton
import triton.language as tl


@triton.jit
def add_native_layer_norm_0aec23541c98(in0, in1, in2, in3, out0, out1, X_BLOCK: tl.constexpr, R_BLOCK: tl.constexpr):
    x = tl.program_id(0) * X_BLOCK + tl.arange(0, X_BLOCK)[:, None]
    r = tl.arange(0, R_BLOCK)[None, :]
    r_mask = r < 768
    # add
    tmp0 = tl.load(in0 + (r + 768*x), r_mask, 0)
    tmp1 = tmp0.to(tl.float32)
    tmp2 = tl.load(in1 + (r + 768*x), r_mask, 0)
    tmp3 = tmp2.to(tl.float32)
    tmp4 = tmp1 + tmp3
    tmp5 = tmp4.to(tl.float16)
    tl.store(out0 + (r + 768*x), tmp5, r_mask)
    # native_layer_norm
    tmp6 = tmp5.to(tl.float32)
    part7 = tl.where(r_mask, tmp6, tl.full([], 0.0, tl.float32))
    sum8 = tl.sum(part7, 1)[:, None]
    tmp9 = sum8 * tl.full([], 0.0013020833721384406, tl.float32)
    tmp10 = tmp5.to(tl.float32)
    tmp11 = tmp10 - tmp9
    tmp12 = tmp11 * tmp11
    part13 = tl.where(r_mask, tmp12, tl.full([], 0.0, tl.float32))
    sum14 = tl.sum(part13, 1)[:, None]
    tmp15 = sum14 * tl.full([], 0.0013020833721384406, tl.float32)
    tmp16 = tmp15 + tl.full([], 1e-05, tl.float32)
    tmp17 = tl.rsqrt(tmp16)
    tmp18 = tmp11 * tmp17
    tmp19 = tl.load(in2 + r, r_mask, 0)
    tmp20 = tmp19.to(tl.float32)
    tmp21 = tmp18 * tmp20
    tmp22 = tl.load(in3 + r, r_mask, 0)
    tmp23 = tmp22.to(tl.float32)
    tmp24 = tmp21 + tmp23
    tmp25 = tmp24.to(tl.float16)
    tl.store(out1 + (r + 768*x), tmp25, r_mask)
