"""After training: tokens that no text held, and what to do before they are needed.

A token that never occurs is only ever pushed away: at every step the softmax lowers all wrong tokens alike. So in the
end all unused tokens of a model lie at the same place, and nothing that reads or writes them can tell them apart. The
signs of a chat, <|user|>, <|assistant|> and <|end_of_turn|>, are such tokens after a training on stories. An adapter
that leaves the table of embeddings alone could then never learn to write the end of a turn. Nor could it read "hello"
after a training on Hindi: all Latin letters are the same token to it.
"""

from collections.abc import Iterable, Iterator

import torch

from .decoder import DecoderLanguageModel

SPREAD = 3.0  # length of what a token gets of its own; a trained token's embedding is 2 to 4 long
HALF_SPREAD = 1.5  # for tokens that only a later training may need: enough to tell them apart, too little to write them


@torch.no_grad()
def give_places(
    model: DecoderLanguageModel, ids: Iterable[int], *, seed: int = 0, spread: float = SPREAD
) -> DecoderLanguageModel:
    """Give each token of `ids` an embedding of its own, in place: the old one and a random direction, `spread` long.

    What the old ones have in common keeps the tokens unlikely, as they should be until a training uses them. In a wide
    model nothing else changes; a narrow one writes less well (see the card of kahani-hi-small).
    Both tables change where a model has one for reading and one for writing.
    """
    generator = torch.Generator().manual_seed(seed)
    for token in ids:
        for table in {id(weight): weight for weight in (model.embedding.weight, model.head.weight)}.values():
            direction = torch.randn(table.shape[1], generator=generator)
            table[token] += (spread * direction / direction.norm()).to(table)
    return model


def untrained_tokens(model: DecoderLanguageModel, ids: Iterable[int]) -> list[int]:
    """Those of `ids` that lie where another token of the vocabulary lies (cosine above 0.99)."""
    return [token for token, beside in _places(model, ids) if len(beside) > 1]


def beside_untrained(model: DecoderLanguageModel, ids: Iterable[int]) -> list[int]:
    """All tokens that lie where one of the untrained ones of `ids` lies, but for `ids` themselves."""
    ids = list(ids)
    found = {other for _, beside in _places(model, ids) if len(beside) > 1 for other in beside}
    return sorted(found - set(ids))


def _places(model: DecoderLanguageModel, ids: Iterable[int]) -> Iterator[tuple[int, list[int]]]:
    """Each token of `ids`, and all tokens that lie where it lies, itself among them."""
    table = torch.nn.functional.normalize(model.head.weight.detach().float(), dim=1)  # (vocab_size, emb_dim)
    for token in ids:
        yield token, (table @ table[token] > 0.99).nonzero()[:, 0].tolist()
