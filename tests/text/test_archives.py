"""Protects text.archives: no cut or hostile archive ever passes for a good one."""

import bz2
import contextlib
import gzip
import lzma
import tarfile

import pytest
from small_archives import FILES, HI, entry, pack

from ai4india_lib.text.archives import CorpusError, extract
from ai4india_lib.text.corpus import TextLines, train_and_test_lines


def names(folder):
    return sorted(path.name for path in folder.iterdir())


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


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_name_of_megabytes_is_not_read(tmp_path, kind):
    """A gigabyte of one letter packs into a megabyte, and tarfile would read all of it as a name."""
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz", format=kind) as tar:
        tar.addfile(tarfile.TarInfo("n" * 3_000_000))
    for use in (train_and_test_lines, lambda archive: extract(archive, tmp_path / "out")):
        with pytest.raises(CorpusError, match="a name or comment of 3,000,0"):
            use(path)


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
