"""Greedy decoding with a growing key-value cache: how often a model is compiled over many steps, ours and eager.

    python benchmarks/decoding.py [--models gpt2,llama] [--caches dynamic,static] [--styles plain,masked]
        [--steps 256] [--backend eager] [--torch] [--jobs 2] [--markdown FILE]

The loop is a user's: the model optimized once, one call for the prompt, then one call for each token, with a cache of
`transformers`. `plain` passes the tokens and the cache; `masked` has a prompt that is padded on the left, and an
attention mask that grows by a column a step (for a static cache it has all columns from the start). Each cell runs in a
process of its own, torch.compile (with `--torch`) in another. The largest number of captures of any one code object is
judged, as in dynamic_families.py; the program exits with 1 if a token differs from eager's, or if ours has more than 3.
"""

from __future__ import annotations

import argparse
import collections
import json
import logging
import os
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

os.environ.setdefault("LAMPWORK_REMEMBER", "0")  # each run compiles as the first one does

MOST_CAPTURES = 3
PROMPT = 7
VOCABULARY = 211
CELL_TIMEOUT_S = 1800
CACHES = ("dynamic", "static")
STYLES = ("plain", "masked")
MODELS = ("gpt2", "llama")

Counts = Callable[[], dict[str, Any]]


def _build(name: str, steps: int) -> Any:
    """A small model whose weights are large enough that its tokens vary."""
    import torch
    import transformers

    torch.manual_seed(0)
    longest, ends = PROMPT + steps + 1, {"bos_token_id": 1, "eos_token_id": 2}
    if name == "gpt2":
        config: Any = transformers.GPT2Config(
            vocab_size=VOCABULARY, n_embd=64, n_layer=3, n_head=4, n_positions=longest, initializer_range=0.3, **ends
        )
        return transformers.GPT2LMHeadModel(config).eval()
    kind = {"llama": "Llama", "mistral": "Mistral"}[name]
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=longest,
        initializer_range=0.3,
        **ends,
        **({"sliding_window": steps // 2} if name == "mistral" else {}),
    )
    return getattr(transformers, f"{kind}ForCausalLM")(config).eval()


def decode(model: Callable[..., Any], config: Any, cache: str, style: str, steps: int) -> tuple[Any, Any]:
    """The greedy tokens (batch, steps) after a prompt, and the logits (batch, steps, vocabulary) that they are of."""
    import torch
    from transformers import DynamicCache, StaticCache

    longest = PROMPT + steps
    prompt = torch.randint(3, VOCABULARY, (2, PROMPT), generator=torch.Generator().manual_seed(3))
    mask = torch.ones(2, longest if cache == "static" else PROMPT, dtype=torch.int64)
    mask[0, : PROMPT // 2] = 0
    past: Any = StaticCache(config=config, max_cache_len=longest) if cache == "static" else DynamicCache(config=config)
    taken, logits = [], []
    current = prompt
    with torch.no_grad():
        for _ in range(steps):
            extra = {"attention_mask": mask} if style == "masked" else {}
            output = model(input_ids=current, past_key_values=past, use_cache=True, **extra)
            past = output.past_key_values
            logits.append(output.logits[:, -1])
            current = logits[-1].argmax(-1, keepdim=True)
            taken.append(current)
            if cache == "dynamic":
                mask = torch.cat([mask, mask.new_ones(2, 1)], dim=1)
    return torch.cat(taken, 1), torch.stack(logits, 1)


def _lampwork(model: Any, backend: str) -> tuple[Callable[..., Any], Counts]:
    from lampwork_capture.config import config_from_environment
    from lampwork_capture.frame_callback import FrameCallback
    from lampwork_capture.optimize import resolve_backend, shared_policy, with_callback

    name, compiler = resolve_backend(backend)
    callback = FrameCallback(compiler, name, config_from_environment(), shared_policy())

    def counts() -> dict[str, Any]:
        captured = [record for record in callback.records if record.graph is not None]
        by_code = collections.Counter((r.code.co_filename, r.code.co_firstlineno, r.function) for r in captured)
        breaks = [r.graph_break for r in callback.records if r.graph_break is not None and not r.is_skipped]
        causes = [f"{missed.place}: {missed.reasons[0]}" for missed in callback.cache.recompilations if missed.reasons]
        return {
            "captures": max(by_code.values(), default=0),
            "graphs": len(captured),
            "breaks": len({(found.break_id, found.user_line) for found in breaks}),
            "reasons": causes + [f"{b.break_id.code} {b.cause} [{b.user_line}]" for b in breaks],
        }

    return with_callback(model, callback), counts


def _torch_compile(model: Any, backend: str) -> tuple[Callable[..., Any], Counts]:
    import torch
    import torch._dynamo

    def counts() -> dict[str, Any]:
        captured = [m for m in torch._dynamo.utils.get_compilation_metrics() if m.graph_op_count]
        by_code = collections.Counter((m.co_filename, m.co_firstlineno, m.co_name) for m in captured)
        breaks = torch._dynamo.utils.counters["graph_break"]
        return {
            "captures": max(by_code.values(), default=0),
            "graphs": len(captured),
            "breaks": len(breaks),
            "reasons": [str(reason).splitlines()[0] for reason in breaks],
        }

    return torch.compile(model, backend=backend), counts


CONTESTANTS = {"lampwork": _lampwork, "torch.compile": _torch_compile}


def run_cell(contestant: str, name: str, cache: str, style: str, steps: int, backend: str) -> dict[str, Any]:
    """Eager and one contestant over all steps: captures, graphs, breaks, tokens that differ, logits' difference."""
    import torch

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    result: dict[str, Any] = {"model": name, "cache": cache, "style": style, "contestant": contestant}
    model = _build(name, steps)
    expected, expected_logits = decode(model, model.config, cache, style, steps)
    start = time.perf_counter()
    try:
        optimized, counts = CONTESTANTS[contestant](_build(name, steps), backend)
        tokens, logits = decode(optimized, model.config, cache, style, steps)
        result["wrong"] = int((tokens != expected).sum())
        result["difference"] = float((logits - expected_logits).abs().max() / expected_logits.abs().max())
        result["distinct"] = len(expected.unique())
        result |= counts()
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        result |= {"error": f"{type(error).__name__}: {text}", "trace": traceback.format_exc()[-3000:]}
    return {**result, "seconds": time.perf_counter() - start}


def _cell_process(*arguments: str) -> dict[str, Any]:
    """`run_cell` in a process of its own."""
    command = [sys.executable, __file__, "--cell", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CELL_TIMEOUT_S, check=False)
        return json.loads(done.stdout.splitlines()[-1])
    except (subprocess.TimeoutExpired, json.JSONDecodeError, IndexError) as error:
        named = dict(zip(("contestant", "model", "cache", "style"), arguments))
        return {**named, "error": f"{type(error).__name__}: process failed"}


def _describe(cell: dict[str, Any]) -> list[str]:
    named = [cell[key] for key in ("model", "cache", "style", "contestant")]
    if "error" in cell:
        return [*named, "-", "-", "-", cell["error"][:50], "-", "-"]
    tokens = "equal" if not cell["wrong"] else f"{cell['wrong']} differ"
    logits = f"{cell['difference']:.0e}" if cell["difference"] else "equal"
    counts = [str(cell[key]) for key in ("captures", "graphs", "breaks")]
    return [*named, *counts, f"{tokens} ({cell['distinct']} distinct)", logits, f"{cell['seconds']:.1f}"]


def _judge(cells: list[dict[str, Any]]) -> list[str]:
    failures: list[str] = []
    for cell in cells:
        title = f"{cell['model']}, {cell['cache']}, {cell['style']}"
        if cell["contestant"] != "lampwork":
            continue
        if "error" in cell:
            failures.append(f"{title}: {cell['error']}")
            continue
        if cell["wrong"]:
            failures.append(f"{title}: {cell['wrong']} tokens differ from eager's")
        if cell["captures"] > MOST_CAPTURES:
            failures.append(f"{title}: {cell['captures']} captures")
    return failures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--caches", default=",".join(CACHES))
    parser.add_argument("--styles", default=",".join(STYLES))
    parser.add_argument("--steps", type=int, default=256)
    parser.add_argument("--backend", default="eager")
    parser.add_argument("--torch", action="store_true", help="torch.compile beside ours")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--reasons", action="store_true", help="print why each was captured anew, or broke")
    parser.add_argument("--markdown", type=Path, help="write the table there too")
    parser.add_argument(
        "--cell", nargs=6, metavar=("WHO", "MODEL", "CACHE", "STYLE", "STEPS", "BACKEND"), help=argparse.SUPPRESS
    )
    options = parser.parse_args()
    if options.cell:
        *names, steps, backend = options.cell
        print(json.dumps(run_cell(*names, int(steps), backend)))
        return
    contestants = list(CONTESTANTS)[: 2 if options.torch else 1]
    work = [
        (contestant, model, cache, style, str(options.steps), options.backend)
        for model in options.models.split(",")
        for cache in options.caches.split(",")
        for style in options.styles.split(",")
        for contestant in contestants
    ]
    with ThreadPoolExecutor(options.jobs) as pool:
        cells = list(pool.map(lambda arguments: _cell_process(*arguments), work))
    console = Console(width=160)
    head = ["model", "cache", "style", "by", "captures", "graphs", "breaks", "tokens", "logits", "seconds"]
    table = Table(*head, title=f'{options.steps} steps of greedy decoding, backend="{options.backend}", against eager')
    rows = [_describe(cell) for cell in cells]
    for row in rows:
        table.add_row(*row)
    console.print(table)
    if options.reasons:
        console.print_json(data=cells)
    if options.markdown:
        lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(r) + " |" for r in rows)]
        options.markdown.write_text("\n".join(lines) + "\n")
    failures = _judge(cells)
    for failure in failures:
        console.print(failure, markup=False)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
