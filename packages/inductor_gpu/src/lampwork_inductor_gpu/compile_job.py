"""CompileJob and MachineCode: what the compiler of one kernel gets and gives, as plain data.

Between launchers and the processes that compile. A job's JSON text crosses to them and is most of the key under which
its code is kept; machine code crosses back, and lies on disk, as `to_bytes`. Invariant: equal jobs have equal JSON;
imports neither torch nor triton.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

_HEADER_SIZE = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class TritonType:
    """A type of `triton.language` as the value of a constexpr parameter, by name (`"int32"`)."""

    name: str


Constant = int | float | str | bool | None | TritonType


class CompileFailed(RuntimeError):
    """A kernel did not become machine code. `kernel` is its name; the message has what the compiler said."""

    def __init__(self, kernel: str, message: str) -> None:
        super().__init__(
            f"kernel {kernel} does not compile:\n{message}\nHint: this is a defect in Lampwork; please report it with "
            "the kernel's text (`lampwork.explain` shows it)"
        )
        self.kernel = kernel


@dataclass(frozen=True, slots=True)
class CompileJob:
    """One variant of one kernel for one architecture.

    `types` are Triton's names for the types of the arguments of a launch, in order, and `constants` the values of the
    constexpr parameters. The arguments at `divisible` are multiples of 16 (pointers: bytes). `options` are Triton's.
    `architecture` is the compute capability (90 for 9.0).
    """

    name: str
    text: str
    types: tuple[str, ...]
    constants: Mapping[str, Constant]
    divisible: tuple[int, ...]
    options: Mapping[str, Any]
    architecture: int

    def to_json(self) -> str:
        """One text for equal jobs. Raises TypeError for constants and options that are no plain data."""
        constants = {
            name: {"type": value.name} if isinstance(value, TritonType) else value
            for name, value in self.constants.items()
        }
        fields = {
            "name": self.name,
            "text": self.text,
            "types": self.types,
            "constants": constants,
            "divisible": self.divisible,
            "options": dict(self.options),
            "architecture": self.architecture,
        }
        return json.dumps(fields, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> CompileJob:
        fields = json.loads(text)
        constants = {
            name: TritonType(value["type"]) if isinstance(value, dict) else value
            for name, value in fields["constants"].items()
        }
        return CompileJob(
            fields["name"],
            fields["text"],
            tuple(fields["types"]),
            constants,
            tuple(fields["divisible"]),
            fields["options"],
            fields["architecture"],
        )


@dataclass(frozen=True, slots=True)
class MachineCode:
    """A cubin and what its launch needs.

    `symbol` is the function's name in it; `shared`, `global_scratch` and `profile_scratch` are bytes; `warps` of one
    block; `blocks` of a cluster (1: no clusters); `parameters` the bytes of each parameter of the function.
    `overlapped`: it waits by itself for what runs before it (programmatic dependent launch).
    """

    symbol: str
    shared: int
    warps: int
    blocks: int
    cooperative: bool
    overlapped: bool
    global_scratch: int
    profile_scratch: int
    parameters: tuple[int, ...]
    cubin: bytes

    def to_bytes(self) -> bytes:
        """For the disk and for pipes."""
        fields = asdict(self)
        del fields["cubin"]
        header = json.dumps(fields).encode()
        return b"".join((_HEADER_SIZE.pack(len(header)), header, self.cubin))

    @staticmethod
    def from_bytes(data: bytes) -> MachineCode:
        """Raises ValueError for anything that `to_bytes` did not write."""
        try:
            (size,) = _HEADER_SIZE.unpack_from(data)
            end = _HEADER_SIZE.size + size
            fields = json.loads(data[_HEADER_SIZE.size : end])
            fields["parameters"] = tuple(fields["parameters"])
            made = MachineCode(cubin=data[end:], **fields)
        except (struct.error, TypeError, KeyError, ValueError) as error:
            raise ValueError(f"no machine code: {error}") from error
        if not made.cubin:
            raise ValueError("no machine code: empty")
        return made
