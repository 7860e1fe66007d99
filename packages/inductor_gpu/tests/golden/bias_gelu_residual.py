# pointwise: 512 x 1, 2 warps
import triton
import triton.language as tl
from lampwork_inductor_gpu.device_functions import rough_erf


@triton.jit
def add_gelu_6a8c24f41bd4(in0, in1, in2, out0, X_BLOCK: tl.constexpr):
    x = tl.program_id(0) * X_BLOCK + tl.arange(0, X_BLOCK)
    # add, gelu, add_1
    tmp0 = tl.load(in0 + x)
    tmp1 = tmp0.to(tl.float32)
    tmp2 = tl.load(in1 + (x % 256))
    tmp3 = tmp2.to(tl.float32)
    tmp4 = tmp1 + tmp3
    tmp5 = tmp4.to(tl.float16)
    tmp6 = tmp5.to(tl.float32)
    tmp7 = tmp6 * tl.full([], 0.5, tl.float32)
    tmp8 = tmp6 * tl.full([], 0.7071067811865476, tl.float32)
    tmp9 = rough_erf(tmp8)
    tmp10 = tl.full([], 1.0, tl.float32) + tmp9
    tmp11 = tmp7 * tmp10
    tmp12 = tmp11.to(tl.float16)
    tmp13 = tmp12.to(tl.float32)
    tmp14 = tl.load(in2 + x)
    tmp15 = tmp14.to(tl.float32)
    tmp16 = tmp13 + tmp15
    tmp17 = tmp16.to(tl.float16)
    tl.store(out0 + x, tmp17)
