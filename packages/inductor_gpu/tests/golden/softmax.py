# persistent reduction: 1 x 1024, 1 warps
import triton
import triton.language as tl
from lampwork_inductor_gpu.device_functions import maximum


@triton.jit
def softmax_fde461b3bef9(in0, out0, X_BLOCK: tl.constexpr, R_BLOCK: tl.constexpr):
    x = tl.program_id(0) * X_BLOCK + tl.arange(0, X_BLOCK)[:, None]
    r = tl.arange(0, R_BLOCK)[None, :]
    r_mask = r < 768
    # _softmax
    tmp0 = tl.load(in0 + (r + 768*x), r_mask, 0)
    part1 = tl.where(r_mask, tmp0.to(tl.float32), tl.full([], float("-inf"), tl.float32))
    reduced2 = tl.reduce(part1, 1, maximum)[:, None].to(tl.float16)
    tmp3 = reduced2.to(tl.float32)
    tmp4 = tmp0.to(tl.float32)
    tmp5 = tmp4 - tmp3
    tmp6 = tl.exp(tmp5)
    part7 = tl.where(r_mask, tmp6, tl.full([], 0.0, tl.float32))
    sum8 = tl.sum(part7, 1)[:, None]
    tmp9 = tmp6 / sum8
    tmp10 = tmp9.to(tl.float16)
    tl.store(out0 + (r + 768*x), tmp10, r_mask)
