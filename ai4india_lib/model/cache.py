"""What a model remembers of the tokens it has read: their keys and values (Pope et al., 2022, §2.1).

`model.new_cache(batch_size, max_length)` makes one that fits a model.
"""

import copy
import math
from typing import Self

import torch
from torch import Tensor

from ..basics.memory import check_memory
from .config import DecoderConfig


class KVCache:
    """Keys and values of the tokens a model has already read, so that each is computed once.

    Room for `max_length` tokens per row is taken at the start: keys and values are (batch, kv_heads, max_length,
    head_dim) for every block. `lengths` (batch,) says how much of each row is filled; rows may differ.
    """

    def __init__(self, config: DecoderConfig, batch_size: int, max_length: int, *, device=None, dtype=torch.float32):
        shape = (config.num_blocks, batch_size, config.num_kv_heads, max_length, config.head_dim)
        size = 2 * math.prod(shape) * torch.empty(0, dtype=dtype).element_size()
        what = f"a cache of {batch_size} rows of {max_length} tokens"
        check_memory(size, what, "take fewer rows (slots), or shorter texts", device)
        self.keys, self.values = (torch.zeros(shape, device=device, dtype=dtype) for _ in range(2))
        self.lengths = torch.zeros(batch_size, dtype=torch.long, device=device)
        self.longest = 0  # max(lengths), kept as an int so that no step waits for the device
        self.ragged = False  # do the rows' lengths differ?
        self.max_length = max_length

    def positions(self, time: int) -> Tensor:
        """Positions of the next `time` tokens of each row: (batch, time), or (time,) where all rows agree."""
        steps = torch.arange(time, device=self.lengths.device)
        return self.lengths[:, None] + steps if self.ragged else self.longest + steps

    def update(self, block: int, keys: Tensor, values: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new tokens' keys and values (batch, kv_heads, time, head_dim) and return all there are so far."""
        seen = self.longest + keys.shape[2]
        all_keys, all_values = self.keys[block, :, :, :seen], self.values[block, :, :, :seen]
        if self.ragged:
            index = positions[:, None, :, None].expand_as(keys)
            all_keys.scatter_(2, index, keys.to(all_keys.dtype))
            all_values.scatter_(2, index, values.to(all_values.dtype))
        else:
            all_keys[:, :, self.longest :] = keys
            all_values[:, :, self.longest :] = values
        return all_keys, all_values

    def advance(self, count: int | Tensor) -> None:
        """Count the new tokens as read: the same number for each row, or (batch,) numbers for rows that were padded."""
        if isinstance(count, int):
            self.lengths, self.longest = self.lengths + count, self.longest + count
        else:
            self.set_lengths(self.lengths + count)

    def set_lengths(self, lengths: Tensor | list[int]) -> None:
        """Forget all but the first `lengths` (batch,) tokens of each row; a list spares waiting for the device."""
        if isinstance(lengths, list):
            shortest, longest, lengths = min(lengths), max(lengths), torch.tensor(lengths)
        else:
            shortest, longest = (int(n) for n in lengths.aminmax())
        if lengths.shape != self.lengths.shape:
            raise ValueError(f"lengths has shape {tuple(lengths.shape)}, the cache has {len(self.lengths)} rows")
        if shortest < 0 or longest > self.max_length:
            raise ValueError(f"lengths {lengths.tolist()} do not lie between 0 and {self.max_length}")
        self.lengths, self.longest, self.ragged = lengths.to(self.lengths), longest, shortest != longest

    def rows(self, first: int, lengths: list[int]) -> Self:
        """Some rows from `first` on, of which so much is filled: what they take up stands in the whole cache too, but
        is counted here alone."""
        part = copy.copy(self)
        here = slice(first, first + len(lengths))
        part.keys, part.values, part.lengths = self.keys[:, here], self.values[:, here], self.lengths[here]
        part.set_lengths(lengths)
        return part

    def copy_row(self, source: int, target: int, length: int) -> None:
        """Let row `target` hold the first `length` tokens of row `source`."""
        for tensor in (self.keys, self.values):
            tensor[:, target, :, :length] = tensor[:, source, :, :length]


class Int8KVCache(KVCache):
    """Keys and values as whole numbers −127 … 127, and one float32 scale for each vector of head_dim of them: 1 + 4 /
    head_dim bytes a number instead of 4.

    `model(ids, cache)` reads it like a plain one, slower and not quite exactly; packed decoders do not read it.
    """

    def __init__(self, config: DecoderConfig, batch_size: int, max_length: int, *, device=None):
        super().__init__(config, batch_size, max_length, device=device, dtype=torch.int8)
        self.key_scales, self.value_scales = (torch.zeros(*self.keys.shape[:-1], 1, device=device) for _ in range(2))

    def update(self, block: int, keys: Tensor, values: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Round and store the new tokens' keys and values, and return all there are so far, restored."""
        (key_numbers, key_scales), (value_numbers, value_scales) = _as_int8(keys), _as_int8(values)
        stored = super().update(block, key_numbers, value_numbers, positions)
        restored = []
        for numbers, kept, new in zip(
            stored, (self.key_scales, self.value_scales), (key_scales, value_scales), strict=True
        ):
            scales = kept[block, :, :, : numbers.shape[2]]  # (batch, kv_heads, seen, 1)
            if self.ragged:
                scales.scatter_(2, positions[:, None, :, None].expand_as(new), new)
            else:
                scales[:, :, self.longest :] = new
            restored.append((numbers * scales).to(keys.dtype))
        return restored[0], restored[1]

    def rows(self, first: int, lengths: list[int]) -> Self:
        """As of a plain cache."""
        part = super().rows(first, lengths)
        here = slice(first, first + len(lengths))
        part.key_scales, part.value_scales = self.key_scales[:, here], self.value_scales[:, here]
        return part

    def copy_row(self, source: int, target: int, length: int) -> None:
        """As of a plain cache."""
        super().copy_row(source, target, length)
        for scales in (self.key_scales, self.value_scales):
            scales[:, target, :, :length] = scales[:, source, :, :length]


def _as_int8(x: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors (..., head_dim) as whole numbers, and their scales (..., 1)."""
    scales = (x.abs().amax(-1, keepdim=True).float() / 127).clamp_min(1e-12)
    return (x / scales).round().to(torch.int8), scales
