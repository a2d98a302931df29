"""A learner's own text → `train.txt` and `test.txt`: from one .txt, .jsonl, .csv or .tsv, or a folder of .txt.

The two are written once, into a folder of the downloads that is called by the source's content, and read from there
like any corpus. The last 5% of the documents, at least 20, are the test text: the model must not see them.
"""

import csv
import hashlib
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..basics.files import check_space, replace_folder, write_json
from .archives import CorpusError, explain_damage, uncompressed
from .reading import numbered_lines, parse_record

TEST_SHARE = 0.05
LEAST_TEST = 20  # documents
COLUMN = "text"  # of .jsonl and .csv, unless another is named
_KINDS = re.compile(r"(?i)\.(txt|jsonl|csv|tsv)(\.gz)?$")
_LINE_ENDS = re.compile(r"[^\S\r\n]*[\r\n]\s*")
_OTHERS = {  # what people have texts in → how to make a text of it
    ".docx": "open it in a word processor and save it as Plain Text (.txt), with the encoding UTF-8",
    ".pdf": "pdftotext -enc UTF-8 BOOK.pdf BOOK.txt does it (package poppler-utils); scanned pages are pictures, and "
    "need a program that reads letters, such as tesseract -l hin",
}
_OTHERS |= dict.fromkeys((".doc", ".odt", ".rtf"), _OTHERS[".docx"])
_OTHERS[".xlsx"] = "open it and save it as CSV UTF-8 (.csv)"


def own_text_files(path: Path) -> list[Path]:
    """The files of which a corpus is to be made; [] where `path` is something else, such as a corpus already.

    Raises CorpusError, with what to do, for a PDF or the file of a word processor; beside a .txt a warning names it.
    """
    if not path.is_dir():
        if how := _OTHERS.get(path.suffix.lower()):
            raise CorpusError(f"{path} is not plain text: {how}. Then give the new file.")
        return [path] if _KINDS.search(path.name) else []
    seen = (inside for inside in path.rglob("*") if "/." not in f"/{inside.relative_to(path).as_posix()}")
    names = sorted(inside for inside in seen if inside.is_file())
    if any(re.match(r"(?i)(train|test)\.(txt|jsonl)|about\.json", inside.name) for inside in names):
        return []
    texts = [inside for inside in names if re.search(r"(?i)\.txt(\.gz)?$", inside.name)]
    for inside in names if not texts else ():
        own_text_files(inside)  # says so where it is a PDF
    passed = [inside.name for inside in names if inside.suffix.lower() in _OTHERS or _KINDS.search(inside.name)]
    if texts and (passed := [name for name in passed if name not in {text.name for text in texts}]):
        warnings.warn(f"of {path} only the .txt are read, and not {', '.join(passed)[:200]}", stacklevel=2)
    return texts


def own_corpus(path: Path, files: list[Path], folder: Path, column: str | None = None) -> Path:
    """The folder, within `folder`, with the `train.txt` and `test.txt` made of these files, now or before.

    A document is a line of a .txt, or what the `column` of a .jsonl or .csv holds, with spaces for its line ends.
    Raises CorpusError for a text that is damaged, or too short to be split.
    """
    digest = hashlib.sha256(f"{column} {TEST_SHARE} {LEAST_TEST}".encode())
    for file in files:
        about = file.stat()
        digest.update(f"{file.resolve()} {about.st_size} {about.st_mtime_ns}".encode())
    stem = path.resolve().name.split(".")[0] or "text"
    target = folder / f"own-{stem}-{digest.hexdigest()[:12]}"
    if (target / "about.json").is_file():
        return target
    count = sum(1 for _ in _documents(files, column))
    num_test = max(LEAST_TEST, round(count * TEST_SHARE))
    if count < 2 * LEAST_TEST:
        few = f"{path} has {count} documents (a line is one)"
        few += f": at least {2 * LEAST_TEST} are needed, of which the last {LEAST_TEST} are the test"
        raise CorpusError(few + (". Put each sentence, or each story, on a line of its own" if count else ""))
    check_space(target, 2.0 * sum(file.stat().st_size for file in files), "the text, split in two,")
    replace_folder(target, lambda beside: _write(beside, _documents(files, column), count - num_test, num_test))
    return target


def _write(folder: Path, documents: Iterator[str], num_train: int, num_test: int) -> None:
    with (
        (folder / "train.txt").open("w", encoding="utf-8", newline="\n") as train,
        (folder / "test.txt").open("w", encoding="utf-8", newline="\n") as test,
    ):
        for number, document in enumerate(documents):
            (train if number < num_train else test).write(document + "\n")
    write_json(folder / "about.json", {"train_documents": num_train, "test_documents": num_test})


def _documents(files: list[Path], column: str | None) -> Iterator[str]:
    for file in files:
        kind = _KINDS.search(file.name)[1].lower()
        if kind == "txt" and column is not None:
            raise CorpusError(f"{file} has no columns: each of its lines is a document, so name no column")
        with _opened(file) as stream:
            if kind == "txt":
                yield from (line for _, line in numbered_lines(stream, str(file)))
            else:
                found = _of_records(stream, file, column) if kind == "jsonl" else _of_table(stream, file, column, kind)
                yield from (document for text in found if (document := _LINE_ENDS.sub(" ", text).strip()))


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    with explain_damage(file), file.open("rb") as stream:
        yield uncompressed(stream, file.stat().st_size)[0]


def _of_records(stream: BinaryIO, file: Path, column: str | None) -> Iterator[str]:
    name = column or COLUMN
    for number, line in numbered_lines(stream, str(file), in_pieces=False):
        record = parse_record(line, f"{file}, line {number}")
        if not isinstance(record.get(name), str):
            chats = ". Conversations are for `finetune`" if "messages" in record else ""
            raise CorpusError(f'{record.where}, has no text "{name}", but: {", ".join(record)[:200]}{chats}')
        yield record[name]


def _of_table(stream: BinaryIO, file: Path, column: str | None, kind: str) -> Iterator[str]:
    """Texts of a column. The line of an error is the last one that was read."""
    lines = (line + "\n" for _, line in numbered_lines(stream, str(file)))
    rows = csv.reader(lines, delimiter="\t" if kind == "tsv" else ",", strict=True)
    csv.field_size_limit(2**31 - 1)  # a document may be a book; the usual limit is 131,072
    number = 0
    try:
        header = [name.strip() for name in next(rows, [])]
        if len(header) == 1 and (found := re.search(r"[;\t|]", header[0])):
            wanted = "save it as .tsv" if found[0] == "\t" else "save it with commas between the cells"
            raise CorpusError(f"{file} has {found[0]!r} and no comma between the names of its columns: {wanted}")
        name = column or (header[0] if len(header) == 1 else COLUMN)
        if header.count(name) != 1:
            there = ", ".join(header)[:300] or "none"
            raise CorpusError(f'{file} has no column "{name}", or several; there are: {there}. Name one with --column')
        for number, row in enumerate(rows, 2):
            if len(row) != len(header):
                raise CorpusError(f"{file}, row {number}, has {len(row)} cells, and the first row {len(header)}")
            yield row[header.index(name)]
    except csv.Error as error:
        raise CorpusError(f"{file} is not CSV behind row {number or 1}: {error}") from None
