"""The course's pictures, with fonts that draw Indian scripts."""

import importlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from torch import Tensor

from .basics.files import replaced_file
from .evaluation.doctor.floor import Excess, by_kind, by_place
from .evaluation.significance import Interval
from .training.history import History

# scripts whose fonts lie on PyPI as fontpkg-noto-sans-…; those that are not installed are passed over
FONT_PACKAGES = ("devanagari", "tamil", "telugu", "bengali", "gujarati", "kannada", "malayalam", "arabic", "gurmukhi")
BLUE, ORANGE, GREEN, GREY = "#1f5fa8", "#d95f02", "#1b8a5a", "#8a8a8a"


def use_indic_fonts() -> list[str]:
    """Let matplotlib draw Devanagari, and the other scripts whose Noto fonts are installed; returns the fonts' names.

    The fonts come from PyPI packages (`fontpkg-noto-sans-devanagari` and its sisters), never from the system.
    Matplotlib before 3.11 draws the letters but not their conjuncts: that raises a RuntimeError.
    """
    version = tuple(int(part) for part in mpl.__version__.split(".")[:2])
    if version < (3, 11):
        raise RuntimeError(f'matplotlib {mpl.__version__} breaks conjuncts such as क्ष: pip install "matplotlib>=3.11"')
    names = []
    for script in FONT_PACKAGES:
        with suppress(ModuleNotFoundError):
            package = importlib.import_module(f"fontpkg_noto_sans_{script}")
            for file in sorted(Path(package.__file__).parent.rglob("*.ttf")):
                font_manager.fontManager.addfont(file)
                names.append(font_manager.FontProperties(fname=file).get_name())
    names = list(dict.fromkeys(names))
    if not names:
        raise RuntimeError("no font for an Indian script is installed: pip install fontpkg-noto-sans-devanagari")
    mpl.rcParams["font.family"] = ["DejaVu Sans", *names]  # Latin first, then whichever font has the letter
    mpl.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 110})
    return names


def plot_history(history: History, axes: Axes | None = None, *, title: str | None = None) -> Axes:
    """Perplexity over the steps of a run, on training and on test text, with the floor where it is known."""
    axes = axes or plt.subplots(figsize=(7, 4), layout="constrained")[1]
    steps = range(1, history.steps + 1)
    axes.plot(steps, Tensor(history.train_loss).exp(), color=BLUE, alpha=0.35, lw=1, label="training batches")
    axes.plot(history.eval_step, history.eval_perplexity, "o-", color=ORANGE, ms=3.5, label="test text")
    if history.floor_loss is not None:
        floor = float(Tensor([history.floor_loss]).exp())
        axes.axhline(floor, color=GREEN, ls="--", lw=1.2, label=f"floor: no model can go below {floor:.2f}")
        title = title or "Perplexity falls towards the floor"
    axes.set(yscale="log", xlabel="step", ylabel="perplexity (log scale)", title=title or "Perplexity falls")
    axes.yaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.legend(frameon=False)
    return axes


def plot_attention(
    weights: Tensor, tokens: Sequence[str], axes: Axes | None = None, *, title: str = "Who looks at whom"
) -> Axes:
    """One head's attention weights, (time, time), as a heat map: each row shows where one token looks.

    Raises ValueError if there are not as many tokens as rows and columns.
    """
    time = len(tokens)
    if weights.shape != (time, time):
        raise ValueError(f"weights has shape {tuple(weights.shape)}, but {time} tokens need ({time}, {time})")
    side = max(3.5, 0.45 * time + 1.5)
    axes = axes or plt.subplots(figsize=(side, side), layout="constrained")[1]
    axes.imshow(weights.detach().float().cpu(), cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(time), tokens, rotation=45, ha="right")
    axes.set_yticks(range(time), tokens)
    axes.set(xlabel="looked at", ylabel="looking", title=title)
    return axes


def plot_scores(
    scores: dict[str, dict[str, Interval]],
    axes: Axes | None = None,
    *,
    line: float | None = None,
    line_label: str = "",
    title: str | None = None,
) -> Axes:
    """Bars with their intervals: model → kind → score. One group of bars per kind, one colour per model.

    A dashed line at `line` shows what the scores are to be held against: chance, or a floor.
    """
    kinds = list(dict.fromkeys(kind for marks in scores.values() for kind in marks))
    axes = axes or plt.subplots(figsize=(8, 1.2 + 0.22 * len(kinds) * len(scores)), layout="constrained")[1]
    thick = 0.8 / len(scores)
    colors = (BLUE, ORANGE, GREY, "#c9c9c9", GREEN)
    for index, (name, marks) in enumerate(scores.items()):
        heights = [kinds.index(kind) - 0.4 + thick * (index + 0.5) for kind in marks]
        values = [found.value for found in marks.values()]
        whiskers = [[found.value - found.low for found in marks.values()],
                    [found.high - found.value for found in marks.values()]]  # fmt: skip
        axes.barh(heights, values, thick * 0.9, color=colors[index % len(colors)], label=name)
        axes.errorbar(values, heights, xerr=whiskers, fmt="none", ecolor="black", elinewidth=0.8, capsize=2)
    if line is not None:
        axes.axvline(line, color=GREEN, ls="--", lw=1.2, label=line_label)
    axes.set_yticks(range(len(kinds)), [kind.replace("_", " ") for kind in kinds])
    axes.set(title=title, ylim=(len(kinds) - 0.45, -0.55))
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return axes


def plot_excess(tokens: Sequence[Excess], axes: Sequence[Axes] | None = None) -> Sequence[Axes]:
    """Loss minus floor, in nats a token, in four panels: by kind of word, by place in the story and in the block, by
    distance to what has to be remembered. Bars of fewer than 10 tokens are left out."""
    axes = plt.subplots(2, 2, figsize=(9, 6.5), layout="constrained")[1].flat if axes is None else axes
    kinds = [group for group in by_kind(tokens) if group.count >= 10][::-1]
    names = [f"{group.name} ({group.count})" for group in kinds]
    axes[0].barh(names, [group.excess for group in kinds], color=BLUE)
    axes[0].set(title="Which words lose most", xlabel="loss − floor (nats)")
    places = {
        "in_story": ("By place in the story", "tokens of the story before"),
        "in_block": ("By place in the block", "tokens of the block before"),
        "since": ("By distance to what must be remembered", "tokens since the same was said"),
    }
    for panel, (place, (title, words)) in zip(axes[1:], places.items(), strict=True):
        groups = [group for group in by_place(tokens, place) if group.count >= 10]
        panel.plot([int(group.name) for group in groups], [group.excess for group in groups], "o-", ms=3, color=ORANGE)
        panel.axhline(0, color=GREEN, ls="--", lw=1.2)
        panel.set(title=title, xlabel=words, ylabel="loss − floor (nats)")
    return axes


def save_figure(axes: Axes, path: str | Path) -> Path:
    """Write the picture that `axes` is part of as PNG, whole or not at all; close it, and return the path."""
    with replaced_file(path) as beside:
        axes.figure.savefig(beside, dpi=150, format="png")
    plt.close(axes.figure)
    return Path(path)
