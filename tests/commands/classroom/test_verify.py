"""Protects `class secret` and `class verify`: a secret is made once and shown to nobody else, a code is computed anew,
and each way to be wrong is told in a sentence."""

import os
import shutil
import stat
from pathlib import Path

import pytest

from ai4india_lib.__main__ import main
from ai4india_lib.checks.certificates import Certificate, draw_certificate
from ai4india_lib.commands.classroom.secret import read_secret

ROOT = Path(__file__).parents[3]
MADE = Certificate("मीरा शर्मा", "2026-11-29", "18/18", "41/54")
WORDS = ["--name", " मीरा  शर्मा", "--date", "2026-11-29", "--core", "18/18", "--solved", "41/54"]


@pytest.fixture
def secret(tmp_path, capsys):
    path = str(tmp_path / "secret")
    assert main(["class", "secret", "--secret", path]) == 0
    capsys.readouterr()
    return path


def said(capsys, *words):
    status = main(["class", "verify", *words])
    printed = capsys.readouterr()
    assert status == bool(printed.err) and printed.err.count("\n") <= 1
    return printed.out + printed.err


def test_a_secret_is_made_once(secret, capsys):
    before = read_secret(secret)
    assert len(before) == 32
    assert os.name == "nt" or stat.S_IMODE(Path(secret).stat().st_mode) == 0o600
    assert main(["class", "secret", "--secret", secret]) == 0
    assert "it stays" in capsys.readouterr().out and read_secret(secret) == before


def test_a_code_is_verified_from_the_file_and_from_the_words(secret, tmp_path, capsys):
    page = str(tmp_path / "c.svg")
    draw_certificate(MADE, tmp_path / "c.svg", read_secret(secret))
    code = MADE.code(read_secret(secret))
    for words in ([page], [code, *WORDS], [code.lower().replace("-", ""), *WORDS]):
        shown = said(capsys, *words, "--secret", secret)
        assert f"{code} belongs to: मीरा शर्मा, 2026-11-29" in shown and "made with your secret" in shown
    shown = said(capsys, MADE.code(), *WORDS)
    assert "anybody can make one" in shown


def test_what_is_wrong_is_told(secret, tmp_path, capsys):
    page, other = tmp_path / "c.svg", str(tmp_path / "other")
    draw_certificate(MADE, page, read_secret(secret))
    assert main(["class", "secret", "--secret", other]) == 0
    capsys.readouterr()
    assert "does not belong to मीरा शर्मा" in said(capsys, str(page), "--secret", other)
    assert "there is no secret in" in said(capsys, str(page), "--secret", str(tmp_path / "none"))
    assert "holds no secret" in said(capsys, str(page), "--secret", str(page))
    assert "does not belong" in said(capsys, MADE.code(), *WORDS[:-1], "54/54")
    assert "Give --date, --core, --solved too" in said(capsys, MADE.code(), *WORDS[:2])
    assert "leave --name" in said(capsys, str(page), *WORDS)
    assert "there is no file" in said(capsys, str(tmp_path / "c.pdf"))
    forged = page.read_text(encoding="utf-8").replace("41/54", "54/54")
    page.write_text(forged, encoding="utf-8")
    assert "does not belong to" in said(capsys, str(page), "--secret", secret)


@pytest.mark.slow
def test_who_solves_all_core_exercises_gets_a_page_and_others_the_reason(secret, tmp_path, capsys):
    works = tmp_path / "class"
    shutil.copytree(ROOT / "notebooks" / "solutions", works / "मीरा शर्मा")
    (works / "Ravi").mkdir()
    shutil.copy(ROOT / "notebooks" / "solutions" / "06_attention.ipynb", works / "Ravi")
    output = tmp_path / "marks"
    assert main(["class", "collect", str(works), "--output", str(output), "--certificates", "--secret", secret]) == 0
    printed = capsys.readouterr().out
    assert "no certificate for Ravi: 1 of" in printed
    (page,) = output.glob("certificates/*.svg")
    assert page.name == "02-मीरा-शर्मा.svg" and page.with_suffix(".pdf").is_file()
    assert "belongs to: मीरा शर्मा" in said(capsys, str(page), "--secret", secret)
