"""The launcher of a card, without a card: which machine code it asks for, what it keeps, and what the driver reads."""

from __future__ import annotations

import contextlib
import ctypes
import struct
import threading
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from lampwork_inductor_gpu import launch_function
from lampwork_inductor_gpu import launcher as module
from lampwork_inductor_gpu.compile_job import CompileFailed, CompileJob, MachineCode, TritonType
from lampwork_inductor_gpu.driver import DriverError, LoadedKernel, loaded_kernel
from lampwork_inductor_gpu.kernel_codes import KernelCodes, KernelGroup
from lampwork_inductor_gpu.launch_spec import LaunchSpec, Variant
from lampwork_inductor_gpu.launcher import Launcher, LaunchTooLarge, UnfitMachineCode


@dataclass
class FakeTensor:
    """What a launcher reads of a tensor."""

    address: int = 256
    device: int = 0

    def data_ptr(self) -> int:
        return self.address

    def get_device(self) -> int:
        return self.device


@dataclass(frozen=True)
class Launch:
    """What the driver would read at a launch."""

    variant: Variant
    loaded_on: int
    device: int
    grid: int
    stream: int
    shape: tuple[int, ...]
    attributes: tuple[tuple[int, int], ...]  # which, first word of the value
    arguments: tuple[Any, ...]


@dataclass
class FakeCard:
    """Stands for the compiler, the driver and two devices."""

    spec: LaunchSpec
    code: MachineCode
    requested: list[tuple[Variant, int]] = field(default_factory=list)
    loaded: list[tuple[int, Variant]] = field(default_factory=list)
    launches: list[Launch] = field(default_factory=list)
    current: int = 0
    switched: int = 0
    statuses: list[int] = field(default_factory=list)  # of the launches to come; then 0
    attached: list[int] = field(default_factory=list)
    scratch: list[torch.Tensor] = field(default_factory=list)  # that launches asked for

    # -- the compiler

    def request(self, job: CompileJob) -> Any:
        pointers = len(self.spec.pointer_types)
        variant = Variant(
            aligned=0 in job.divisible,
            divided=tuple(pointers + k in job.divisible for k in range(len(self.spec.size_names))),
            narrow=job.constants.get("INDEX") == TritonType("int32"),
        )
        assert job == self.spec.job("kernel", "text", variant, job.architecture)
        self.requested.append((variant, job.architecture))
        sizes = self.spec.parameter_sizes(narrow=variant.narrow)
        code = replace(self.code, parameters=sizes, cubin=repr(variant).encode())

        class Pending:
            def result(self) -> MachineCode:
                return code

        return Pending()

    # -- the driver

    def new_scratch(self, count: int, device: int) -> torch.Tensor:
        assert device == self.current
        self.scratch.append(torch.empty(count, dtype=torch.uint8))
        return self.scratch[-1]

    def current_device(self) -> int:
        return self.current

    def current_stream(self, device: int) -> int:
        assert device == self.current
        return 7000 + device

    @contextlib.contextmanager
    def on_device(self, index: int):
        before, self.current = self.current, index
        self.switched += 1
        yield
        self.current = before

    def architecture(self, device: int) -> int:
        return 90 + device

    def load(self, code: MachineCode) -> LoadedKernel:
        variant = eval(code.cubin.decode())
        self.loaded.append((self.current, variant))
        return loaded_kernel((variant, self.current), code)

    def attach(self, status: int, device: int) -> bool:
        self.attached.append(status)
        return status == 201

    def error(self, what: str, status: int) -> DriverError:
        return DriverError(what, status, "refused")

    def launch(self, configuration: ctypes.c_void_p, function: Any, parameters: ctypes.c_void_p, extra: None) -> int:
        if self.statuses and (status := self.statuses.pop(0)):
            return status
        variant, loaded_on = function
        grid, *shape, stream, attributes, count = struct.unpack("=7I4xQQI4x", ctypes.string_at(configuration, 56))
        assert extra is None and (count == 0) == (attributes == 0)
        found = [struct.unpack_from("=I4xI", ctypes.string_at(attributes + 72 * k, 72)) for k in range(count)]
        pointers, sizes, floats = (
            len(self.spec.pointer_types), len(self.spec.size_names), len(self.spec.float_names),
        )  # fmt: skip
        size_type = ctypes.c_int32 if variant.narrow else ctypes.c_int64
        types = [*[ctypes.c_uint64] * pointers, *[size_type] * sizes, *[ctypes.c_double] * floats]
        places = (ctypes.c_void_p * (len(types) + 2)).from_address(parameters.value or 0)
        scratch = [ctypes.c_uint64.from_address(place).value for place in places[len(types) :]]
        assert scratch == [self.scratch[-1].data_ptr() if self.scratch else 0, 0]
        assert len({*places}) == len(types) + 2
        arguments = tuple(t.from_address(place).value for t, place in zip(types, places))
        self.launches.append(
            Launch(variant, loaded_on, self.current, grid, stream, tuple(shape), tuple(found), arguments)
        )
        return 0


def make_spec(sizes: int = 2, dividing: tuple[int, ...] = (1,), limit: int = 1 << 20) -> LaunchSpec:
    """Two tensors, sizes of which some matter, and a float."""
    return LaunchSpec(
        pointer_types=("*fp32", "*fp32"),
        size_names=tuple(f"s{k}" for k in range(sizes)),
        float_names=("f0",),
        constants={"X_BLOCK": 64},
        warps=4,
        stages=2,
        checked=False,
        program_count=lambda given: -(-given[0] // 64) if given else 5,
        fits_narrow=(lambda given: max(given) <= limit) if sizes else None,
        dividing=dividing,
    )


CODE = MachineCode("kernel", 1000, 4, 1, False, False, 0, 0, (), b"")


def launcher(spec: LaunchSpec | None = None, code: MachineCode = CODE) -> tuple[Launcher, FakeCard]:
    spec = make_spec() if spec is None else spec
    card = FakeCard(spec, code)
    codes = KernelCodes("kernel", "text", spec, card)
    return Launcher(codes, KernelGroup([codes]), lambda: card), card


def test_a_launch_gets_all_arguments_and_the_grid() -> None:
    launch, card = launcher()
    x, y = FakeTensor(), FakeTensor(512)
    for _ in range(3):
        launch(x, y, 100, 32, 0.5)
    variant = Variant(aligned=True, divided=(False, True), narrow=True)
    expected = Launch(variant, 0, 0, 2, 7000, (1, 1, 128, 1, 1, 1000), (), (256, 512, 100, 32, 0.5))
    assert card.launches == [expected] * 3
    launch(x, y, 1 << 21, 32, -1e300)
    wide = replace(variant, narrow=False)
    assert card.launches[3] == replace(expected, variant=wide, grid=1 << 15, arguments=(256, 512, 1 << 21, 32, -1e300))
    launch(x, y, 0, 32, 0.5)
    assert len(card.launches) == 4  # no programs
    assert card.loaded == [(0, variant), (0, wide)]


def test_a_kernel_without_sizes() -> None:
    launch, card = launcher(make_spec(0, ()))
    for address in (256, 1 << 62):
        launch(FakeTensor(address), FakeTensor(16), 2.0)
    assert [found.arguments for found in card.launches] == [(256, 16, 2.0), (1 << 62, 16, 2.0)]
    assert card.loaded == [(0, Variant(True))] and card.switched == 1


def test_negative_sizes_reach_a_narrow_kernel() -> None:
    launch, card = launcher()
    launch(FakeTensor(), FakeTensor(), 64, -3, 0.0)
    assert card.launches[0].variant.narrow and card.launches[0].arguments[2:4] == (64, -3)


def test_clusters_are_a_multiple_of_the_grid_and_attributes() -> None:
    launch, card = launcher(code=replace(CODE, blocks=4, cooperative=True, overlapped=True))
    launch(FakeTensor(), FakeTensor(), 640, 32, 0.5)
    assert card.launches[0].grid == 40
    assert card.launches[0].attributes == ((6, 1), (2, 1), (4, 4), (5, 1))


def test_sizes_that_do_not_matter_make_no_variants() -> None:
    launch, card = launcher()
    for batch in (1, 16, 17, 32, 100):
        for columns in (16, 48, 50):
            launch(FakeTensor(), FakeTensor(512), batch, columns, 0.5)
    assert card.loaded == [(0, Variant(True, (False, divided), True)) for divided in (True, False)]
    assert [found.arguments[2:4] for found in card.launches[:3]] == [(1, 16), (1, 48), (1, 50)]
    assert all(found.variant.divided[1] == (found.arguments[3] % 16 == 0) for found in card.launches)


@pytest.mark.parametrize("unaligned", [0, 1])
def test_alignment_is_looked_at_in_each_launch(unaligned: int) -> None:
    launch, card = launcher()
    for _ in range(3):
        launch(FakeTensor(), FakeTensor(), 16, 16, 0.5)
        launch(*(FakeTensor(264 if k == unaligned else 256) for k in range(2)), 16, 16, 0.5)
    assert [variant.aligned for _, variant in card.loaded] == [True, False]
    assert [found.variant.aligned for found in card.launches] == [True, False] * 3


def test_each_device_has_machine_code_of_its_own() -> None:
    launch, card = launcher()
    for device in (0, 1, 0, 1):
        for address in (256, 260):
            launch(FakeTensor(address, device), FakeTensor(256, device), 16, 16, 0.5)
    assert [device for device, _ in card.loaded] == [0, 0, 1, 1]
    assert [architecture for _, architecture in card.requested] == [90, 90, 91, 91]
    assert all(found.loaded_on == found.device and found.stream == 7000 + found.device for found in card.launches)
    assert [found.device for found in card.launches] == [0, 0, 1, 1, 0, 0, 1, 1]
    assert [found.variant.aligned for found in card.launches] == [True, False] * 4


def test_the_device_is_switched_only_if_another_one_is_current() -> None:
    launch, card = launcher()
    for _ in range(4):
        launch(FakeTensor(), FakeTensor(), 16, 16, 0.5)
    assert card.switched == 1  # the first
    launch(FakeTensor(device=1), FakeTensor(device=1), 16, 16, 0.5)
    launch(FakeTensor(device=1), FakeTensor(device=1), 16, 16, 0.5)
    assert card.switched == 3 and card.current == 0
    card.current = 1
    launch(FakeTensor(device=1), FakeTensor(device=1), 16, 16, 0.5)
    assert card.switched == 3
    assert len(card.loaded) == 2


def test_after_many_variants_there_is_one_for_any_sizes() -> None:
    launch, card = launcher(make_spec(6, tuple(range(6))))
    for which in range(64):
        sizes = tuple(16 if which >> k & 1 else 17 for k in range(6))
        for device in (0, 1):
            launch(FakeTensor(device=device), FakeTensor(device=device), *sizes, 0.5)
            found = card.launches[-1]
            assert found.loaded_on == found.device == device
            # what a variant takes for divided is
            assert all(size % 16 == 0 for size, divided in zip(sizes, found.variant.divided) if divided)
    for device in (0, 1):
        made = [variant for on, variant in card.loaded if on == device]
        assert len(made) == len(set(made)) <= module._MOST_VARIANTS + 1
        assert Variant(True, (False,) * 6, True) in made
    before = len(card.loaded)
    launch(FakeTensor(), FakeTensor(), *(16,) * 5, 17, 0.5)  # known sizes, and a variant that was made early
    launch(FakeTensor(), FakeTensor(), *(1024,) * 6, 0.5)  # new sizes
    assert len(card.loaded) == before
    assert card.launches[-1].variant.divided == (False,) * 6
    launch(FakeTensor(264), FakeTensor(), *(1 << 21,) * 6, 0.5)
    assert card.launches[-1].variant == Variant(aligned=False, divided=(False,) * 6, narrow=False)


def test_sizes_go_when_there_are_many_and_machine_code_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_SIZES", 8)
    launch, card = launcher()
    for rows in (*range(1, 40), *range(1, 40)):
        launch(FakeTensor(), FakeTensor(), rows, 16, 0.5)
        assert len(launch._known) <= 8
    assert len(card.loaded) == 1
    assert [found.arguments[2] for found in card.launches] == [*range(1, 40)] * 2


def test_a_known_launch_goes_straight_to_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    launch, card = launcher()
    launch(FakeTensor(), FakeTensor(), 16, 16, 0.5)
    # what a launch does in between is in the function that the first one bound
    for name in ("_ready", "_kernel", "_try", "spec"):
        monkeypatch.setattr(Launcher, name, None)
    monkeypatch.setattr(launch_function.ReadyLaunch, "new_cells", None)
    launch(FakeTensor(), FakeTensor(), 16, 16, 0.25)
    assert [found.arguments[-1] for found in card.launches] == [0.5, 0.25]


def test_prepare_loads_and_launches_nothing() -> None:
    launch, card = launcher()
    launch.prepare(1, (16, 16))
    launch.prepare(0, (0, 16))  # nothing to do
    assert card.loaded == [(1, Variant(True, (False, True), True))] and not card.launches
    launch.prepare(1, (16, 16), aligned=False)
    assert len(card.loaded) == 2
    card.current = 1
    before = card.switched
    launch(FakeTensor(device=1), FakeTensor(device=1), 16, 16, 0.5)
    launch(FakeTensor(8, device=1), FakeTensor(device=1), 16, 16, 0.5)
    assert len(card.launches) == 2 and len(card.loaded) == 2 and card.switched == before


@pytest.mark.parametrize("earlier", [0, 1])
def test_a_thread_without_a_context_gets_it(earlier: int) -> None:
    launch, card = launcher()
    for _ in range(earlier):
        launch(FakeTensor(), FakeTensor(), 16, 16, 0.5)
    card.statuses = [201]
    launch(FakeTensor(), FakeTensor(), 16, 16, 0.25)
    assert card.attached == [201] and card.launches[-1].arguments[-1] == 0.25 and len(card.launches) == earlier + 1


@pytest.mark.parametrize("statuses", [[0, 700], [0, 201, 700]])
def test_a_refused_launch_names_the_kernel(statuses: list[int]) -> None:
    launch, card = launcher()
    card.statuses = list(statuses)
    launch(FakeTensor(), FakeTensor(), 16, 16, 0.5)
    with pytest.raises(DriverError, match=r"launching kernel kernel: refused .*700") as caught:
        launch(FakeTensor(), FakeTensor(), 16, 16, 0.5)
    assert caught.value.status == 700 and len(card.launches) == 1


def test_threads_share_no_cells() -> None:
    """Launches of many threads, each stopped inside of the driver: every one reads its own arguments."""
    launch, card = launcher()
    launch(FakeTensor(), FakeTensor(), 16, 16, 0.0)
    inside = threading.Barrier(8)
    read = card.launch

    def stop_and_read(*arguments: Any) -> int:
        inside.wait(10)
        status = read(*arguments)
        inside.wait(10)
        return status

    card.launch = stop_and_read  # type: ignore[method-assign]
    launch = Launcher(launch.codes, launch.group, lambda: card)
    card.launches.clear()

    def run(number: int) -> None:
        for turn in range(5):
            launch(FakeTensor(16 * number + 16), FakeTensor(), 16, 16, float(100 * number + turn))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = {(x.arguments[0], x.arguments[4]) for x in card.launches}
    assert found == {(16 * n + 16, float(100 * n + turn)) for n in range(8) for turn in range(5)}
    assert len(launch._known[16, 16][0].free) == 8  # one for each that was inside, and all are back


def test_more_programs_than_a_launch_has() -> None:
    launch, card = launcher()
    with pytest.raises(LaunchTooLarge, match="kernel kernel needs"):
        launch(FakeTensor(), FakeTensor(), 1 << 40, 16, 0.5)
    assert not card.launches


@pytest.mark.parametrize("change", [{"global_scratch": 128}, {"profile_scratch": 8}])
def test_scratch_memory_is_not_made_up(change: dict[str, int]) -> None:
    launch, card = launcher(code=replace(CODE, **change))
    with pytest.raises(UnfitMachineCode, match="scratch"):
        launch(FakeTensor(), FakeTensor(), 16, 16, 0.5)
    assert not card.loaded


@pytest.mark.parametrize("parameters", [(8, 8, 8, 8, 8, 8, 8), (8, 8, 4, 4, 8, 8), (8, 8, 4, 4, 8, 8, 8, 8)])
def test_code_that_reads_other_parameters_is_not_launched(parameters: tuple[int, ...]) -> None:
    launch, card = launcher()
    wrong = KernelCodes("kernel", "text", launch.spec, _Gives(replace(CODE, parameters=parameters)))
    with pytest.raises(UnfitMachineCode, match="parameters"):
        Launcher(wrong, KernelGroup([wrong]), lambda: card)(FakeTensor(), FakeTensor(), 16, 16, 0.5)
    assert not card.loaded


@dataclass
class _Gives:
    """A compiler with one answer."""

    answer: MachineCode | Exception

    def request(self, job: CompileJob) -> _Gives:
        return self

    def result(self) -> MachineCode:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_a_kernel_that_does_not_compile_says_so_at_each_launch() -> None:
    card = FakeCard(make_spec(), CODE)
    codes = KernelCodes("kernel", "text", make_spec(), _Gives(CompileFailed("kernel", "no such operation")))
    launch = Launcher(codes, KernelGroup([codes]), lambda: card)
    for _ in range(2):
        with pytest.raises(CompileFailed, match="kernel kernel does not compile:\nno such operation"):
            launch(FakeTensor(), FakeTensor(), 16, 16, 0.5)


def test_a_kernel_that_reads_blocks_gets_memory_to_describe_them_in() -> None:
    spec = replace(make_spec(0, ()), block_reads=(0, 1))
    launch, card = launcher(spec, replace(CODE, global_scratch=256))
    for _ in range(3):
        launch(FakeTensor(), FakeTensor(512), 2.0)
    assert [t.numel() for t in card.scratch] == [5 * 256] * 3
    assert [found.arguments for found in card.launches] == [(256, 512, 2.0)] * 3


def test_blocks_are_read_from_aligned_memory() -> None:
    launch, card = launcher(replace(make_spec(0, ()), block_reads=(1,)), replace(CODE, global_scratch=128))
    whole = torch.arange(65, dtype=torch.float32)
    first = 1 if whole.data_ptr() % 16 == 0 else 0
    astray = whole[first : first + 64].view(8, 8).t()
    assert astray.data_ptr() % 16
    for _ in range(2):  # neither is taken for one whose memory is known to be aligned
        launch(FakeTensor(), astray, 2.0)
        address = card.launches[-1].arguments[1]
        assert address % 16 == 0 and address != astray.data_ptr()
    launch(FakeTensor(), FakeTensor(512), 2.0)
    assert card.launches[-1].arguments == (256, 512, 2.0)
