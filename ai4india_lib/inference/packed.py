"""A trained model, packed for writing: the same numbers in a layout that one token a step can read fast.

Training and prefill push hundreds of tokens through each matrix, so their time goes into arithmetic. Writing pushes one
token a row, and then two other things cost: the calls themselves (some thirty small operations in every block, each of
which waits for Python), and reading every weight once per step. `FastDecoder` is derived from a model when writing
starts and does the same sums in fewer operations:

- query, key and value matrices stand side by side and are one product; so do gate and up;
- the gains of the norms are multiplied into the matrix behind them: (x · gain) @ W = x @ (gain · W);
- matrices are stored (in, out), the order in which a product with a single row reads them;
- the turning by rotary angles is one small product for all heads of queries and keys (see `packed_steps.py`).

`DecoderLanguageModel` stays the one description of the architecture; what is here can be thrown away and made anew.
Letters in shape comments as in `model/decoder.py`; rows = batch · time, and group = heads / kv_heads.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..basics.device import may_lack_threads
from ..model.cache import KVCache
from ..model.config import DecoderConfig
from ..model.decoder import DecoderBlock, DecoderLanguageModel, check_room
from .packed_single import SingleStep
from .packed_steps import FEW, Rotary, make_step

SOME, LARGE = 2, 150_000  # rows and numbers in a matrix from which another order of the weights is faster


def is_plain(model: DecoderLanguageModel) -> bool:
    """Is each of the model's linear layers nothing but its matrix? Not so with LoRA, or with hooks."""
    expected = 7 * len(model.blocks) + 1
    plain = [m for m in model.modules() if type(m) is nn.Linear and not (m._forward_hooks or m._forward_pre_hooks)]
    return len(plain) == expected


def direction(x: Tensor, floor: Tensor) -> Tensor:
    """x / √(|x|² + floor²): RMSNorm without its gain and without the factor √dim, which the next matrix holds."""
    if torch.compiler.is_compiling():  # plain arithmetic is what a compiler can put into one loop with its neighbours
        squares = x.float().square().sum(-1, keepdim=True)
        return x * torch.rsqrt(squares + floor.square()).to(x.dtype)
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)  # (..., 1)
    return x / torch.hypot(length, floor).to(x.dtype)


def _with_gain(linear: nn.Linear, gain: Tensor) -> Tensor:
    """The matrix (in, out) that takes a vector of length one: gain and √in inside, computed in float32."""
    return (linear.weight.t().float() * (gain.float() * math.sqrt(len(gain)))[:, None]).to(linear.weight.dtype)


class Matrix:
    """A weight matrix (in, out), stored so that a product with few rows reads it in order.

    For a large one and some rows, oneDNN's own order is the fastest (on a CPU; made at the first such product).
    """

    def __init__(self, weight: Tensor):
        self.weight = weight.contiguous()
        on_cpu = weight.device.type == "cpu" and weight.dtype == torch.float32
        can_reorder = on_cpu and torch.backends.mkldnn.is_available() and not may_lack_threads()
        self.has_kernel = can_reorder and weight.numel() >= LARGE
        self.reordered = None

    def __call__(self, x: Tensor) -> Tensor:
        if x.shape[0] < SOME or not self.has_kernel:
            return torch.mm(x, self.weight)  # (rows, in) -> (rows, out)
        if self.reordered is None:
            self.reordered = torch.ops.mkldnn._reorder_linear_weight(self.weight.t().contiguous(), len(x))
        return torch.ops.mkldnn._linear_pointwise(x, self.reordered, None, "none", [], "")

    def write(self, x: Tensor, out: Tensor) -> None:
        """out = x @ weight, for a single row."""
        torch.mm(x, self.weight, out=out)

    def add_to(self, stream: Tensor, x: Tensor) -> Tensor:
        """stream += x @ weight, in place."""
        if x.shape[0] < SOME or not self.has_kernel:
            return stream.addmm_(x, self.weight)
        return stream.add_(self(x))


class Int8Matrix:
    """A weight matrix in a quarter of the bytes: whole numbers −127 … 127, and one scale for each column of (in, out).

    Products with few rows, bound by reading the weights, multiply these with bfloat16 activations; on other devices and
    with many rows the matrix is written out first. Rounding moves a weight by up to 1/254 of its column's largest.
    """

    def __init__(self, weight: Tensor):
        columns = weight.t()  # (out, in), the order that the kernel asks for
        self.scale = (columns.abs().amax(1).float() / 127).clamp_min(1e-12).bfloat16()  # (out,)
        self.weight = (columns / self.scale.float()[:, None]).round().clamp(-127, 127).to(torch.int8).contiguous()
        self.has_kernel = weight.device.type == "cpu" and weight.shape[0] % 16 == 0 and weight.shape[1] % 16 == 0

    def __call__(self, x: Tensor) -> Tensor:
        return self._product(x).to(x.dtype)

    def _product(self, x: Tensor) -> Tensor:
        """As bfloat16 where the kernel gives that."""
        if self.has_kernel and x.shape[0] <= FEW:
            return torch._weight_int8pack_mm(x.bfloat16(), self.weight, self.scale)
        return F.linear(x, self.weight.to(x.dtype)) * self.scale.to(x.dtype)

    def write(self, x: Tensor, out: Tensor) -> None:
        out.copy_(self._product(x))

    def add_to(self, stream: Tensor, x: Tensor) -> Tensor:
        return stream.add_(self._product(x))


class PackedBlock:
    """One block's matrices, with the norms' gains inside."""

    def __init__(self, block: DecoderBlock, config: DecoderConfig, kind: type[Matrix] | type[Int8Matrix]):
        attention, mlp = block.attention, block.mlp
        self.num_heads, self.num_kv_heads, self.head_dim = config.num_heads, config.num_kv_heads, config.head_dim
        self.head_floor = torch.tensor(math.sqrt(config.head_dim * config.norm_eps), device=mlp.up.weight.device)
        scale = config.head_dim**-0.5  # of the scores; put into the queries
        matrices = (attention.query, attention.key, attention.value)
        query, key, value = (_with_gain(matrix, block.attention_norm.gain) for matrix in matrices)
        self.gains = None  # of queries and keys: (heads + kv_heads, head_dim)
        if config.qk_norm:  # a normalised query forgets a factor put in before, so the factor goes into its gain
            gains = [attention.query_norm.gain * scale] * self.num_heads
            self.gains = torch.stack(gains + [attention.key_norm.gain] * self.num_kv_heads) * math.sqrt(self.head_dim)
        else:
            query = query * scale
        self.qkv = kind(torch.cat((query, key, value), dim=1))
        self.output = kind(attention.output.weight.t())
        gate_up = [_with_gain(matrix, block.mlp_norm.gain) for matrix in (mlp.gate, mlp.up)]
        self.gate_up = kind(torch.cat(gate_up, dim=1))
        self.down = kind(mlp.down.weight.t())

    def queries_keys_values(self, x: Tensor, turn: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """(rows, heads, head_dim) scaled and turned, and twice (rows, kv_heads, head_dim).

        `turn` gives vectors (rows, any number of heads, head_dim) their rotary positions.
        """
        both = self.num_heads + self.num_kv_heads
        parts = self.qkv(x).view(len(x), both + self.num_kv_heads, self.head_dim)
        qk, v = parts.split((both, self.num_kv_heads), dim=1)
        if self.gains is not None:
            qk = (direction(qk, self.head_floor) * self.gains).to(qk.dtype)
        q, k = turn(qk).split((self.num_heads, self.num_kv_heads), dim=1)
        return q, k, v

    def gated(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=1)  # each (rows, mlp_dim)
        return F.silu(gate).mul_(up)


class FastDecoder:
    """Called like the model it was made from: `decoder(ids, cache, lengths=...)` gives the same logits.

    The two share one kind of cache, so either may go on where the other stopped. It is a copy: when the model is
    trained further, a decoder made before does not know. Raises ValueError for a model whose linear layers are no
    longer plain ones, such as one with LoRA beside its matrices.

    `int8=True` keeps the matrices in a quarter of the bytes. The logits are then near the model's, not equal.
    """

    @torch.no_grad()
    def __init__(self, model: DecoderLanguageModel, *, int8: bool = False):
        if not is_plain(model):
            raise ValueError("this model has more than plain matrices (LoRA?): merge them first, or use the model")
        self.config, self.int8 = model.config, int8
        kind, config = (Int8Matrix if int8 else Matrix), model.config
        self.embedding, self.rotary = model.embedding.weight.detach(), Rotary(model)
        self.device, self.dtype = self.embedding.device, self.embedding.dtype
        self.blocks = [PackedBlock(block, config, kind) for block in model.blocks]
        self.output = kind(_with_gain(model.head, model.norm.gain))
        self.stream_floor = torch.tensor(math.sqrt(config.emb_dim * config.norm_eps), device=self.device)
        parts = self.rotary, self.embedding, self.blocks, self.output, self.stream_floor
        self._single = SingleStep(config, *parts) if SingleStep.serves(config, self.embedding) else None

    def new_cache(self, batch_size: int, max_length: int) -> KVCache:
        """An empty cache that fits this model's shape, device and dtype."""
        return KVCache(self.config, batch_size, max_length, device=self.device, dtype=self.dtype)

    def prepare_for(self, rows: int) -> None:
        """What must be done before so many rows are written: nothing, but `CompiledDecoder` compiles."""

    @torch.inference_mode()
    def __call__(self, ids: Tensor, cache: KVCache, *, lengths: Tensor | None = None) -> Tensor:
        """Logits (batch, time, vocab_size) of the tokens `ids` (batch, time) that follow those in the cache.

        `lengths` and errors as in the model's `forward`.
        """
        if self._single is not None and self._single.fits(ids, cache):
            check_room(ids, cache, self.config)
            logits = self._single(ids.item(), cache)
            cache.advance(1 if lengths is None else lengths)
            return logits.view(1, 1, -1)
        return self.head(self.hidden(ids, cache, lengths=lengths))

    @torch.inference_mode()
    def head(self, hidden: Tensor) -> Tensor:
        """(..., emb_dim) -> logits (..., vocab_size)."""
        return self.output(hidden.flatten(0, -2)).view(*hidden.shape[:-1], -1)

    @torch.inference_mode()
    def hidden(self, ids: Tensor, cache: KVCache, *, lengths: Tensor | None = None) -> Tensor:
        """What comes before the vocabulary: (batch, time, emb_dim), normalised, the last gain left to `head`."""
        check_room(ids, cache, self.config)
        step, floor = make_step(self.rotary, cache, *ids.shape), self.stream_floor
        x = F.embedding(ids.flatten(), self.embedding)  # (rows, emb_dim)
        for number, block in enumerate(self.blocks):
            q, k, v = block.queries_keys_values(direction(x, floor), step.turn)
            x = block.output.add_to(x, step.attend(number, q, k, v))
            x = block.down.add_to(x, block.gated(direction(x, floor)))
        cache.advance(ids.shape[1] if lengths is None else lengths)
        return direction(x, floor).view(*ids.shape, -1)
