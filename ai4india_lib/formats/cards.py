"""A model's card: the README.md of its folder, for people and for the Hugging Face hub.

Its head has the fields that the hub reads; `huggingface_hub` writes them, so that they are valid. What nobody knows is
left out: no language is guessed, no licence invented. A card that a person wrote or changed is never replaced.
"""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from ..basics.files import fingerprint_json, read_safetensors_header, replaced_file
from .folders import holds_adapter, is_chat_model, model_folder, read_settings

CARD = "README.md"
_MARK = "<!-- ai4india_lib wrote this card, and writes it anew with the model until somebody changes it: {} -->"
_MARK_LINE = re.compile(r"<!-- ai4india_lib wrote this card.*: ([0-9a-f]{32}) -->\n")
PROMPTS = {"hi": "एक दिन", "en": "One day"}
ASKED = {"hi": "नमस्ते", "en": "Hello"}


@dataclass(frozen=True)
class Facts:
    """What a card says and the files of the model do not. Each may be unknown."""

    about: str = ""  # what the model is, in a sentence or two
    language: str | None = None  # its ISO 639 code
    license: str | None = None  # the hub's identifier of it
    base: str | None = None  # the model that was trained further to make this one
    data: tuple[str, ...] = ()  # files or addresses of the texts that it learned from, without secrets
    metrics: dict[str, float] = field(default_factory=dict)  # measured on the test part of the first: name → value
    run: dict[str, str] = field(default_factory=dict)  # how it was made: rows of a table, in Markdown
    picture: str | None = None  # a file of the folder that shows the run
    beginning: str = ""  # a prompt that suits it


def is_our_card(path: Path) -> bool:
    """Did `write_card` write this file, and has nobody changed it since?"""
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    found = _MARK_LINE.search(text)
    return found is not None and _sum(text) == found[1]


def may_write_card(folder: Path) -> bool:
    """Is there no README.md in this folder yet, or one of ours?"""
    return not (folder / CARD).exists() or is_our_card(folder / CARD)


def write_card(model_name: str | Path, facts: Facts | None = None) -> Path | None:
    """Write the README.md of a model's or adapter's folder, and return its path; None where a person's own is kept."""
    folder = model_folder(model_name)
    if not may_write_card(folder):
        return None
    with replaced_file(folder / CARD) as beside:
        beside.write_text(card_text(folder, facts), encoding="utf-8")
    return folder / CARD


def write_first_card(beside: Path, folder: Path) -> None:
    """Write the card of a model that is being saved: its files lie in `beside`, from where they go to `folder`."""
    if may_write_card(folder):
        (beside / CARD).write_text(card_text(beside, place=folder), encoding="utf-8")


def card_text(files: Path, facts: Facts | None = None, *, place: Path | None = None) -> str:
    """The card of the model whose files lie in `files`, and will lie in `place` if that is another folder."""
    from huggingface_hub import ModelCard

    place, facts = place or files, facts or Facts()
    name, adapter = place.resolve().name, holds_adapter(files)
    base = adapter_base(files) if adapter else facts.base
    head = _head(name, facts, base, adapter).to_yaml()
    rows = {"size": size_in_words(files), **({"trained further from": base} if base else {}), **facts.run}
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    parts = [f"# {name}", facts.about or _about(files, base), f"| | |\n|---|---|\n{table}"]
    if facts.picture:
        parts.append(f"![Perplexity over the steps of the training]({facts.picture})")
    shown = place.as_posix() if not place.is_absolute() else name
    parts += ["## How to use it", _use(shown, is_chat_model(files), adapter, facts)]
    parts += ["## What to know", _to_know(facts, base)]
    text = f"---\n{head}\n---\n\n" + "\n\n".join(parts) + "\n"
    ModelCard(text)  # raises ValueError for a head that the hub could not read
    return text + "\n" + _MARK.format(_sum(text + "\n")) + "\n"


def _sum(text: str) -> str:
    """32 hexadecimal digits of a card, without the line that holds them."""
    return fingerprint_json(_MARK_LINE.sub("", text))


def adapter_base(folder: Path) -> str | None:
    """The name of the model that an adapter belongs to, as its settings say it."""
    named = read_settings(folder / "adapter_config.json").get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        return None
    is_place = Path(named).exists() or Path(named).is_absolute() or "\\" in named or named.startswith((".", "models/"))
    return re.split(r"[/\\]", named.rstrip("/\\"))[-1] if is_place else named


def _head(name: str, facts: Facts, base: str | None, adapter: bool):
    from huggingface_hub import EvalResult, ModelCardData

    datasets = list(dict.fromkeys(filter(None, map(hub_name, facts.data))))
    results = [
        EvalResult(
            task_type="text-generation", dataset_type=datasets[0], dataset_name=datasets[0], dataset_split="test",
            metric_type=metric, metric_value=round(value, 4),
        )
        for metric, value in facts.metrics.items() if datasets and math.isfinite(value)
    ]  # fmt: skip
    return ModelCardData(
        language=facts.language, license=facts.license, base_model=base, datasets=datasets or None,
        library_name="peft" if adapter else "transformers", pipeline_tag="text-generation",
        metrics=list(facts.metrics) or None, tags=["ai4india"], eval_results=results or None,
        model_name=name if results else None,
    )  # fmt: skip


def hub_name(source: str) -> str | None:
    """What the hub would call a data set: USER/NAME of one of its own, else the file's name without endings.

    >>> hub_name("data/kahani-hi.tar.gz"), hub_name("https://huggingface.co/datasets/asha/poems/resolve/main/a.tar.gz")
    ('kahani-hi', 'asha/poems')
    """
    if own := re.match(r"(?:https?://huggingface\.co/datasets/|hf://datasets/)([\w.-]+/[\w.-]+)", source, re.ASCII):
        return own[1]
    last = re.split(r"[/\\]", re.split(r"[?#]", source)[0].rstrip("/\\"))[-1].lstrip(".").split(".")[0]
    return re.sub(r"[^\w-]+", "-", last, flags=re.ASCII).strip("-_") or None


def size_in_words(folder: Path) -> str:
    """Parameters and shape of a model, or of an adapter, as its files tell them."""
    adapter = holds_adapter(folder)
    header = read_safetensors_header(folder / ("adapter_model.safetensors" if adapter else "model.safetensors"))
    count = sum(math.prod(shape) for _, shape in header.values()) / 1e6
    kinds = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
    stored = ", ".join(sorted({kinds.get(kind, kind) for kind, _ in header.values()}))
    if adapter:
        rank = read_settings(folder / "adapter_config.json").get("r")
        return f"{count:.2f} million parameters beside those of its model, rank {rank}, stored in {stored}"
    c = read_settings(folder / "config.json")
    heads = f"{c['num_attention_heads']} heads, {c['num_key_value_heads']} for keys and values"
    shape = f"{c['hidden_size']} wide, {c['num_hidden_layers']} blocks, {heads}"
    reads = f"a vocabulary of {c['vocab_size']:,}, {c['max_position_embeddings']:,} tokens of context"
    return f"{count:.1f} million parameters ({shape}), {reads}, stored in {stored}"


def _about(files: Path, base: str | None) -> str:
    does = "answers in conversations" if is_chat_model(files) else "goes on writing where a text stops"
    if holds_adapter(files):
        return f"An adapter (LoRA) of the model {base}: together they make a small language model that {does}."
    family = str(read_settings(files / "config.json").get("model_type")).capitalize()
    return f"A small language model of the {family} architecture that {does}."


def _use(folder: str, chats: bool, adapter: bool, facts: Facts) -> str:
    kind, package = ("AutoPeftModelForCausalLM", "peft") if adapter else ("AutoModelForCausalLM", "transformers")
    usable = facts.beginning if not re.search(r'["`$\\!\n]|^-', facts.beginning) else ""  # in a terminal, and in Python
    beginning = usable or PROMPTS.get(facts.language or "", "…")
    asks = f"chat --model {folder}" if chats else f'generate --model {folder} "{beginning}"'
    lines = [f'model = {package}.{kind}.from_pretrained("{folder}")']
    if not adapter:
        given = (
            f'[{{"role": "user", "content": "{ASKED.get(facts.language or "", "…")}"}}]' if chats else f'"{beginning}"'
        )
        lines = [f'transformers.pipeline("text-generation", "{folder}")({given})']
    lines.append(f'model, tokenizer = ai4india_lib.load_model("{folder}")')
    return "```python\n" + "\n".join(lines) + f"\n```\n\n```bash\npython -m ai4india_lib {asks}\n```"


def _to_know(facts: Facts, base: str | None) -> str:
    lines = ["- It writes what is likely after texts like those that it learned from, true or not, fair or not."]
    lines.append("- It may repeat sentences of those texts word for word.")
    if base and "/" not in base:
        lines.append(f"- On the hub, `base_model` must be the name under which {base} is published there.")
    if facts.license:
        return "\n".join([*lines, f"- Licence: {facts.license.upper()}."])
    lines.append(
        "- Licence: none is chosen yet, so others may not use the model. Who made it chooses one, as far as the texts "
        "and models that it learned from allow, and writes it into the head of this file, such as `license: cc-by-4.0`."
    )
    return "\n".join(lines)
