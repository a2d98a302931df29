"""Protects benchmarks.quality: the peer has the best of its rates, and what was measured is not measured again."""

import json
from pathlib import Path

import pytest

from ai4india_lib.__main__ import main
from ai4india_lib.benchmarks import quality


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """The trainings that were run, in place of running them: ours has 1.0 bits after 60 seconds, the peer's best
    rate after the longest time is 0.004."""
    monkeypatch.chdir(tmp_path)
    runs = []

    def ours(source, seconds, seed):
        runs.append(("ours", seconds, seed))
        return 60 / seconds + seed / 10, seconds - 2

    def theirs(source, seconds, seed, rate):
        runs.append(("theirs", seconds, seed, rate))
        return 2 * 60 / seconds + seed / 10 + abs(rate - (0.004 if seconds == 120 else 0.002)), seconds - 1

    monkeypatch.setattr(quality, "ours", ours)
    monkeypatch.setattr(quality, "theirs", theirs)
    return runs


COMMAND = "benchmark quality --data text.tar.gz --seconds 60 120 --repeats 2 --results results.jsonl".split()


def test_the_table_has_means_over_the_seeds_and_the_peers_best_rate(measured, capsys):
    assert main(COMMAND) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| text.tar.gz")]
    assert rows == [
        "| text.tar.gz | 60 | 1.050 (1.000 to 1.100) | 58 s | 2.052 (2.002 to 2.102) | 0.004 | 59 s | 0.512 |",
        "| text.tar.gz | 120 | 0.550 (0.500 to 0.600) | 118 s | 1.050 (1.000 to 1.100) | 0.004 | 119 s | 0.524 |",
    ]
    assert len(measured) == len(set(measured)) == 4 + 3 + 3  # ours, the peer's rates, its other times and seeds


def test_a_run_that_was_stopped_goes_on_from_its_results(measured, capsys):
    assert main(COMMAND) == 0
    whole = capsys.readouterr().out
    kept = Path("results.jsonl")
    lines = kept.read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(measured) and all(json.loads(line)["result"] for line in lines)
    kept.write_text("\n".join(lines[:-2]) + "\n", encoding="utf-8")
    measured.clear()
    assert main(COMMAND) == 0
    assert len(measured) == 2 and capsys.readouterr().out == whole
    measured.clear()
    assert main([*COMMAND, "--threads", "1"]) == 0
    assert len(measured) == len(lines)  # other threads are another machine


def test_a_file_that_cannot_keep_results_is_told_before_anything_is_measured(measured, capsys):
    Path("results.jsonl").write_text('{"of": "half a li', encoding="utf-8")
    assert main(COMMAND) == 1
    assert "results.jsonl, line 1 is no result: remove that line" in capsys.readouterr().err
    assert main([*COMMAND[:-1], "results.jsonl/more"]) == 1 and "results.jsonl" in capsys.readouterr().err
    assert not measured
    assert main([*COMMAND[:-1], "new/results.jsonl"]) == 0 and Path("new/results.jsonl").is_file()


def test_results_belong_to_quality(measured, capsys):
    assert main("benchmark training --results results.jsonl".split()) == 1
    assert "--results has no effect with training" in capsys.readouterr().err
