"""Protects training.history: what a run reports is what happened, in the right units."""

import json
import math

import pytest

from ai4india_lib import History


def example():
    return History(
        total_steps=100,
        tokens_per_step=512,
        passes=2.5,
        bytes_per_token=4.0,
        floor_bits_per_byte=0.25,
        train_loss=[3.0, 2.0, 1.5],
        learning_rate=[0.1, 0.2, 0.1],
        eval_step=[0, 1, 2, 3],
        eval_loss=[3.5, 2.0, 2.25, 2.5],
        test_loss=2.0,
        seconds=12.25,
        ended="finished",
    )


def test_saved_and_loaded_it_is_the_same(tmp_path):
    history = example()
    history.save(tmp_path / "history.json")
    assert History.load(tmp_path / "history.json") == history
    assert [path.name for path in tmp_path.iterdir()] == ["history.json"]
    assert json.loads((tmp_path / "history.json").read_text(encoding="utf-8"))["train_loss"] == [3.0, 2.0, 1.5]


@pytest.mark.parametrize(
    "content", ["", "[1]", '{"train_loss": 3}', '{"steps": []}', '{"measured": []}', '{"ended": null}']
)
def test_what_is_no_history_is_refused_by_name(tmp_path, content):
    (tmp_path / "history.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"history\.json is not (readable as JSON|the history of a run)"):
        History.load(tmp_path / "history.json")


def test_units_by_hand():
    """A loss of ln 2 nats per token is 1 bit per token: with 4 bytes per token a quarter bit per byte."""
    history = example()
    assert history.in_bits_per_byte(math.log(2)) == pytest.approx(0.25)
    assert history.eval_bits_per_byte == pytest.approx([loss / 0.6931471805599453 / 4 for loss in history.eval_loss])
    assert history.eval_perplexity == pytest.approx([33.11545, 7.389056, 9.487736, 12.182494])
    assert history.floor_loss == pytest.approx(math.log(2))
    assert history.in_bits_per_byte(history.floor_loss) == pytest.approx(history.floor_bits_per_byte)


def test_what_is_not_known_stays_unknown():
    assert History(bytes_per_token=4.0).floor_loss is None
    assert History(floor_bits_per_byte=0.2).floor_loss is None
    assert math.isnan(History().in_bits_per_byte(1.0))


def test_looks_since_best():
    history = History()
    seen = []
    for loss in (3.0, 2.0, 2.5, 2.0, 1.0):
        history.eval_loss.append(loss)
        seen.append(history.looks_since_best())
    assert seen == [0, 0, 1, 2, 0], "as good as before is not better"
    assert History().looks_since_best() == 0


@pytest.mark.parametrize(
    "passes, words",
    [
        (1.0, "once"), (1.04, "once"), (0.35, "0.35 times"), (2.5, "2.5 times"), (19.3, "19 times"),
        (123.4, "123 times"), (9.96, "10 times"),
    ],
)  # fmt: skip
def test_plan_in_words(passes, words):
    plan = History(total_steps=100, tokens_per_step=512, passes=passes).plan_in_words()
    assert plan == f"100 steps of 512 tokens read the text {words}"


def test_plan_in_words_of_a_resumed_run():
    assert example().plan_in_words().endswith("2.5 times, going on after step 3")


def test_result_in_words():
    told = example().result_in_words()
    assert told == (
        "finished after 3 steps, 12 s (weights of step 1, the best on the test text): test loss 2.000, "
        "perplexity 7.39, 0.721 bits per byte, 2.89 × the floor"
    )
    last_is_best = History(train_loss=[1.0], eval_step=[0, 1], eval_loss=[3.0, 2.0], test_loss=2.0, ended="finished")
    assert "weights of step" not in last_is_best.result_in_words() and "floor" not in last_is_best.result_in_words()
