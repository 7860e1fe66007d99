# window: 512 x 1, 2 warps
import triton
import triton.language as tl
from lampwork_inductor_gpu.device_functions import maximum


@triton.jit
def max_pool2d_with_indices_5c3196a6d805(in0, out0, X_BLOCK: tl.constexpr):
    row = tl.program_id(0)
    x = tl.arange(0, X_BLOCK)
    x_mask = x < 224
    row0 = row // 6
    row1 = row % 6
    strip = x // 32
    lane = x % 32
    # max_pool2d_with_indices
    total0 = tl.full([X_BLOCK], float("-inf"), tl.float32)
    for down in range(tl.maximum(-2*row1 + 1, 0), tl.minimum(-2*row1 + 12, 3)):
        inside0 = 2*strip - 1 >= 0
        in0_at1 = in0 + (416*down + lane + 4576*row0 + 832*row1 + 64*strip)
        tmp2 = tl.load(in0_at1 - 448, inside0 & x_mask, float("-inf"))
        tmp3 = tmp2.to(tl.float32)
        total0 = maximum(total0, tmp3)
        tmp4 = tl.load(in0_at1 - 416, x_mask, 0)
        tmp5 = tmp4.to(tl.float32)
        total0 = maximum(total0, tmp5)
        inside6 = 2*strip + 1 < 13
        tmp7 = tl.load(in0_at1 - 384, inside6 & x_mask, float("-inf"))
        tmp8 = tmp7.to(tl.float32)
        total0 = maximum(total0, tmp8)
    total0 = total0.to(tl.float16)
    tl.store(out0 + (lane + 1344*row0 + 224*row1 + 32*strip), total0, x_mask)
