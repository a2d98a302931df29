"""Protects text.corpus: no cut or hostile archive ever passes for a good one, and no line is lost."""

import bz2
import contextlib
import gzip
import io
import json
import lzma
import pickle
import tarfile
import tracemalloc
from pathlib import Path

import pytest
from servers import serve_site  # noqa: F401 (the fixture `site`)

from ai4india_lib import download, json_lines
from ai4india_lib.text import corpus
from ai4india_lib.text.corpus import CorpusError, TextLines, extract, read_about, train_and_test_lines


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_promised_names():
    """`download` is promised by both the package and this module."""
    assert corpus.download is download and issubclass(corpus.DownloadError, OSError)


# Archives


def pack(path, files, mode="w:gz"):
    """`files`: name -> bytes, or a TarInfo without content; a list of pairs where a name comes twice."""
    with tarfile.open(path, mode) as tar:
        for name, content in files.items() if isinstance(files, dict) else files:
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


def entry(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


HI = "एक दिन की बात है।\nराजू स्कूल गया।\n".encode()
FILES = {"c/train.txt": HI, "c/test.txt": HI[: HI.index(10) + 1], "c/about.json": b'{"test_floor_bits_per_byte": 0.15}'}


def tree(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "a.tar", "a.tar.bz2", "a.tar.xz"])
def test_extract_every_format(tmp_path, name):
    archive = pack(tmp_path / name, FILES, "w:" + {"tgz": "gz", "tar": ""}.get(name.split(".")[-1], name[6:]))
    folder = extract(archive, tmp_path / "new" / "out")
    assert folder == tmp_path / "new" / "out"
    assert tree(folder) == FILES
    assert names(folder.parent) == ["out"]


@pytest.mark.parametrize(
    "bad",
    [
        {"../evil.txt": b"x"},
        {"a/../../evil.txt": b"x"},
        {"l": entry("l", tarfile.SYMTYPE, "../outside"), "l/evil.txt": b"x"},
        {"l": entry("l", tarfile.SYMTYPE, "/etc/passwd")},
        {"l": entry("l", tarfile.SYMTYPE, "train.txt")},
        {"l": entry("l", tarfile.LNKTYPE, "../outside")},
        {"l": entry("l", tarfile.CHRTYPE)},
        {"l": entry("l", tarfile.FIFOTYPE)},
    ],
)
def test_extract_refuses_ways_out(tmp_path, bad):
    folder = tmp_path / "in"
    folder.mkdir()
    archive = pack(folder / "a.tar.gz", {"train.txt": HI, **bad})
    with pytest.raises(CorpusError, match="not unpacked"):
        extract(archive, folder / "out")
    assert names(folder) == ["a.tar.gz"] and names(tmp_path) == ["in"]


def test_extract_puts_absolute_paths_inside(tmp_path):
    target = tmp_path / "absolute.txt"
    archive = pack(tmp_path / "a.tar.gz", {target.as_posix(): HI})
    with contextlib.suppress(CorpusError):
        extract(archive, tmp_path / "out")
    assert not target.exists()


@pytest.mark.parametrize("limits", [{"max_bytes": 1_000_000}, {"max_files": 50}])
def test_extract_stops_bombs(tmp_path, limits, monkeypatch):
    zeros = bytes(100_000)
    archive = pack(tmp_path / "bomb.tar.gz", {f"{n}.txt": zeros if "max_bytes" in limits else b"" for n in range(60)})
    written = []
    original = tarfile.TarFile.extract
    monkeypatch.setattr(tarfile.TarFile, "extract", lambda *a, **k: (written.append(1), original(*a, **k)))
    with pytest.raises(CorpusError, match="raise the limit"):
        extract(archive, tmp_path / "out", **limits)
    assert len(written) == limits.get("max_files", 10)
    assert names(tmp_path) == ["bomb.tar.gz"]
    assert len(tree(extract(archive, tmp_path / "out"))) == 60


def test_extract_never_overwrites(tmp_path):
    archive = pack(tmp_path / "a.tar.gz", FILES)
    (tmp_path / "out").mkdir()
    extract(archive, tmp_path / "out")  # an empty folder is no loss
    (tmp_path / "out" / "mine").write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="delete it"):
        extract(archive, tmp_path / "out")
    assert (tmp_path / "out" / "mine").read_bytes() == b"precious"


def test_extract_needs_the_data_filter(tmp_path, monkeypatch):
    monkeypatch.delattr(tarfile, "data_filter")
    with pytest.raises(RuntimeError, match="update"):
        extract(pack(tmp_path / "a.tar.gz", FILES), tmp_path / "out")


@pytest.mark.parametrize(
    "content, hint",
    [
        (b"", "cut off"),
        (HI, "no archive"),
        (b"PK\x03\x04 zip", "zip"),
        (b"<!DOCTYPE html>", "web page"),
        (gzip.compress(HI), "no archive"),
        (bz2.compress(HI), "no archive"),
        (lzma.compress(HI), "no archive"),
    ],
    ids=["empty", "text", "zip", "web page", "gzip", "bzip2", "xz"],
)
def test_what_is_no_archive(tmp_path, content, hint):
    path = tmp_path / "a.tar.gz"
    path.write_bytes(content)
    for use in (lambda: extract(path, tmp_path / "out"), lambda: train_and_test_lines(path)):
        with pytest.raises(CorpusError, match=hint):
            use()
    with pytest.raises(CorpusError):
        list(TextLines(path, "train.txt"))
    assert names(tmp_path) == ["a.tar.gz"]


@pytest.mark.parametrize("mode", ["w:gz", "w:", "w:bz2", "w:xz"])
def test_cut_archive_is_found_wherever_it_is_cut(tmp_path, mode):
    whole = pack(tmp_path / "whole.tar", FILES, mode).read_bytes()
    cut = tmp_path / "cut.tar"
    end = len(whole) if mode != "w:" else 512 * 6  # three headers, three contents; then only zeros
    for length in sorted({*range(0, end, 1 + end // 60), *range(0, end, 512), end - 1}):
        cut.write_bytes(whole[:length])
        with pytest.raises(CorpusError):
            extract(cut, tmp_path / "out")
        with pytest.raises(CorpusError):
            train_and_test_lines(cut)
    assert names(tmp_path) == ["cut.tar", "whole.tar"]


def test_damaged_archive_is_found(tmp_path):
    """A bad header in the middle, which tarfile takes for the end; a bad byte, which only gzip's sum shows."""
    path = pack(tmp_path / "a.tar", FILES, "w:")
    whole = bytearray(path.read_bytes())
    whole[512 * 2 + 150] ^= 1
    path.write_bytes(whole)
    with pytest.raises(CorpusError, match="cannot be read"):
        extract(path, tmp_path / "out")
    stored = bytearray(gzip.compress(pack(tmp_path / "b.tar", FILES, "w:").read_bytes(), 0))
    stored[stored.index(HI[:20]) + 5] ^= 1
    path.write_bytes(stored)
    with pytest.raises(CorpusError, match="CRC"):
        extract(path, tmp_path / "out")


# Lines


def write(path, content):
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


ODD = "क\u2028ख\x0bग\x85घ\x0cङ\u2029च\x1cछ\rज"


@pytest.mark.parametrize(
    "content, lines",
    [
        (f"{ODD}\nदो\n", [ODD, "दो"]),
        ("एक\r\nदो\r\n", ["एक", "दो"]),
        ("\ufeffएक\n\ufeffदो", ["एक", "\ufeffदो"]),
        ("\n \t\r\n\u00a0\nएक\n\n", ["एक"]),
        ("  एक  \n", ["  एक  "]),
        ("एक\r\r\nदो\r", ["एक\r", "दो\r"]),
        ("", []),
        ("\ufeff", []),
        ("क\u094d\u200dष 😀\x00", ["क\u094d\u200dष 😀\x00"]),
    ],
)
@pytest.mark.parametrize("where", ["a.txt", "a.txt.gz", "a.tar.gz", "a.tar"])
def test_lines(tmp_path, content, lines, where):
    content = content.encode()
    if "tar" in where:
        path = pack(tmp_path / where, {"x/b.txt": b"other", "./x/a.txt": content}, "w:gz" if "gz" in where else "w")
        text = TextLines(path, "x/a.txt")
    else:
        text = TextLines(write(tmp_path / where, content))
    assert list(text) == lines
    assert list(text) == lines  # again
    assert text.num_bytes == len(content)


def test_two_readers_do_not_disturb_each_other(tmp_path):
    text = TextLines(pack(tmp_path / "a.tar.gz", FILES), "c/train.txt")
    assert list(zip(text, text, strict=True)) == [(line, line) for line in text]


def test_gzip_inside_an_archive_and_gzip_without_its_suffix(tmp_path):
    text = TextLines(pack(tmp_path / "a.tar.gz", {"train.txt.gz": gzip.compress(HI)}), "train.txt.gz")
    assert list(text) == HI.decode().splitlines() and text.num_bytes == len(HI)
    (tmp_path / "a.txt").write_bytes(gzip.compress(HI))
    assert list(TextLines(tmp_path / "a.txt")) == HI.decode().splitlines()


def test_not_utf8_names_file_and_line(tmp_path):
    path = write(tmp_path / "a.txt", b"\n" + HI + b"ok \xe0\xa4\n")
    lines = iter(TextLines(path))
    assert next(lines) == "एक दिन की बात है।"
    with pytest.raises(CorpusError, match=r"a\.txt, line 4, is not UTF-8\. Byte 4 .* 0xe0"):
        list(lines)
    write(path, HI.decode().encode("utf-16"))
    with pytest.raises(CorpusError, match=r"line 1, .*UTF-16"):
        list(TextLines(path))


def test_cut_gzip_text(tmp_path):
    path = tmp_path / "train.txt.gz"
    path.write_bytes(gzip.compress(HI)[:-9])
    with pytest.raises(CorpusError, match=r"train\.txt\.gz .*cut off"):
        list(TextLines(path))
    path.write_bytes(gzip.compress(HI)[:20])
    with pytest.raises(CorpusError, match=r"train\.txt\.gz .*cut off"):
        train_and_test_lines(tmp_path)


def test_missing_text(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.txt"):
        TextLines(tmp_path / "no.txt")
    archive = pack(tmp_path / "a.tar.gz", FILES)
    with pytest.raises(CorpusError, match="name the text in it"):
        TextLines(archive)
    with pytest.raises(CorpusError, match=r"holds no file 'train\.txt'"):
        list(TextLines(archive, "train.txt"))


def test_pickle_and_repr(tmp_path):
    text = TextLines(pack(tmp_path / "a.tar.gz", FILES), "c/train.txt")
    reading = iter(text)
    next(reading)
    again = pickle.loads(pickle.dumps(text))
    assert list(again) == list(text)
    assert len(pickle.dumps(text)) < 1000
    assert eval(repr(text)).member == "c/train.txt"
    assert str(text) == f"{(tmp_path / 'a.tar.gz').as_posix()} (c/train.txt)"


def test_memory_stays_flat(tmp_path):
    """20 MB of text; the archive is packed from the file, so that packing needs no memory either."""
    line = "बारिश के दिन चाय की दुकान पर बहुत भीड़ थी। " * 4 + "\n"
    block = (line * 2000).encode()
    path = tmp_path / "train.txt"
    with path.open("wb") as file:
        for _ in range(20_000_000 // len(block) + 1):
            file.write(block)
    archive = tmp_path / "a.tar.gz"
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(path, "train.txt")
    for text in (TextLines(path), TextLines(archive, "train.txt")):
        tracemalloc.start()
        assert sum(1 for _ in text) * len(line.encode()) == path.stat().st_size > 20_000_000
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 3_000_000


def test_one_very_long_line(tmp_path):
    path = write(tmp_path / "a.txt", b"x" * 30_000_000 + b"\nlast")
    assert [len(line) for line in TextLines(path)] == [30_000_000, 4]


# A corpus


def make_source(tmp_path, kind, files=FILES):
    if kind == "archive":
        return pack(tmp_path / "a.tar.gz", files)
    for name, content in files.items():
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(content)
    return tmp_path / "folder"


BOTH = pytest.mark.parametrize("kind", ["archive", "folder"])


@BOTH
@pytest.mark.parametrize("as_type", [str, Path])
def test_corpus(tmp_path, kind, as_type):
    source = as_type(make_source(tmp_path, kind))
    train, test = train_and_test_lines(source)
    assert list(train) == ["एक दिन की बात है।", "राजू स्कूल गया।"]
    assert list(test) == ["एक दिन की बात है।"]
    assert read_about(source) == {"test_floor_bits_per_byte": 0.15}
    source = Path(source)
    source.rename(source.with_name("moved"))
    assert train.num_bytes == len(HI)  # known from the first look


@BOTH
def test_corpus_of_gzips_in_two_folders(tmp_path, kind):
    source = make_source(tmp_path, kind, {"p/q/train.txt.gz": gzip.compress(HI), "t/test.txt": HI, "about.json": b"{"})
    train, test = train_and_test_lines(source)
    assert list(train) == list(test) and train.num_bytes == len(HI)
    assert read_about(source) == {}  # that about.json does not lie beside train.txt


def test_corpus_by_url(site, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TQDM_DISABLE", "1")
    site.body = pack(tmp_path / "x", FILES).read_bytes()
    train, _ = train_and_test_lines(site.url + "hi.tar.gz")
    assert list(train) == HI.decode().splitlines()
    assert train.path == Path("data/downloads/hi.tar.gz")
    assert read_about(site.url + "hi.tar.gz", folder=tmp_path / "other") == {"test_floor_bits_per_byte": 0.15}
    assert (tmp_path / "other" / "hi.tar.gz").is_file()


@BOTH
def test_look_alikes_are_ignored(tmp_path, kind):
    extra = {
        "c/._train.txt": b"\x00mac",
        "c/train.txt.bak": b"x",
        "d/train.txt/note": b"x",
        "__MACOSX/._test.txt": b"x",
    }
    source = make_source(tmp_path, kind, {**FILES, **extra})
    if kind == "archive":
        source = pack(source, [("e/train.txt", entry("e/train.txt", tarfile.DIRTYPE)), *FILES.items(), *extra.items()])
    assert list(train_and_test_lines(source)[0]) == HI.decode().splitlines()


@BOTH
@pytest.mark.parametrize(
    "files, message",
    [
        ({"c/train.txt": HI}, "test.txt: none"),
        ({"c/test.txt": HI}, "train.txt: none"),
        ({"other.txt": HI}, "train.txt: none"),
        ({**FILES, "d/train.txt": HI}, r"c/train\.txt.*d/train\.txt"),
        ({**FILES, "c/train.txt.gz": gzip.compress(HI)}, r"c/train\.txt.*c/train\.txt\.gz"),
        ({**FILES, "c/test.txt": b""}, r"test\.txt.* is empty"),
        ({**FILES, "c/train.txt": b"\xef\xbb\xbf\n \n"}, r"train\.txt.* is empty"),
        ({**FILES, "c/train.txt": b"\xff\xfeh\x00i\x00"}, r"train\.txt.*UTF-16"),
    ],
)
def test_corpus_errors(tmp_path, kind, files, message):
    with pytest.raises(CorpusError, match=message):
        train_and_test_lines(make_source(tmp_path, kind, files))


def test_same_name_twice_in_an_archive(tmp_path):
    with pytest.raises(CorpusError, match=r"c/train\.txt.*c/train\.txt"):
        train_and_test_lines(pack(tmp_path / "a.tar.gz", [*FILES.items(), ("c/train.txt", HI)]))


def test_source_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.tar\.gz"):
        train_and_test_lines(tmp_path / "no.tar.gz")


@pytest.mark.parametrize("name", ["story.txt", "story.txt.gz"])
def test_single_text_says_what_to_do(site, tmp_path, name):
    for source in (write(tmp_path / name, HI), site.url + name):
        with pytest.raises(CorpusError, match=r"Make a folder with train\.txt .* test\.txt"):
            train_and_test_lines(source)
    assert site.requests == []  # a URL is refused before it costs anything


@BOTH
@pytest.mark.parametrize("about, message", [(b"{'a': 1}", "cannot be used"), (b"[1]", "object"), (b"\xff\xff", "used")])
def test_bad_about(tmp_path, kind, about, message):
    with pytest.raises(CorpusError, match=message):
        read_about(make_source(tmp_path, kind, {**FILES, "c/about.json": about}))


@BOTH
def test_no_about_and_about_with_bom(tmp_path, kind):
    source = make_source(tmp_path, kind, {name: FILES[name] for name in ("c/train.txt", "c/test.txt")})
    assert read_about(source) == {}
    (tmp_path / "2").mkdir()
    about = b"\xef\xbb\xbf" + json.dumps({"language": "हिन्दी"}).encode()
    assert read_about(make_source(tmp_path / "2", kind, {**FILES, "c/about.json": about})) == {"language": "हिन्दी"}


# JSON Lines

QUESTIONS = '{"question": "कहाँ?", "answer": "x"}\n\n{"question": "2", "answer": ""}\n'.encode()


def test_json_lines_are_the_same_from_file_folder_and_archive(tmp_path):
    wanted = [{"question": "कहाँ?", "answer": "x"}, {"question": "2", "answer": ""}]
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "test.jsonl").write_bytes(QUESTIONS)
    archive = pack(tmp_path / "q.tar.gz", {"q/test.jsonl": QUESTIONS, "q/train.jsonl": b'{"a": 1}\n'})
    for source in (tmp_path / "inner" / "test.jsonl", tmp_path / "inner", archive):
        assert list(json_lines(source, "test.jsonl")) == wanted
    assert list(json_lines(archive)) == [{"a": 1}]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b'{"a": 1}\n{"a": \n', "line 2, is not JSON"), (b"[1, 2]\n", "line 1, is not a JSON object")],
)
def test_json_lines_name_the_line_at_fault(tmp_path, content, message):
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(CorpusError, match=message):
        list(json_lines(tmp_path / "a.jsonl"))


def test_json_lines_must_be_there_once(tmp_path):
    archive = pack(tmp_path / "q.tar.gz", {"q/test.jsonl": QUESTIONS, "p/test.jsonl": QUESTIONS})
    with pytest.raises(CorpusError, match="q/test"):
        list(json_lines(archive, "test.jsonl"))
    with pytest.raises(CorpusError, match="none"):
        list(json_lines(archive, "pairs.jsonl"))


def test_about_of_questions_needs_no_texts(tmp_path):
    archive = pack(tmp_path / "q.tar.gz", {"q/test.jsonl": QUESTIONS, "q/about.json": b'{"story_blind": 0.15}'})
    assert read_about(archive) == {"story_blind": 0.15}
    pack(tmp_path / "r.tar.gz", {"q/about.json": b"[]"})
    with pytest.raises(CorpusError, match="cannot be used"):
        read_about(tmp_path / "r.tar.gz")
