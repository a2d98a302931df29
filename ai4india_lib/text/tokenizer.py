"""Text ↔ ids, safe for Indian scripts.

A language model reads numbers. Byte-level BPE (Sennrich et al., 2016; bytes: Radford et al., 2019) starts from the
256 bytes and keeps joining the pair that occurs most often, so that frequent words become one id and nothing is ever
"unknown". Joins never cross the pieces that a *split pattern* cuts first. This is where many tokenizers harm Indian
scripts: for a computer the ि of किताब is not a letter but a *mark*, and a pattern that allows only letters in a word
(GPT-2's) cuts there, at every vowel sign and every virama. Our pattern keeps the marks with their letters.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from ..basics.arguments import at_least, is_whole
from ..basics.files import write_json
from ..basics.memory import check_memory
from .chat import CHAT_TEMPLATE, RESPONSE_TEMPLATE, special_tokens

if TYPE_CHECKING:  # transformers takes a second to import: who loads no tokenizer need not wait for it
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

# Tried in this order at each position. Every character falls in one of the last five, so nothing is lost.
#   1  English 's 't 'll … (with ' or ’), unless more letters follow: "'they" keeps its word
#   2  a word: its space, a letter or mark, then letters, marks, ZWNJ (U+200C), ZWJ (U+200D). It may start with a mark,
#      because real text has stray ones.  \p{M} holds vowel signs, virama, nukta, candrabindu, Urdu's vowel points
#   3  up to three digits of any script, with their space: long numbers do not each become a new word
#   4  everything else that is visible: । ॥ ₹ , emoji. Marks and joiners after the first sign stay: ❤️ 👩‍💻
#   5  line ends, with the spaces before them
#   6  a run of spaces, but not its last one, which belongs to the word after it (rules 2 to 4)
#   7  what is left: a tab, or a space that nothing took
_SPLIT_RULES = (
    r"['’](?:[sdmtSDMT]|ll|ve|re|LL|VE|RE)(?![\p{L}\p{M}])",
    r" ?[\p{L}\p{M}][\p{L}\p{M}\u200c\u200d]*",
    r" ?\p{N}{1,3}",
    r" ?[^\s\p{L}\p{M}\p{N}][^\s\p{L}\p{N}]*",
    r"\s*[\r\n]+",
    r"\s+(?!\S)",
    r"\s+",
)
INDIC_SPLIT = "|".join(_SPLIT_RULES)
"""The split pattern. Works alike in `tokenizers` and in the `regex` module: `regex.findall(INDIC_SPLIT, text)`."""

SPECIAL_TOKENS = ("<|pad|>", "<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end_of_turn|>")
"""Their order gives their ids: 0 padding, 1 and 2 begin and end of a document, 3 to 5 who speaks, 6 end of a speech."""

LONGEST_WORD = 200  # characters from which a vocabulary is learned

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt")
_TOKENIZER_FILES += ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")


def checked_texts(lines: Iterable[str]) -> Iterator[str]:
    """The lines as they are; of a row, `{"text": …}`, the text.

    Raises TypeError or ValueError, with the number of the line, for what is no text.
    """
    if isinstance(lines, (str, bytes)):
        raise TypeError("lines is one string: give a list of strings, such as text.splitlines()")
    for number, line in enumerate(lines, 1):
        if isinstance(line, Mapping):
            names = ", ".join(map(str, line))
            if not isinstance(line := line.get("text"), str):
                hint = 'rename the right one: dataset.rename_column("…", "text")'
                raise TypeError(f'row {number} has no text in a column "text", but: {names}. {hint}')
        if not isinstance(line, str):
            raise TypeError(f"line {number} is not a str but {type(line).__name__}: {str(line)[:40]!r}")
        try:
            line.encode()
        except UnicodeEncodeError as error:
            half = f"U+{ord(line[error.start]):04X}"
            raise ValueError(f"line {number} holds half a character ({half}): read the file as UTF-8") from None
        yield line


def _texts_up_to(max_bytes: int | None, lines: Iterable[str]) -> Iterator[str]:
    """The first `max_bytes` of these texts (None: all). Raises ValueError at the end if they were all blank."""
    left, blank = float("inf") if max_bytes is None else max_bytes, True
    for line in checked_texts(lines):
        blank = blank and not line.strip()
        encoded = line.encode()
        if len(encoded) > left:
            yield encoded[:left].decode(errors="ignore")
            break
        yield line
        left -= len(encoded)
    if blank:
        raise ValueError("no text to learn from: lines is empty or blank")


def _cut_long_words() -> pre_tokenizers.PreTokenizer:
    """Cuts what the split pattern takes for one piece after each `LONGEST_WORD` characters: no word of a language.

    Learning takes time by the square of a piece's length: ten thousands of one letter, or a line of dashes, would hang.
    """
    return pre_tokenizers.Split(Regex(rf"[\s\S]{{{LONGEST_WORD}}}"), behavior="isolated")


def train_tokenizer(
    lines: Iterable[str], vocab_size: int, *, max_bytes: int | None = 20_000_000, min_frequency: int = 2
) -> PreTrainedTokenizerFast:
    """Learn a byte-level BPE vocabulary from `lines`; the same lines always give the same tokenizer.

    Args:
        lines: any iterable of text; it is streamed, never held whole.
        vocab_size: ids in all, special tokens and the 256 bytes included. The vocabulary is smaller when the text
            has too few pairs that occur `min_frequency` times: `len(tokenizer)` tells.
        max_bytes: stop reading after so many bytes of UTF-8; None reads all. The first 20 MB know the frequent words
            of a language, and more only costs time, unless the text is sorted: then shuffle it first.
        min_frequency: a pair must occur this often to become an id.

    The text is brought to Unicode's NFC first, so that both spellings of क़ become one. From there nothing is lost:
    `tokenizer.decode(ids, skip_special_tokens=True)` is `unicodedata.normalize("NFC", text)`, for every text. (The
    tables of `tokenizers` are of 2016: marks younger than that, as the Telugu nukta U+0C3C, stay in the order typed.)

    `tokenizer(text)` puts the begin token first, as models are trained, and reads "<|end|>" in `text` as the end token.
    For text from strangers pass `split_special_tokens=True`, or use `encode_lines`: then it is seven plain characters.
    Padding goes to the left, where generation needs it.
    """
    smallest = len(SPECIAL_TOKENS) + 256
    at_least(1, max_bytes=max_bytes, min_frequency=min_frequency)
    if not is_whole(vocab_size) or vocab_size < smallest:
        must = f"must be a whole number of at least {smallest} ({len(SPECIAL_TOKENS)} special tokens and 256 bytes)"
        raise ValueError(f"vocab_size={vocab_size!r} is too small: it {must}; try 4096")
    check_memory(100 * vocab_size, f"learning a vocabulary of {vocab_size:,}", "try 4096")
    core = Tokenizer(models.BPE())
    core.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(INDIC_SPLIT), behavior="isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    limits = {"vocab_size": vocab_size, "min_frequency": min_frequency, "show_progress": False}
    special = [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]
    all_bytes = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(special_tokens=special, initial_alphabet=all_bytes, **limits)
    core.pre_tokenizer = pre_tokenizers.Sequence([split, _cut_long_words(), to_bytes])
    core.train_from_iterator(_texts_up_to(max_bytes, lines), trainer)
    core.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
    pad, begin, end, *others = SPECIAL_TOKENS
    core.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", pair=f"{begin} $A $B", special_tokens=[(begin, core.token_to_id(begin))]
    )
    from transformers import PreTrainedTokenizerFast

    tokens = {"pad_token": pad, "bos_token": begin, "eos_token": end, "additional_special_tokens": others}
    habits = {"padding_side": "left", "clean_up_tokenization_spaces": False}
    inputs = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=core, chat_template=CHAT_TEMPLATE, model_input_names=inputs, **tokens, **habits
    )


def load_tokenizer(name_or_folder: str | os.PathLike) -> PreTrainedTokenizerBase:
    """Open a tokenizer folder (ours or any Hugging Face one), or fetch a published one by its hub name.

    Code that comes with a tokenizer is never run. Every tokenizer returned has an end and a padding token:
    without an end token it takes the separator (as BERT's), without a padding token the end token (as GPT-2's).
    Then padding and a true end look alike: tell them apart by the attention mask, not by the id.
    Without a network the hub's own code tries for half a minute; with HF_HUB_OFFLINE=1 it reads its cache at once.
    Raises FileNotFoundError (nothing there), ValueError (unreadable files, no end token) or OSError (not on the hub).
    """
    from transformers import AutoTokenizer

    folder, name = Path(name_or_folder).expanduser(), str(name_or_folder)
    if folder.is_file():
        raise FileNotFoundError(f"{folder} is a file: give the folder that holds it, {folder.parent}")
    if folder.is_dir():
        if not any((folder / file).is_file() for file in _TOKENIZER_FILES):
            raise FileNotFoundError(f"no tokenizer in folder {folder}: looked for {', '.join(_TOKENIZER_FILES)}")
    elif isinstance(name_or_folder, os.PathLike) or "\\" in name or name.count("/") > 1 or name[:1] in (".", "/", "~"):
        raise FileNotFoundError(f"no folder {folder} (looked from {Path.cwd()})")
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder) if folder.is_dir() else name, trust_remote_code=False)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        if folder.is_dir():
            raise ValueError(f"the tokenizer files in {folder} cannot be read: {reason}") from error
        problem = f"there is no such folder here, and the Hugging Face hub did not give it ({reason})"
        offline = f"run `hf download {name}` once where there is a network, or give the path of a folder with the"
        advice = f"Check the spelling; if you are offline, {offline} tokenizer's files"
        raise OSError(f"tokenizer {name!r}: {problem}. {advice}") from error
    if tokenizer.eos_token_id is None:
        if tokenizer.sep_token_id is None:
            lack = f"tokenizer {name!r} has no end token (eos_token) and no separator (sep_token)"
            advice = "if one of its tokens ends a text, name it in the folder's tokenizer_config.json"
            example = '{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>"}'
            raise ValueError(f"{lack}: {advice}, as in {example}")
        tokenizer.eos_token = tokenizer.sep_token
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: str | os.PathLike) -> None:
    """Save so that plain `AutoTokenizer` opens it, in transformers 4.56 and later, without this library.

    `save_pretrained` of transformers 5 writes a class name and a list that transformers 4 cannot read. Both versions
    know the older names, so we write those. With our chat template goes how its answers are found again.
    """
    tokenizer.save_pretrained(folder)
    path = Path(folder) / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.get("tokenizer_class") == "TokenizersBackend":
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(config.get("extra_special_tokens"), list):
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
    for opened in ("is_local", "local_files_only"):  # how it was opened here says nothing of the tokenizer
        config.pop(opened, None)
    if tokenizer.chat_template == CHAT_TEMPLATE:
        config.setdefault("response_template", RESPONSE_TEMPLATE)
    write_json(path, config)


def fingerprint_tokenizer(tokenizer: PreTrainedTokenizerBase) -> str:
    """32 hexadecimal digits that differ for tokenizers that give other ids for some text, or end it in another way.

    The same before and after saving, and whatever padding, truncation or template of chats is set.
    """
    specials = [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id]
    core: dict = {"vocabulary": sorted(tokenizer.get_vocab().items()), "special": specials}
    if (backend := getattr(tokenizer, "backend_tokenizer", None)) is not None:
        whole = json.loads(backend.to_str())
        core |= {name: whole[name] for name in ("normalizer", "pre_tokenizer", "model")}
    return hashlib.sha256(json.dumps(core, sort_keys=True).encode()).hexdigest()[:32]


def encode_lines(tokenizer: PreTrainedTokenizerBase, lines: Iterable[str]) -> list[list[int]]:
    """Plain texts → one list of ids each. Adds no special token, cuts nothing, and lets no text inject one.

    A text that holds "<|end|>" gives the ids of its characters. Some vocabularies hold "</s>" as an ordinary piece
    too: such an id is replaced by the unknown token, or left out where there is none.
    Give it some hundred lines at a time: `tokenizers` spreads them over the cores.
    """
    lines = list(checked_texts(lines))
    if not lines:
        return []
    rows = _plain_ids(tokenizer, lines)
    unknown = tokenizer.unk_token_id
    if unknown in (tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.bos_token_id):
        unknown = None  # GPT-2 has one token for all of them
    special = {*special_tokens(tokenizer).values()} - {unknown}
    instead = [] if unknown is None else [unknown]
    return [
        ids if special.isdisjoint(ids) else [j for i in ids for j in (instead if i in special else [i])] for ids in rows
    ]


def _plain_ids(tokenizer: PreTrainedTokenizerBase, lines: list[str]) -> list[list[int]]:
    """Ids of the characters of each line, neither cut nor filled up, without anything around them."""
    if (core := getattr(tokenizer, "backend_tokenizer", None)) is None:  # one in Python, such as ByT5's
        only_ids = {"return_attention_mask": False, "return_token_type_ids": False, "verbose": False}
        as_it_is = {"add_special_tokens": False, "split_special_tokens": True, "padding": False, "truncation": False}
        return tokenizer(lines, **as_it_is, **only_ids)["input_ids"]
    # what `tokenizer(lines)` does too, but that also notes where each token stood: half as fast again without
    if core.truncation is not None:
        core.no_truncation()
    if core.padding is not None:
        core.no_padding()
    if not core.encode_special_tokens:  # a change while another thread encodes would be an error
        core.encode_special_tokens = True
    return [encoding.ids for encoding in core.encode_batch_fast(lines, add_special_tokens=False)]


def encode_prompt(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of the beginning of a document, for a model to write on: the begin token (where there is one) and the text.

    GPT-2 and its kin have one token that stands between documents: there it does as a beginning. A special token
    written in `text` is plain characters, as in `encode_lines`.
    """
    if not isinstance(text, str):
        raise TypeError(f"the prompt must be text, not {type(text).__name__}: `generate` writes on ids")
    begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    return begin + encode_lines(tokenizer, [text])[0]


def first_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """What stands before the first token of a text, so that this one can be predicted too: the begin token, or the end
    token where there is no begin token."""
    return tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id


def encode_documents(tokenizer: PreTrainedTokenizerBase, lines: Iterable[str]) -> list[list[int]]:
    """Ids of each line as a whole document: begin token (where it differs from the end token), text, end token."""
    begin = [] if tokenizer.bos_token_id in (None, tokenizer.eos_token_id) else [tokenizer.bos_token_id]
    return [begin + ids + [tokenizer.eos_token_id] for ids in encode_lines(tokenizer, lines)]


def encode_for_scoring(tokenizer: PreTrainedTokenizerBase, lines: Iterable[str]) -> list[list[int]]:
    """`encode_documents`, each behind the end token of a document before it, as in a packed text: so every token of a
    document, the first one too, is predicted from something."""
    return [[tokenizer.eos_token_id, *ids] for ids in encode_documents(tokenizer, lines)]


def pieces_per_word(tokenizer: PreTrainedTokenizerBase, text: str) -> float:
    """Ids per word between spaces ("fertility"): 1 is the best; scripts a tokenizer never saw reach 10 and more."""
    if not (words := text.split()):
        raise ValueError("the text has no words")
    return len(encode_lines(tokenizer, [text])[0]) / len(words)
