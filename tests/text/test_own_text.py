"""Protects a learner's own text: one file is enough, in whatever form it comes; each document once, in order; what
cannot be read says what to do."""

import gzip
import json
import os

import pytest

from ai4india_lib import CorpusError, download_and_prepare_data
from ai4india_lib.__main__ import main
from ai4india_lib.commands.evaluate import _read_exam
from ai4india_lib.text.corpus import corpus_place, fingerprint_text, json_lines, read_about, train_and_test_lines
from ai4india_lib.text.own_text import own_text_files

LINES_WITHOUT_MARKS = [f"कहानी {number}" for number in range(60)]
LINES = [f'कहानी {number}, "राम" — a\u2028b' for number in range(1000)]


def csv_line(*cells):
    return ",".join('"' + cell.replace('"', '""') + '"' for cell in cells)


def written(folder, kind, lines=LINES):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"mine.{kind}"
    if kind == "folder":
        path.mkdir()
        for number, start in enumerate(range(0, len(lines), 100)):
            (path / f"{number:02}.txt").write_text("\n".join(lines[start : start + 100]), encoding="utf-8")
        return path
    content = {
        "txt": "\n\n".join(lines) + "\n",
        "jsonl": "\n".join(json.dumps({"id": 1, "text": line}, ensure_ascii=False) for line in lines),
        "csv": "\r\n".join(["id,text", *(csv_line("1", line) for line in lines)]),
        "tsv": "\n".join(["id\ttext", *("1\t" + csv_line(line) for line in lines)]),
    }[kind.removesuffix(".gz")].encode()
    path.write_bytes(gzip.compress(content) if kind.endswith(".gz") else b"\xef\xbb\xbf" * (kind == "csv") + content)
    return path


@pytest.mark.parametrize("kind", ["txt", "txt.gz", "jsonl", "jsonl.gz", "csv", "csv.gz", "tsv", "folder"])
def test_each_document_comes_once_and_the_last_ones_are_the_test(tmp_path, kind):
    path = written(tmp_path / "a", kind)
    train, test = train_and_test_lines(path, folder=tmp_path / "kept")
    assert list(train) == LINES[:950] and list(test) == LINES[950:]
    place = corpus_place(path, folder=tmp_path / "kept")
    assert read_about(place) == {"train_documents": 950, "test_documents": 50} and train.path.parent == place


@pytest.mark.parametrize(("count", "tested"), [(40, 20), (41, 20), (400, 20), (420, 21), (39, None), (0, None)])
def test_at_least_twenty_documents_are_the_test(tmp_path, count, tested):
    path = written(tmp_path, "txt", LINES[:count])
    if tested is None:
        with pytest.raises(CorpusError, match=f"has {count} documents .* at least 40 are needed"):
            train_and_test_lines(path, folder=tmp_path / "kept")
        assert not (tmp_path / "kept").exists()
    else:
        train, test = train_and_test_lines(path, folder=tmp_path / "kept")
        assert (len(list(train)), len(list(test))) == (count - tested, tested)


def test_it_is_made_once_and_anew_when_the_text_changes(tmp_path):
    path, kept = written(tmp_path, "txt"), tmp_path / "kept"
    first = train_and_test_lines(path, folder=kept)[0]
    made = (first.path.stat().st_ino, first.path.stat().st_mtime_ns)
    again = train_and_test_lines(path, folder=kept)[0].path
    assert (again.stat().st_ino, again.stat().st_mtime_ns) == made
    path.write_text("\n".join(LINES[::-1]), encoding="utf-8")
    os.utime(path, ns=(1, 1))
    other = train_and_test_lines(path, folder=kept)[0]
    assert other.path != first.path and fingerprint_text(other) != fingerprint_text(first)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_column_is_named(tmp_path, kind):
    rows = [{"id": "1", "कथा": line} for line in LINES]
    table = ["id,कथा", *(csv_line(*row.values()) for row in rows)]
    lines = table if kind == "csv" else map(json.dumps, rows)
    path = tmp_path / f"a.{kind}"
    path.write_text("\n".join(lines), encoding="utf-8")
    place = corpus_place(path, folder=tmp_path / "kept", column="कथा")
    assert len(list(train_and_test_lines(place)[0])) == 950
    for column in (None, "text", "ID"):
        with pytest.raises(CorpusError, match=r'"(text|ID)".*: id, कथा'):
            corpus_place(path, folder=tmp_path / "kept", column=column)


def test_the_only_column_needs_no_name_and_its_line_ends_become_spaces(tmp_path):
    (tmp_path / "a.csv").write_text("story\n" + "\n".join(f'"एक\n\n{n}"' for n in range(40)), encoding="utf-8")
    train, _ = train_and_test_lines(tmp_path / "a.csv", folder=tmp_path / "kept")
    assert list(train)[:2] == ["एक 0", "एक 1"]


def test_a_document_may_be_a_book_and_its_folder_a_hidden_one(tmp_path):
    book = "एक राम " * 30_000
    path = tmp_path / ".texts" / "a.csv"
    path.parent.mkdir()
    path.write_text("\n".join(["text", *[f'"{book}"'] * 2, *LINES_WITHOUT_MARKS]), encoding="utf-8")
    assert next(iter(train_and_test_lines(path, folder=tmp_path / "kept")[0])) == book.strip()
    written(path.parent, "folder")
    assert len(own_text_files(path.parent / "mine.folder")) == 10


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.docx", "PK", "save it as Plain Text"),
        ("a.PDF", "%PDF-", "pdftotext"),
        ("folder/book.pdf", "%PDF-", "pdftotext"),
        ("a.xlsx", "PK", "CSV UTF-8"),
        ("a.txt", "%PDF-1.4", "a PDF"),
        ("a.csv", "id,text\n1,a\n1,a,b", "row 3, has 3 cells"),
        ("a.csv", 'id,text\n1,"a', "is not CSV behind row"),
        ("a.csv", "text,text\n1,a", "or several; there are: text, text"),
        ("a.csv", "", "there are: none"),
        ("a.csv", "id;story\n1;a", "';' and no comma .* save it with commas"),
        ("a.csv", "id\tstory\n1\ta", "no comma .* save it as .tsv"),
        ("a.txt", "one long line without an end", "has 1 documents .* on a line of its own"),
        ("story.md", "एक दिन " * 100, "a name that ends in .txt, or in .jsonl or .csv if it is such"),
        ("story", "एक दिन", "a name that ends in .txt"),
        ("a.zip", "PK", r"Is it a zip\? Unpack it and give the folder\.$"),
        ("a.jsonl", '{"text": 3}', 'line 1, has no text "text"'),
        ("a.jsonl", '{"messages": []}', "Conversations are for `finetune`"),
        ("a.jsonl", "[]", "not a JSON object"),
    ],
)
def test_what_cannot_be_read_says_what_to_do(tmp_path, name, content, message):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content, encoding="utf-8")
    with pytest.raises(CorpusError, match=message):
        train_and_test_lines(path.parent if "/" in name else path, folder=tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize("kind", ["txt", "folder"])
def test_a_column_of_what_has_none_is_refused(tmp_path, kind):
    with pytest.raises(CorpusError, match="no columns"):
        corpus_place(written(tmp_path, kind), folder=tmp_path / "kept", column="text")


def test_what_is_passed_over_beside_texts_is_named(tmp_path, recwarn):
    path = written(tmp_path, "folder")
    (path / "picture.png").touch()
    assert len(own_text_files(path)) == 10 and not recwarn
    for name in ("b.docx", "c.csv"):
        (path / name).touch()
    assert len(own_text_files(path)) == 10
    assert "only the .txt are read, and not b.docx, c.csv" in str(recwarn.pop(UserWarning).message)


def test_a_corpus_and_its_json_lines_are_read_as_before(tmp_path):
    for name, line in (("train.txt", "एक"), ("test.txt", "दो"), ("notes.txt", "mine")):
        (tmp_path / name).write_text(line, encoding="utf-8")
    train, test = train_and_test_lines(tmp_path, folder=tmp_path / "kept")
    assert (list(train), list(test)) == (["एक"], ["दो"])
    assert [record["id"] for record in json_lines(written(tmp_path / "b", "jsonl"))] == [1] * 1000


@pytest.mark.parametrize("kind", ["txt", "csv", "folder"])
def test_loaders_are_made_of_it(tmp_path, tokenizer, kind):
    path = written(tmp_path, kind)
    loaders = download_and_prepare_data(path, 2, tokenizer, 32, folder=tmp_path / "kept")
    ends = [sum(int((targets == tokenizer.eos_token_id).sum()) for _, targets in loader) for loader in loaders]
    assert 940 <= ends[0] <= 950 and ends[1] == 50  # what is left of the training text is shorter than a row


@pytest.mark.parametrize("kind", ["txt", "csv", "folder"])
def test_evaluate_measures_its_last_lines(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, kind)
    exam = _read_exam(str(path), None, None, None, None, "text" if kind == "csv" else None)
    assert exam.documents == LINES[950:] and list(exam.training) == LINES[:950] and exam.floor is None


def test_the_command_line_takes_a_column_and_tells_the_split(tmp_path, monkeypatch, capsys):
    """Up to where a model would be made; see `commands/test_main.py` for what comes then."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("id,story\n" + "\n".join(f"1,{line}" for line in LINES_WITHOUT_MARKS), "utf-8")

    def stop(*_):
        raise ValueError("as far as here")

    monkeypatch.setattr("ai4india_lib.commands.train_run._check_shape", stop)
    assert main(["train", "--data", "a.csv"]) == 1
    assert 'no column "text", or several; there are: id, story. Name one with --column' in capsys.readouterr().err
    assert main(["train", "--data", "a.csv", "--column", "story"]) == 1
    shown = capsys.readouterr()
    assert "40 documents to train on, the last 20 to test with" in shown.out and "as far as here" in shown.err
    assert not (tmp_path / "models").exists()
