"""Jobs and machine code as bytes: what crosses to the processes that compile, and what lies on disk."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from lampwork_inductor_gpu.compile_job import CompileJob, MachineCode, TritonType

JOB = CompileJob(
    name="kernel",
    text="text",
    types=("*fp32", "i32", "fp64"),
    constants={"X_BLOCK": 64, "INDEX": TritonType("int32"), "FLAG": True, "NOTHING": None, "NAME": "int32", "F": 0.5},
    divisible=(0,),
    options={"num_warps": 4, "maxnreg": None},
    architecture=90,
)
CODE = MachineCode("kernel", 1024, 4, 2, True, False, 0, 0, (8, 4, 8, 8, 8), b"\x7fELF \x00\xff")


def test_a_job_crosses_as_it_is() -> None:
    assert CompileJob.from_json(JOB.to_json()) == JOB
    json.loads(JOB.to_json())


def test_equal_jobs_have_one_text_and_others_another() -> None:
    turned = replace(JOB, constants=dict(reversed(JOB.constants.items())), options=dict(reversed(JOB.options.items())))
    assert turned.to_json() == JOB.to_json()
    others = [
        replace(JOB, name="k"),
        replace(JOB, text="other"),
        replace(JOB, types=("*fp32", "i64", "fp64")),
        replace(JOB, constants={**JOB.constants, "INDEX": "int32"}),
        replace(JOB, constants={**JOB.constants, "FLAG": False}),
        replace(JOB, divisible=(0, 1)),
        replace(JOB, options={"num_warps": 8, "maxnreg": None}),
        replace(JOB, architecture=80),
    ]
    assert len({job.to_json() for job in [JOB, *others]}) == len(others) + 1


def test_options_are_plain_data() -> None:
    with pytest.raises(TypeError):
        replace(JOB, options={"num_warps": object()}).to_json()


def test_machine_code_comes_back_from_bytes() -> None:
    assert MachineCode.from_bytes(CODE.to_bytes()) == CODE


@pytest.mark.parametrize(
    "data", [b"", b"\x01", b"\x05\x00\x00\x00{}", CODE.to_bytes()[: -len(CODE.cubin)], b"\xff" * 99]
)
def test_other_bytes_are_no_machine_code(data: bytes) -> None:
    with pytest.raises(ValueError, match="no machine code"):
        MachineCode.from_bytes(data)
