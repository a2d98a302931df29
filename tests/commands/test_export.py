"""What these tests protect: `export` writes a file that is whole and ours, or nothing, and says how it is used."""

import pytest

from ai4india_lib import add_lora, load_model, save_adapter, save_model
from ai4india_lib.__main__ import main


@pytest.fixture
def at_work(tmp_path, monkeypatch, make_model, tokenizer):
    """A folder to stand in, with a model and an adapter of it."""
    monkeypatch.chdir(tmp_path)
    save_model(make_model(), tokenizer, "base")
    adapted = add_lora(make_model(), 2)
    for name, weight in adapted.named_parameters():
        if ".lora_" in name:
            weight.data.fill_(0.1)
    save_adapter(adapted, "talks", base="base")
    return tmp_path


def needs_gguf():
    return pytest.importorskip("gguf", reason="needs the package gguf: the extra shipping")


def test_a_missing_package_is_named(at_work, monkeypatch, capsys):
    monkeypatch.setattr("ai4india_lib.basics.extras.find_spec", lambda name: None)
    assert main(["export", "--model", "base"]) == 1
    told = 'error: export needs gguf, not installed here: pip install -e ".[shipping]" in the course\'s folder\n'
    assert capsys.readouterr().err == told


def test_a_model_and_an_adapter(at_work, capsys):
    gguf = needs_gguf()
    for name in ("base", "talks"):
        assert main(["export", "--model", name, "--outtype", "f32"]) == 0
        folder = at_work / "models" / name
        (weight,) = (t.data for t in gguf.GGUFReader(folder / f"{name}-f32.gguf").tensors if "0.attn_v" in t.name)
        merged = load_model(name, "cpu")[0].blocks[0].attention.value.weight
        assert (weight == merged.detach().numpy()).all()
        assert ("range .Messages" in (folder / "Modelfile").read_text(encoding="utf-8")) == (name == "talks")
        assert f"llama-server -m {folder / name}-f32.gguf" in capsys.readouterr().out


def test_only_its_own_is_replaced(at_work, capsys):
    needs_gguf()
    export = ["export", "--model", "base", "--output", "new/a.gguf"]
    assert main(export) == 0 and main([*export, "--outtype", "q4_0"]) == 0
    before = (at_work / "new" / "a.gguf").read_bytes()
    (at_work / "new" / "Modelfile").write_text("FROM mine")
    assert main(export) == 1 and "Modelfile is there already" in capsys.readouterr().err
    assert (at_work / "new" / "a.gguf").read_bytes() == before
    (at_work / "b.gguf").write_bytes(b"GGUF of a stranger")
    for output, sentence in (
        ("b.gguf", "b.gguf is there already, and this command did not write it"),
        ("c.bin", "must end in .gguf"),
        ("models", "it is a folder"),
    ):
        assert main(["export", "--model", "base", "--output", output]) == 1
        told = capsys.readouterr().err
        assert sentence in told and told.count("\n") == 1
    assert (at_work / "b.gguf").read_bytes() == b"GGUF of a stranger" and not (at_work / "Modelfile").exists()


def test_nothing_is_written_of_what_fails(at_work, monkeypatch, capsys):
    needs_gguf()
    monkeypatch.setattr("gguf.GGUFWriter.write_tensors_to_file", lambda writer: (_ for _ in ()).throw(OSError("broke")))
    assert main(["export", "--model", "base", "--output", "a.gguf"]) == 1
    assert main(["export", "--model", "nobody"]) == 1
    assert "no model in models/nobody" in capsys.readouterr().err
    assert [path.name for path in at_work.iterdir()] == ["models"]
