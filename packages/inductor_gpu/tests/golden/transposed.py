# tiled: 64 x 64, 8 warps
import triton
import triton.language as tl


@triton.jit
def clone_42c3c9ba3aa1(in0, out0, X_BLOCK: tl.constexpr, Y_BLOCK: tl.constexpr):
    program = tl.program_id(0)
    x = (program // 1) * X_BLOCK + tl.arange(0, X_BLOCK)[:, None]
    x_mask = x < 160
    y = (program % 1) * Y_BLOCK + tl.arange(0, Y_BLOCK)[None, :]
    # clone
    tmp0 = tl.load(in0 + (64*x + y), x_mask, 0)
    tl.store(out0 + (5120*(x // 80) + x % 80 + 80*y), tmp0, x_mask)
