"""Decoding with a cache of keys: how often a model is captured over many steps, with caches that grow or are fixed.

The caches are what programs write: objects with a list of layers, made when the first call comes.
"""

from __future__ import annotations

import lampwork_capture
import pytest
import torch
import torch.nn.functional as F

HEADS, WIDTH, LONGEST = 2, 4, 2100  # longer than a write is small (`graph/input_writes.py`)


class Growing:
    def __init__(self):
        self.keys = None
        self.seen = 0

    def update(self, new):
        self.seen += new.shape[-2]
        self.keys = new if self.keys is None else torch.cat([self.keys, new], dim=-2)
        return self.keys, torch.arange(self.keys.shape[-2]) >= self.seen


class Fixed:
    def __init__(self):
        self.is_made = False
        self.length = torch.tensor(0)

    def update(self, new):
        if not self.is_made:
            self.batch, self.heads = new.shape[:2]
            self.keys = torch.zeros(self.batch, self.heads, LONGEST, WIDTH)
            self.is_made = True
        positions = torch.arange(new.shape[-2]) + self.length
        self.length.add_(new.shape[-2])
        try:
            self.keys.index_copy_(2, positions, new)
        except NotImplementedError:
            self.keys[:, :, positions] = new
        return self.keys, torch.arange(LONGEST) >= self.length


class Cache:
    def __init__(self, layer):
        self.layer = layer
        self.layers = []

    def update(self, new, index):
        while len(self.layers) <= index:
            self.layers.append(self.layer())
        return self.layers[index].update(new)


class Decoder(torch.nn.Module):
    def __init__(self, layers=2):
        super().__init__()
        torch.manual_seed(0)
        size = HEADS * WIDTH
        self.embedding = torch.nn.Embedding(17, size)
        self.projections = torch.nn.ModuleList(torch.nn.Linear(size, size) for _ in range(layers))
        self.head = torch.nn.Linear(size, 17)

    def forward(self, tokens, cache):
        x = self.embedding(tokens)
        for index, projection in enumerate(self.projections):
            query = projection(x).view(*x.shape[:2], HEADS, WIDTH).transpose(1, 2)
            keys, hidden = cache.update(query, index)
            scores = (query @ keys.transpose(-1, -2)).masked_fill(hidden, float("-inf"))
            x = x + (F.softmax(scores, -1) @ keys).transpose(1, 2).reshape(x.shape)
        return self.head(x[:, -1])


def decode(model, layer, steps=12):
    cache, current, taken = Cache(layer), torch.arange(3, 10).reshape(1, 7), []
    with torch.no_grad():
        for _ in range(steps):
            logits = model(current, cache)
            taken.append(logits)
            current = logits.argmax(-1, keepdim=True)
    return torch.stack(taken)


@pytest.mark.parametrize(("layer", "most"), [(Growing, 3), (Fixed, 2)])
def test_few_captures_for_many_steps(layer, most):
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    optimized = lampwork_capture.optimize(backend, fullgraph=True)(Decoder())
    for _ in range(2):
        torch.testing.assert_close(decode(optimized, layer), decode(Decoder(), layer), rtol=0, atol=0)
    assert len(graphs) <= most


def test_a_cache_that_is_full_raises_and_is_as_in_eager():
    def fill(model):
        cache = Cache(Fixed)
        with torch.no_grad(), pytest.raises((IndexError, RuntimeError)) as caught:
            model(torch.zeros(1, LONGEST + 1, dtype=torch.int64), cache)
        layer = cache.layers[0]
        return type(caught.value), str(caught.value), len(cache.layers), layer.length.item(), layer.keys.sum().item()

    optimized = lampwork_capture.optimize("eager", fullgraph=True)(Decoder())
    decode(optimized, Fixed, steps=2)
    assert fill(optimized) == fill(Decoder())
