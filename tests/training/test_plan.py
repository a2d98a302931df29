"""Protects training.plan: what is trained follows from how much text there is, and every option overrides it."""

from dataclasses import replace

import pytest

from ai4india_lib import get_hyperparameters
from ai4india_lib.__main__ import main
from ai4india_lib.commands import hyperparameters_of
from ai4india_lib.commands.options import make_parser
from ai4india_lib.training.plan import LITTLE, LITTLE_TEXT, SHORT_RUN, SMALL_BATCHES, plan_for_text, plan_in_words
from ai4india_lib.training.resume import Checkpoints


def test_much_text_is_trained_on_as_the_preset_says():
    """So the commands on the models' cards, which give steps and no preset, still make those models."""
    assert plan_for_text(57_000_000) == plan_for_text(LITTLE) == get_hyperparameters("laptop")
    assert plan_for_text(57_000_000, max_steps=600, minutes=None) == get_hyperparameters("laptop")


def test_a_run_by_the_clock_is_short():
    by_clock = get_hyperparameters("laptop", minutes=3, **SHORT_RUN)
    assert plan_for_text(57_000_000, "cuda", minutes=3) == by_clock
    assert plan_for_text(57_000_000, minutes=3) == replace(by_clock, **SMALL_BATCHES)
    assert plan_for_text(57_000_000, minutes=3, batch_size=16) == by_clock
    assert plan_for_text(57_000_000, minutes=3, momentum=0.9, word_vectors=False).momentum == 0.9


def test_little_text_is_not_learned_by_heart():
    h = plan_for_text(1_000_000, minutes=3)
    usual = get_hyperparameters("laptop", minutes=3)
    assert {name: getattr(h, name) for name in LITTLE_TEXT} == LITTLE_TEXT
    assert h.vocab_size < usual.vocab_size and h.weight_decay > usual.weight_decay
    assert h.max_steps is None and h.emb_dim == usual.emb_dim


def test_options_override_the_plan():
    assert plan_for_text(9000, vocab_size=300, weight_decay=0.0).vocab_size == 300
    assert plan_for_text(9000, max_steps=70).num_epochs == get_hyperparameters("laptop").num_epochs
    assert plan_for_text(9000, max_steps=70, num_epochs=1).num_epochs == 1
    for options, changed in (([], True), (["--preset", "laptop"], False)):
        h = hyperparameters_of(make_parser().parse_args(["train", *options]), 9000)
        assert (h.weight_decay == LITTLE_TEXT["weight_decay"]) is changed
    h = hyperparameters_of(make_parser().parse_args(["train", "--weight-decay", "0.3"]), 9000)
    assert h.weight_decay == 0.3 and h.minutes == 4.0
    for nothing in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="at least one byte"):
            plan_for_text(nothing)


def test_the_plan_is_told_in_one_line():
    h = plan_for_text(1_000_000, minutes=3)
    told = plan_in_words(1_000_000, h)
    assert told.startswith("1.0 MB of text: ") and "by heart" in told and f"weight decay {h.weight_decay:g}" in told
    assert "by heart" not in plan_in_words(57_000_000, get_hyperparameters("laptop")) and "\n" not in told
    assert plan_in_words(1200, h).startswith("2 KB of text")
    assert "word vectors" in told and "word vectors" not in plan_in_words(57_000_000, get_hyperparameters("laptop"))


def test_the_command_does_what_was_planned(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").mkdir()
    for name in ("train", "test"):
        lines = [f"मीरा ने {n} चाय पी और {n * n} पतंग देखी।" for n in range(90)]
        (tmp_path / "text" / f"{name}.txt").write_text("\n".join(lines), encoding="utf-8")
    small = ["--emb-dim", "16", "--num-heads", "2", "--num-blocks", "1", "--context-size", "32", "--batch-size", "4"]
    assert main(["train", "--data", "text", "--name", "mine", "--max-steps", "2", "--device", "cpu", *small]) == 0
    out = capsys.readouterr().out
    assert "8 KB of text: weight decay 1" in out and "learning a vocabulary of 2048" in out
    state = Checkpoints("models/mine/training").state()
    assert state["hyperparameters"]["weight_decay"] == LITTLE_TEXT["weight_decay"]


@pytest.mark.parametrize(
    "command, sentence",
    [
        (["quality", "--rows", "s1"], "--rows has no effect with quality"),
        (["generation", "--data", "text"], "--data has no effect with generation"),
        (["quality", "--seconds", "5"], "--seconds 5 is too short"),
    ],
)
def test_the_benchmark_of_quality_refuses_what_it_cannot_use(command, sentence, capsys):
    assert main(["benchmark", *command]) == 1
    assert sentence in capsys.readouterr().err
