"""Draws poster.svg, the whole path of the course on one page: text → tokens → decoder → loss → text.

    python notebooks/assets/poster.py

All numbers on it are computed here, by the model kahani-hi: after a model is trained anew, run it again.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from ai4india_lib import generate_text, load_model
from ai4india_lib.plots import BLUE, GREY, ORANGE, use_indic_fonts

TEXT = "मीरा बाज़ार गई"
TARGET = Path(__file__).parent / "poster.svg"
WIDTH, HEIGHT = 420, 1010  # as wide as a phone, so that every letter can be read there
BOLD = {"weight": "bold", "family": "DejaVu Sans"}  # the fonts of Indian scripts have one weight here
PALE_BLUE, PALE_ORANGE, DARK = "#e3edf8", "#fdeadb", "#222222"


@dataclass
class Facts:
    """What the poster tells, as the model says it."""

    ids: list[int]
    pieces: list[str]
    likely: list[tuple[str, float]]  # the three likeliest next tokens with their probabilities
    blocks: int
    parameters: int
    written: str

    @property
    def loss(self) -> float:
        """In nats, if the text goes on with the likeliest token."""
        return -math.log(self.likely[0][1])


def facts() -> Facts:
    """Asks the model kahani-hi what comes after `TEXT`."""
    model, tokenizer = load_model("kahani-hi", "cpu")
    ids = tokenizer(TEXT).input_ids
    with torch.no_grad():
        probabilities = model(torch.tensor([ids]))[0, -1].softmax(-1)  # (vocab_size,)
    values, tokens = probabilities.topk(3)
    likely = [(tokenizer.decode([int(i)]), float(p)) for i, p in zip(tokens, values, strict=True)]
    pieces = [tokenizer.decode([i]) for i in ids]
    written = generate_text(model, TEXT, tokenizer, "cpu", 20, temperature=0)
    sentence = written.partition("।")[0] + "।"
    return Facts(ids, pieces, likely, model.config.num_blocks, model.num_parameters(), sentence)


def box(axes: Axes, x: float, y: float, width: float, height: float, text: str = "", *, fill=PALE_BLUE, size=15):
    """A rounded box, measured from its upper left corner, with a text in its middle."""
    shape = FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=7", fc=fill, ec=DARK, lw=1)
    axes.add_patch(shape)
    axes.text(x + width / 2, y + height / 2, text, size=size, ha="center", va="center", color=DARK)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], *, color=DARK):
    style = {"arrowstyle": "-|>", "mutation_scale": 14, "lw": 2, "shrinkA": 0, "shrinkB": 0}
    axes.add_patch(FancyArrowPatch(start, end, color=color, **style))


def way_back(axes: Axes, x: float, start: tuple[float, float], end: tuple[float, float], *, color: str):
    """Up along the page's edge at `x`, and into what is done again."""
    axes.plot([start[0], x, x, end[0]], [start[1], start[1], end[1], end[1]], color=color, lw=2)
    arrow(axes, ((x + end[0]) / 2, end[1]), end, color=color)


def heading(axes: Axes, y: float, number: str, title: str, lessons: str):
    axes.text(18, y, f"{number}  {title}", size=16, **BOLD, va="center", color=DARK)
    axes.text(402, y, lessons, size=12, va="center", ha="right", color="#555555")


def draw_text_and_tokens(axes: Axes, told: Facts):
    heading(axes, 62, "1", "Text", "lessons 01, 02")
    box(axes, 70, 82, 280, 44, TEXT, size=20)
    arrow(axes, (210, 126), (210, 158))
    heading(axes, 176, "2", "Tokens, each with a number", "03")
    names = [piece.replace("<|begin|>", "begin").strip() for piece in told.pieces]
    widths = [46 + 9 * max(0, len(name) - 2) for name in names]
    x = (WIDTH - sum(widths) - 8 * (len(widths) - 1)) / 2
    for name, number, width in zip(names, told.ids, widths, strict=True):
        box(axes, x, 196, width, 34, name, size=15)
        axes.text(x + width / 2, 244, str(number), size=13, ha="center", va="center", color=DARK)
        x += width + 8
    arrow(axes, (210, 256), (210, 284))


def draw_decoder(axes: Axes, told: Facts):
    heading(axes, 302, "3", "The decoder", "05–08")
    box(axes, 60, 322, 300, 34, "a row of numbers for each token", fill="white", size=14)
    box(axes, 60, 366, 300, 94, fill="white")
    axes.text(325, 413, f"{told.blocks} times", size=13, ha="center", va="center", color=DARK)
    box(axes, 74, 376, 216, 34, "attention: look back", size=14)
    box(axes, 74, 416, 216, 34, "MLP: think alone", size=14)
    box(axes, 60, 470, 300, 34, "a score for each token there is", fill="white", size=14)
    axes.text(210, 520, f"{told.parameters:,} numbers, the weights, are inside", size=12.5, ha="center", va="center")
    arrow(axes, (210, 532), (210, 560))


def draw_guess(axes: Axes, told: Facts):
    heading(axes, 578, "4", "What comes next?", "04")
    for row, (piece, probability) in enumerate(told.likely):
        y = 600 + 34 * row
        axes.text(108, y + 13, piece.strip(), size=17, ha="right", va="center", color=DARK)
        axes.add_patch(plt.Rectangle((120, y), 210 * probability, 26, fc=BLUE if row == 0 else GREY))
        axes.text(128 + 210 * probability, y + 13, f"{probability:.0%}", size=14, va="center", color=DARK)
    arrow(axes, (120, 706), (120, 736), color=ORANGE)
    arrow(axes, (300, 706), (300, 736), color=BLUE)


def draw_both_ways(axes: Axes, told: Facts):
    first = told.likely[0][0].strip()
    axes.text(18, 754, "5  To learn", size=16, **BOLD, va="center", color=DARK)
    axes.text(222, 754, "6  To write", size=16, **BOLD, va="center", color=DARK)
    axes.text(18, 776, "lessons 05, 09, 14, 15", size=12, va="center", color="#555555")
    axes.text(222, 776, "10–13", size=12, va="center", color="#555555")
    way_back(axes, 8, (18, 866), (60, 413), color=ORANGE)
    way_back(axes, 412, (402, 866), (350, 104), color=BLUE)
    box(axes, 18, 792, 184, 148, fill=PALE_ORANGE)
    learn = [f"The text goes on: {first}", f"loss = −ln {told.likely[0][1]:.2f} = {told.loss:.2f}"]
    learn += ["Slopes walk back,", "each weight moves a", "little: the loss falls."]
    for row, line in enumerate(learn):
        axes.text(28, 812 + 27 * row, line, size=13.5, va="center", color=DARK)
    box(axes, 218, 792, 184, 148)
    write = ["Draw one token:", f"{first}", "Put it behind the text,", "and ask again, from 1."]
    for row, line in enumerate(write):
        axes.text(228, 812 + 27 * row, line, size=18 if row == 1 else 13.5, va="center", color=DARK)
    axes.text(210, 968, told.written, size=17, ha="center", va="center", color=DARK)
    axes.text(210, 993, "the likeliest token again and again: kahani-hi writes", size=12, ha="center", va="center")


def draw(told: Facts) -> plt.Figure:
    use_indic_fonts()
    mpl.rcParams.update({"svg.fonttype": "path", "svg.hashsalt": "poster"})
    figure = plt.figure(figsize=(WIDTH / 72, HEIGHT / 72), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(HEIGHT, 0))
    axes.axis("off")
    axes.text(18, 26, "How a language model learns and writes", size=16.5, **BOLD, va="center", color=DARK)
    draw_text_and_tokens(axes, told)
    draw_decoder(axes, told)
    draw_guess(axes, told)
    draw_both_ways(axes, told)
    return figure


if __name__ == "__main__":
    draw(facts()).savefig(TARGET, metadata={"Date": None, "Title": "text → tokens → decoder → loss → text"})
    print(f"{TARGET.name}: {TARGET.stat().st_size / 1000:.0f} kB")
