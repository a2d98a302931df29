"""python -m ai4india_lib card: the README.md of models, with what is known of the run that made them.

`train` and `finetune` write it at their end. For a folder that is there already its run is read from its files, or from
the command that the README.md beside it names.
"""

import argparse
import math
import re
import shlex
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

from ..basics.files import read_json, write_json
from ..formats.cards import CARD, Facts, is_our_card, may_write_card, write_card
from ..formats.folders import SHIPPED, holds_adapter, holds_model, model_folder, models_in
from ..text.chat import CHAT_TEMPLATE, RESPONSE_TEMPLATE
from ..text.corpus import read_about
from ..text.urls import without_secrets
from ..training.history import History
from ..training.hyperparameters import NEW_MODEL, PRESETS, TEXT_PRESETS, Hyperparameters
from ..training.resume import Checkpoints
from . import hyperparameters_of, quoted
from .lessons import project_folder
from .options import TUNING, make_parser
from .runs import options_of_run, was_given

OPTIONS = "data column model preferences reward teacher tokenizer lora lora_alpha half replay replay_share".split()
HISTORY, PICTURE = "history.json", "perplexity.png"


def write_run_card(
    folder: Path, options: argparse.Namespace, h: Hyperparameters, history: History, **more
) -> Path | None:
    """Write the card of a model that a run of `train` or `finetune` made, with its `facts_of_run`; None where a
    person's own is kept."""
    path = write_card(folder, facts_of_run(folder, options, h, history, **more))
    if path is None:
        print(f"{folder / CARD} was written or changed by hand: it is kept, and may speak of another model", flush=True)
    return path


def facts_of_run(
    folder: Path,
    options: argparse.Namespace,
    h: Hyperparameters,
    history: History,
    *,
    about: dict | None = None,
    beginning: str = "",
) -> Facts:
    """What a run tells of its model, for its card.

    `about` is what `read_about` says of its text, where that is known already; `beginning` a prompt that suits it.
    """
    sources = sources_of(options)
    start, teacher = getattr(options, "model", None), getattr(options, "teacher", None)
    starts = [model_folder(name) for name in (start, teacher) if name]
    replay = getattr(options, "replay", None)
    known = [about] if about is not None else [_about(source) for source in sources if source != replay]
    run = {"made by": f"`{command_line(options, h, folder)}`".replace("|", "\\|")}
    if sources:
        run["learned from"] = ", ".join(map(_shown, sources)).replace("|", "\\|")
    measured = "of the test text" if options.command == "train" else "of what the assistant says in the test part"
    has_test = history.test_loss is not None and history.bytes_per_token
    run["result"] = history.result_in_words() + (f" ({measured})" if has_test else "")
    metrics = {}
    if has_test:
        metrics = {"perplexity": math.exp(history.test_loss)}
        metrics["bits_per_byte"] = history.in_bits_per_byte(history.test_loss)
    drawn = options.command == "train" and (folder / PICTURE).is_file()
    return Facts(
        language=_language(known, starts), license=_license(sources, starts), metrics=metrics, run=run,
        base=starts[0].resolve().name if start else None, beginning=beginning,
        data=tuple(map(_shown, sources)), picture=PICTURE if drawn else None,
    )  # fmt: skip


def sources_of(options: argparse.Namespace) -> list[str]:
    """The texts, conversations and pairs that a run read."""
    named = [getattr(options, name, None) for name in ("data", "preferences", "replay")]
    lists = [value if isinstance(value, list) else [value] for value in named if value]
    return list(dict.fromkeys(str(source) for some in lists for source in some))


def command_line(options: argparse.Namespace, h: Hyperparameters, folder: Path) -> str:
    """The command that makes the same run again, as it may be shown: without secrets, and places of this computer."""
    words = ["python -m ai4india_lib", options.command]
    for name in (*OPTIONS, "preset", *TUNING, "name"):
        value = folder.resolve().name if name == "name" else getattr(options, name, None)
        if not was_given(value) or (name == "preset" and value not in TEXT_PRESETS):  # the others are no choice
            continue
        values = [] if value is True else value if isinstance(value, list) else [value]
        words += [f"--{name.replace('_', '-')}", *(quoted(_shown(one)) for one in values)]
    return " ".join([*words, *_settings(options, h)])


def _settings(options: argparse.Namespace, h: Hyperparameters) -> list[str]:
    """The options for what differs from the preset; how long a run is, is always said."""
    usual, words = PRESETS[str(options.preset)], []
    for f in fields(Hyperparameters):
        value, option = getattr(h, f.name), f.name.replace("_", "-")
        is_length, by_clock = f.name == "max_steps", h.minutes is not None
        if value == getattr(usual, f.name) and (by_clock or not is_length):
            continue
        if (is_length and by_clock and value is None) or (options.command == "finetune" and f.name in NEW_MODEL):
            continue
        if f.name == "compile":
            words.append(f"--{'' if value else 'no-'}{option}")
        else:
            words += [f"--{option}", str(value).lower() if isinstance(value, bool) or value is None else str(value)]
    return words


def _shown(value: object) -> str:
    """A file or an address as anybody may read it: no passwords, no names of this computer's folders."""
    text = str(value)
    if "://" in text:
        return without_secrets(text)
    return Path(text).name if Path(text).is_absolute() or text.startswith("~") else text


def _about(source: str) -> dict:
    """What about.json says of a text that is on this computer; {} if nothing."""
    with suppress(ValueError, OSError):
        return read_about(source) if "://" not in source and Path(source).exists() else {}
    return {}


def card_head(folder: Path):
    """The metadata of the card in a folder (huggingface_hub's ModelCardData); None if there is none to be read."""
    from huggingface_hub import ModelCard

    with suppress(ValueError, OSError):
        return ModelCard((folder / CARD).read_text(encoding="utf-8")).data
    return None


def _known_of(start: Path):
    """What is known of the language and the licence of a model: by its card, else by its run."""
    head = card_head(start)
    return facts_of_folder(start) if head is None else head


def _language(known: list[dict], starts: list[Path]) -> str | None:
    """The one language that the texts, or else the model of the start, say they are in."""
    said = {about["language"] for about in known if isinstance(about.get("language"), str)}
    if not said:
        said = {getattr(_known_of(start), "language", None) for start in starts} - {None}
    return said.pop() if len(said) == 1 else None


def _license(sources: list[str], starts: list[Path]) -> str | None:
    """MIT, where all texts are the course's stories, and all models that took part have it too; else nobody knows."""
    with suppress(FileNotFoundError):
        root = project_folder()
        ours = [(root / "data", Path(source).expanduser().resolve()) for source in sources if "://" not in source]
        stories = len(ours) == len(sources) and all(
            path.parent == data and path.name.startswith("kahani") and path.exists() for data, path in ours
        )
        shipped = [root / "models" / name for name in SHIPPED]
        models = all(
            start.resolve() in shipped or getattr(_known_of(start), "license", None) == "mit" for start in starts
        )
        return "mit" if sources and stories and models else None
    return None


def _known_run(folder: Path) -> tuple[argparse.Namespace, Hyperparameters] | None:
    """The options and settings of the run that made a model: of its checkpoints, else of the README.md beside it."""
    noted, state = options_of_run(folder), Checkpoints(folder / "training").state()
    if noted is not None and state is not None:
        options = make_parser().parse_args([noted["command"]])
        vars(options).update(noted["options"])
        known = {f.name for f in fields(Hyperparameters)}
        return options, Hyperparameters(**{k: v for k, v in state["hyperparameters"].items() if k in known})
    if found := re.search(r"`python -m ai4india_lib ((?:train|finetune) [^`]+)`", _part_beside(folder)):
        options = make_parser().parse_args(shlex.split(found[1]))
        if options.command == "finetune":
            options.preset = options.preset or ("finetune-lora" if options.lora else "finetune")
        return options, hyperparameters_of(options)
    return None


def _part_beside(folder: Path) -> str:
    """What the README.md beside a model's folder says under its name."""
    path = folder.parent / CARD
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return (text.partition(f"\n## {folder.name}\n")[2]).split("\n## ")[0].strip()


def facts_of_folder(folder: Path) -> Facts | None:
    """What the files in and beside a folder say of its model; None if they do not say how it was made."""
    run, path = _known_run(folder), folder / HISTORY
    if run is None or not path.is_file():
        return None
    facts, part = facts_of_run(folder, *run, History.load(path)), _part_beside(folder)
    if not part:
        return facts
    limits = dict(re.findall(r"(?m)^\| ([^|]+?) \| (.+) \|$", part)).get("limits")
    more = {"limits": limits} if limits else {}
    return Facts(**{**vars(facts), "about": part.split("\n\n")[0], "run": {**facts.run, **more}})


def mend_tokenizer(folder: Path) -> bool:
    """Say in an older model's `tokenizer_config.json` how an answer is found, if its chats are written as ours are."""
    path, template = folder / "tokenizer_config.json", folder / "chat_template.jinja"
    if not path.is_file():
        return False
    config = read_json(path)
    chats = template.read_text(encoding="utf-8") if template.is_file() else config.get("chat_template")
    if "response_template" in config or chats != CHAT_TEMPLATE:
        return False
    write_json(path, {**config, "response_template": RESPONSE_TEMPLATE})
    return True


def run(options: argparse.Namespace) -> None:
    """Write the cards, each in a line."""
    folders = [model_folder(name) for name in options.models] or models_in()
    if not folders:
        raise FileNotFoundError("no model in models/ yet: train one with `python -m ai4india_lib train`")
    if none := [str(folder) for folder in folders if not holds_model(folder)]:
        raise FileNotFoundError(f"no model in {', '.join(none)}: give the names of models")
    for folder in folders:
        mended = ", and how a server finds an answer" if mend_tokenizer(folder) else ""
        if not may_write_card(folder):
            print(f"{folder / CARD}: kept, as a person wrote or changed it{mended}")
            continue
        facts = facts_of_folder(folder)
        if facts is None and is_our_card(folder / CARD):
            print(f"{folder / CARD}: kept, as no more is known of this model now{mended}")
            continue
        kind = "adapter" if holds_adapter(folder) else "model"
        told = "" if facts else f": how this {kind} was made is not known"
        print(f"{write_card(folder, facts)}{told}{mended}")
