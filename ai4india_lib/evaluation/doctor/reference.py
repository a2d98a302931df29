"""A second computation of a decoder's logits, written apart from `model.decoder`, in which one part can be left out or
done wrongly on purpose. If a model agrees with such a fault, and not with the right way, it has that fault.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...model.config import DecoderConfig
from ...model.decoder import rope_frequencies

NO_FAULT = "none"
# fault → the disease that it is a form of. Each is done in all blocks, or, as "fault@1", in one of them.
FAULTS = {
    "no mask": "no causal mask",
    "mask one too far": "no causal mask",
    "no positions": "positions missing",
    "neighbours paired": "rotation with wrong pairing",
    "angles of neighbours": "rotation with wrong pairing",
    "neighbours paired, angles of halves": "rotation with wrong pairing",
    "turned backwards": "rotation with wrong pairing",
    "sine and cosine exchanged": "rotation with wrong pairing",
    "only queries turned": "rotation with wrong pairing",
    "only keys turned": "rotation with wrong pairing",
    "swapped": "queries and keys swapped",
    "softmax along columns": "queries and keys swapped",
    "no scale": "scale of the scores forgotten",
    "scale of head_dim": "scale of the scores forgotten",
    "scale of emb_dim": "scale of the scores forgotten",
    "no attention residual": "residual left out",
    "no mlp residual": "residual left out",
    "no residual": "residual left out",
    "no attention norm": "norm left out",
    "no mlp norm": "norm left out",
    "no block norms": "norm left out",
    "no final norm": "norm left out",
    "no query and key norm": "norm left out",
    "no norm": "norm left out",
    "written with the reading table": "weights not tied",
}
GLOBAL = ("no final norm", "no norm", "written with the reading table")  # not of single blocks


def faults_for(config: DecoderConfig, *, single_blocks: bool = False) -> list[str]:
    """The faults that a model of this shape can have; with `single_blocks` those of single blocks."""
    known = [fault for fault in FAULTS if config.qk_norm or fault != "no query and key norm"]
    if config.tie_embeddings:
        known.remove("written with the reading table")
    if single_blocks:
        return [f"{fault}@{n}" for n in range(config.num_blocks) for fault in known if fault not in GLOBAL]
    return known


def disease_of(fault: str) -> str:
    """The disease that a fault, `name` or `name@place`, is a sign of."""
    return FAULTS[fault.split("@")[0]]


def weights_of(model: nn.Module) -> dict[str, Tensor] | None:
    """The model's weights as float32 by our names; None if it lacks any of them, as a model of another kind does."""
    config = getattr(model, "config", None)
    weights = {name: p.detach().float() for name, p in model.named_parameters(remove_duplicate=False)}
    if not isinstance(config, DecoderConfig) or "embedding.weight" not in weights:
        return None
    weights.setdefault("head.weight", weights["embedding.weight"])
    norms = ["attention.query_norm.gain", "attention.key_norm.gain"] if config.qk_norm else []
    own = [f"attention.{name}.weight" for name in ("query", "key", "value", "output")]
    own += [*(f"mlp.{name}.weight" for name in ("gate", "up", "down")), "attention_norm.gain", "mlp_norm.gain", *norms]
    wanted = ["norm.gain", *(f"blocks.{n}.{name}" for n in range(config.num_blocks) for name in own)]
    return weights if all(name in weights for name in wanted) else None


@dataclass
class Reference:
    """The decoder as it should be, and with faults. Shapes: ids (batch, time) -> logits (batch, time, vocab_size)."""

    weights: dict[str, Tensor]
    config: DecoderConfig

    @torch.no_grad()
    def logits(self, ids: Tensor, fault: str = NO_FAULT) -> Tensor:
        w, c = self.weights, self.config
        kind, _, only = fault.partition("@")
        x = F.embedding(ids, w["embedding.weight"])  # (batch, time, emb_dim)
        for n in range(c.num_blocks):
            here = kind if only in ("", str(n)) else NO_FAULT
            part = self.part(n)
            bare = here in ("no norm", "no block norms")
            read = x if bare or here == "no attention norm" else self.norm(x, part["attention_norm.gain"])
            write = self.attention(read, n, here)
            x = write if here in ("no residual", "no attention residual") else x + write
            read = x if bare or here == "no mlp norm" else self.norm(x, part["mlp_norm.gain"])
            write = self.mlp(read, n)
            x = write if here in ("no residual", "no mlp residual") else x + write
        if kind not in ("no final norm", "no norm"):
            x = self.norm(x, w["norm.gain"])
        table = "embedding" if kind == "written with the reading table" else "head"
        return x @ w[f"{table}.weight"].T

    def norm(self, x: Tensor, gain: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.config.norm_eps) * gain

    def mlp(self, x: Tensor, block: int) -> Tensor:
        """What the MLP of a block adds to the stream."""
        gate, up, down = (self.part(block)[f"mlp.{name}.weight"] for name in ("gate", "up", "down"))
        return (F.silu(x @ gate.T) * (x @ up.T)) @ down.T

    def part(self, block: int) -> dict[str, Tensor]:
        """The weights of one block, by their names within it."""
        start = f"blocks.{block}."
        return {name.removeprefix(start): p for name, p in self.weights.items() if name.startswith(start)}

    def attention(self, x: Tensor, block: int, fault: str = NO_FAULT) -> Tensor:
        """What attention in a block adds to the stream when it reads x (batch, time, emb_dim)."""
        part, c, (batch, time, _) = self.part(block), self.config, x.shape
        shape = (batch, time, -1, c.head_dim)
        q, k, v = ((x @ part[f"attention.{name}.weight"].T).view(shape) for name in ("query", "key", "value"))
        if c.qk_norm and fault not in ("no query and key norm", "no norm"):
            q = self.norm(q, part["attention.query_norm.gain"])
            k = self.norm(k, part["attention.key_norm.gain"])
        q = q if fault == "only keys turned" else self._turned(q, fault)
        k = k if fault == "only queries turned" else self._turned(k, fault)
        groups = c.num_heads // c.num_kv_heads
        k, v = (some.repeat_interleave(groups, 2) for some in (k, v))
        q, k, v = (some.transpose(1, 2) for some in (q, k, v))  # (batch, heads, time, head_dim)
        if fault == "swapped":
            q, k = k, q
        powers = {"no scale": 1.0, "scale of head_dim": 1 / c.head_dim, "scale of emb_dim": c.emb_dim**-0.5}
        scale = powers.get(fault, c.head_dim**-0.5)
        if fault.startswith("scale times "):
            scale *= float(fault.removeprefix("scale times "))
        scores = q @ k.transpose(-1, -2) * scale  # (batch, heads, time, time)
        if fault != "no mask":
            first_hidden = 2 if fault == "mask one too far" else 1
            hidden = torch.ones(time, time, dtype=torch.bool, device=x.device).triu(first_hidden)
            scores = scores.masked_fill(hidden, -torch.inf)
        along = -2 if fault == "softmax along columns" else -1
        mixed = scores.softmax(along).nan_to_num() @ v
        return mixed.transpose(1, 2).flatten(2) @ part["attention.output.weight"].T

    def _turned(self, x: Tensor, fault: str) -> Tensor:
        """(batch, time, heads, head_dim), each vector turned by its position."""
        if fault == "no positions":
            return x
        time = x.shape[1]
        frequencies = rope_frequencies(self.config).to(x.device)
        angles = torch.outer(torch.arange(time, dtype=torch.float32, device=x.device), frequencies)[:, None]
        if fault == "turned backwards":
            angles = -angles
        of_neighbours = fault in ("neighbours paired", "angles of neighbours")
        angles = angles.repeat_interleave(2, -1) if of_neighbours else torch.cat([angles, angles], -1)
        if fault.startswith("neighbours paired"):
            first, second = x[..., ::2], x[..., 1::2]
            across = torch.stack([-second, first], -1).flatten(-2)
        else:
            first, second = x.chunk(2, -1)
            across = torch.cat([-second, first], -1)
        if fault == "sine and cosine exchanged":
            return x * angles.sin() + across * angles.cos()
        return x * angles.cos() + across * angles.sin()
