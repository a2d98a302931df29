"""Before training: first weights that copy. After it: tokens that no text held, and what to do before they are needed.

A token that never occurs is only ever pushed away: at every step the softmax lowers all wrong tokens alike. So in the
end all unused tokens of a model lie at the same place, and nothing that reads or writes them can tell them apart. The
signs of a chat, <|user|>, <|assistant|> and <|end_of_turn|>, are such tokens after a training on stories. An adapter
that leaves the table of embeddings alone could then never learn to write the end of a turn.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from .model import DecoderLanguageModel

LIKENESS = 0.7  # share of a key's weights in the query that looks for it
COPYING = 0.08  # deviation of the first output weights, which undo what value did
SPREAD = 3.0  # length of what a token gets of its own; a trained token's embedding is 2 to 4 long


@torch.no_grad()
def begin_by_copying(model: DecoderLanguageModel) -> DecoderLanguageModel:
    """Let the attention of a model with fresh weights begin as a copier, in place; call it before training.

    Queries resemble keys, so each head attends to places like the one it stands at. The output matrix is the transpose
    of the value matrix, so what a head finds is added to the stream nearly as it was, and as the table of embeddings
    also writes (`tie_embeddings`), a token that is looked at becomes likelier. Trained models come to both by
    themselves ("mimetic initialisation": Trockman & Kolter, 2023), but late. With this start a small model finds the
    names that a story has told already early in its training.
    """
    for block in model.blocks:
        attention = block.attention
        per_group = attention.num_heads // attention.num_kv_heads
        shape = (attention.num_kv_heads, attention.head_dim, -1)
        keys, values = (
            matrix.weight.view(shape).repeat_interleave(per_group, 0).flatten(0, 1)  # (heads * head_dim, emb_dim)
            for matrix in (attention.key, attention.value)
        )
        attention.query.weight.lerp_(keys, LIKENESS)
        attention.output.weight.copy_(values.T * (COPYING / values.std()))
    return model


@torch.no_grad()
def give_places(model: DecoderLanguageModel, ids: Iterable[int], *, seed: int = 0) -> DecoderLanguageModel:
    """Give each token of `ids` an embedding of its own, in place: the old one and a random direction.

    What the old ones have in common keeps the tokens unlikely, as they should be until a training uses them, so that
    nothing else changes. Both tables change where a model has one for reading and one for writing.
    """
    generator = torch.Generator().manual_seed(seed)
    for token in ids:
        for table in {id(weight): weight for weight in (model.embedding.weight, model.head.weight)}.values():
            direction = torch.randn(table.shape[1], generator=generator)
            table[token] += (SPREAD * direction / direction.norm()).to(table)
    return model


def untrained_tokens(model: DecoderLanguageModel, ids: Iterable[int]) -> list[int]:
    """Those of `ids` that lie where another token of the vocabulary lies (cosine above 0.99)."""
    table = torch.nn.functional.normalize(model.head.weight.detach().float(), dim=1)  # (vocab_size, emb_dim)
    return [token for token in ids if (table @ table[token] > 0.99).sum() > 1]
