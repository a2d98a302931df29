"""python -m ai4india_lib evaluate: one table and one chart: how good is a model, and is it better than another?"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from ..formats.folders import model_folder
from ..formats.pretrained import load_model
from . import add_model_options, newest_model

LANGUAGES = {"hi": "Hindi", "en": "English"}
COUNTED = 8000  # documents of the training text that the n-gram baseline counts: some seconds
BITS, PAIRS, QUESTIONS = "bits per byte", "minimal pairs, % right", "questions, % right"


def add_to(commands) -> None:
    """Add this command to the sub-commands of an argument parser."""
    evaluate = commands.add_parser(
        "evaluate",
        help="measure a model, alone or against another",
        description="Measure a model on stories it has not seen: bits per byte, minimal pairs, and questions where it "
        "is a chat model. Prints one table with 95% intervals and saves a chart.",
    )
    evaluate.set_defaults(run=run)
    add_model_options(evaluate)
    evaluate.add_argument("--against", metavar="NAME_OR_FOLDER", help="compare with this model on the same items")
    evaluate.add_argument("--language", choices=LANGUAGES, help="whose tests (default: from the name, else hi)")
    evaluate.add_argument("--data", metavar="SOURCE", help="test text: an archive or folder as for `train`")
    evaluate.add_argument("--pairs", metavar="FILE", help="minimal pairs, as in data/kahani/pairs-hi.jsonl")
    evaluate.add_argument("--questions", metavar="SOURCE", help="questions: test.jsonl, or an archive that holds it")
    evaluate.add_argument(
        "--chat", action=argparse.BooleanOptionalAction, help="ask as a chat does (default: as the model was trained)"
    )
    evaluate.add_argument(
        "--baselines", action=argparse.BooleanOptionalAction, default=True, help="also 5-grams and an untrained model"
    )
    evaluate.add_argument("--limit", type=int, metavar="N", help="at most N documents, questions, pairs of each kind")
    evaluate.add_argument("--output", metavar="PNG", help="the chart (default: evaluation.png in the model's folder)")


@dataclass
class Exam:
    """What the models are asked; what is empty is left out."""

    lines: list[str] = field(default_factory=list)  # test documents
    training: object = ()  # lines that the n-gram baseline may count
    floor: float | None = None
    pairs: list = field(default_factory=list)
    questions: list = field(default_factory=list)
    blind: dict = field(default_factory=dict)  # kind of question → share that one can guess without the story


@dataclass
class Candidate:
    """A model and its marks: (group, kind) → values and weights of the items, as `bootstrap_interval` takes them."""

    name: str
    marks: dict[tuple[str, str], tuple] = field(default_factory=dict)


def run(options: argparse.Namespace) -> None:
    """Read the tests, let each model sit them, print the table, save the chart."""
    if options.limit is not None and options.limit < 1:
        raise ValueError(f"--limit {options.limit} must be at least 1")
    name = options.model or newest_model()
    language = options.language or _language_of(name)
    model, tokenizer = load_model(name, options.device)
    exam = _read_exam(options, language)
    candidates = [_sit(name, model, tokenizer, exam, options)]
    if options.against:
        candidates.append(_sit(options.against, *load_model(options.against, options.device), exam, options))
    if options.baselines:
        candidates += _baselines(model, tokenizer, exam)
    print(_headline(exam, language))
    print(table(candidates, exam, against=bool(options.against)))
    path = Path(options.output) if options.output else model_folder(name) / "evaluation.png"
    print(f"chart: {_save_chart(candidates, exam, path)}")


def _language_of(name: str) -> str:
    """ "kahani-en-mine" → "en": a language's code among the parts of the name, else Hindi."""
    return next((part for part in Path(name).name.split("-") if part in LANGUAGES), "hi")


def _read_exam(options: argparse.Namespace, language: str) -> Exam:
    """The files that the options name, else the course's own, as far as they are there."""
    from ..evaluation.minimal_pairs import read_pairs
    from ..evaluation.questions import read_questions
    from ..text.corpus import read_about, train_and_test_lines

    exam, limit = Exam(), options.limit
    if source := _given_or_there(options.data, f"data/kahani-{language}.tar.gz"):
        exam.training, test = train_and_test_lines(source)
        exam.lines = list(islice(test, limit))
        exam.floor = read_about(source).get("test_floor_bits_per_byte")
    if source := _given_or_there(options.pairs, f"data/kahani/pairs-{language}.jsonl"):
        seen: dict[str, int] = {}
        for pair in read_pairs(source):
            seen[pair.phenomenon] = seen.get(pair.phenomenon, 0) + 1
            if limit is None or seen[pair.phenomenon] <= limit:
                exam.pairs.append(pair)
    if source := _given_or_there(options.questions, f"data/kahani-questions-{language}.tar.gz"):
        exam.questions = read_questions(source, limit=limit)
        about = {} if Path(source).suffix == ".jsonl" else read_about(source)
        exam.blind = dict(about.get("story_blind_accuracy", {}))
        exam.blind["mean"] = exam.blind.get("all")
    if not (exam.lines or exam.pairs or exam.questions):
        raise ValueError(f"nothing to measure with in {Path.cwd()}: give --data, --pairs or --questions")
    return exam


def _given_or_there(given: str | None, usual: str) -> str | None:
    return given or (usual if Path(usual).exists() else None)


def _chats(name: str, tokenizer) -> bool:
    """Was this model taught to answer? An adapter, or a model whose generation ends with a turn."""
    folder = model_folder(name)
    if (folder / "adapter_config.json").is_file():
        return True
    path = folder / "generation_config.json"
    ends = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id") if path.is_file() else None
    return isinstance(ends, list) and tokenizer.convert_tokens_to_ids("<|end_of_turn|>") in ends


def _sit(name: str, model, tokenizer, exam: Exam, options: argparse.Namespace) -> Candidate:
    """Let a model sit the exam. One that does not chat is asked questions only where --questions gives them."""
    from ..evaluation.questions import answer_questions, score_answers

    candidate = _read_and_judge(name, model, tokenizer, exam)
    chat = _chats(name, tokenizer) if options.chat is None else options.chat
    if exam.questions and (chat or options.questions):
        answers = answer_questions(model, tokenizer, exam.questions, chat=chat)
        _add(candidate, QUESTIONS, [q.kind for q in exam.questions], score_answers(exam.questions, answers))
    return candidate


def _read_and_judge(name: str, model, tokenizer, exam: Exam) -> Candidate:
    from ..evaluation.likelihood import document_bits
    from ..evaluation.minimal_pairs import judge_pairs

    candidate = Candidate(name)
    if exam.lines:
        candidate.marks[BITS, ""] = document_bits(model, tokenizer, exam.lines)
    if exam.pairs:
        _add(candidate, PAIRS, [p.phenomenon for p in exam.pairs], judge_pairs(model, tokenizer, exam.pairs))
    return candidate


def _add(candidate: Candidate, group: str, kinds: list[str], scores: list[float]) -> None:
    for kind in [*dict.fromkeys(kinds), "mean"]:
        chosen = [100 * score for score, own in zip(scores, kinds, strict=True) if kind in (own, "mean")]
        candidate.marks[group, kind] = (chosen, None)


def _baselines(model, tokenizer, exam: Exam) -> list[Candidate]:
    """Counting, and the same model before its training."""
    import torch

    from ..model.decoder import DecoderLanguageModel
    from ..text.ngrams import NgramModel

    found = []
    if exam.training:
        counted = NgramModel.from_lines(islice(exam.training, COUNTED), tokenizer, 5)
        found.append(_read_and_judge("5-grams", counted, tokenizer, exam))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        untrained = DecoderLanguageModel.from_config(model.config).to(model.device)
    return [*found, _read_and_judge("untrained", untrained, tokenizer, exam)]


def _headline(exam: Exam, language: str) -> str:
    counts = {"documents": len(exam.lines), "pairs": len(exam.pairs), "questions": len(exam.questions)}
    told = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    return f"{LANGUAGES[language]}: {told}; 95% intervals in brackets"


def table(candidates: list[Candidate], exam: Exam, *, against: bool) -> str:
    """One line per measure, one column per model, and with `against` the second one's lead over it, paired."""
    rows = [["", *(candidate.name for candidate in candidates)]]
    if against:
        rows[0].append(f"{candidates[0].name} − {candidates[1].name}")
    group = ""
    for key in dict.fromkeys(key for candidate in candidates for key in candidate.marks):
        if key[0] not in (group, BITS):
            group = key[0]
            rows.append([group])
        digits = 4 if key[0] == BITS else 1
        cells = [_told(candidate.marks.get(key), digits) for candidate in candidates]
        if against:
            cells.append(_difference(candidates[0].marks.get(key), candidates[1].marks.get(key), digits))
        rows.append([_label(key, exam), *cells])
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _label(key: tuple[str, str], exam: Exam) -> str:
    group, kind = key
    if group == BITS:
        return BITS if exam.floor is None else f"{BITS} (floor {exam.floor:.4f})"
    blind = exam.blind.get(kind) if group == QUESTIONS else None
    return f"  {kind}" + (f" (guessed without the story: {100 * blind:.0f})" if blind is not None else "")


def _told(mark: tuple | None, digits: int) -> str:
    from ..evaluation.significance import bootstrap_interval

    if mark is None:
        return "–"
    found = bootstrap_interval(*mark)
    return f"{found.value:.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]"


def _difference(first: tuple | None, second: tuple | None, digits: int) -> str:
    """First minus second, item by item, with its interval and the sign test's p."""
    from ..evaluation.significance import bootstrap_interval, compare

    if first is None or second is None:
        return "–"
    lead = [float(a) - float(b) for a, b in zip(first[0], second[0], strict=True)]
    found = bootstrap_interval(lead, first[1])
    p = compare(first[0], second[0]).p_value
    shown = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
    return f"{found.value:+.{digits}f} [{found.low:+.{digits}f}, {found.high:+.{digits}f}] {shown}"


def _save_chart(candidates: list[Candidate], exam: Exam, path: Path) -> Path:
    from matplotlib import pyplot as plt

    from ..evaluation.significance import bootstrap_interval
    from ..plots import plot_scores, save_figure, use_indic_fonts

    use_indic_fonts()
    groups = list(dict.fromkeys(group for candidate in candidates for group, _ in candidate.marks))
    kinds = {g: list(dict.fromkeys(k for c in candidates for group, k in c.marks if group == g)) for g in groups}
    heights = [1.2 + 0.22 * len(kinds[group]) * len(candidates) for group in groups]
    _, panels = plt.subplots(
        len(groups), figsize=(8, sum(heights)), layout="constrained", height_ratios=heights, squeeze=False
    )
    reference = {
        BITS: (exam.floor, "floor: no model can go below"),
        PAIRS: (50, "chance"),
        QUESTIONS: (100 * exam.blind["mean"] if exam.blind.get("mean") else None, "guessed without the story"),
    }
    for axes, group in zip(panels[:, 0], groups, strict=True):
        scores = {
            candidate.name: {kind: bootstrap_interval(*candidate.marks[group, kind]) for kind in kinds[group]}
            for candidate in candidates
            if (group, kinds[group][0]) in candidate.marks
        }
        line, label = reference[group]
        plot_scores(scores, axes, line=line, line_label=label, title=group)
    path.parent.mkdir(parents=True, exist_ok=True)
    return save_figure(panels[0, 0], path)
