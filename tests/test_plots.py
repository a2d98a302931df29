"""The pictures: right marks on the axes, and fonts that draw Indian scripts."""

import math

import matplotlib as mpl
import pytest
import torch

mpl.use("Agg")

from ai4india_lib.evaluation.significance import Interval
from ai4india_lib.plots import plot_attention, plot_history, plot_scores, plt, save_figure, use_indic_fonts
from ai4india_lib.training.history import History


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def history(**more):
    return History(
        total_steps=4, tokens_per_step=8, bytes_per_token=6.0, train_loss=[3.0, 2.0, 1.5, 1.2], eval_step=[0, 2, 4],
        eval_loss=[3.5, 2.0, 1.0], **more,
    )  # fmt: skip


def test_fonts_draw_conjuncts_without_missing_letters(recwarn):
    assert "Noto Sans Devanagari" in use_indic_fonts()
    figure, axes = plt.subplots()
    axes.set_title("क्षत्रिय ज्ञान श्री विद्यार्थी")
    figure.canvas.draw()
    assert not [str(w.message) for w in recwarn if "missing" in str(w.message)]


def test_a_conjunct_is_narrower_than_its_letters_apart():
    use_indic_fonts()
    figure, axes = plt.subplots()
    renderer = figure.canvas.get_renderer()
    joined, apart = (
        axes.text(0, 0, text, size=40).get_window_extent(renderer).width for text in ("क्ष", "क\u094d\u200cष")
    )
    assert joined < 0.9 * apart


def test_history_is_drawn_as_perplexity_with_its_floor():
    axes = plot_history(history(floor_bits_per_byte=0.1))
    train, test, floor = axes.get_lines()
    assert list(train.get_xdata()) == [1, 2, 3, 4]
    assert test.get_ydata() == pytest.approx([math.exp(loss) for loss in (3.5, 2.0, 1.0)])
    assert floor.get_ydata()[0] == pytest.approx(2 ** (0.1 * 6.0))
    assert "floor" in axes.get_title()


def test_history_without_a_floor_has_no_floor_line():
    axes = plot_history(history())
    assert len(axes.get_lines()) == 2 and "floor" not in axes.get_title()


def test_attention_has_the_words_on_both_axes():
    words = ["मीरा", "ने", "देखा"]
    axes = plot_attention(torch.eye(3), words)
    assert [label.get_text() for label in axes.get_xticklabels()] == words
    assert [label.get_text() for label in axes.get_yticklabels()] == words
    with pytest.raises(ValueError, match=r"3 tokens need \(3, 3\)"):
        plot_attention(torch.eye(4), words)


def test_save_figure_leaves_one_file_and_no_open_figure(tmp_path):
    path = save_figure(plot_history(history()), tmp_path / "p.png")
    assert [p.name for p in tmp_path.iterdir()] == ["p.png"] and path.stat().st_size > 5000
    assert not plt.get_fignums()


def test_scores_are_bars_with_their_intervals():
    scores = {"one": {"verb": Interval(0.9, 0.8, 0.95), "ne_marker": Interval(0.5, 0.4, 0.6)},
              "two": {"ne_marker": Interval(0.7, 0.6, 0.8)}}  # fmt: skip
    axes = plot_scores(scores, line=0.5, line_label="chance")
    assert [bar.get_width() for bar in axes.patches] == [0.9, 0.5, 0.7]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["verb", "ne marker"]
    (first, *_), second = axes.collections[0].get_segments(), axes.collections[1].get_segments()
    assert [x for x, _ in first] == pytest.approx([0.8, 0.95]) and [x for x, _ in second[0]] == pytest.approx(
        [0.6, 0.8]
    )
    places = [bar.get_y() + bar.get_height() / 2 for bar in axes.patches]
    assert places[0] < 0.5 < places[1] < places[2] < 1.5  # the two models' bars of one kind lie together
    assert {"one", "two", "chance"} == {text.get_text() for text in axes.get_legend().get_texts()}
