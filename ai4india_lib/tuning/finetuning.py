"""model + conversations → a model that answers: supervised fine-tuning, of all weights or of LoRA adapters.

The loop is that of pretraining (`training.train`); what differs is the data. The loss counts only what the assistant
says, and some plain text of the first training may be mixed in ("replay"), so that the model does not forget it.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch

from ..basics.arguments import above, at_least, between
from ..basics.processes import rank_and_world_size
from ..model.config import DecoderConfig
from ..model.decoder import DecoderLanguageModel
from ..model.lora import LORA_TARGETS, add_lora, has_lora
from ..model.new_tokens import give_places, untrained_tokens
from ..text.corpus import json_lines, train_and_test_lines
from ..text.reading import Record, place_of
from ..text.resumable import TextLoader
from ..training.history import History
from ..training.hyperparameters import Hyperparameters, given_or_preset
from ..training.loop import train
from .conversation_batches import EXPECTED, ConversationDataset, Examples, encode_examples

HELD_OUT = 20  # where there is no test part, every 20th conversation becomes one


def finetune(
    model: DecoderLanguageModel,
    tokenizer,
    data: str | Path | list,
    hyperparameters: Hyperparameters | None = None,
    *,
    lora_rank: int | None = None,
    lora_alpha: float | None = None,
    lora_targets: Iterable[str] = LORA_TARGETS,
    replay: str | Path | Iterable[str] | None = None,
    replay_share: float = 0.5,
    folder: str | Path | None = None,
    resume: bool = False,
    device: str | torch.device | None = None,
    progress: bool = True,
    on_evaluation: Callable[[History], None] | None = None,
    reserved: float = 0.0,
) -> History:
    """Teach `model`, in place, to answer as the assistant in conversations does.

    Args:
        data: a `.jsonl` file, an archive, folder or URL with `train.jsonl` and `test.jsonl`, a list of such, or a list
            of conversations (dicts, see `conversation_batches`). Where there is no test part, every 20th is held out as
            one. An archive or folder may hold `first.jsonl` too: easy conversations, learned before all others.
        hyperparameters: default is the preset "finetune", or "finetune-lora" with adapters. Of its fields for the
            model's shape only `context_size` counts: the longest conversation, at most the model's own.
        lora_rank: train adapters of this rank (see `lora.add_lora`) and leave the model's own weights alone; None: all
            weights train. A model that has adapters already goes on with those.
        replay: plain text to be learned too, as for `train`: an archive or lines. `replay_share` is its share of the
            tokens, those that come first left aside; it rises through each pass (see `ConversationDataset`).
        folder, resume, device, progress, on_evaluation, reserved: as in `training.train`.

    Returns the history; its bits per byte are those of the assistant's words. After it adapters are still separate:
    `save_adapter` saves them, `merge_lora` makes them part of the model.
    Raises CorpusError, with the line, for conversations that cannot be learned from.
    """
    at_least(1, lora_rank=lora_rank)
    above(0, lora_alpha=lora_alpha)
    if lora_alpha is not None and lora_rank is None:
        raise ValueError(f"lora_alpha={lora_alpha} has no effect without lora_rank: give a rank too, or leave it out")
    began = time.perf_counter()
    adapters = lora_rank is not None or has_lora(model)
    h = given_or_preset(hyperparameters, "finetune-lora" if adapters else "finetune")
    h = replace(h, context_size=min(h.context_size, model.config.context_size))
    between(0, 1, replay_share=replay_share)
    if replay_share == 1:
        raise ValueError(f"replay_share={replay_share} is a share of all tokens: it must be below 1")
    say = print if progress else lambda line: None
    parts = conversation_loaders(tokenizer, data, h, replay=replay, replay_share=replay_share, say=say)
    prepare_chat_tokens(model, tokenizer, parts[0].dataset.examples.ids, adapters)
    make_trainable(model, lora_rank, lora_alpha, lora_targets, seed=h.seed)
    more = {"folder": folder, "resume": resume, "device": device, "on_evaluation": on_evaluation}
    more["reserved"] = reserved + time.perf_counter() - began
    model.chats = True  # for `save_model`: a turn's end ends its texts
    return train(model, *parts, h, progress=progress, **more)


def make_trainable(
    model: DecoderLanguageModel, lora_rank: int | None, lora_alpha: float | None, targets=LORA_TARGETS, *, seed: int = 0
) -> None:
    """Give the model new adapters of this rank, or let all its weights be trained; those it has already stay as they
    are."""
    if lora_rank is not None:
        add_lora(model, lora_rank, lora_alpha, targets, seed=seed)
    elif not has_lora(model) and model.embedding.weight.dtype != torch.float32:
        model.float()  # small steps would be lost in half precision


def prepare_chat_tokens(model: DecoderLanguageModel, tokenizer, texts: Iterable[list[int]], adapters: bool) -> None:
    """See that the signs of a chat in `texts`, as ids, can be told apart; where all weights train, make them so (see
    `new_tokens`). Raises ValueError where only adapters train, and they cannot be."""
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    lost = untrained_tokens(model, sorted(special & {i for ids in texts for i in ids}))
    if lost and adapters:
        signs = ", ".join(tokenizer.convert_ids_to_tokens(lost))
        why = f"the model never saw {signs}: they have no places of their own, and an adapter cannot give them any"
        mend = f"Do it once: give_places(model, {lost}), save the model, and train the adapter on that"
        raise ValueError(f"{why}. {mend}")
    give_places(model, lost)


def conversation_loaders(
    tokenizer, data, h: Hyperparameters, *, replay=None, replay_share: float = 0.5, say=lambda line: None
) -> tuple[TextLoader, TextLoader]:
    """Loaders of what `finetune` trains and tests on, with its arguments; `say` is given a line about each part."""

    def encoded(lines: Iterable[dict], source: str, name: str | None = None) -> Examples:
        examples = encode_examples(lines, tokenizer, h.context_size, source=source)
        say(f"{name or source}: {examples.in_words()}")
        return examples

    lines, test_lines = read_conversations(data)
    first = _easy_conversations(data)
    easy = encoded(first, "first data", "first of all") if first else Examples()
    talks, texts = encoded(lines, "training data"), Examples()
    if replay is not None and replay_share > 0:
        wanted = sum(map(len, talks.ids)) * replay_share / (1 - replay_share)
        texts = _replayed(replay, tokenizer, h.context_size, wanted)
        say(f"replay: {texts.in_words()}")
    tests = encoded(test_lines, "test data")
    settings = (tokenizer.pad_token_id or 0, h.context_size, h.batch_size)
    rank, world_size = rank_and_world_size()
    more = {"seed": h.seed, "rank": rank, "world_size": world_size}
    parts = {"first": len(easy.ids), "replay": len(texts.ids)}
    parts["longest_pass"] = h.max_steps and h.max_steps * h.accumulation_steps
    train_data = ConversationDataset(easy + talks + texts, *settings, **parts, **more)
    return TextLoader(train_data), TextLoader(ConversationDataset(tests, *settings, shuffle=False, **more))


def _replayed(texts: str | Path | Iterable[str], tokenizer, context_size: int, tokens: float) -> Examples:
    """The first of these texts, an archive or lines, which together have about so many tokens."""
    found, size, count = Examples(), 0, 8
    lines = iter(train_and_test_lines(texts)[0] if isinstance(texts, (str, Path)) else texts)
    while size < tokens and (part := [{"text": text} for text in islice(lines, count)]):
        found += encode_examples(part, tokenizer, context_size, source="replay")
        size = sum(map(len, found.ids))
        count = max(1, int((tokens - size) * len(found.ids) / size))
    return found


def _easy_conversations(data: str | Path | list) -> list[dict]:
    """The lines of `first.jsonl`, where an archive or folder of `data` has one; see `finetune`."""
    sources = data if isinstance(data, list) else [data]
    folders = [source for source in sources if not isinstance(source, dict) and not _is_one_file(source)]
    return [line for source in folders for line in json_lines(source, "first.jsonl", optional=True)]


def read_conversations(data: str | Path | list) -> tuple[list[dict], list[dict]]:
    """(training lines, test lines) of a data set, or of several together; see `finetune`."""
    if isinstance(data, list) and all(isinstance(line, dict) for line in data):
        return _hold_out(
            [Record(line, place_of(line, f"conversation {number}")) for number, line in enumerate(data, 1)]
        )
    train_lines, test_lines = [], []
    for source in data if isinstance(data, list) else [data]:
        if not isinstance(source, (str, Path)):
            raise ValueError(f"data must name files, or be a list of conversations {EXPECTED}; got {source!r:.60}")
        lines = list(json_lines(source))
        train, test = _hold_out(lines) if _is_one_file(source) else (lines, list(json_lines(source, "test.jsonl")))
        train_lines += train
        test_lines += test
    return train_lines, test_lines


def _is_one_file(source: str | Path) -> bool:
    return str(source).lower().endswith((".jsonl", ".jsonl.gz"))


def _hold_out(lines: list[dict]) -> tuple[list[dict], list[dict]]:
    """(the others, every 20th) of some conversations, or the last one of fewer."""
    if len(lines) < 2:
        raise ValueError(f"{len(lines)} conversations are too few: at least two are needed, one of them for testing")
    every = min(HELD_OUT, len(lines))
    return [line for n, line in enumerate(lines, 1) if n % every], lines[every - 1 :: every]


def training_memory(
    config: DecoderConfig, tokens: int, *, lora_rank: int | None = None, lora_targets: Iterable[str] = LORA_TARGETS
) -> dict[str, float]:
    """What training takes, in bytes, for passes of `tokens` tokens in mixed precision, with AdamW.

    All weights: 4 bytes each for weight, gradient, and AdamW's two memories. With adapters: 2 bytes for each frozen
    weight, those 16 only for the adapters' own. Activations, which backward needs, take 2 bytes per number where
    matrices multiply and 4 in the residual stream and the norms; the logits are needed twice in 4 bytes and once in 2.
    An estimate: PyTorch's own store and passing buffers come on top (say 1 GB).
    """
    with torch.device("meta"):
        model = DecoderLanguageModel.from_config(config)
        weights = model.num_parameters()
        if lora_rank is not None:
            add_lora(model, lora_rank, targets=lora_targets)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    d, m, head = config.emb_dim, config.mlp_dim, config.head_dim
    heads = head * config.num_heads
    qkv = head * (config.num_heads + 2 * config.num_kv_heads)
    block = 2 * (4 * 3 * d + 2 * d) + 2 * (3 * qkv + 2 * heads) + 2 * (5 * m)  # norms and stream, attention, MLP
    return {
        "weights": 4.0 * weights if lora_rank is None else 2.0 * weights + 4.0 * trained,
        "gradients": 4.0 * trained,
        "optimizer": 8.0 * trained,
        "activations": float(tokens * (config.num_blocks * block + 10 * config.vocab_size)),
    }
