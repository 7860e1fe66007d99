"""Programs of torch's modes: grad and inference mode, autocast, devices, dtypes, random state, attention kernels."""

from __future__ import annotations

import contextlib
import functools

import torch
import torch.nn.functional as F
from surface import Surface
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

S = Surface()
whole, any_graphs = S.whole, S.any_graphs


def vec() -> torch.Tensor:
    return torch.tensor([1.0, 2.0, 3.0])


def leaf() -> torch.Tensor:
    return torch.tensor([1.0, 2.0, 3.0], requires_grad=True)


# Grad modes


@whole
def no_grad_as_context():
    def f(x):
        with torch.no_grad():
            y = x * 2
        return y, x * 3, torch.is_grad_enabled()

    return f, (leaf(),), (vec(),)


@whole
def grad_modes_nested():
    def f(x):
        with torch.no_grad():
            a = x * 2
            with torch.enable_grad():
                b = x * 3
                with torch.set_grad_enabled(False):
                    c = x * 4
                d = x * 5
            e = x * 6
        return a, b, c, d, e

    return f, (leaf(),)


@whole
def grad_mode_as_decorator():
    @torch.no_grad()
    def g(x):
        return x * 2, torch.is_grad_enabled()

    @torch.enable_grad()
    def h(x):
        return x * 3

    @torch.set_grad_enabled(False)
    def k(x):
        return x * 4

    def f(x):
        return g(x), h(x), k(x), x * 5

    return (
        f,
        (leaf(),),
        lambda: torch.set_grad_enabled(False),
        (leaf(),),
        lambda: torch.set_grad_enabled(True),
        (leaf(),),
    )


@whole
def no_grad_without_parentheses():
    @torch.no_grad
    def g(x):
        return x * 2

    def f(x):
        return g(x), x * 3

    return f, (leaf(),)


@whole
def decorated_root():
    @torch.no_grad()
    def f(x):
        return x * 2

    return f, (leaf(),), (leaf(),)


@whole
def inference_decorated_root():
    @torch.inference_mode()
    def f(x):
        return x * 2

    return f, (leaf(),), (leaf(),)


@whole
def grad_mode_as_plain_call():
    def f(x):
        torch.set_grad_enabled(False)
        y = x * 2
        torch.set_grad_enabled(True)
        return y, x * 3

    return f, (leaf(),)


@whole
def grad_mode_left_behind():
    def f(x):
        torch.set_grad_enabled(False)
        return x * 2

    return (
        f,
        (leaf(),),
        (leaf(),),
        lambda: torch.set_grad_enabled(True),
        (leaf(),),
        lambda: torch.set_grad_enabled(True),
    )


@any_graphs
def grad_mode_across_a_break():
    def f(x):
        with torch.no_grad():
            y = x * 2
            print("in")
            z = y + x
        return y, z, x * 3

    return f, (leaf(),), (vec(),)


@any_graphs
def grad_mode_raised_through():
    def f(x):
        with torch.no_grad():
            y = x * 2
            if x.requires_grad:
                raise ValueError("no")
        return y

    return f, (leaf(),), (vec(),), (leaf(),)


@whole
def grad_mode_raised_and_caught():
    def f(x):
        try:
            with torch.no_grad():
                y = x * 2
                raise ValueError("no")
        except ValueError:
            y = x * 3
        return y, torch.is_grad_enabled()

    return f, (leaf(),)


@whole
def grad_mode_by_flag():
    def f(x, flag):
        with torch.set_grad_enabled(flag):
            return x * 2

    return f, (leaf(), True), (leaf(), False), (leaf(), True)


@any_graphs
def grad_mode_in_exit_stack():
    def f(x, flag):
        with contextlib.ExitStack() as stack:
            if flag:
                stack.enter_context(torch.no_grad())
            return x * 2

    return f, (leaf(), True), (leaf(), False)


@whole
def grad_mode_or_null():
    def f(x, flag):
        with torch.no_grad() if flag else contextlib.nullcontext():
            return x * 2

    return f, (leaf(), True), (leaf(), False)


@whole
def grad_mode_in_generator():
    @contextlib.contextmanager
    def frozen(flag):
        with torch.set_grad_enabled(not flag):
            yield torch.is_grad_enabled()

    def f(x):
        with frozen(True) as inside:
            y = x * 2
        return y, inside, x * 3

    return f, (leaf(),)


@whole
def manager_object_reused():
    guard = torch.no_grad()

    def f(x):
        with guard:
            y = x * 2
        with guard:
            z = x * 3
        return y, z, x * 4

    return f, (leaf(),), (leaf(),)


@whole
def caller_in_no_grad():
    def f(x):
        return x * 2, torch.is_grad_enabled()

    def guarded(x):
        with torch.no_grad():
            return f(x)

    return guarded, (leaf(),), (vec(),)


@whole
def in_place_under_modes():
    def f(x):
        y = x.clone()
        with torch.no_grad():
            y.add_(1)
            z = y * 2
        return y, z, y.requires_grad, z.requires_grad

    return f, (leaf(),)


@whole
def view_made_under_no_grad():
    def f(x):
        with torch.no_grad():
            v = x.view(1, 3)
            d = x[0]
        return v * 2, v, d

    return f, (leaf(),), (leaf() * 1,)


# Inference mode


@whole
def inference_mode_context():
    def f(x):
        with torch.inference_mode():
            y = x * 2
            z = y.is_inference()
        return y, z, y.requires_grad, x + 1

    return f, (leaf(),), (vec(),)


@any_graphs
def inference_tensor_then_grad_raises():
    def f(x):
        with torch.inference_mode():
            y = x * 2
        return (y * x).sum()

    return f, (leaf(),)


@whole
def inference_tensor_as_argument():
    def f(x):
        return x * 2, x.is_inference()

    with torch.inference_mode():
        inferred = vec() * 1
    return f, (vec(),), (inferred,), (vec(),)


@whole
def inference_mode_false():
    def f(x):
        with torch.inference_mode(False):
            y = x * 2
        with torch.inference_mode(mode=True):
            z = x * 3
        return y, z

    return f, (leaf(),)


@any_graphs
def inference_mode_across_break():
    def f(x):
        with torch.inference_mode():
            y = x * 2
            print("in")
            z = y + 1
        return y, z

    return f, (leaf(),)


# Autocast


@whole
def autocast_context():
    lin = torch.nn.Linear(3, 2)

    def f(x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = lin(x)
            z = y.float() @ torch.ones(2, 2)
            on = torch.is_autocast_enabled("cpu")
        return y, z, on, lin(x)

    return f, (vec(),), (vec(),)


@whole
def autocast_nested_and_disabled():
    def f(x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            a = x @ x.t()
            with torch.autocast("cpu", enabled=False):
                b = x @ x.t()
                with torch.amp.autocast("cpu", dtype=torch.float16):
                    c = x @ x.t()
            d = x @ x.t()
        return a, b, c, d

    return f, (torch.ones(2, 2),)


@whole
def autocast_as_decorator():
    @torch.autocast("cpu", dtype=torch.bfloat16)
    def g(x):
        return x @ x

    def f(x):
        return g(x), x @ x

    return f, (torch.ones(2, 2),)


@whole
def autocast_decorated_root():
    @torch.autocast("cpu", dtype=torch.bfloat16)
    def f(x):
        return x @ x

    return f, (torch.ones(2, 2),), (torch.ones(2, 2),)


@whole
def autocast_around_the_call():
    def f(x):
        return x @ x, torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")

    def outer(x, dtype):
        with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
            return f(x)

    return (
        outer,
        (torch.ones(2, 2), torch.bfloat16),
        (torch.ones(2, 2), torch.float16),
        (torch.ones(2, 2), torch.bfloat16),
    )


@any_graphs
def autocast_across_break():
    def f(x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = x @ x
            print("in")
            z = x @ x
        return y, z, x @ x

    return f, (torch.ones(2, 2),), (torch.ones(2, 2),)


@any_graphs
def autocast_raised_through():
    def f(x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = x @ x
            raise KeyError("k")
        return y

    return f, (torch.ones(2, 2),), (torch.ones(2, 2),)


@whole
def autocast_with_gradients():
    lin = torch.nn.Linear(2, 2)

    def f(x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return lin(x).float().sum()

    return f, (torch.ones(2, 2),), lambda r: r[-1].backward(), (torch.ones(2, 2),), (lin.weight,)


@whole
def custom_fwd_bwd():
    class Double(torch.autograd.Function):
        @staticmethod
        @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
        def forward(ctx, x):
            return x * 2

        @staticmethod
        @torch.amp.custom_bwd(device_type="cpu")
        def backward(ctx, g):
            return g * 2

    def f(x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return Double.apply(x @ x)

    return f, (torch.ones(2, 2, requires_grad=True),), lambda r: r[-1].sum().backward()


# Attention kernels, profiler, other contexts


@whole
def sdpa_kernel_context():
    def f(q):
        with sdpa_kernel(SDPBackend.MATH):
            a = F.scaled_dot_product_attention(q, q, q)
            on = torch.backends.cuda.flash_sdp_enabled()
        return a, on, F.scaled_dot_product_attention(q, q, q)

    return f, (torch.ones(1, 2, 3, 4),), (torch.ones(1, 2, 3, 4),)


@whole
def sdpa_kernel_several_and_nested():
    def f(q):
        with sdpa_kernel([SDPBackend.MATH, SDPBackend.EFFICIENT_ATTENTION]):
            with sdpa_kernel(backends=[SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]):
                a = F.scaled_dot_product_attention(q, q, q, is_causal=True)
        return a

    return f, (torch.ones(1, 2, 3, 4),)


@whole
def sdpa_kernel_decorator():
    @sdpa_kernel(SDPBackend.MATH)
    def g(q):
        return F.scaled_dot_product_attention(q, q, q)

    def f(q):
        return g(q) + 1

    return f, (torch.ones(1, 2, 3, 4),)


@any_graphs
def sdpa_kernel_across_break():
    def f(q):
        with sdpa_kernel(SDPBackend.MATH):
            a = F.scaled_dot_product_attention(q, q, q)
            print(torch.backends.cuda.flash_sdp_enabled())
            b = a * 2
        return b, torch.backends.cuda.flash_sdp_enabled()

    return f, (torch.ones(1, 2, 3, 4),)


@whole
def record_function_context():
    def f(x):
        with torch.autograd.profiler.record_function("step"):
            y = x * 2
        with torch.profiler.record_function("other"):
            z = y + 1
        return z

    return f, (vec(),), (leaf(),)


@any_graphs
def record_function_across_break():
    def f(x):
        with torch.profiler.record_function("step"):
            y = x * 2
            print("in")
            z = y + 1
        return z

    return f, (vec(),)


@any_graphs
def set_default_dtype_in_frame():
    def f(x):
        torch.set_default_dtype(torch.float64)
        y = torch.ones(3)
        torch.set_default_dtype(torch.float32)
        return y + x, torch.ones(1)

    return f, (vec(),), (vec(),)


@whole
def device_context():
    def f(x):
        with torch.device("cpu"):
            y = torch.ones(3)
        with torch.device("meta"):
            z = torch.ones(3)
        return y + x, z.device.type, torch.ones(1).device.type

    return f, (vec(),), (vec(),)


@whole
def device_context_around_the_call():
    def f(x):
        return torch.ones(3), x + 1

    def outer(x, device):
        with torch.device(device):
            return f(x)

    return outer, (vec(), "cpu"), (vec(), "meta"), (vec(), "cpu")


@whole
def set_default_device_between_calls():
    def f(x):
        return torch.ones(3).device.type, x + 1

    return (
        f,
        (vec(),),
        lambda: torch.set_default_device("meta"),
        (torch.ones(3, device="cpu"),),
        lambda: torch.set_default_device(None),
        (vec(),),
    )


@whole
def deterministic_flags():
    def f(x):
        return x + 1, torch.are_deterministic_algorithms_enabled()

    return (
        f,
        (vec(),),
        lambda: torch.use_deterministic_algorithms(True),
        (vec(),),
        lambda: torch.use_deterministic_algorithms(False),
        (vec(),),
    )


@any_graphs
def anomaly_and_multithreading_modes():
    def f(x):
        with torch.autograd.set_detect_anomaly(True):
            y = x * 2
        with torch.autograd.set_multithreading_enabled(False):
            z = y * 2
        return z, torch.is_anomaly_enabled()

    return f, (leaf(),)


@any_graphs
def saved_tensors_hooks_context():
    def f(x):
        with torch.autograd.graph.saved_tensors_hooks(lambda t: t * 1, lambda t: t):
            y = x.exp()
        return y.sum()

    return f, (leaf(),), lambda r: r[-1].backward(), (leaf(),)


@any_graphs
def save_on_cpu_context():
    def f(x):
        with torch.autograd.graph.save_on_cpu():
            y = x.exp()
        return y.sum()

    return f, (leaf(),), lambda r: r[-1].backward()


@any_graphs
def cuda_contexts_on_cpu():
    def f(x):
        if torch.cuda.is_available():
            x = x.cuda()
        return x + 1, torch.cuda.device_count() > 99

    return f, (vec(),)


@whole
def num_threads_read():
    def f(x):
        return x + 1, torch.get_num_threads() > 0

    return f, (vec(),)


@whole
def matmul_precision_read():
    def f(x):
        return x + 1, torch.get_float32_matmul_precision()

    return (
        f,
        (vec(),),
        lambda: torch.set_float32_matmul_precision("high"),
        (vec(),),
        lambda: torch.set_float32_matmul_precision("highest"),
        (vec(),),
    )


@any_graphs
def backends_flags_read():
    def f(x):
        return x + 1, torch.backends.cudnn.enabled, torch.backends.cuda.matmul.allow_tf32, torch.backends.mkldnn.enabled

    def switch(value):
        return lambda: setattr(torch.backends.cuda.matmul, "allow_tf32", value)

    return f, (vec(),), switch(True), (vec(),), switch(False), (vec(),)


# Random


@whole
def random_functions():
    def f(x):
        return (
            torch.rand(2),
            torch.randn(2),
            torch.randint(0, 9, (3,)),
            torch.randperm(4),
            torch.rand_like(x),
            torch.randn_like(x),
            torch.bernoulli(x / 4),
            x.clone().uniform_(),
            x.clone().normal_(),
            x.clone().bernoulli_(0.5),
            x.clone().exponential_(),
            torch.multinomial(x, 2),
            torch.normal(0.0, 1.0, (2,)),
            F.dropout(x, 0.5),
            x.clone().random_(5),
            torch.poisson(x),
            torch.randint_like(x, 5),
            torch.normal(x, 1.0),
            F.alpha_dropout(x, 0.3, True),
            F.rrelu(x, training=True),
            x.clone().cauchy_(),
            F.gumbel_softmax(x),
        )

    return f, (vec(),), (vec(),)


@whole
def random_unused_still_advances():
    def f(x):
        torch.rand(3)
        F.dropout(x, 0.5)
        return x + 1

    return f, (vec(),), (vec(),)


@any_graphs
def manual_seed_in_frame():
    def f(x):
        torch.manual_seed(7)
        a = torch.rand(3)
        torch.manual_seed(7)
        return a, torch.rand(3), x + 1

    return f, (vec(),), (vec(),)


@any_graphs
def generator_argument():
    def f(x, g):
        return torch.rand(3, generator=g) + x, torch.randperm(3, generator=g)

    g = torch.Generator().manual_seed(5)
    return f, (vec(), g), (vec(), g)


@any_graphs
def generator_made_in_frame():
    def f(x):
        g = torch.Generator()
        g.manual_seed(3)
        return torch.rand(3, generator=g) + x

    return f, (vec(),), (vec(),)


@any_graphs
def rng_state_saved_and_restored():
    def f(x):
        state = torch.get_rng_state()
        a = torch.rand(3)
        torch.set_rng_state(state)
        return a, torch.rand(3), x + 1

    return f, (vec(),), (vec(),)


@any_graphs
def fork_rng_context():
    def f(x):
        with torch.random.fork_rng(devices=[]):
            a = torch.rand(3)
        return a, torch.rand(3), x + 1

    return f, (vec(),), (vec(),)


@any_graphs
def python_and_numpy_random():
    import random

    import numpy as np

    def f(x):
        return x * random.random() + random.randint(0, 5) + float(np.random.rand())

    def seed():
        random.seed(1)
        np.random.seed(1)

    return f, seed, (vec(),), (vec(),), seed, (vec(),)


@whole
def dropout_module_modes():
    d = torch.nn.Dropout(0.5)

    def f(x):
        return d(x) * 2

    return f, (vec(),), (vec(),), lambda: d.eval(), (vec(),), lambda: d.train(), (vec(),)


@whole
def random_in_loop_and_branch():
    def f(x, n):
        for _ in range(n):
            x = x + torch.randn(3)
        return x

    return f, (vec(), 2), (vec(), 3), (vec(), 2)


# torch.compiler and torch.overrides


@whole
def is_compiling_answers():
    def f(x):
        return x + 1, torch.jit.is_scripting(), torch.jit.is_tracing(), torch.compiler.is_exporting()

    return f, (vec(),)


@any_graphs
def disabled_function():
    @torch.compiler.disable
    def g(x):
        return x * torch.is_grad_enabled()

    def f(x):
        y = x + 1
        z = g(y)
        return z + 1

    return f, (vec(),), (leaf(),)


@any_graphs
def disabled_with_reason_and_recursion():
    @torch.compiler.disable(recursive=False)
    def g(x):
        return h(x) * 2

    def h(x):
        return x + 1

    def f(x):
        return g(x) + 1

    return f, (vec(),), (vec(),)


@whole
def assume_constant():
    class Box:
        pass

    box = Box()
    box.k = 3

    @torch.compiler.assume_constant_result
    def k():
        return box.k

    def f(x):
        return x * k()

    return f, (vec(),), (vec(),)


@whole
def allowed_in_graph():
    @torch.compiler.allow_in_graph
    def g(x):
        return torch.sin(x) + 1

    def f(x):
        return g(x) * 2

    return f, (vec(),), (leaf(),)


@any_graphs
def graph_break_call():
    def f(x):
        y = x + 1
        torch._dynamo.graph_break()
        return y * 2

    return f, (vec(),), (leaf(),)


@whole
def stance_set():
    def f(x):
        return x + 1

    return f, (vec(),), (vec(),)


@whole
def function_mode_around():
    from torch.overrides import TorchFunctionMode

    class Mode(TorchFunctionMode):
        def __init__(self):
            super().__init__()
            self.count = 0

        def __torch_function__(self, func, types, args=(), kwargs=None):
            self.count += 1
            out = func(*args, **(kwargs or {}))
            return out * 2 if func is torch.sin else out

    def f(x):
        return torch.sin(x) + 1

    def outer(x):
        mode = Mode()
        with mode:
            y = f(x)
        return y, mode.count

    return outer, (vec(),), (vec(),)


@any_graphs
def dispatch_mode_around():
    from torch.utils._python_dispatch import TorchDispatchMode

    class Mode(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.count += 1
            return func(*args, **(kwargs or {}))

    def f(x):
        return torch.sin(x) + 1

    def outer(x):
        mode = Mode()
        with mode:
            y = f(x)
        return y, mode.count

    return outer, (vec(),), (vec(),)


@whole
def mode_entered_outside_optimized():
    from torch.overrides import TorchFunctionMode

    class Twice(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            return out * 2 if func is torch.sin else out

    mode = Twice()

    def f(x):
        return torch.sin(x)

    def enter():
        mode.__enter__()

    def leave():
        mode.__exit__(None, None, None)

    return f, (vec(),), enter, (vec(),), leave, (vec(),)


@any_graphs
def disable_torch_function():
    def f(x):
        with torch._C.DisableTorchFunctionSubclass():
            y = x + 1
        return y * 2

    return f, (vec(),)


@whole
def patched_functional():
    def f(x):
        return F.relu(x) + torch.sin(x)

    original, sine = F.relu, torch.sin

    def patch():
        F.relu = lambda x: x * 100

    def patch_sin():
        torch.sin = lambda x: x * 1000

    def undo():
        F.relu, torch.sin = original, sine

    return f, (vec(),), patch, (vec(),), patch_sin, (vec(),), undo, (vec(),)


@whole
def patched_tensor_method():
    def f(x):
        return x.sin() + x.abs()

    original = torch.Tensor.sin

    def patch():
        torch.Tensor.sin = lambda self: self * 100

    def undo():
        torch.Tensor.sin = original

    return f, (vec(),), patch, (vec(),), undo, (vec(),)


@whole
def patched_tensor_operator():
    def f(x):
        return x + 1

    original = torch.Tensor.__add__

    def patch():
        torch.Tensor.__add__ = lambda self, other: self * 100

    def undo():
        torch.Tensor.__add__ = original

    return f, (vec(),), patch, (vec(),), undo, (vec(),)


@whole
def method_added_to_tensor():
    def f(x):
        return x.doubled() if hasattr(x, "doubled") else x + 1

    def add():
        torch.Tensor.doubled = lambda self: self * 2

    def change():
        torch.Tensor.doubled = lambda self: self * 4

    def remove():
        del torch.Tensor.doubled

    return f, (vec(),), add, (vec(),), change, (vec(),), remove, (vec(),)


@whole
def patched_module_forward_class():
    class M(torch.nn.Module):
        def forward(self, x):
            return x + 1

    def change():
        M.forward = lambda self, x: x * 5

    return M(), (vec(),), change, (vec(),)


@whole
def wrapped_with_functools():
    def logged(fn):
        @functools.wraps(fn)
        def inner(*args, **kwargs):
            with torch.no_grad():
                return fn(*args, **kwargs)

        return inner

    @logged
    def f(x):
        return x * 2

    return f, (leaf(),)


# Function modes of the program


class _Doubling(TorchFunctionMode):
    """Doubles what one function gives, and counts."""

    def __init__(self, target=torch.sin):
        super().__init__()
        self.target = target
        self.count = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.count += 1
        out = func(*args, **(kwargs or {}))
        return out * 2 if func is self.target else out


@whole
def function_mode_made_before():
    mode = _Doubling()

    def f(x):
        with mode:
            y = torch.sin(x) + x.cos()
        return y, mode.count

    return f, (vec(),), (vec(),), lambda: setattr(mode, "target", torch.Tensor.cos), (vec(),)


@whole
def function_mode_over_operators_and_properties():
    class Log(TorchFunctionMode):
        def __init__(self, seen):
            super().__init__()
            self.seen = seen

        def __torch_function__(self, func, types, args=(), kwargs=None):
            self.seen.append((func.__name__, len(args), [t.__name__ for t in types], sorted(kwargs or {})))
            return func(*args, **(kwargs or {}))

    def g(x):
        seen = []
        with Log(seen):
            a = 1 - x + x * 2
            b = x.shape, x.dtype, x.dim(), x.requires_grad
            c = F.relu(x), F.softmax(x, dim=0), torch.ones(2), torch.cat([x, x]), x.sum(dim=0), x.norm()
            d = -x, abs(x), ~(x > 1), x[0], x == 1, x**2, 2**x, x / 2, x // 2, x @ x, x.T, x.split(1)
            x[0] = 5
            x += 1
            e = F.linear(x, torch.ones(2, 3)), F.dropout(x, training=False), torch.tensor([1, 2])
        return a, b, c, d, e, seen, x

    return g, (vec(),), (vec(),)


@whole
def function_modes_over_modules():
    net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.ReLU(), torch.nn.LayerNorm(3))

    def f(x):
        mode = _Doubling(F.relu)
        with mode:
            y = net(x)
        return y, mode.count, net(x)

    return f, (vec(),), (vec(),)


@whole
def function_mode_raised_through():
    class Strict(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            if func is torch.cos:
                raise ValueError("no cosines")
            return func(*args, **(kwargs or {}))

    def f(x):
        try:
            with Strict():
                y = torch.sin(x)
                z = torch.cos(y)
        except ValueError as error:
            return torch.cos(x), str(error)
        return z, ""

    return f, (vec(),), (vec(),)


@any_graphs
def function_mode_across_a_break():
    def f(x):
        mode = _Doubling()
        with mode:
            y = torch.sin(x)
            print("in")
            z = torch.sin(y)
        return y, z, mode.count > 0

    return f, (vec(),), (vec(),)


@any_graphs
def function_mode_left_open():
    mode = _Doubling()

    def f(x):
        mode.__enter__()
        return torch.sin(x)

    def close():
        mode.__exit__(None, None, None)

    return f, (vec(),), close, (vec(),), close


@whole
def device_mode_of_the_program():
    class OnMeta(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            kwargs = dict(kwargs or {})
            if func in (torch.ones, torch.zeros, torch.empty):
                kwargs.setdefault("dtype", torch.float64)
            return func(*args, **kwargs)

    def f(x):
        with OnMeta():
            y = torch.ones(3) + torch.zeros(3, dtype=torch.float32)
        return y + x, torch.ones(1)

    return f, (vec(),), (vec(),)


@any_graphs
def function_mode_skipping_itself():
    def f(x):
        with _Doubling(torch.exp), torch._C.DisableTorchFunction():
            y = torch.exp(x)
        return y

    return f, (vec(),)
