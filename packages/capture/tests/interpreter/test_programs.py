"""Eager and optimized agree on every program: results, identities, side effects, output, exceptions."""

from __future__ import annotations

import copy
import warnings

import programs
import programs_layouts
import programs_more
import pytest
import torch
from differential import check_program


@pytest.fixture(autouse=True)
def same_globals():
    modules = (programs, programs_layouts, programs_more)
    saved = [
        {name: copy.deepcopy(v) for name, v in vars(module).items() if name.startswith("state_")} for module in modules
    ]
    networks = [programs.MODULE, programs_more.NET, programs_more.CONV, programs_more.RNN]
    states = [copy.deepcopy(network.state_dict()) for network in networks]
    programs.MODULE.calls = 0
    yield
    for module, values in zip(modules, saved):
        vars(module).update(values)
    for network, state in zip(networks, states):
        network.load_state_dict(state)


@pytest.mark.parametrize(
    "function", [*programs.PROGRAMS, *programs_more.PROGRAMS, *programs_layouts.PROGRAMS], ids=lambda f: f.__name__
)
def test_program(function):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_program(function, lambda: (torch.tensor([1.0, 2.0, 3.0]),))


# What must be captured whole, so that a step back is seen.
WHOLE = """closure_reads closure_nonlocal closure_escapes_and_shares recursion late_binding star_arguments
decorated_call decorator_inside partials raise_and_catch raise_in_callee finally_runs exception_chained reraise try_else
custom_exception exception_in_loop
with_user_manager with_swallows with_return_inside no_grad_inside enable_grad_nested no_grad_decorator
contextmanager_generator contextmanager_exception nullcontext suppress autocast_cpu generator_inline generator_send
yield_from generator_interleaves generator_abandoned comprehensions walrus loop_else match_values boolean_operators
list_argument_mutated alias_kept dict_mutated object_mutated tensor_in_place argument_in_place swap_and_unpack
dataclasses_made namedtuples object_protocols random_numbers deep_nesting try_in_generator function_with_state
user_iterator cached_property_used inference_mode_inside nested_closures generator_pipeline""".split()


@pytest.mark.parametrize("name", WHOLE)
def test_captured_whole(name):
    function = getattr(programs, name, None) or getattr(programs_more, name)
    callback = check_program(function, lambda: (torch.tensor([1.0, 2.0, 3.0]),))
    # audit hooks of other packages run inside the call too
    records = [record for record in callback.records if record.code.co_filename == function.__code__.co_filename]
    assert not [r.graph_break.cause for r in records if r.graph_break is not None]
    assert records[0].graph is not None
