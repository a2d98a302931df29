"""An A4 page for matplotlib, measured in millimetres from its upper left corner: words that wrap, tables, blanks."""

from dataclasses import dataclass
from functools import cache

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from ai4india_lib.plots import use_indic_fonts

WIDTH, HEIGHT, EDGE = 210, 297, 18
POINT = 25.4 / 72  # millimetres
INK, ANSWER_INK, PALE = "#222222", "#1f5fa8", "#eef2f7"


@dataclass(frozen=True)
class Answer:
    """A text that stands on the answer page alone; on the sheet its place is empty."""

    text: object

    def __str__(self) -> str:
        return str(self.text)


@cache
def width_of(word: str, size: float) -> float:
    """In millimetres. A bar on each side, so that marks and blanks at the ends count."""
    font = FontProperties(family=mpl.rcParams["font.family"])
    whole = TextPath((0, 0), f"|{word}|", size=size, prop=font).get_extents().width
    bars = TextPath((0, 0), "||", size=size, prop=font).get_extents().width
    return (whole - bars) * POINT


class Page:
    """Things are put one below the other; `y` is where the next one begins."""

    def __init__(self, title: str, below: str, *, answers: bool):
        use_indic_fonts()
        mpl.rcParams.update({"pdf.fonttype": 3, "pdf.compression": 9})
        self.answers = answers
        self.figure = plt.figure(figsize=(WIDTH / 25.4, HEIGHT / 25.4), facecolor="white")
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, WIDTH), ylim=(HEIGHT, 0))
        self.axes.axis("off")
        self.put(EDGE, 20, title, size=18)
        self.put(EDGE, 28, below, size=9.5, color="#555555")
        self.axes.plot([EDGE, WIDTH - EDGE], [32, 32], color=INK, lw=1)
        self.y = 40.0

    def put(self, x: float, y: float, text: object, *, size: float = 10.5, color: str = INK, align: str = "left"):
        """One line of text; `y` is its middle. An answer is left out on the sheet, and blue on the answer page."""
        if isinstance(text, Answer):
            if not self.answers:
                return
            color = ANSWER_INK
        self.axes.text(x, y, str(text), size=size, color=color, ha=align, va="center_baseline")

    def say(self, text: str, *, size: float = 11.5, room: float = WIDTH - 2 * EDGE):
        """A paragraph that wraps at the right edge."""
        blank, lines, length = width_of(" ", size), [[]], 0.0
        for word in text.split():
            if lines[-1] and length + width_of(word, size) > room:
                lines.append([])
                length = 0.0
            lines[-1].append(word)
            length += width_of(word, size) + blank
        for words in lines:
            self.put(EDGE, self.y, " ".join(words), size=size)
            self.y += size * POINT * 1.65
        self.y += 1.6

    def fill(self, question: str, answer: object, *, blank: float = 40, size: float = 11.5):
        """A question, and a line to write the answer on."""
        self.put(EDGE, self.y, question, size=size)
        x = EDGE + width_of(question, size) + 3
        self.axes.plot([x, min(x + blank, WIDTH - EDGE)], [self.y + 2.2] * 2, color=INK, lw=0.6)
        self.put(x + 1.5, self.y, Answer(answer), size=size)
        self.y += 8.6

    def table(self, rows: list[list[object]], widths: list[float], *, height: float = 7.6, size: float = 11):
        """A table, nearer to what stands above it than to what follows; answers are left open on the sheet."""
        self.y -= 2
        for number, row in enumerate(rows):
            x = float(EDGE)
            for cell, width in zip(row, widths, strict=True):
                fill = PALE if number == 0 else "white"
                self.axes.add_patch(plt.Rectangle((x, self.y), width, height, fc=fill, ec=INK, lw=0.7))
                self.put(x + width / 2, self.y + height / 2, cell, size=size, align="center")
                x += width
            self.y += height
        self.y += 7

    def foot(self, text: str):
        self.put(EDGE, HEIGHT - 11, text, size=8.5, color="#555555")
        if self.y > HEIGHT - 15:
            raise ValueError(f"the page is full: it ends at {self.y:.0f} mm of {HEIGHT}")
