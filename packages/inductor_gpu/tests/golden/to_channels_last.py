# tiled: 32 x 64, 4 warps
import triton
import triton.language as tl


@triton.jit
def mul_clone_0af8845e7cc9(in0, out0, X_BLOCK: tl.constexpr, Y_BLOCK: tl.constexpr):
    program = tl.program_id(0)
    start = (program // 2) * X_BLOCK
    x_high = start // 32
    x_low = start % 32 + tl.arange(0, X_BLOCK)[:, None]
    y = (program % 2) * Y_BLOCK + tl.arange(0, Y_BLOCK)[None, :]
    y_mask = y < 99
    # mul, clone
    tmp0 = tl.load(in0 + (3168*x_high + 99*x_low + y), y_mask, 0)
    tmp1 = tmp0 * tl.full([], 2.0, tl.float32)
    tl.store(out0 + (3168*x_high + x_low + 32*y), tmp1, y_mask)
