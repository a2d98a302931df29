"""Before training: weights that already copy what stood in the text before, and know which tokens are alike.

A model finds it late by itself that a name that stood in a story is likely to come again, or that two words are used
alike. To begin near that saves it a large part of a short training.
"""

import warnings
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from .decoder import DecoderLanguageModel

LIKENESS = 0.7  # fraction of a key's weights in the query that looks for it
COPYING = 0.08  # deviation of the first output weights, which undo what value did
REACH = 2  # tokens to each side: the company that is counted; the second one counts half
SMOOTHING = 0.75  # power of a neighbour's count: rare ones would else seem to say too much


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


@torch.no_grad()
def begin_by_counting(
    model: DecoderLanguageModel, documents: Iterable[Sequence[int]], seed: int = 0
) -> DecoderLanguageModel:
    """Let the embeddings of a model with fresh weights begin as word vectors, in place: tokens that stand in the same
    company are alike. `documents` are lists of ids; call it before training.

    Counted is how often two tokens stand near each other. How much more often than by chance they do (the positive
    pointwise mutual information, its context smoothed: Levy, Goldberg & Dagan, 2015, §3) is a matrix (vocab_size,
    vocab_size). Its best factors of `emb_dim` columns are word vectors, about as good as learned ones (Levy & Goldberg,
    2014). Here they get the lengths of the embeddings that they replace. Tokens without company keep theirs.
    """
    table = model.embedding.weight
    company = _company(documents, len(table))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        size = min(table.shape)
        factors, strengths, _ = torch.svd_lowrank(company, q=size, niter=2)  # (vocab_size, size), (size,)
    vectors = torch.zeros(table.shape)
    vectors[:, :size] = factors * strengths.sqrt()
    drawn = table.float().cpu()
    vectors *= drawn.norm(dim=1, keepdim=True) / vectors.norm(dim=1, keepdim=True).clamp_min(1e-12)
    has_company = company.crow_indices().diff()[:, None] > 0
    table.copy_(torch.where(has_company, vectors, drawn))
    return model


def _company(documents: Iterable[Sequence[int]], vocab_size: int) -> Tensor:
    """Positive pointwise mutual information of tokens that stand near each other, sparse (vocab_size, vocab_size)."""
    rows = [torch.as_tensor(ids, dtype=torch.long) for ids in documents]
    ids = torch.cat([torch.empty(0, dtype=torch.long), *rows])
    document = torch.arange(len(rows)).repeat_interleave(torch.tensor([len(row) for row in rows], dtype=torch.long))
    pairs, weights = [], []
    for apart in range(1, REACH + 1):
        together = document[:-apart] == document[apart:]
        left, right = ids[:-apart][together], ids[apart:][together]
        pairs += [left * vocab_size + right, right * vocab_size + left]
        weights += [torch.full((2 * len(left),), 1 / apart)]
    keys, place = torch.cat(pairs).unique(return_inverse=True)
    counts = torch.zeros(len(keys)).index_add_(0, place, torch.cat(weights))
    token, neighbour = keys // vocab_size, keys % vocab_size
    of_token = torch.zeros(vocab_size).index_add_(0, token, counts)
    smoothed = of_token**SMOOTHING
    chance = of_token[token] * smoothed[neighbour] / smoothed.sum()  # how often the two would meet by chance
    more = (counts / chance).log()
    kept = more > 0
    found, shape = torch.stack([token, neighbour])[:, kept], (vocab_size, vocab_size)
    listed = torch.sparse_coo_tensor(found, more[kept], shape, check_invariants=True, is_coalesced=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state")
        return listed.to_sparse_csr()  # products are four times as fast so
