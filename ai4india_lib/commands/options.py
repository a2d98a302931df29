"""What can be asked of `python -m ai4india_lib`: each command with its options, as --help shows them.

Nothing here needs torch, so that help, and the word about a misspelt option, come at once. What a command does stands
in the module of its name, and is imported when the command runs.
"""

import argparse
import re
import textwrap
from dataclasses import fields
from pathlib import Path

from ..training.hyperparameters import NEW_MODEL, TEXT_PRESETS, Hyperparameters, get_hyperparameters
from .classroom.options import add_class
from .doctor_options import add_doctor
from .plan_options import add_plan
from .shipping_options import add_card, add_export, add_model_options, add_push, add_serve

HINDI_STORIES = "data/kahani-hi.tar.gz"
REPLAY_SHARE = 0.5
MINUTES = 4.0  # of `train` without options
SLOTS = 16
SLASH_COMMANDS = "/reset begins a new conversation, Ctrl-C stops an answer, /quit (or Ctrl-D) ends"
# How texts are drawn, unless an option says otherwise. min-p holds a story together: far fewer speak of one child too
# many (models/README.md). A temperature that did as much would make them more alike.
STORY_SAMPLING = {"temperature": 0.8, "min_p": 0.1}
CHAT_SAMPLING = {"temperature": 0.3}  # answers want to be right more than to be new
# options of --preferences (the first) and --reward (the others): type, usual value, in words
TUNING = {
    "beta": (float, 0.1, "--preferences: how costly it is to leave the model of the start"),
    "group_size": (int, 8, "--reward: texts drawn for each prompt and compared with each other"),
    "max_length": (int, 64, "--reward: at most so many new tokens"),
    "kl_weight": (float, 0.04, "--reward: how costly it is to leave the model of the start"),
    "clip_range": (float, 0.2, "--reward: how far one batch may move a token's probability, as a ratio"),
    "updates": (int, 1, "--reward: steps for each batch of texts"),
}
FINETUNE_EXAMPLES = """examples:
  python -m ai4india_lib finetune --model my-model --data my-chats.jsonl --lora 16 --name my-chat
  python -m ai4india_lib finetune --model my-chat --preferences pairs.jsonl --name my-better-chat
  python -m ai4india_lib finetune --model my-model --reward my_reward.py:mark --data prompts.txt --max-steps 100

the first lines of a my_reward.py:
  def mark(attempt):
      return float(attempt.ended) - abs(len(attempt.text.split()) - 20) / 20
"""
LANGUAGES = {"hi": "Hindi", "en": "English", "bn": "Bengali", "gu": "Gujarati", "kn": "Kannada", "ml": "Malayalam"}
LANGUAGES |= {"mr": "Marathi", "or": "Odia", "pa": "Punjabi", "ta": "Tamil", "te": "Telugu", "ur": "Urdu"}
ARCHIVE = re.compile(r"kahani-(?:[a-z]+-)?([a-z]{2,3})\.tar\.gz")  # the stories of a language, or their tasks


def known_languages() -> list[str]:
    """The codes of the languages of which there are stories here: a generator's folder, or an archive."""
    found = {path.parent.name for path in Path("data/kahani").glob("*/grammar.py")}
    found |= {match[1] for path in Path("data").glob("kahani-*") if (match := ARCHIVE.fullmatch(path.name))}
    return sorted(found)


def in_words(language: str | None) -> str:
    """A language's name in English; its code, where that is all we know."""
    return LANGUAGES.get(language, language) if language else "this text"


class Usual(str):
    """The value of an option that was not given, so that it can be told from one that was."""


def make_parser() -> argparse.ArgumentParser:
    """What reads the command line: `make_parser().parse_args(["train"])` gives the options of a command."""
    parser = argparse.ArgumentParser(
        prog="python -m ai4india_lib",
        description="Train a small language model, let it write and answer, measure it and its speed.",
    )
    commands = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    for add in (
        _add_train,
        _add_finetune,
        _add_generate,
        _add_chat,
        _add_evaluate,
        add_doctor,
        add_export,
        add_serve,
        add_card,
        add_push,
        _add_benchmark,
        add_plan,
        _add_lessons,
        add_class,
        _add_usb,
    ):
        add(commands)
    return parser


def _add_train(subparsers) -> None:
    about = "Train a model and save it to models/NAME, with a perplexity plot and the history of the run. "
    about += "Without options: four minutes, on the course's Hindi stories."
    parser = subparsers.add_parser("train", help="train a model on a text archive", description=about)
    add = parser.add_argument
    text = "a .tar.gz with train.txt and test.txt, a folder with them, or the URL of such an archive (%(default)s); or "
    text += "your own .txt, .jsonl, .csv, or a folder of .txt, whose last 5%% of lines, at least 20, become the test"
    add("--data", default=Usual(HINDI_STORIES), metavar="SOURCE", help=text)
    add("--column", metavar="NAME", help="where the text stands in a .jsonl or .csv (text, or the only column)")
    add("--name", help="save to models/NAME (default: the archive's name with -mine behind it)")
    add("--preset", default=Usual("laptop"), choices=TEXT_PRESETS, help=PRESETS_IN_WORDS)
    add("--tokenizer", metavar="FOLDER", help="use this tokenizer (a folder or a Hugging Face name)")
    taught = "learn to predict what this model predicts, and take its tokenizer: makes a small model its draft"
    add("--teacher", metavar="NAME_OR_FOLDER", help=taught)
    add("--half", action="store_true", help="save the weights in bfloat16: half the size, three digits")
    add("--device", help="cpu, cuda, mps … (default: the best there is)")
    _add_training_options(parser, "laptop")


def _add_finetune(subparsers) -> None:
    about = (
        "Train a model further, and save it to models/NAME: whole, or with --lora as a small adapter that `generate`, "
    )
    about += "`chat` and `evaluate` open like a model. It learns from conversations (--data), from pairs of texts "
    about += "(--preferences: DPO), or from the marks that a Python function gives to what it writes (--reward: GRPO)."
    parser = subparsers.add_parser(
        "finetune",
        help="teach a model to answer, or what is preferred",
        description=textwrap.fill(about, 100),
        epilog=FINETUNE_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model_options(parser, "the newest that tells stories")
    _add_what_is_learned(parser.add_argument)
    add = parser.add_argument
    add("--lora", type=int, metavar="RANK", help="train an adapter of this rank, not the model")
    add("--lora-alpha", type=float, metavar="ALPHA", help="how strongly it counts (twice the rank)")
    add("--half", action="store_true", help="save the adapter in bfloat16: half the size, three digits")
    name = "-chat-mine, -preferred-mine or -rewarded-mine"
    add("--name", help=f"save to models/NAME (default: the model's name with {name} behind it)")
    add("--replay", metavar="SOURCE", help="text of the first training to mix in, as for `train`")
    add("--replay-share", type=float, metavar="FRACTION", help=f"its fraction of the tokens ({REPLAY_SHARE})")
    presets = (
        "hyperparameters (default: finetune, or finetune-lora; with --preferences and --reward always dpo and grpo)"
    )
    add("--preset", choices=TEXT_PRESETS, help=presets)
    group = parser.add_argument_group("preferences and rewards")
    for option, (kind, usual, words) in TUNING.items():
        group.add_argument(f"--{option.replace('_', '-')}", type=kind, help=f"{words} ({usual})")
    _add_training_options(parser, "finetune", shape=False)


def _add_what_is_learned(add) -> None:
    """Conversations, pairs, or what a function marks."""
    talks = "conversations: .jsonl, or an archive, folder or URL with train.jsonl and test.jsonl (and first.jsonl, if "
    talks += (
        "there are easy ones to learn first); several are joined. With --reward the prompts: the same, or .txt with "
    )
    talks += 'one a line, or .jsonl with "prompt" and what the function needs to know as "wanted"'
    add("--data", nargs="+", metavar="SOURCE", help=talks)
    pairs = 'pairs of texts: .jsonl with "prompt", "chosen" and "rejected", texts or lists of chat messages'
    add("--preferences", metavar="SOURCE", help=pairs)
    marked = (
        "a function of yours, such as my_reward.py:mark: it is given each text that the model wrote (attempt.text, "
    )
    marked += "attempt.ended, attempt.task.wanted) and returns a number, more for a better one"
    add("--reward", metavar="FILE:FUNCTION", help=marked)


def _add_generate(subparsers) -> None:
    about = "Write on a prompt, or on each line of a file, up to the model's end token."
    parser = subparsers.add_parser("generate", help="let a model write on a prompt", description=about)
    add = parser.add_argument
    add("prompt", nargs="?", help="the beginning of the text (एक दिन)")
    add("--prompts", metavar="FILE", help="a file with one prompt a line: all are written together")
    add("--output", metavar="FILE", help="with --prompts: write the texts there, as JSON lines")
    add("--slots", type=int, help=f"with --prompts: how many at a time ({SLOTS})")
    add_model_options(parser, "the newest that tells stories")
    add("--int8", action="store_true", help="weights in a quarter of the bytes, a little less exact")
    add("--compile", action="store_true", help="let torch compile the steps first: for much text; needs a C++ compiler")
    add("--timing", action="store_true", help="show the time to the first token, and tokens/s after it")
    draft = "a small model of the same vocabulary that proposes tokens for the model to check, or: ngram, for "
    draft += "proposals from the text so far; faster, and the text is as good"
    add("--draft", metavar="NAME_OR_FOLDER", help=draft)
    add("--max-length", type=int, default=200, help="at most so many new tokens (%(default)s)")
    add("--count", type=int, default=1, help="how many texts (%(default)s)")
    _add_sampling_options(parser, STORY_SAMPLING)


def _add_chat(subparsers) -> None:
    about = f"Talk with a fine-tuned model. {SLASH_COMMANDS}. "
    about += "When a conversation outgrows the model's context, its oldest questions and answers are forgotten."
    parser = subparsers.add_parser("chat", help="talk with a model", description=about)
    add_model_options(parser, "the newest that was taught to chat")
    parser.add_argument("--system", metavar="TEXT", help="what the model reads before the conversation")
    parser.add_argument("--max-length", type=int, default=250, help="longest answer, in tokens (%(default)s)")
    _add_sampling_options(parser, CHAT_SAMPLING)


def _add_evaluate(subparsers) -> None:
    about = (
        "Measure a model on stories it has not seen: bits per byte, minimal pairs, and questions and chats where it "
    )
    about += "is a chat model. Prints one table with 95% intervals and saves a chart."
    parser = subparsers.add_parser("evaluate", help="measure a model, alone or against another", description=about)
    add_model_options(parser, "the newest")
    add, yes_or_no = parser.add_argument, argparse.BooleanOptionalAction
    add("--against", metavar="NAME_OR_FOLDER", help="compare with this model on the same items")
    add("--language", choices=known_languages() or None, help="whose tests (default: of the text it was trained on)")
    add("--data", metavar="SOURCE", help="text, as for `train`: its test text is measured")
    add("--column", metavar="NAME", help="where the text stands in a .jsonl or .csv (text, or the only column)")
    add("--pairs", metavar="FILE", help="minimal pairs, as in data/kahani/pairs-hi.jsonl")
    add(
        "--questions",
        metavar="SOURCE",
        help="questions: a .jsonl file, or an archive or folder that holds test.jsonl, or the URL of one",
    )
    talks = "chats, each up to the answer that is judged, for a chat model: as for --questions"
    add("--conversations", metavar="SOURCE", help=talks)
    add("--chat", action=yes_or_no, help="ask as a chat does (default: as the model was trained)")
    add("--baselines", action=yes_or_no, default=True, help="also 5-grams and an untrained model")
    add("--limit", type=int, metavar="N", help="at most N documents, questions, pairs of each kind")
    add("--output", metavar="PNG", help="the chart (default: evaluation.png in the model's folder)")


def _add_benchmark(subparsers) -> None:
    about = "generation, training: how fast text is written, how fast a step of training is; each row is measured in "
    about += (
        "turns with its peer, in one run. quality: how good a model is after so many seconds of training. rounding: "
    )
    about += "size, loss and speed of a model's file in 32, 16, 8 and 4 bits."
    parser = subparsers.add_parser("benchmark", help="measure against other programs", description=about)
    parser.add_argument("what", choices=["generation", "training", "quality", "rounding"], help="what to measure")
    parser.add_argument("--rows", help="only these rows, such as s1,m8 or s,m (default: all that can be measured here)")
    parser.add_argument(
        "--data",
        nargs="+",
        metavar="SOURCE",
        help="quality: texts to train on, as for `train`; rounding: one to measure on",
    )
    parser.add_argument("--seconds", nargs="+", type=float, help="quality: of each training (60 120 180)")
    kept = "quality: a file that keeps each result as a line of JSON; a run that was stopped goes on from it"
    parser.add_argument("--results", metavar="FILE", help=kept)
    parser.add_argument("--model", metavar="NAME_OR_FOLDER", help="rounding: models/NAME, or a folder (the newest)")
    parser.add_argument("--repeats", type=int, default=3, help="how often each is measured (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="cores to use (%(default)s)")


def _add_lessons(subparsers) -> None:
    about = "Copy the lessons to my/, a folder that git ignores, and say how to open them there. A copy that is there "
    about += "already is never replaced."
    subparsers.add_parser("lessons", help="copy the lessons, to write in them", description=about)


def _add_usb(subparsers) -> None:
    about = "Write all that a computer without a network needs into a new folder, on a USB stick say: packages, the "
    about += "course without what was trained or written here, and a program that installs it."
    parser = subparsers.add_parser("usb", help="pack the course for a computer without a network", description=about)
    add = parser.add_argument
    add("folder", metavar="FOLDER", help="a new folder, outside of the course's")
    add("--system", choices=("linux", "linux-arm", "windows", "macos"), help="of the other computer (this one's)")
    add("--python", metavar="VERSION", help="of the other computer, such as 3.12 (this one's)")
    add("--gpu", action="store_true", help="on Linux, torch for NVIDIA GPUs too: several GB")


def _whole_or_none(text: str) -> int | None:
    return _or_none(int, text, "a whole number")


def _number_or_none(text: str) -> float | None:
    return _or_none(float, text, "a number")


def _or_none(kind: type, text: str, in_words: str) -> float | None:
    if text.lower() == "none":
        return None
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither {in_words} nor none") from None


def _yes_or_no(text: str) -> bool:
    if text.lower() not in ("true", "false", "yes", "no", "1", "0"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither yes nor no")
    return text.lower() in ("true", "yes", "1")


# type of a field → what reads its option, and how the help calls it
_OPTIONS = {
    int: (int, "INT"), float: (float, "FLOAT"), str: (str, "STR"), bool: (_yes_or_no, "BOOL"),
    int | None: (_whole_or_none, "INT"), float | None: (_number_or_none, "FLOAT"),
}  # fmt: skip


PRESETS_IN_WORDS = "laptop (%(default)s): a storyteller on two cores; quick: a small one, in a minute or two; colab: a "
PRESETS_IN_WORDS += "larger one on a GPU such as a T4; finetune, finetune-lora: a trained model; tiny: for tests"
_HELP = {
    "minutes": "take so many minutes, with all that belongs to the run, and as many steps as fit into them (`train`: "
    f"{MINUTES:g}, unless --preset, --max-steps or --num-epochs says how long)"
}


def _add_training_options(parser: argparse.ArgumentParser, preset: str, *, shape: bool = True) -> None:
    """What to do about an older run, and an option for each field of `Hyperparameters`; values of `preset` are shown.

    Without `shape`, in fine-tuning, those of the model's shape and --compile are not shown, but understood: so they
    are refused with a reason.
    """
    parser.add_argument("--overwrite", action="store_true", help="replace models/NAME if it exists")
    parser.add_argument(
        "--resume", action="store_true", help="go on with the interrupted run in models/NAME, as it was begun"
    )
    about = "change single fields of the preset"
    group = parser.add_argument_group("hyperparameters", about, argument_default=argparse.SUPPRESS)
    for f in fields(Hyperparameters):
        if f.name == "compile":
            about = "compile the step, on a GPU, where the run is long enough to earn it (yes)"
            group.add_argument(
                "--compile", action=argparse.BooleanOptionalAction, help=about if shape else argparse.SUPPRESS
            )
            continue
        option = f"--{f.name.replace('_', '-')}"
        if f.name in NEW_MODEL and not shape:
            group.add_argument(option, nargs="?", const=True, help=argparse.SUPPRESS)
        else:
            (read, metavar), usual = _OPTIONS[f.type], getattr(get_hyperparameters(preset), f.name)
            group.add_argument(option, type=read, metavar=metavar, help=_HELP.get(f.name, f"preset {preset}: {usual}"))


def _add_sampling_options(parser: argparse.ArgumentParser, usual: dict[str, float]) -> None:
    """An option for each field of `Sampling`; the usual values are shown as the defaults, not set."""
    group = parser.add_argument_group("sampling", "how the next token is drawn", argument_default=argparse.SUPPRESS)
    about = f"0: always the likeliest token; 1: as the model thinks ({usual['temperature']})"
    group.add_argument("--temperature", type=float, help=about)
    group.add_argument("--top-k", type=int, help="draw only from the K likeliest tokens")
    group.add_argument("--top-p", type=float, help="draw only from the fewest tokens that have probability P together")
    about = f"only from tokens at least P times as likely as the likeliest ({usual.get('min_p', 0)})"
    group.add_argument("--min-p", type=float, help=about)
    group.add_argument("--repetition-penalty", type=float, help="above 1: repeat less")
    group.add_argument("--seed", type=int, help="same seed, same text")
