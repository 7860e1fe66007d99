"""What is asked of the compiler, and when."""

from __future__ import annotations

from dataclasses import dataclass, field

from lampwork_inductor_gpu.compile_job import CompileJob, MachineCode, TritonType
from lampwork_inductor_gpu.kernel_codes import KernelCodes, KernelGroup
from lampwork_inductor_gpu.launch_spec import LaunchSpec, Variant


@dataclass
class FakeCompiler:
    """Keeps what it was asked for."""

    jobs: list[CompileJob] = field(default_factory=list)

    def request(self, job: CompileJob) -> FakeCompiler:
        self.jobs.append(job)
        return self

    def result(self) -> MachineCode:
        raise AssertionError("nobody waits here")

    @property
    def names(self) -> list[str]:
        return [job.name for job in self.jobs]


def spec(*size_names: str, programs: int = 1) -> LaunchSpec:
    return LaunchSpec(
        pointer_types=("*fp32", "*bf16"),
        size_names=size_names,
        float_names=("f0",),
        constants={"X_BLOCK": 64},
        warps=8,
        stages=3,
        checked=True,
        program_count=lambda sizes: programs,
        fits_narrow=(lambda sizes: max(sizes) < 100) if size_names else None,
        dividing=tuple(range(len(size_names))),
        options={"num_ctas": 2, "num_stages": 4},
    )


def test_a_job_has_all_that_decides_the_code() -> None:
    variant = Variant(aligned=True, divided=(False, True), narrow=True)
    job = spec("s0", "s1").job("kernel", "text", variant, 90)
    assert job.types == ("*fp32", "*bf16", "i32", "i32", "fp64")
    assert job.divisible == (0, 1, 3)
    assert job.constants == {"X_BLOCK": 64, "INDEX": TritonType("int32")}
    assert job.options == {
        "num_warps": 8, "num_stages": 4, "debug": True, "sanitize_overflow": False, "num_ctas": 2,
    }  # fmt: skip
    wide = spec("s0", "s1").job("kernel", "text", Variant(False, (False, False)), 90)
    assert wide.types == ("*fp32", "*bf16", "i64", "i64", "fp64") and wide.divisible == ()
    assert wide.constants["INDEX"] == TritonType("int64")
    assert spec("s0", "s1").parameter_sizes(narrow=True) == (8, 8, 4, 4, 8, 8, 8)
    assert spec("s0", "s1").parameter_sizes(narrow=False) == (8,) * 7


def test_a_variant_is_asked_for_once_until_it_is_forgotten() -> None:
    compiler = FakeCompiler()
    codes = KernelCodes("kernel", "text", spec(), compiler)
    for _ in range(2):
        codes.request(Variant(True), 90)
    assert len(compiler.jobs) == 1
    codes.request(Variant(False), 90)
    codes.request(Variant(True), 80)
    assert [job.architecture for job in compiler.jobs] == [90, 90, 80]
    codes.forget(Variant(True), 90)
    codes.request(Variant(True), 90)
    assert len(compiler.jobs) == 4


def test_kernels_without_sizes_are_asked_for_at_once_and_others_when_their_sizes_are_known() -> None:
    compiler = FakeCompiler()
    specs = {
        "plain": spec(), "of_s0": spec("s0"), "of_both": spec("s1", "s0"), "of_s2": spec("s2"),
        "nothing": spec("s0", programs=0),
    }  # fmt: skip
    codes = {name: KernelCodes(name, "text", one, compiler) for name, one in specs.items()}
    group = KernelGroup(tuple(codes.values()))
    group.begin(90)
    assert compiler.names == ["plain"]
    group.sizes_are({"s0": 32}, 90)
    assert compiler.names == ["plain", "of_s0"]
    group.sizes_are({"s1": 1000}, 90)
    assert compiler.names == ["plain", "of_s0", "of_both"]
    # the same request as that of a launch with these sizes
    codes["of_both"].request(specs["of_both"].variant_at((1000, 32), aligned=True), 90)
    codes["of_s0"].request(Variant(True, (True,), True), 90)
    group.sizes_are({"s0": 17, "s1": 17}, 90)
    assert len(compiler.jobs) == 3
