"""Before training: weights that already copy what stood in the text before.

A model finds it late by itself that a name that stood in a story is likely to come again. To begin near that saves it
a large part of a short training.
"""

import torch

from .decoder import DecoderLanguageModel

LIKENESS = 0.7  # fraction of a key's weights in the query that looks for it
COPYING = 0.08  # deviation of the first output weights, which undo what value did


@torch.no_grad()
def begin_by_copying(model: DecoderLanguageModel) -> DecoderLanguageModel:
    """Let the attention of a model with fresh weights begin as a copier, in place; call it before training.

    Queries resemble keys, so each head attends to tokens like the one it stands at. The output matrix is the transpose
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
