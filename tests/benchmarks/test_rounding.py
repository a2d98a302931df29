"""The table of rounding: sizes are those of the files, losses those of their numbers, and its options are checked."""

import pytest

from ai4india_lib import save_model
from ai4india_lib.__main__ import main
from ai4india_lib.benchmarks import rounding


@pytest.fixture
def at_work(tmp_path, monkeypatch, make_model, tokenizer):
    monkeypatch.chdir(tmp_path)
    save_model(make_model(emb_dim=64), tokenizer, "mine")
    (tmp_path / "text").mkdir()
    for part in ("train", "test"):
        (tmp_path / "text" / f"{part}.txt").write_text("एक दिन मीरा विद्यालय गई।\n" * 3, encoding="utf-8")
    monkeypatch.setattr(rounding.separate, "has_llama_cpp", lambda: True)
    monkeypatch.setattr(
        rounding.separate, "measure", lambda who, repeats: ({name: [3.0, 1.0, 2.0] for name in who}, {})
    )
    return tmp_path


def test_the_table(at_work, capsys):
    pytest.importorskip("gguf", reason="needs the package gguf: the extra shipping")
    rows = {row.name: row for row in rounding.measure("mine", "text", 3, 1)}
    assert list(rows) == ["f32", "f16", "q8_0", "q4_0", "ours, float32", "ours, int8"]
    sizes = [rows[name].megabytes for name in ("f32", "f16", "q8_0", "q4_0")]
    assert sizes == sorted(sizes, reverse=True) and rows["ours, int8"].megabytes * 4 == rows["ours, float32"].megabytes
    assert rows["f32"].bits == rows["f32"].exact == rows["ours, float32"].bits
    losses = [abs(rows[name].bits / rows[name].exact - 1) for name in ("f16", "q8_0", "q4_0")]
    assert losses == sorted(losses) and losses[-1] > 0 and all(row.speed == 2 for row in rows.values())
    assert main(["benchmark", "rounding", "--model", "mine", "--data", "text", "--threads", "1"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len([line for line in printed if line.startswith("|")]) == 8 and "| +0.0% | 2 |" in printed[5]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["rounding", "--rows", "s1"], "--rows has no effect with rounding"),
        (["rounding", "--data", "a", "b"], "--data names 2 texts"),
        (["generation", "--model", "mine"], "--model has no effect with generation"),
    ],
)
def test_options_that_do_not_fit(at_work, capsys, options, told):
    assert main(["benchmark", *options]) == 1
    assert told in capsys.readouterr().err


def test_a_missing_package_is_named(at_work, monkeypatch, capsys):
    monkeypatch.setattr("ai4india_lib.basics.extras.find_spec", lambda name: None)
    assert main(["benchmark", "rounding", "--model", "mine"]) == 1
    assert capsys.readouterr().err.startswith("error: rounding needs gguf, not installed here: pip install -e ")
