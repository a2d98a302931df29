"""Protects text.reading: what is no text is named, with its line; no line, however long, takes the memory."""

import gzip
import io
import json
import tracemalloc
import warnings

import pytest

from ai4india_lib.text import reading
from ai4india_lib.text.archives import CorpusError
from ai4india_lib.text.corpus import TextLines, json_lines, train_and_test_lines
from ai4india_lib.text.reading import numbered_lines

HINDI = "एक दिन मीरा चाय की दुकान पर गई।\nवहाँ भीड़ थी।\n"
TEXTS = {
    "hindi": HINDI,
    "english": "Once upon a time.\nThe end.\n",
    "tamil": "ஒரு நாள் மீனா பள்ளிக்குச் சென்றாள்.\nநன்றி.\n",
    "gurmukhi": "ਇੱਕ ਦਿਨ ਸਿਮਰਨ ਸਕੂਲ ਗਈ।\nਠੀਕ ਹੈ।\n",
    "gujarati": "એક દિવસ ગીતા શાળાએ ગઈ.\n",
    "one word a line": "मीरा\nराजू\nआयशा\n",
    "with quotes": "“चलो!” — ₹२५\u200d\n",
    "windows": "एक दिन।\r\nदो दिन।\r\n",
}


def lines_of(content: bytes, **more) -> list:
    return list(numbered_lines(io.BytesIO(content), "story.txt", **more))


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-16", "utf-32-le", "utf-32-be", "utf-32"])
def test_other_unicode_encodings_are_named(name, encoding):
    with pytest.raises(
        CorpusError, match=rf"^story\.txt, line \d, .*looks like {encoding[:6].upper()}\. Save .* UTF-8"
    ):
        lines_of(TEXTS[name].encode(encoding))


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_other_encodings_are_found_behind_good_text(encoding):
    """As where two files were joined."""
    good = "अच्छा।\n" * 20_000
    with pytest.raises(CorpusError, match=rf"line 2000\d, .*{encoding[:6].upper()}"):
        lines_of(good.encode() + HINDI.encode(encoding))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("café\n".encode("latin-1"), "line 1, is not UTF-8. Byte 4 there is 0xe9. Save the text as UTF-8."),
        ("a\n\n\u201cb\u201d\n".encode("cp1252"), "line 3, is not UTF-8. Byte 1 there is 0x93"),
        ("अआ\n".encode() + b"\xa4\xc8\xcd\n", "line 2, is not UTF-8. Byte 1 there is 0xa4"),  # ISCII
        (HINDI.encode()[:-5], "line 2, is not UTF-8"),  # cut off within a letter
        (b"one\ntwo \0 three\n", "line 2, is not UTF-8. It holds zero bytes"),
        (bytes(10_000), "line 1, is not UTF-8. It holds nothing but zero bytes (NUL): the file is damaged"),
        (b"one\n" * 100_000 + bytes(10_000), "line 100001, is not UTF-8. It holds nothing but zero bytes"),
        (b"PK\x03\x04\x14\0word/document.xml", "is not plain text: it is a zip, as .docx"),
        (b"%PDF-1.7\n%\xe2\xe3\n", "it is a PDF"),
        (b"{\\rtf1\\ansi Once}", "it is an RTF"),
        (b"\x89PNG\r\n\x1a\n", "it is a picture"),
    ],
)
def test_what_is_no_text_is_named(content, message):
    with pytest.raises(CorpusError) as caught:
        lines_of(content)
    assert message in str(caught.value) and str(caught.value).startswith("story.txt")


def test_numbers_count_blank_lines():
    assert lines_of("\n \nएक\n\r\nदो".encode()) == [(3, "एक"), (5, "दो")]


@pytest.mark.parametrize("where", ["train.txt", "prompts", "lines.jsonl", "lines.jsonl.gz"])
def test_every_door_reads_alike(tmp_path, where):
    path, content = tmp_path / where, '{"a": "एक दिन"}\n'.encode("utf-16-le")
    path.write_bytes(gzip.compress(content) if where.endswith("gz") else content)
    (tmp_path / "test.txt").write_text("एक\n", encoding="utf-8")

    def read():
        if "jsonl" in where:
            return list(json_lines(path))
        return list(TextLines(path)) if where == "prompts" else train_and_test_lines(tmp_path)

    with pytest.raises(CorpusError, match=rf"{where}, line 1, .*UTF-16"):
        read()


# Long lines


@pytest.mark.parametrize("letter", ["x", "क", "😀", "x ", "शब्द "])
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_long_line_comes_in_pieces_and_nothing_is_lost(letter, end):
    long = (letter * (2_500_000 // len(letter.encode()))).strip()
    content = f"first\n\n{long}{end}" + ("last" if end else "")
    with pytest.warns(UserWarning, match=r"story\.txt, line 3, has more than 1,000,000 bytes") as caught:
        found = lines_of(content.encode())
    assert len(caught) == 1
    pieces = [line for number, line in found if number == 3]
    assert "".join(pieces) == long and len(pieces) == 3
    assert max(len(piece.encode()) for piece in pieces) <= reading.LONGEST_LINE
    assert found[0] == (1, "first") and (not end or found[-1] == (4, "last"))
    if " " in letter:
        assert all(piece.startswith(" ") for piece in pieces[1:]), "no word is cut"


def test_a_line_of_just_the_limit_is_whole(monkeypatch):
    monkeypatch.setattr(reading, "LONGEST_LINE", 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert lines_of(b"0123456789\nab\n0123456789") == [(1, "0123456789"), (2, "ab"), (3, "0123456789")]
    with pytest.warns(UserWarning, match="more than 10 bytes"):
        assert lines_of(b"0123456789x\nab\n") == [(1, "0123456789"), (1, "x"), (2, "ab")]


def test_a_long_line_takes_little_memory(tmp_path):
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"x" * 30_000_000, 1))
    tracemalloc.start()
    with pytest.warns(UserWarning, match="in pieces"):
        assert sum(map(len, TextLines(path))) == 30_000_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000


def test_a_record_is_not_cut(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "x" * 1_000_001}) + "\n", encoding="utf-8")
    with pytest.raises(CorpusError, match=r"a\.jsonl, line 1, has more than 1,000,000 bytes"):
        list(json_lines(path))


def test_a_flood_of_blank_lines_ends(monkeypatch):
    monkeypatch.setattr(reading, "MOST_BLANK_LINES", 1000)
    with pytest.raises(CorpusError, match="nothing but blank lines after line 2"):
        lines_of(b"a\nb\n" + b"\n" * 2000)
    assert len(lines_of((b"\n" * 999 + b"a\n") * 3)) == 3


# JSON Lines


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"a": 1},\n{"a": 2}]', "line 1, is not JSON"),
        ('[{"a": 1}]', "line 1, is not a JSON object"),
        ('{"a": 1}\n\n{\n "a": 2\n}', "line 3, is not JSON"),
        ("[" * 100_000, "line 1, is nested too deeply"),
        ('{"a": ' * 100_000, "line 1, is nested too deeply"),
        ('{"a": "x"}\n{"a": "\\ud83d"}', r"line 2, holds half a character \(U\+D83D\)"),
        ("null", "line 1, is not a JSON object"),
        ("a,b\n1,2", "line 1, is not JSON"),
    ],
)
def test_other_forms_of_json_say_what_is_expected(tmp_path, content, message):
    path = tmp_path / "a.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(CorpusError, match=message) as caught:
        list(json_lines(path))
    assert "half" in message or "one object {…} on each line" in str(caught.value)
    assert len(str(caught.value)) < 500 + len(str(path))


def test_a_whole_character_in_escapes_is_read(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('\n{"a": "\\ud83d\\ude00"}\n', encoding="utf-8")
    [record] = json_lines(path)
    assert record == {"a": "😀"} and record.where == f"{path.as_posix()}, line 2"
