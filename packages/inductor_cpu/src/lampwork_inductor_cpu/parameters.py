"""The C++ parameters of a kernel: which type each argument has, written in one place.

`kernel` declares the function with them, `bind` calls it. Invariant: both write the same type for an argument.
"""

from __future__ import annotations

from lampwork_inductor_core.codegen.scheduled_kernel import (
    ArgumentRole,
    BufferArgument,
    FloatArgument,
    KernelArgument,
    ScheduledKernel,
)

from .ops import storage_type


def type_of(argument: KernelArgument) -> str:
    """The C++ type of an argument: a pointer to elements, `int64_t` or `double`."""
    if isinstance(argument, BufferArgument):
        const = "const " if argument.role is ArgumentRole.READ else ""
        return f"{const}{storage_type(argument.dtype)}*"
    return "double" if isinstance(argument, FloatArgument) else "int64_t"


def parameters_of(kernel: ScheduledKernel) -> list[str]:
    """The declarations of a kernel's arguments, in order. No two pointers of a kernel overlap where one is written."""
    return [
        f"{type_of(argument)} __restrict {argument.name}"
        if isinstance(argument, BufferArgument)
        else f"const {type_of(argument)} {argument.name}"
        for argument in kernel.arguments
    ]
