# pointwise: 256 x 1, 1 warps
import triton
import triton.language as tl


@triton.jit
def mul_add_relu_8934bc5e0bf0(in0, in1, in2, out0, X_BLOCK: tl.constexpr):
    x = tl.program_id(0) * X_BLOCK + tl.arange(0, X_BLOCK)
    # mul, add, relu
    tmp0 = tl.load(in0 + x)
    tmp1 = tmp0.to(tl.float32)
    tmp2 = tl.load(in1 + (x % 64))
    tmp3 = tmp1 * tmp2
    tmp4 = tl.load(in2 + (x % 64))
    tmp5 = tmp3 + tmp4
    tmp6 = tmp5 < tl.full([], 0.0, tl.float32)
    tmp7 = tl.where(tmp6, tl.full([], 0.0, tl.float32), tmp5)
    tl.store(out0 + x, tmp7)
