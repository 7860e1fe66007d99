"""The launcher of a card, without a card: which machine code it asks for, and what it keeps."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from lampwork_inductor_gpu import launcher as module
from lampwork_inductor_gpu.launcher import Launcher, LaunchSpec, Variant


@dataclass
class FakeTensor:
    """What a launcher reads of a tensor."""

    address: int
    device: SimpleNamespace

    def data_ptr(self) -> int:
        return self.address


@dataclass
class FakeCard:
    """Stands for the compiler and the devices. `runs` has (device of the code, variant, device now, arguments)."""

    compiled: list[tuple[int, Variant]] = field(default_factory=list)
    runs: list[tuple[int, Variant, int, tuple[Any, ...]]] = field(default_factory=list)
    current: int = 0

    @contextlib.contextmanager
    def device(self, index: int):
        before, self.current = self.current, index
        yield
        self.current = before

    def compile(self, function: Any, spec: LaunchSpec, target: None, variant: Variant) -> SimpleNamespace:
        made_on = self.current
        self.compiled.append((made_on, variant))

        def run(programs: int, y: int, z: int, stream: str, *rest: Any) -> None:
            assert (y, z, stream, rest[:5]) == (1, 1, f"stream of {self.current}", ("code", "data", None, None, None))
            self.runs.append((made_on, variant, self.current, (programs, *rest[5:])))

        return SimpleNamespace(run=run, function="code", packed_metadata="data")


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> FakeCard:
    made = FakeCard()
    cuda = SimpleNamespace(
        device=made.device, current_stream=lambda index: SimpleNamespace(cuda_stream=f"stream of {index}")
    )
    monkeypatch.setattr(module, "torch", SimpleNamespace(cuda=cuda))
    monkeypatch.setattr(module, "compile_kernel", made.compile)
    return made


def spec(sizes: int = 2, dividing: tuple[int, ...] = (1,), limit: int = 1 << 20) -> LaunchSpec:
    """Two tensors, sizes of which some matter, and a float."""
    return LaunchSpec(
        pointer_types=("*fp32", "*fp32"),
        size_names=tuple(f"s{k}" for k in range(sizes)),
        float_names=("f0",),
        constants={"X_BLOCK": 64},
        warps=4,
        stages=2,
        checked=False,
        program_count=lambda given: -(-given[0] // 64),
        fits_narrow=lambda given: max(given) <= limit,
        dividing=dividing,
    )


def tensor(address: int = 256, device: int = 0) -> FakeTensor:
    return FakeTensor(address, SimpleNamespace(index=device))


def test_a_launch_gets_all_arguments_and_the_grid(card: FakeCard) -> None:
    launch, x, y = Launcher(None, spec()), tensor(), tensor(512)
    launch(x, y, 100, 32, 0.5)
    variant = Variant(aligned=True, divided=(False, True), narrow=True)
    assert card.runs == [(0, variant, 0, (2, x, y, 100, 32, 0.5, 64, module.tl.int32))]
    launch(x, y, 1 << 21, 32, 0.5)
    variant = Variant(aligned=True, divided=(False, True), narrow=False)
    assert card.runs[1] == (0, variant, 0, (1 << 15, x, y, 1 << 21, 32, 0.5, 64, module.tl.int64))
    launch(x, y, 0, 32, 0.5)
    assert len(card.runs) == 2  # no programs


def test_sizes_that_do_not_matter_make_no_variants(card: FakeCard) -> None:
    launch, x, y = Launcher(None, spec()), tensor(), tensor(512)
    for batch in (1, 16, 17, 32, 100):
        for columns in (16, 48, 50):
            launch(x, y, batch, columns, 0.5)
    assert card.compiled == [(0, Variant(True, (False, divided), True)) for divided in (True, False)]
    assert [run[3][3:5] for run in card.runs[:3]] == [(1, 16), (1, 48), (1, 50)]
    assert all(variant.divided[1] == (given[4] % 16 == 0) for _, variant, _, given in card.runs)


@pytest.mark.parametrize("unaligned", [0, 1])
def test_alignment_is_looked_at_in_each_launch(card: FakeCard, unaligned: int) -> None:
    launch = Launcher(None, spec())
    for _ in range(2):
        launch(tensor(), tensor(), 16, 16, 0.5)
        launch(*(tensor(264 if k == unaligned else 256) for k in range(2)), 16, 16, 0.5)
    assert [variant.aligned for _, variant in card.compiled] == [True, False]
    assert [variant.aligned for _, variant, _, _ in card.runs] == [True, False, True, False]


def test_each_device_has_machine_code_of_its_own(card: FakeCard) -> None:
    launch = Launcher(None, spec())
    for device in (0, 1, 0, 1):
        for address in (256, 260):
            launch(tensor(address, device), tensor(256, device), 16, 16, 0.5)
    assert [device for device, _ in card.compiled] == [0, 0, 1, 1]
    assert all(made_on == now for made_on, _, now, _ in card.runs)
    assert [now for _, _, now, _ in card.runs] == [0, 0, 1, 1, 0, 0, 1, 1]
    assert [variant.aligned for _, variant, _, _ in card.runs] == [True, False] * 4


def test_after_many_variants_there_is_one_for_any_sizes(card: FakeCard) -> None:
    launch = Launcher(None, spec(6, tuple(range(6))))
    for which in range(64):
        sizes = tuple(16 if which >> k & 1 else 17 for k in range(6))
        for device in (0, 1):
            launch(tensor(device=device), tensor(device=device), *sizes, 0.5)
            made_on, variant, now, _ = card.runs[-1]
            assert made_on == now == device
            # what a variant takes for divided is
            assert all(size % 16 == 0 for size, divided in zip(sizes, variant.divided) if divided)
    for device in (0, 1):
        made = [variant for on, variant in card.compiled if on == device]
        assert len(made) == len(set(made)) <= module._MOST_VARIANTS + 1
        assert Variant(True, (False,) * 6, True) in made
    before = len(card.compiled)
    launch(tensor(), tensor(), *(16,) * 5, 17, 0.5)  # known sizes, and a variant that was made early
    launch(tensor(), tensor(), *(1024,) * 6, 0.5)  # new sizes
    assert len(card.compiled) == before
    assert card.runs[-1][1].divided == (False,) * 6


def test_narrow_stays_with_many_variants(card: FakeCard) -> None:
    launch = Launcher(None, spec(6, tuple(range(6))))
    for which in range(64):
        launch(tensor(), tensor(), *(16 if which >> k & 1 else 17 for k in range(6)), 0.5)
    launch(tensor(264), tensor(), *(1 << 21,) * 6, 0.5)
    assert card.runs[-1][1] == Variant(aligned=False, divided=(False,) * 6, narrow=False)


def test_plans_go_when_there_are_many_and_machine_code_stays(card: FakeCard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_PLANS", 8)
    launch = Launcher(None, spec())
    for rows in (*range(1, 40), *range(1, 40)):
        launch(tensor(), tensor(), rows, 16, 0.5)
        assert len(launch._plans) <= 8
    assert len(card.compiled) == 1 and len(card.runs) == 78
    assert [run[3][3] for run in card.runs] == [*range(1, 40)] * 2


def test_a_known_launch_builds_no_variant(card: FakeCard, monkeypatch: pytest.MonkeyPatch) -> None:
    launch = Launcher(None, spec())
    launch(tensor(), tensor(), 16, 16, 0.5)
    monkeypatch.setattr(module, "Variant", None)
    monkeypatch.setattr(Launcher, "_plan", None)
    launch(tensor(), tensor(), 16, 16, 0.5)
    assert len(card.runs) == 2
