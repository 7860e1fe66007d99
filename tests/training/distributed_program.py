"""Two processes train one model under DistributedDataParallel, eagerly and compiled; prints what happened as JSON.

    python distributed_program.py

Each step accumulates two backward passes, the first under `no_sync`. `inner` wraps a compiled module, `outer` compiles
the wrapped one. In the third step one rank gets a batch of another size and captures anew. Events of the last step's
backward pass, in order: `stage` when a compiled backward graph runs, `bucket k` when DistributedDataParallel starts to
send bucket k.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel

STEPS = 4


def build() -> nn.Module:
    """The model, with the same weights everywhere."""
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Sequential(nn.Linear(128, 128), nn.Tanh()) for _ in range(6)))


def compiled(module: nn.Module, events: list[str]) -> Any:
    """The module through the whole stack; runs of backward graphs are events."""
    import lampwork.pipeline as pipeline

    compile_graph = pipeline.compile_graph

    def watched(graph: Any, *args: Any, **kwargs: Any) -> Any:
        result = compile_graph(graph, *args, **kwargs)
        if graph._get_name() == "BackwardGraph":
            run = result.run_owned
            result.run_owned = lambda arguments: (events.append("stage"), run(arguments))[1]
        return result

    pipeline.compile_graph = watched
    return torch.compile(module, backend="lampwork")


def train(rank: int, mode: str, folder: str) -> None:
    """One process."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/{mode}", rank=rank, world_size=2)
    model, events = build(), list[str]()

    def wrap(module: nn.Module) -> DistributedDataParallel:
        return DistributedDataParallel(module, bucket_cap_mb=0.1)

    if mode == "eager":
        owner = function = wrap(model)
    elif mode == "inner":
        owner = function = wrap(compiled(model, events))
    else:
        owner = wrap(model)
        function = compiled(owner, events)

    def send(state, bucket):  # torch compares annotations with types, and these would be text
        events.append(f"bucket {bucket.index()}")
        return default_hooks.allreduce_hook(dist.group.WORLD, bucket)

    owner.register_comm_hook(None, send)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses: list[float] = []
    for step in range(STEPS):
        torch.manual_seed(100 * step + rank)
        x = torch.randn(32 if (step, rank) == (2, 1) else 64, 128)
        optimizer.zero_grad()
        with owner.no_sync():  # gradients of a first half that are not sent
            function(x * 0.5).square().mean().backward()
        loss = function(x).square().mean()
        events.clear()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    result = {"losses": losses, "events": events}
    Path(folder, f"{mode}{rank}.json").write_text(json.dumps(result))
    dist.barrier()  # a process that ends while the other one still sends aborts it
    dist.destroy_process_group()


def main() -> None:
    os.environ.setdefault("LAMPWORK_STRICT", "1")
    with tempfile.TemporaryDirectory() as folder:
        for mode in ("eager", "inner", "outer"):
            mp.spawn(train, args=(mode, folder), nprocs=2)
        print(json.dumps({path.stem: json.loads(path.read_text()) for path in Path(folder).glob("*.json")}))


if __name__ == "__main__":
    sys.exit(main())
