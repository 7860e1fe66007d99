# window: 256 x 1, 1 warps
import triton
import triton.language as tl


@triton.jit
def convolution_silu_ca435028de25(in0, in1, in2, out0, X_BLOCK: tl.constexpr):
    row = tl.program_id(0)
    x = tl.arange(0, X_BLOCK)
    x_mask = x < 224
    row0 = row // 11
    row1 = row % 11
    strip = x // 32
    lane = x % 32
    # convolution
    total0 = tl.full([X_BLOCK], 0.0, tl.float32)
    total1 = tl.full([X_BLOCK], 0.0, tl.float32)
    for down in range(tl.maximum(-row1 + 1, 0), tl.minimum(-row1 + 12, 3)):
        inside0 = 2*strip - 1 >= 0
        in0_at1 = in0 + (416*down + lane + 4576*row0 + 416*row1 + 64*strip)
        tmp2 = tl.load(in0_at1 - 448, inside0 & x_mask, 0.0)
        tmp3 = tmp2.to(tl.float32)
        in1_at4 = in1 + (96*down + lane)
        tmp5 = tl.load(in1_at4, x_mask, 0)
        tmp6 = tmp5.to(tl.float32)
        total0 += tmp3 * tmp6
        tmp7 = tl.load(in0_at1 - 416, x_mask, 0)
        tmp8 = tmp7.to(tl.float32)
        total1 += tmp8 * tmp6
        tmp9 = tl.load(in1_at4 + 32, x_mask, 0)
        tmp10 = tmp9.to(tl.float32)
        total0 += tmp8 * tmp10
        inside11 = 2*strip + 1 < 13
        tmp12 = tl.load(in0_at1 - 384, inside11 & x_mask, 0.0)
        tmp13 = tmp12.to(tl.float32)
        total1 += tmp13 * tmp10
        tmp14 = tl.load(in1_at4 + 64, x_mask, 0)
        tmp15 = tmp14.to(tl.float32)
        total0 += tmp13 * tmp15
        inside16 = 2*strip + 2 < 13
        tmp17 = tl.load(in0_at1 - 352, inside16 & x_mask, 0.0)
        tmp18 = tmp17.to(tl.float32)
        total1 += tmp18 * tmp15
    there1 = 2*strip + 1 < 13
    tmp19 = tl.load(in2 + lane, x_mask, 0)
    # convolution, silu
    tmp20 = tmp19.to(tl.float32)
    tmp21 = total0 + tmp20
    tmp22 = tmp21.to(tl.float16)
    tmp23 = tmp22.to(tl.float32)
    tmp24 = -tmp23
    tmp25 = tl.exp(tmp24)
    tmp26 = tl.full([], 1.0, tl.float32) + tmp25
    tmp27 = tmp23 / tmp26
    tmp28 = tmp27.to(tl.float16)
    tl.store(out0 + (lane + 4576*row0 + 416*row1 + 64*strip), tmp28, x_mask)
    tmp29 = tmp19.to(tl.float32)
    tmp30 = total1 + tmp29
    tmp31 = tmp30.to(tl.float16)
    tmp32 = tmp31.to(tl.float32)
    tmp33 = -tmp32
    tmp34 = tl.exp(tmp33)
    tmp35 = tl.full([], 1.0, tl.float32) + tmp34
    tmp36 = tmp32 / tmp35
    tmp37 = tmp36.to(tl.float16)
    tl.store(out0 + (lane + 4576*row0 + 416*row1 + 64*strip + 32), tmp37, there1 & x_mask)
