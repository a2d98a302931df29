"""One token of one text on a CPU: the sums of a packed step with calls that cost little.

A vector of this step has some hundred numbers. The arithmetic on it takes a tenth of a microsecond, a call of torch
three to thirteen, one of NumPy one or two. So NumPy does what lies between the products, and torch the products, whose
weights its threads read together. Both see the same memory: each vector below is an array and a tensor at once.

The sums are those of `packed.py`, over its matrices, in the same order. Letters in shape comments as there.
"""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..model.cache import KVCache
from ..model.config import DecoderConfig
from .packed_steps import Rotary

if TYPE_CHECKING:
    from numpy import ndarray

SMALL = 1 << 18  # multiplications in one product of attention: above, NumPy would start threads that torch's hinder


class _Vectors(threading.local):
    """What a step works on, written anew by each; one set for each thread. An array and its tensor share memory."""

    def __init__(self, config: DecoderConfig):
        heads, kv_heads, size = config.num_heads, config.num_kv_heads, config.head_dim
        both = heads + kv_heads
        self.x_tensor, self.y_tensor, self.mixed_tensor, self.gated_tensor = (
            torch.zeros(1, width) for width in (config.emb_dim, config.emb_dim, heads * size, config.mlp_dim)
        )
        self.qkv_tensor, self.gate_up_tensor = (
            torch.zeros(1, (both + kv_heads) * size),
            torch.zeros(1, 2 * config.mlp_dim),
        )
        self.gate_tensor = self.gate_up_tensor[:, : config.mlp_dim]
        self.x, self.y = self.x_tensor.numpy()[0], self.y_tensor.numpy()[0]  # the stream, and its direction: (emb_dim,)
        self.mixed = self.mixed_tensor.numpy().reshape(kv_heads, -1, size)  # (kv_heads, group, head_dim)
        parts = self.qkv_tensor.numpy().reshape(-1, size)
        self.qk, self.v = parts[:both], parts[both:]  # (heads + kv_heads, head_dim), (kv_heads, head_dim)
        self.scaled, self.turned = np.zeros_like(self.qk), np.zeros_like(self.qk)
        self.q, self.k = self.turned[:heads].reshape(self.mixed.shape), self.turned[heads:]
        self.gate, self.up = self.gate_up_tensor.numpy()[0].reshape(2, -1)  # each (mlp_dim,)
        self.gated = self.gated_tensor.numpy()[0]  # (mlp_dim,)
        self.turn = np.zeros((size, size), np.float32)  # the rotary matrix; outside four diagonals it stays 0


class SingleStep:
    """The step for one new token of one text, in float32 on a CPU, over the parts of a `FastDecoder`."""

    def __init__(self, config: DecoderConfig, rotary: Rotary, embedding: Tensor, blocks: list, output, floor: Tensor):
        self.blocks, self.output, self._vectors = blocks, output, _Vectors(config)
        self.embedding, self.floor = embedding.numpy(), float(floor) ** 2
        self.entries, self.places = rotary.entries.numpy(), rotary.index.numpy()
        heads = config.num_heads + config.num_kv_heads
        self.head_floor = np.full((heads, 1), config.head_dim * config.norm_eps, np.float32)
        self.gains = [None if block.gains is None else block.gains.numpy() for block in blocks]
        self.largest = SMALL * config.num_kv_heads // (config.num_heads * config.head_dim)

    @staticmethod
    def serves(config: DecoderConfig, embedding: Tensor) -> bool:
        """Can the steps of such a model be done here, and is the turning of its heads a small product?"""
        small = (config.num_heads + config.num_kv_heads) * config.head_dim**2 <= SMALL
        return small and embedding.device.type == "cpu" and embedding.dtype == torch.float32

    def fits(self, ids: Tensor, cache: KVCache) -> bool:
        """Is this one token of one text, behind not too many others?"""
        one = ids.numel() == 1 and cache.keys.shape[1] == 1
        return one and cache.longest < self.largest and cache.keys.dtype == torch.float32

    def __call__(self, token: int, cache: KVCache) -> Tensor:
        """Logits (1, vocab_size) of what follows `token`, whose keys and values the cache stores but does not count."""
        if not 0 <= token < len(self.embedding):
            raise IndexError(f"id {token} is not one of the vocabulary's {len(self.embedding)}")
        vectors, position = self._vectors, cache.longest
        scores = torch.empty(*vectors.mixed.shape[:2], position + 1)  # (kv_heads, group, seen)
        weights = torch.empty_like(scores)
        keys, values = cache.keys.numpy()[:, 0], cache.values.numpy()[:, 0]  # (blocks, kv_heads, max_length, head_dim)
        keys, values = keys[:, :, : position + 1], values[:, :, : position + 1]
        both = scores, weights, scores.numpy(), weights.numpy()
        vectors.turn.reshape(-1)[self.places] = self.entries[position]
        vectors.x[:] = self.embedding[token]
        for block, gains, old_keys, old_values in zip(self.blocks, self.gains, keys, values, strict=True):
            self._direction(vectors)
            block.qkv.write(vectors.y_tensor, vectors.qkv_tensor)
            self._turn(vectors, gains)
            old_keys[:, position], old_values[:, position] = vectors.k, vectors.v
            self._gather(vectors, old_keys, old_values, *both)
            block.output.add_to(vectors.x_tensor, vectors.mixed_tensor)
            self._direction(vectors)
            block.gate_up.write(vectors.y_tensor, vectors.gate_up_tensor)
            F.silu(vectors.gate_tensor, inplace=True)
            np.multiply(vectors.gate, vectors.up, out=vectors.gated)
            block.down.add_to(vectors.x_tensor, vectors.gated_tensor)
        self._direction(vectors)
        return self.output(vectors.y_tensor)

    def _direction(self, vectors: _Vectors) -> None:
        """y = x / √(|x|² + floor²)"""
        x = vectors.x
        np.multiply(x, 1 / math.sqrt(float(x.dot(x)) + self.floor), out=vectors.y)

    def _turn(self, vectors: _Vectors, gains: ndarray | None) -> None:
        """Queries and keys: normalised, where the model does so, scaled, and turned by their position."""
        scaled = vectors.qk
        if gains is not None:
            scaled = np.multiply(vectors.qk, vectors.qk, out=vectors.scaled)
            length = np.add.reduce(scaled, axis=1, keepdims=True)  # (heads + kv_heads, 1)
            length += self.head_floor
            np.divide(gains, np.sqrt(length, out=length), out=scaled)
            scaled *= vectors.qk
        np.dot(scaled, vectors.turn, out=vectors.turned)

    @staticmethod
    def _gather(vectors: _Vectors, keys: ndarray, values: ndarray, *both) -> None:
        """Each query looks at all keys (kv_heads, seen, head_dim) and gathers from the values."""
        scores_tensor, weights_tensor, scores, weights = both
        np.matmul(vectors.q, keys.transpose(0, 2, 1), out=scores)  # (kv_heads, group, seen)
        torch.softmax(scores_tensor, -1, out=weights_tensor)
        np.matmul(weights, values, out=vectors.mixed)
