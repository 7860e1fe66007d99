"""All kernels of these tests run under Triton's interpreter, on CPU tensors; set before triton is imported."""

import os

os.environ["TRITON_INTERPRET"] = "1"
os.environ.setdefault("LAMPWORK_STRICT", "1")
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "0")
