"""What `finetune` can learn from: three kinds, with the same steps. `read` what there is, `learn`, tell the result.

All is read, and what is wrong is told, before anything is written.
"""

import argparse
from itertools import islice
from statistics import fmean

from ..basics.files import fingerprint_json
from ..evaluation.likelihood import bits_per_byte
from ..text.chat import end_ids
from ..text.corpus import train_and_test_lines
from ..training.history import History
from ..training.hyperparameters import Hyperparameters
from ..tuning.dpo import tune_on_preferences
from ..tuning.finetuning import finetune, make_trainable, prepare_chat_tokens
from ..tuning.grpo import Group, tune_on_rewards
from ..tuning.preference_files import read_preferences
from ..tuning.reward_files import load_reward, reward_file
from ..tuning.task_files import read_tasks
from .options import REPLAY_SHARE, TUNING

STORIES = 300  # test texts on which forgetting is measured
SHOWN = 0.1  # of all steps: over so many the first and the last figures of a run are averaged


class Conversations:
    """--data: answers as in conversations, with --replay not forgetting the stories."""

    chats, first_words = True, ""

    def __init__(self, options: argparse.Namespace, h: Hyperparameters):
        self.options, self.h = options, h

    def read(self, model, tokenizer) -> dict[str, str]:
        """Measure what may be forgotten. The conversations themselves are read by `finetune`."""
        self.model, self.tokenizer = model, tokenizer
        replay = self.options.replay
        self.texts = list(islice(train_and_test_lines(replay)[1], STORIES)) if replay else []
        self.before = bits_per_byte(model, tokenizer, self.texts) if self.texts else None
        return {}

    def learn(self, adapters: bool, **more) -> History:
        o = self.options
        share = REPLAY_SHARE if o.replay_share is None else o.replay_share
        more |= {"lora_rank": o.lora, "lora_alpha": o.lora_alpha, "replay": o.replay, "replay_share": share}
        return finetune(self.model, self.tokenizer, o.data, self.h, **more)

    def result_in_words(self, history: History) -> list[str]:
        if not self.texts:
            return []
        after = bits_per_byte(self.model, self.tokenizer, self.texts)
        figures = f"{self.before:.4f} bits per byte before, {after:.4f} after ({after / self.before - 1:+.1%})"
        return [f"{len(self.texts)} texts like those of the first training: {figures}"]


class Preferences:
    """--preferences: of two texts the chosen one becomes likelier (DPO)."""

    def __init__(self, options: argparse.Namespace, h: Hyperparameters):
        self.options, self.h = options, h
        self.beta = TUNING["beta"][1] if options.beta is None else options.beta

    def read(self, model, tokenizer) -> dict[str, str]:
        """Read the pairs; what run.json notes of them."""
        self.model, self.tokenizer = model, tokenizer
        source, context_size = self.options.preferences, model.config.context_size
        self.pairs, self.chats = read_preferences(source, tokenizer, context_size, say=print)
        self.first_words = tokenizer.decode(self.pairs[0].prompt, skip_special_tokens=True) or "…"
        return {"set_of_pairs": fingerprint_json([[p.prompt, p.chosen, p.rejected] for p in self.pairs])}

    def learn(self, adapters: bool, **more) -> History:
        texts = (pair.prompt + text for pair in self.pairs for text in (pair.chosen, pair.rejected))
        prepare_chat_tokens(self.model, self.tokenizer, texts, adapters)
        make_trainable(self.model, self.options.lora, self.options.lora_alpha, seed=self.h.seed)
        return tune_on_preferences(self.model, self.pairs, self.h, beta=self.beta, **more)

    def result_in_words(self, history: History) -> list[str]:
        line = f"the chosen text is the likelier one in {_from_to(history.accuracy, '.0%')} of the pairs"
        return [history.result_in_words(), f"{line}; margin {_from_to(history.margin, '.2f')} nats"]


class Rewards:
    """--reward: texts that earn more than others on the same prompt become likelier (GRPO)."""

    def __init__(self, options: argparse.Namespace, h: Hyperparameters):
        self.options, self.h = options, h
        chosen = {name: getattr(options, name) for name in TUNING if name != "beta"}
        names = {"group_size": "size", "max_length": "max_new_tokens"}
        self.group = Group(**{names.get(name, name): n for name, n in chosen.items() if n is not None})
        self.reward = load_reward(options.reward)

    def read(self, model, tokenizer) -> dict[str, str]:
        """Read the prompts; what run.json notes of them and of the reward's file."""
        self.model, self.tokenizer = model, tokenizer
        self.tasks, self.chats = read_tasks(self.options.data, tokenizer)
        longest, context = max(len(task.prompt) for task in self.tasks), model.config.context_size
        if longest + self.group.max_new_tokens - 1 > context:
            room = f"the {context} tokens that the model reads"
            less = f"--max-length {context - longest + 1}" if longest <= context else "shorter prompts"
            wanted = f"a prompt of {longest} tokens and --max-length {self.group.max_new_tokens}"
            raise ValueError(f"{wanted} do not fit into {room}: try {less}")
        self.first_words = tokenizer.decode(self.tasks[0].prompt, skip_special_tokens=True)
        print(f"{len(self.tasks):,} prompts, {self.group.size} texts on each", flush=True)
        marks = {"set_of_prompts": fingerprint_json([[task.prompt, task.wanted] for task in self.tasks])}
        file, function = reward_file(self.options.reward)
        return marks | {"reward": fingerprint_json([function, file.read_text(encoding="utf-8")])}

    def learn(self, adapters: bool, **more) -> History:
        texts = (task.prompt + end_ids(self.tokenizer, chat=self.chats) for task in self.tasks)
        prepare_chat_tokens(self.model, self.tokenizer, texts, adapters)
        make_trainable(self.model, self.options.lora, self.options.lora_alpha, seed=self.h.seed)
        return tune_on_rewards(self.model, self.tokenizer, self.tasks, self.reward, self.h, self.group, **more)

    def result_in_words(self, history: History) -> list[str]:
        figures = f"reward {_from_to(history.reward, '.3f')}, {_from_to(history.length, '.0f')} tokens a text"
        silent = f"{_from_to(history.silent, '.0%')} of the groups taught nothing, as all their texts earned the same"
        return [history.result_in_words(), figures, silent, f"one of the last texts: {history.sample[-1]!r:.200}"]


def _from_to(values: list[float], form: str) -> str:
    """The mean of the first and of the last steps of a run."""
    few = max(1, round(SHOWN * len(values)))
    return f"{fmean(values[:few]):{form}} → {fmean(values[-few:]):{form}}"
