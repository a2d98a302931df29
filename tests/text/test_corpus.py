"""Protects text.corpus: no line is lost, and what is no corpus is told."""

import gzip
import json
import pickle
import tarfile
import tracemalloc
from pathlib import Path

import pytest
from servers import serve_site  # noqa: F401 (the fixture `site`)
from small_archives import FILES, HI, entry, pack

from ai4india_lib import download, json_lines
from ai4india_lib.text import corpus
from ai4india_lib.text.archives import CorpusError
from ai4india_lib.text.corpus import TextLines, fingerprint_text, read_about, train_and_test_lines


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_promised_names():
    """`download` is promised by both the package and this module."""
    assert corpus.download is download and issubclass(corpus.DownloadError, OSError)


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
        ("क\u094d\u200dष 😀\x01", ["क\u094d\u200dष 😀\x01"]),
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
        ({"other.md": HI}, "train.txt: none"),
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


@BOTH
@pytest.mark.parametrize(
    "names",
    [
        ("TRAIN.TXT", "TEST.TXT"),
        ("train.txt.txt", "test.txt.txt"),
        ("train.TXT", "Test.txt"),
        ("stories.zip",),
        ("train",),
    ],
)
def test_a_missing_text_tells_what_was_seen(tmp_path, kind, names):
    with pytest.raises(CorpusError, match=r"train\.txt: none\. There is: ") as caught:
        train_and_test_lines(make_source(tmp_path, kind, {f"c/{name}": HI for name in names}))
    assert all(f"c/{name}" in str(caught.value) for name in names)


def test_a_missing_text_tells_of_names_of_windows_and_of_nothing(tmp_path):
    with pytest.raises(CorpusError, match=r"There is: c\\train\.txt, c\\test\.txt;"):
        train_and_test_lines(pack(tmp_path / "a.tar.gz", {"c\\train.txt": HI, "c\\test.txt": HI}))
    with pytest.raises(CorpusError, match="There is no other file"):
        train_and_test_lines(pack(tmp_path / "b.tar.gz", {}))
    with pytest.raises(CorpusError, match=r"07\.txt and 12 more;") as caught:
        train_and_test_lines(pack(tmp_path / "c.tar.gz", {f"{n:02}.txt": HI for n in range(20)}))
    assert len(str(caught.value)) < 400 + len(str(tmp_path))
    with pytest.raises(CorpusError, match=r"one train\.jsonl.*There is: q/train\.json;"):
        list(json_lines(pack(tmp_path / "d.tar.gz", {"q/train.json": b"{}"})))


def test_same_name_twice_in_an_archive(tmp_path):
    with pytest.raises(CorpusError, match=r"c/train\.txt.*c/train\.txt"):
        train_and_test_lines(pack(tmp_path / "a.tar.gz", [*FILES.items(), ("c/train.txt", HI)]))


def test_a_test_text_behind_a_training_text_is_unpacked_once(tmp_path, monkeypatch):
    """Each look at it would unpack the training text again."""
    train, test = train_and_test_lines(pack(tmp_path / "a.tar.gz", FILES))
    with monkeypatch.context() as patch:
        patch.delattr(corpus, "open_tar")
        assert list(test) == list(test) == ["एक दिन की बात है।"]
        assert fingerprint_text(test)
        with pytest.raises(NameError):
            list(train)
    assert len(pickle.dumps(test)) < 1000 and list(pickle.loads(pickle.dumps(test))) == list(test)
    packed = {"train.txt": HI, "test.txt.gz": gzip.compress(HI)}
    assert list(train_and_test_lines(pack(tmp_path / "b.tar.gz", packed))[1]) == HI.decode().splitlines()


def test_an_archive_of_too_much_is_refused_at_a_look(tmp_path, monkeypatch):
    archive = pack(tmp_path / "a.tar", {f"{n}.txt": b"" for n in range(60)}, "w")
    monkeypatch.setattr(corpus, "MAX_FILES", 50)
    for look in (train_and_test_lines, lambda path: list(TextLines(path, "59.txt"))):
        with pytest.raises(CorpusError, match=r"holds more than max_files=50 .* pack train\.txt and test\.txt alone"):
            look(archive)
    monkeypatch.setattr(corpus, "MAX_BYTES", 100)
    with pytest.raises(CorpusError, match="max_bytes=100"):
        train_and_test_lines(pack(tmp_path / "b.tar", {"zeros": bytes(101), **FILES}, "w"))


def test_source_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.tar\.gz"):
        train_and_test_lines(tmp_path / "no.tar.gz")


@pytest.mark.parametrize("name", ["story.txt", "story.txt.gz"])
def test_the_url_of_a_single_text_says_what_to_do(site, name):
    with pytest.raises(CorpusError, match=r"download it, .* train\.txt .* test\.txt"):
        train_and_test_lines(site.url + name)
    assert site.requests == []  # it is refused before it costs anything


@BOTH
@pytest.mark.parametrize(
    "about, message",
    [
        (b"{'a': 1}", "cannot be used"),
        (b"[1]", "object"),
        (b"\xff\xff", "used"),
        (b"", "used"),
        (b"[" * 100_000, "used"),
        *[
            (b'{"test_floor_bits_per_byte": %s}' % floor, "number from 0 to 8, or left out")
            for floor in (
                b'"0.3"',
                b"NaN",
                b"-1",
                b"true",
                b"Infinity",
                b"1e999",
                b"[0.3]",
                b"{}",
                b"9",
                b'""',
                b"false",
            )
        ],
        (b'{"story_blind_accuracy": [0.5]}', "object"),
        (b'{"story_blind_accuracy": {"all": "0.5"}}', "number from 0 to 1"),
    ],
)
def test_bad_about(tmp_path, kind, about, message):
    source = make_source(tmp_path, kind, {**FILES, "c/about.json": about})
    for read in (read_about, train_and_test_lines):  # whoever looks at the text learns of it before a training
        with pytest.raises(CorpusError, match=message):
            read(source)


@BOTH
@pytest.mark.parametrize("floor", [b"0.15", b"0", b"1", b"8", b"null"])
def test_good_floors(tmp_path, kind, floor):
    source = make_source(tmp_path, kind, {**FILES, "c/about.json": b'{"test_floor_bits_per_byte": %s}' % floor})
    assert read_about(source) == {"test_floor_bits_per_byte": json.loads(floor)}


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


def test_a_plain_text_is_no_json_lines(tmp_path):
    (tmp_path / "a.txt").write_text("एक दिन", encoding="utf-8")
    with pytest.raises(CorpusError, match=r"a\.txt is no JSON Lines: one object .* ends in \.jsonl"):
        next(json_lines(tmp_path / "a.txt"))


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


# Fingerprints


def test_a_fingerprint_is_that_of_the_text_wherever_it_lies(tmp_path):
    archive = pack(tmp_path / "a.tar.gz", FILES)
    (tmp_path / "elsewhere").mkdir()
    plain, packed = write(tmp_path / "elsewhere" / "t.txt", HI), write(tmp_path / "t.txt.gz", HI)
    found = {fingerprint_text(t) for t in (TextLines(archive, "c/train.txt"), TextLines(plain), TextLines(packed))}
    assert len(found) == 1 and len(found.pop()) == 32
    assert fingerprint_text(["a", "b"]) == fingerprint_text(("a", "b"))


def test_other_texts_have_other_fingerprints(tmp_path):
    """Of as many lines and bytes too, in a file that keeps its name; and two texts of one archive."""
    path = write(tmp_path / "t.txt", HI)
    found = [fingerprint_text(TextLines(path))]
    for content in (HI.replace("राजू".encode(), "मीना".encode()), HI + HI, HI[:-1], HI.replace(b"\n", b" ", 1)):
        path.write_bytes(content)
        found.append(fingerprint_text(TextLines(path)))
    archive = pack(tmp_path / "a.tar.gz", FILES)
    found.append(fingerprint_text(TextLines(archive, "c/test.txt")))
    found += [fingerprint_text(lines) for lines in ([], ["a", "b"], ["ab"], ["b", "a"], ["a", "b", ""])]
    assert len(set(found)) == len(found)


def test_a_text_that_can_be_read_only_once_is_not_used_up():
    lines = (line for line in ["a", "b"])
    assert fingerprint_text(lines) == "" and list(lines) == ["a", "b"]


def test_a_fingerprint_is_computed_once_for_a_file(tmp_path, monkeypatch):
    path = write(tmp_path / "t.txt", HI)
    first = fingerprint_text(TextLines(path))
    monkeypatch.delattr(TextLines, "_open")
    assert fingerprint_text(TextLines(path)) == first
