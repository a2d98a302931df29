"""Protects lesson 18's language and its stored runs: the floor is what is claimed, and the law finds it."""

import json
import math
from pathlib import Path

import pytest
import torch

from ai4india_lib.training.scaling_law import fit_law
from data.scaling import CHANCES, ENTROPY, ROW, WORDS, Chauraha, spelled
from data.scaling.__main__ import AMOUNTS, RATE_WIDTHS, RATES, WIDTHS, main
from data.scaling.runs import learn, loss_of, settings, small_model

FOLDER = Path(__file__).parents[2] / "data" / "scaling"


def rows_of(name):
    return [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


RUNS = [(run["parameters"], run["tokens"], run["loss"]) for run in rows_of("runs") if run["width"] >= 16]


def test_words_follow_as_often_as_they_should():
    language = Chauraha()
    text = language.text(200_000, seed=3)
    assert text.shape == (6250, ROW + 1) and len(set(WORDS)) == 512
    ways = language.ways[text[:, :-1]]  # (rows, ROW, 4)
    which = (ways == text[:, 1:, None]).double()
    assert (which.sum(-1) == 1).all(), "each word is one of four, and the four differ"
    assert which.mean((0, 1)).tolist() == pytest.approx(CHANCES, abs=0.005)
    assert ENTROPY == 1.75 and len(spelled(text[0]).split()) == ROW + 1


def test_no_guesser_loses_less_than_the_floor():
    language = Chauraha(5)
    text = language.text(4096, seed=1)
    perfect = torch.full((len(WORDS), len(WORDS)), 1e-9)
    perfect.scatter_(1, language.ways, torch.tensor(CHANCES).expand(len(WORDS), 4))
    assert language.loss(perfect.log()[text[:, :-1]], text) == pytest.approx(ENTROPY, abs=1e-4)
    even = torch.full((*text[:, :-1].shape, len(WORDS)), -math.log(len(WORDS)))
    assert language.loss(even, text) == pytest.approx(9.0, abs=1e-4)
    shaken = (perfect[text[:, :-1]] ** 0.5).log().log_softmax(-1)
    assert language.loss(shaken, text) > ENTROPY + 0.01


def test_the_same_seed_tells_the_same_text_and_sisters_share_what_they_should():
    language = Chauraha()
    assert torch.equal(language.text(2000, seed=1), Chauraha().text(2000, seed=1))
    assert not torch.equal(language.text(2000, seed=1), language.text(2000, seed=2))
    sister = Chauraha(7, like=language, own=0.25)
    shared = (sister.ways == language.ways).all(-1).double().mean()
    assert 0.65 < shared < 0.85
    with pytest.raises(ValueError, match="words=0"):
        language.text(0)


def test_runs_are_all_there_and_on_the_right_side_of_the_floor():
    assert [(run["width"], run["tokens"]) for run in rows_of("runs")] == [(w, d) for w in WIDTHS for d in AMOUNTS]
    assert all(run["parameters"] == small_model(run["width"]).num_parameters() for run in rows_of("runs"))
    assert min(run["loss"] for run in rows_of("runs")) > ENTROPY and len(RUNS) == 24
    kept = [(row["width"], row["way"], row["rate"]) for row in rows_of("rates")]
    assert kept == [(w, way, r) for w in RATE_WIDTHS for way in ("adamw", "mup", "muon") for r in RATES]


def test_the_law_finds_the_floor_within_three_percent():
    assert fit_law(*zip(*RUNS, strict=True)).floor == pytest.approx(ENTROPY, rel=0.03)


def test_five_sizes_predict_the_sixth_within_two_percent():
    largest = max(size for size, _, _ in RUNS)
    law = fit_law(*zip(*(run for run in RUNS if run[0] < largest), strict=True))
    for size, tokens, loss in RUNS:
        if size == largest:
            assert law.loss(size, tokens) == pytest.approx(loss, rel=0.02)


def test_a_part_of_the_runs_never_takes_the_place_of_all(tmp_path, monkeypatch, capsys):
    before = {name: (FOLDER / f"{name}.jsonl").read_bytes() for name in ("runs", "rates")}
    for more, told in ((["--widths", "8"], "--output"), (["--widths", "8,x", "--output", "a"], "8,x")):
        monkeypatch.setattr("sys.argv", ["data.scaling", "--part", "runs", *more])
        with pytest.raises(SystemExit):
            main()
        assert told in capsys.readouterr().err
    monkeypatch.setattr("data.scaling.__main__.AMOUNTS", (256, 512))
    monkeypatch.setattr(
        "sys.argv", ["data.scaling", "--part", "runs", "--widths", "8", "--output", str(tmp_path / "own.jsonl")]
    )
    main()
    own = [json.loads(line) for line in (tmp_path / "own.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(run["width"], run["tokens"]) for run in own] == [(8, 256), (8, 512)] and set(own[1]["looks"]) == {"256"}
    assert before == {name: (FOLDER / f"{name}.jsonl").read_bytes() for name in before}


def test_a_run_ends_where_the_stored_one_did():
    stored = next(run for run in rows_of("runs") if (run["width"], run["tokens"]) == (8, 2**16))
    language, model = Chauraha(), small_model(8)
    learn(model, language.text(2**16, seed=1), settings(8))
    assert loss_of(model, language) == pytest.approx(stored["loss"], rel=0.02)
