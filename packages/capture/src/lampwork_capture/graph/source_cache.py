"""Forgetting the source text of a graph module with the module: torch.fx keeps one text for each, for ever.

Called when a captured graph is finished. Invariant: only the entries of the module's own generated file are dropped,
and only once the module is gone; a traceback that outlives it shows no text for its lines.
"""

from __future__ import annotations

import linecache
import weakref
from typing import Any

import torch.fx
import torch.fx.graph_module as fx_graph_module


def forget_source_with(module: torch.fx.GraphModule) -> None:
    """When the module dies, its generated source is dropped from the caches of `torch.fx` and of `linecache`."""
    filename = type(module).forward.__code__.co_filename
    weakref.finalize(module, _forget, filename).atexit = False


def _forget(filename: str) -> None:
    linecache.cache.pop(filename, None)
    loader: Any = getattr(fx_graph_module, "_loader", None)
    texts = getattr(loader, "eval_cache", None)
    if isinstance(texts, dict):
        texts.pop(filename, None)
