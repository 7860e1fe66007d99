"""Modes and options reach the core's config, and a wrong one fails at once with a suggestion."""

import pytest
from lampwork.options import MODES, OptionError, stack_options


def test_options_reach_both_configs() -> None:
    chosen = stack_options(None, {"channels_last": False, "reuse_buffers": False}).core.config
    assert not chosen.channels_last and not chosen.schedule.reuse_buffers
    assert all(stack_options(mode, None) for mode in MODES)


@pytest.mark.parametrize(
    ("mode", "options", "message"),
    [
        ("max-autotun", None, "did you mean 'max-autotune'"),
        (None, {"channel_last": True}, "did you mean 'channels_last'"),
        (None, {"channels_last": 1}, "type bool"),
        (None, {"zzz": 1}, "known: "),
    ],
)
def test_wrong_names_and_types(mode: str | None, options: dict[str, object] | None, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        stack_options(mode, options)


def test_options_of_training() -> None:
    chosen = stack_options(None, {"memory_budget": 0.5, "backward_at_once": True}).training
    assert chosen.memory_budget == 0.5 and chosen.backward_at_once
    with pytest.raises(OptionError, match="part in"):
        stack_options(None, {"memory_budget": 1.5})


def test_cuda_graphs_are_on_unless_switched_off() -> None:
    def replays(mode: str | None, options: dict[str, object] | None = None) -> bool:
        return stack_options(mode, options).core.config.replay

    assert replays(None) and replays("default") and replays("reduce-overhead")
    assert not replays(None, {"cuda_graphs": False}) and not replays("max-autotune-no-cudagraphs")
    assert replays("max-autotune-no-cudagraphs", {"cuda_graphs": True})
    with pytest.raises(OptionError, match="type bool"):
        stack_options(None, {"cuda_graphs": 0})
