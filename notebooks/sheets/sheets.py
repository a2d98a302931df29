"""Draws the paper sheets: six tasks for pencil and paper, in English and Hindi, each with its answers on a second page.

    python notebooks/sheets/sheets.py            all, as PDFs beside this file
    python notebooks/sheets/sheets.py beam       one of them

The words stand in words.toml, the numbers are computed in tasks.py. It needs nothing but the course's own packages.
"""

import hashlib
import sys
import tomllib
from fractions import Fraction
from pathlib import Path

from matplotlib import pyplot as plt
from matplotlib.backends.backend_pdf import PdfPages

sys.path.insert(0, str(Path(__file__).parent))
import tasks
from page import EDGE, Answer, Page

FOLDER = Path(__file__).parent
WORDS = tomllib.loads((FOLDER / "words.toml").read_text(encoding="utf-8"))
LANGUAGES = ("en", "hi")
LESSONS = {"merges": "03", "attention": "06", "bigram": "04", "loss": "04", "dice": "13", "beam": "10"}


def file_of(sheet: str, language: str) -> Path:
    return FOLDER / f"{LESSONS[sheet]}_{sheet}_{language}.pdf"


class Words:
    """The words of one sheet in one language: `words.title`, `words("after", n=2)`, `words.columns`."""

    def __init__(self, sheet: str, language: str):
        self._texts, self._number = {**WORDS["common"], **WORDS[sheet]}, LANGUAGES.index(language)

    def __call__(self, name: str, **more):
        text = self._texts[name][self._number]
        return text.format(**more) if more else text


def short(value: float, digits: int = 2) -> str:
    """0.30 → 0.3, 2.0 → 2"""
    return f"{value:.{digits}f}".rstrip("0").rstrip(".")


def part(value: float, most: int = 16) -> str:
    """0.3333 → 1/3"""
    return str(Fraction(value).limit_denominator(most))


def merges(page: Page, words: Words) -> None:
    learned, states = tasks.merges(), tasks.spelled()
    page.say(words("why"))
    page.say(" · ".join(tasks.WORDS), size=14)
    page.say(words("how"))
    rows = [[words("head"), words("pair"), words("times")]]
    rows += [[n, Answer(f"{left} + {right}"), Answer(count)] for n, (left, right, count) in enumerate(learned, 1)]
    page.table(rows, [28, 60, 40])
    half = len(tasks.WORDS) // 2
    for numbers in (range(half), range(half, 2 * half)):
        rows = [["", *(tasks.WORDS[i] for i in numbers)]]
        rows.append([words("start"), *("|".join(states[0][i]) for i in numbers)])
        for n, state in enumerate(states[1:], 1):
            rows.append([words("after", n=n), *(Answer("|".join(state[i])) for i in numbers)])
        page.table(rows, [24, *[30] * half])
    page.fill(words("pieces"), " → ".join(str(sum(len(word) for word in state)) for state in states), blank=60)
    page.fill(words("new"), " | ".join(tasks.replay("नमकमल")), blank=60)
    page.fill(words("why_order"), words("because"), blank=110)


def attention(page: Page, words: Words) -> None:
    told, names = tasks.attention(), tasks.ATTENTION_WORDS
    page.say(words("why"))
    vectors = zip(names, tasks.QUERIES, tasks.KEYS, tasks.VALUES, strict=True)
    rows = [[name, *(str([int(n) for n in vector]) for vector in given)] for name, *given in vectors]
    page.table([words("columns"), *rows], [32, 44, 44, 32], height=7)
    for title, numbers in (("scores", told["scores"]), ("weights", told["weights"])):
        page.say(words(title))
        rows = [["", *names]]
        for t, name in enumerate(names):
            cells = [short(float(numbers[t, s])) if s <= t else "×" for s in range(len(names))]
            rows.append([name, *(Answer(cell) for cell in cells)])
        page.table(rows, [32] * 5, height=7)
    page.say(words("result"))
    rows = [[name, *(Answer(short(float(n))) for n in row)] for name, row in zip(names, told["result"], strict=True)]
    page.table([words("mixed"), *rows], [32, 32, 32], height=7)
    page.say(words("ball"))
    page.fill("", words("because"), blank=150)


def bigram(page: Page, words: Words) -> None:
    counts = tasks.bigram_counts()
    page.say(words("why"))
    for left, right in (tasks.SENTENCES[:2], tasks.SENTENCES[2:]):
        page.put(EDGE, page.y, left, size=13)
        page.put(EDGE + 75, page.y, right, size=13)
        page.y += 8
    page.say(words("counts"))
    rows = [["", *tasks.VOCABULARY]]
    for history in tasks.VOCABULARY:
        rows.append([history, *(Answer(counts.get((history, word), 0)) for word in tasks.VOCABULARY)])
    page.table(rows, [21, *[17] * len(tasks.VOCABULARY)], height=7)
    page.say(words("share"))
    for sentence in (tasks.SEEN, tasks.WRONG, tasks.NEW):
        chances, product = tasks.bigram_probability(sentence), 1.0
        for p in chances:
            product *= p
        given = [Answer(part(p)) for p in chances]
        page.table([[*sentence.split(), words("product")], [*given, Answer(part(product))]], [26] * 5 + [30])
    page.say(words("same"))
    page.fill("", words("because"), blank=150)
    above, below = tasks.add_one("मीरा", "खेत")
    page.say(words("zero", v=len(tasks.VOCABULARY)))
    page.fill("p(खेत | मीरा) =", f"{above}/{below}")


def loss(page: Page, words: Words) -> None:
    told = tasks.loss()
    page.say(words("why"))
    given = zip(tasks.TOKENS, tasks.GIVEN, told["bits"], strict=True)
    page.table([words("columns"), *([token, part(p), Answer(short(bits))] for token, p, bits in given)], [50, 50, 50])
    page.fill(words("sum"), short(told["all"]))
    page.fill(words("mean", n=len(tasks.TOKENS)), short(told["mean"]))
    page.fill(words("nats"), short(told["nats"]))
    page.fill(words("perplexity"), short(told["perplexity"]), blank=25)
    page.fill(words("bytes"), told["bytes"], blank=30)
    page.fill(words("per_byte"), short(told["per_byte"], 3))
    page.y += 4
    most, least = max(given_bits := told["bits"]), min(given_bits)
    named = [tasks.TOKENS[given_bits.index(bits)] for bits in (most, least)]
    page.say(words("which"))
    page.fill("", "    ".join(named), blank=150)
    page.say(words("better"))
    page.fill("", words("because"), blank=150)


def dice(page: Page, words: Words) -> None:
    told = tasks.speculation()
    page.say(words("why"))
    rows, first = [words("columns")], 1
    for i, drink in enumerate(tasks.DRINKS):
        sides = round(float(tasks.DRAFT[i]) * 6)
        its = f"{first}–{first + sides - 1}" if sides > 1 else f"{first}"
        keep = round(told["stands"][i] * 6)
        die = words("any") if keep == 6 else f"1–{keep}"
        q, p = (f"{round(float(chances[i]) * 6)}/6" for chances in (tasks.DRAFT, tasks.TARGET))
        rows.append([drink, q, its, p, Answer(part(told["stands"][i], 6)), Answer(die)])
        first += sides
    page.table(rows, [22, 20, 26, 20, 50, 36], size=10)
    page.say(words("rule"))
    left = [drink for drink, chance in zip(tasks.DRINKS, told["else"], strict=True) if chance > 0]
    page.table([[words("else"), words("else2")], [Answer(drink) for drink in left]], [50, 50])
    page.say(words("game") + (" " + words("example") if page.answers else ""))
    rows = [words("rows")]
    for number, (guess, stood, written) in enumerate(tasks.one_game(), 1):
        cells = [tasks.DRINKS[guess], words("yes") if stood else words("no"), tasks.DRINKS[written]]
        rows.append([number, *(Answer(cell) for cell in cells)])
    page.table(rows, [24, 50, 36, 50], height=6.6)
    page.say(words("count"))
    expected = zip(tasks.DRINKS, told["expected"], strict=True)
    page.fill("", " · ".join(f"{drink} {short(n)}" for drink, n in expected), blank=150)
    page.fill(words("refused"), part(told["refused"], 6))


def beam(page: Page, words: Words) -> None:
    page.say(words("why"))
    rows = [words("columns")]
    for before, following in tasks.NEXT.items():
        rows.append([before or words("begin"), ",   ".join(f"{word} {p:g}" for word, p in following.items())])
    page.table(rows, [40, 110], height=7)
    steps, greedy = tasks.beam_search(), tasks.beam_search(1)[-1][0]
    page.say(words("greedy"))
    page.fill("", f"{' '.join(greedy[0])}   {short(greedy[1], 3)}", blank=150)
    page.say(words("beam"))
    rows = [words("steps")]
    for number in range(max(len(step) for step in steps)):
        row = []
        for step in steps:
            text, p = step[number] if number < len(step) else ([], None)
            mark = "✓ " if number < tasks.BEAMS and text else ""
            row += [Answer(mark + " ".join(text)), Answer("" if p is None else short(p, 3))]
        rows.append(row)
    page.table(rows, [28, 16, 42, 16, 50, 18], size=9.5)
    (best, p), texts = steps[-1][0], tasks.all_texts()
    page.say(words("best"))
    page.fill("", f"{' '.join(best)}   {short(p, 3)}", blank=150)
    page.say(words("all"))
    page.fill("", f"{len(texts)};   {' '.join(max(texts, key=texts.get))}", blank=150)
    page.fill(words("lost"), words("first"), blank=90)


DRAWN = {"merges": merges, "attention": attention, "bigram": bigram, "loss": loss, "dice": dice, "beam": beam}


def draw(sheet: str, language: str, *, answers: bool) -> Page:
    words = Words(sheet, language)
    title = words("title") + (f": {words('answers')}" if answers else "")
    page = Page(title, words("name"), answers=answers)
    DRAWN[sheet](page, words)
    page.foot(words("foot", lesson=LESSONS[sheet]))
    return page


def fingerprint() -> str:
    """Of all that the sheets are made from: the words, the programs, the numbers. It stands in each PDF.

    The game with dice is left out: another torch may throw others, and any game is a good example.
    """
    names = ("words.toml", "sheets.py", "page.py", "tasks.py")
    sources = [(FOLDER / name).read_text(encoding="utf-8") for name in names]
    numbers = [tasks.merges(), tasks.bigram_counts(), tasks.all_texts()]
    weights = [[short(float(n), 3) for n in row] for row in tasks.attention()["weights"]]
    return hashlib.sha256(repr([sources, numbers, weights, short(tasks.loss()["nats"], 3)]).encode()).hexdigest()


def write(sheet: str, language: str) -> Path:
    """Both pages into one PDF."""
    path = file_of(sheet, language)
    about = {"CreationDate": None, "Title": Words(sheet, language)("title"), "Keywords": fingerprint()}
    with PdfPages(path, metadata=about) as pdf:
        for answers in (False, True):
            page = draw(sheet, language, answers=answers)
            pdf.savefig(page.figure)
            plt.close(page.figure)
    return path


if __name__ == "__main__":
    for sheet in sys.argv[1:] or DRAWN:
        for language in LANGUAGES:
            written = write(sheet, language)
            print(f"{written.name}: {written.stat().st_size / 1000:.0f} kB")
