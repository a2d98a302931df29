"""python -m ai4india_lib evaluate: one table and one chart: how good is a model, and is it better than another?"""

import argparse
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import torch
from matplotlib import pyplot as plt

from ..evaluation.chats import Chat, answer_chats, read_chats, refusing_answers, score_chats
from ..evaluation.likelihood import document_bits
from ..evaluation.minimal_pairs import Pair, judge_pairs, read_pairs
from ..evaluation.questions import Question, answer_questions, normalise_answer, read_questions, score_answers
from ..evaluation.significance import Interval, bootstrap_interval, sign_test
from ..formats.folders import holds_model, is_chat_model, model_folder
from ..formats.pretrained import load_model
from ..model.decoder import DecoderLanguageModel
from ..plots import plot_scores, save_figure, use_indic_fonts
from ..text.corpus import corpus_place, read_about, train_and_test_lines
from ..text.ngrams import NgramModel
from . import check_at_least, check_output, model_of, refuse, tell_model
from .languages import ITEMS, lacking_in_words, language_of, sources_of
from .options import in_words, known_languages

COUNTED = 8000  # documents of the training text that the n-gram baseline counts: some seconds
BITS, PAIRS, QUESTIONS = "bits per byte", "minimal pairs, % right", "questions, % right"
CHATS, REFUSED = "chats, % right", "questions refused though answered in the story, %"


@dataclass
class Exam:
    """What the models are asked; what is empty is left out."""

    documents: list[str] = field(default_factory=list)
    training: Iterable[str] = ()  # documents that the n-gram baseline may count
    floor: float | None = None  # bits per byte
    pairs: list[Pair] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    chats: list[Chat] = field(default_factory=list)
    blind: dict[str, float] = field(default_factory=dict)  # accuracy by kind that guessing without the story reaches


@dataclass
class Candidate:
    """A model and its marks: measure → kind → values and weights of the items, as `bootstrap_interval` takes them."""

    name: str
    marks: dict[str, dict[str, tuple]] = field(default_factory=dict)

    def add(self, measure: str, kinds: list[str], scores: list[float], *, mean: bool = True) -> None:
        """Scores from 0 to 1 of items of these kinds, in percent: of each kind, and with `mean` of all as "mean"."""
        whole = ["mean"] if mean else []
        percent: dict[str, list[float]] = {kind: [] for kind in [*kinds, *whole]}
        for kind, score in zip(kinds, scores, strict=True):
            for name in (kind, *whole):
                percent[name].append(100 * score)
        self.marks[measure] = {kind: (values, None) for kind, values in percent.items()}


def _sources(options: argparse.Namespace, name: str) -> tuple[str | None, dict[str, str | None]]:
    """The language, and by their options test text, pairs, questions and chats: what the options name, else what the
    course has in the language of the model's own archive. Raises ValueError if nothing tells that language."""
    language = options.language or language_of(name)
    named = {what: getattr(options, what) for what in ITEMS}
    if all(named.values()):
        return language, named
    usual = sources_of(name, language)
    sources = {what: given or usual[what] for what, given in named.items()}
    if language is None and not any(sources.values()) and holds_model(model_folder(name)):
        which = f"--language {' or '.join(known_languages())}, or " if known_languages() else ""
        raise ValueError(f"nothing tells on which text {name} was trained: give {which}--data, --pairs, --questions")
    if options.chat is not None and not sources["questions"]:
        raise ValueError("--chat and --no-chat are about questions, and there are none: give --questions SOURCE too")
    return language, sources


def _read_exam(
    text: str | None, pairs: str | None, questions: str | None, chats: str | None, limit: int | None, column: str | None
) -> Exam:
    if not (text or pairs or questions or chats):
        raise ValueError(f"nothing to measure with in {Path.cwd()}: give --data, --pairs or --questions")
    exam = Exam()
    if text:
        place = corpus_place(text, column=column)
        exam.training, test = train_and_test_lines(place)
        exam.documents = list(islice(test, limit))
        exam.floor = read_about(place).get("test_floor_bits_per_byte")
    if pairs:
        seen: Counter[str] = Counter()
        for pair in read_pairs(pairs):
            seen[pair.phenomenon] += 1
            if limit is None or seen[pair.phenomenon] <= limit:
                exam.pairs.append(pair)
    if questions:
        exam.questions = read_questions(questions, limit=limit)
        blind = read_about(questions).get("story_blind_accuracy") or {}
        exam.blind = blind | ({"mean": blind["all"]} if "all" in blind else {})
    if chats:
        exam.chats = read_chats(chats, limit=limit)
    for source, items in ((pairs, exam.pairs), (questions, exam.questions), (chats, exam.chats)):
        if source and not items:
            raise ValueError(f"{source} is empty: there is nothing in it to measure with")
    return exam


def _sit(name: str, model, tokenizer, exam: Exam, options: argparse.Namespace | None = None) -> Candidate:
    """Let a model sit the exam: documents, pairs, and unless it is a baseline, without `options`, questions and chats.

    One that does not chat is asked questions only where an option says so, and no chats.
    """
    candidate = Candidate(name)
    if exam.documents:
        candidate.marks[BITS] = {"": document_bits(model, tokenizer, exam.documents)}
    if exam.pairs:
        candidate.add(PAIRS, [p.phenomenon for p in exam.pairs], judge_pairs(model, tokenizer, exam.pairs))
    if options is None:
        return candidate
    chat = is_chat_model(name, tokenizer) if options.chat is None else options.chat
    if exam.questions and (chat or options.questions or options.chat is not None):
        answers = answer_questions(model, tokenizer, exam.questions, chat=chat)
        candidate.add(QUESTIONS, [q.kind for q in exam.questions], score_answers(exam.questions, answers))
        if chat and (refusing := refusing_answers(exam.chats)):
            refused = [float(normalise_answer(answer) in refusing) for answer in answers]
            candidate.add(REFUSED, [""] * len(refused), refused, mean=False)
    if exam.chats and chat:
        scores = score_chats(exam.chats, answer_chats(model, tokenizer, exam.chats))
        candidate.add(CHATS, [one.in_words() for one in exam.chats], scores, mean=False)
    return candidate


def _baselines(model, tokenizer, exam: Exam) -> list[Candidate]:
    """Counting, and the same model before its training."""
    found = []
    if exam.training:
        counted = NgramModel.from_lines(islice(exam.training, COUNTED), tokenizer, 5)
        found.append(_sit("5-grams", counted, tokenizer, exam))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        untrained = DecoderLanguageModel.from_config(model.config).to(model.device)
    return [*found, _sit("untrained", untrained, tokenizer, exam)]


def _kinds_by_measure(candidates: list[Candidate]) -> dict[str, list[str]]:
    return {measure: list(marks) for candidate in candidates for measure, marks in candidate.marks.items()}


def _label(measure: str, kind: str, exam: Exam) -> str:
    if not kind:
        return measure if measure != BITS or exam.floor is None else f"{BITS} (floor {exam.floor:.4f})"
    blind = exam.blind.get(kind) if measure == QUESTIONS else None
    return f"  {kind}" + (f" (guessed without the story: {100 * blind:.0f})" if blind is not None else "")


def _in_figures(found: Interval, digits: int, sign: str = "") -> str:
    return f"{found.value:{sign}.{digits}f} [{found.low:{sign}.{digits}f}, {found.high:{sign}.{digits}f}]"


def _lead(first: tuple, second: tuple, digits: int) -> str:
    """First minus second, item by item, with its interval and the sign test's p."""
    lead = [float(a) - float(b) for a, b in zip(first[0], second[0], strict=True)]
    p = sign_test(sum(x > 0 for x in lead), sum(x < 0 for x in lead))
    shown = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
    return f"{_in_figures(bootstrap_interval(lead, first[1]), digits, '+')} {shown}"


def table(candidates: list[Candidate], exam: Exam, *, against: bool) -> str:
    """One line per measure, one column per model, and with `against` the lead of the first over the second, paired."""
    names = [candidate.name for candidate in candidates]
    rows = [["", *names, *([" − ".join(names[:2])] if against else [])]]
    for measure, kinds in _kinds_by_measure(candidates).items():
        digits = 4 if measure == BITS else 1
        rows += [[measure]] if any(kinds) else []
        for kind in kinds:
            marks = [c.marks[measure][kind] if measure in c.marks else None for c in candidates]
            row = [_label(measure, kind, exam)]
            row += [_in_figures(bootstrap_interval(*own), digits) if own else "–" for own in marks]
            if against:
                row.append(_lead(*marks[:2], digits) if all(marks[:2]) else "–")
            rows.append(row)
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _save_chart(candidates: list[Candidate], exam: Exam, path: Path) -> Path:
    """A panel for each measure, with a line to hold the scores against: the floor, chance, or guessing."""
    use_indic_fonts()
    blind = exam.blind.get("mean")
    lines = {
        BITS: (exam.floor, "floor: no model can go below"),
        PAIRS: (50, "chance"),
        QUESTIONS: (100 * blind if blind else None, "guessed without the story"),
    }
    nothing = (None, "")
    kinds = _kinds_by_measure(candidates)
    heights = [1.2 + 0.22 * len(own) * len(candidates) for own in kinds.values()]
    shape = {"figsize": (8, sum(heights)), "height_ratios": heights, "layout": "constrained", "squeeze": False}
    _, panels = plt.subplots(len(kinds), **shape)
    for axes, measure in zip(panels[:, 0], kinds, strict=True):
        scores = {
            candidate.name: {kind: bootstrap_interval(*marks) for kind, marks in candidate.marks[measure].items()}
            for candidate in candidates
            if measure in candidate.marks
        }
        line, label = lines.get(measure, nothing)
        plot_scores(scores, axes, line=line, line_label=label, title=measure)
    path.parent.mkdir(parents=True, exist_ok=True)
    return save_figure(panels[0, 0], path)


def run(options: argparse.Namespace) -> None:
    """Read the tests, let each model sit them, print the table, save the chart."""
    check_at_least(options, 1, "limit")
    check_output(options, "data pairs questions conversations")
    if options.data and options.pairs and options.questions and options.conversations:
        refuse(options, "language", "where --data, --pairs, --questions and --conversations say what to measure with")
    name = model_of(options)
    language, sources = _sources(options, name)
    model, tokenizer = load_model(name, options.device)
    exam = _read_exam(*sources.values(), options.limit, options.column)
    candidates = [_sit(name, model, tokenizer, exam, options)]
    if options.against:
        candidates.append(_sit(options.against, *load_model(options.against, options.device), exam, options))
    if options.baselines and (exam.documents or exam.pairs):
        candidates += _baselines(model, tokenizer, exam)
    items = {"documents": exam.documents, "pairs": exam.pairs, "questions": exam.questions, "chats": exam.chats}
    counted = ", ".join(f"{len(some):,} {what}" for what, some in items.items() if some)
    tell_model(options, name)
    print(f"{in_words(language)}: {counted}; 95% intervals in brackets")
    if not any(getattr(options, what) for what in ITEMS) and (lacking := lacking_in_words(language, sources)):
        print(lacking)
    print(table(candidates, exam, against=bool(options.against)))
    path = Path(options.output) if options.output else model_folder(name) / "evaluation.png"
    print(f"chart: {_save_chart(candidates, exam, path)}")
