# persistent reduction: 1 x 1024, 2 warps
import triton
import triton.language as tl
from lampwork_inductor_gpu.device_functions import maximum


@triton.jit
def log_softmax_9ea1c55e55b3(in0, out0, out1, X_BLOCK: tl.constexpr, R_BLOCK: tl.constexpr):
    x = tl.program_id(0) * X_BLOCK + tl.arange(0, X_BLOCK)[:, None]
    r = tl.arange(0, R_BLOCK)[None, :]
    r_mask = r < 1000
    # _log_softmax
    tmp0 = tl.load(in0 + (r + 1000*x), r_mask, 0)
    part1 = tl.where(r_mask, tmp0, tl.full([], float("-inf"), tl.float32))
    reduced2 = tl.reduce(part1, 1, maximum)[:, None]
    tl.store(out0 + x, reduced2)
    tmp3 = tmp0 - reduced2
    tmp4 = tl.exp(tmp3)
    part5 = tl.where(r_mask, tmp4, tl.full([], 0.0, tl.float32))
    sum6 = tl.sum(part5, 1)[:, None]
    tl.store(out1 + x, sum6)


# persistent reduction: 1 x 32, 1 warps
import triton
import triton.language as tl


@triton.jit
def log_softmax_gather_mean_neg_8ad7d1e94465(in0, in1, in2, in3, out0, X_BLOCK: tl.constexpr, R_BLOCK: tl.constexpr):
    r = tl.arange(0, R_BLOCK)[None, :]
    r_mask = r < 24
    # _log_softmax, gather, mean
    tmp0 = tl.load(in0 + r, r_mask, 0)
    tmp1 = tmp0 < tl.full([], 0, tl.int64)
    tmp2 = tl.full([], 1000, tl.int64)
    tmp3 = tl.where(tmp1, tmp2, tmp0)
    tmp4 = tl.where(tmp3 < 0, tmp3 + 1000, tmp3)
    tl.device_assert(((0 <= tmp4) & (tmp4 < 1000)) | ((r_mask) == 0), "index out of bounds for a dimension of size 1000")
    tmp5 = tl.load(in1 + (1000*r + tmp4), r_mask, 0)
    tmp6 = tl.load(in2 + r, r_mask, 0)
    tmp7 = tmp5 - tmp6
    tmp8 = tl.load(in3 + r, r_mask, 0)
    tmp9 = tl.log(tmp8)
    tmp10 = tmp7 - tmp9
    part11 = tl.where(r_mask, tl.broadcast_to(tmp10, [X_BLOCK, R_BLOCK]), tl.full([], 0.0, tl.float32))
    sum12 = tl.sum(part11, 1)[:, None]
    # mean, neg
    tmp13 = sum12 * tl.full([], 0.0416666679084301, tl.float32)
    tmp14 = -tmp13
    tl.store(out0 + tl.full([X_BLOCK, 1], 0, tl.int32), tmp14)
