"""Config: every threshold and switch of the core, as one frozen value.

Read once at the start of a compile and passed down; nothing below reads the environment. Invariant: a config never
changes what a graph computes, only how.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ScheduleConfig:
    """Thresholds of fusion and of kernel building."""

    max_fused: int = 64
    """Buffers that one kernel computes, at most."""
    max_arguments: int = 48
    """Buffers that one kernel names, at most."""
    horizontal_share: int = 4
    """Independent nodes fuse when at least one part in this many of the smaller one's traffic is shared."""
    small_traffic: int = 65536
    """Independent nodes that move at most this many bytes fuse if they share anything."""
    horizontal_reach: int = 8
    """Readers of one buffer that each reader is paired with."""
    horizontal_distance: int = 256
    """Independent nodes further apart in the program than this never fuse: their results would live too long."""
    parallel_rows: int = 8
    """Pointwise work joins a reduction if at least this many rows remain to run in parallel,"""
    serial_row_elements: int = 32768
    """or if a row has at most this many elements."""
    local_row_bytes: int = 65536
    """A value that crosses from one inner loop to the next is kept in a local row up to this size."""
    recompute_operations: int = 4
    """It is recomputed instead if that takes at most this many cheap operations and one read."""
    reuse_buffers: bool = True
    """Let a buffer take over the memory of one that is dead."""
    update_in_place: bool = True
    """Let a kernel overwrite an input that dies in it, where each point reads only what it overwrites."""
    fuse_with_reductions: bool = True
    """Let pointwise work join the kernel of a reduction. Off only to measure what that is worth."""


@dataclass(frozen=True, slots=True)
class Config:
    """Thresholds of the lowering and the passes. Counts are nodes of a loop body."""

    verify: bool = False
    """Check the IR's invariants after every stage (`LAMPWORK_VERIFY=1`)."""
    inline_operations: int = 6
    """A value with several users is recomputed in each only if it takes at most this many (cheap) operations,"""
    inline_reads: int = 1
    """and reads at most this many tensors of about its own size."""
    repeat_operations: int = 4
    """A value that a broadcast repeats (not along the last dimension) is recomputed only if it takes at most this many
    cheap operations; along the last dimension, none."""
    max_reads: int = 8
    """A value that reads more buffers than this is stored."""
    max_substituted_operations: int = 64
    """A larger body is stored before it is read through an index map that is not the identity."""
    max_operations: int = 2048
    """A larger body is stored."""
    max_concatenated: int = 4
    """A concatenation of more pieces than this is left to the library."""
    lower_scatter: bool = False
    """Generate scatters instead of calling the library's. Off until measured to pay."""
    channels_last: bool = True
    """Choose channels-last for graphs that convolutions dominate."""
    merge_linears: bool = False
    """Compute several linears of one input as one."""
    hoist_max_growth: float = 4.0
    """Hoist a tensor that is computed from static inputs only if it is at most this many times as large as they are."""
    replay: bool = True
    """Record the device's work of a graph and replay it, where a device can and it is proven safe."""
    disabled_passes: tuple[str, ...] = ()
    """Passes that are not run, by name, to measure what they are worth; a name that no pass of a graph has is without
    effect, as devices bring passes of their own."""

    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """Fusion, kernels and memory."""

    @staticmethod
    def from_environment(environment: Mapping[str, str] | None = None) -> Config:
        """The defaults, with what the environment variables say."""
        values = os.environ if environment is None else environment
        return Config(verify=values.get("LAMPWORK_VERIFY", "0") not in ("", "0"))
