"""Protects ai4india_lib.corpus: no mixed, cut or hostile file ever passes for a good one, and no line is lost."""

import bz2
import contextlib
import gzip
import hashlib
import io
import json
import lzma
import multiprocessing
import os
import pickle
import re
import subprocess
import sys
import tarfile
import threading
import time
import tracemalloc
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ai4india_lib import corpus
from ai4india_lib.corpus import (
    CorpusError,
    DownloadError,
    TextLines,
    download,
    extract,
    read_about,
    train_and_test_lines,
)

OLD, NEW = bytes(range(256)) * 2000, bytes(reversed(range(256))) * 2000  # 512,000 bytes each
SHA_OLD = hashlib.sha256(OLD).hexdigest()


class Site:
    """What the test server does; `requests` holds the headers of each request it got."""

    def __init__(self):
        self.body, self.etag, self.last_modified = OLD, '"v1"', None
        self.ranges = self.if_range = self.length = True
        self.extra = {}  # further headers
        self.replies = deque()  # for the next requests: a status, or ("cut", bytes sent), or a function
        self.requests = []
        self.url = ""


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        site: Site = self.server.site
        site.requests.append(dict(self.headers))
        reply = site.replies.popleft() if site.replies else None
        if callable(reply):
            reply = reply()
        if isinstance(reply, int):
            self.send_response(reply)
            for name, value in site.extra.items():
                self.send_header(name, value)
            self.end_headers()
            return
        start = 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        valid = self.headers.get("If-Range") in (None, site.etag, site.last_modified)
        if asked and site.ranges and (valid or not site.if_range):
            start = int(asked[1])
            if start >= len(site.body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(site.body)}")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(site.body) - 1}/{len(site.body)}")
        else:
            self.send_response(200)
        headers = {"ETag": site.etag, "Last-Modified": site.last_modified, **site.extra}
        if site.length:
            headers["Content-Length"] = str(len(site.body) - start)
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        data = site.body[start:]
        with contextlib.suppress(OSError):  # the client only wanted the headers
            self.wfile.write(data[: reply[1]] if reply else data)


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.site = Site()
    server.site.url = f"http://127.0.0.1:{server.server_port}/"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server.site
    server.shutdown()
    server.server_close()


@pytest.fixture
def waits(monkeypatch):
    """The seconds that download would have waited between tries."""
    seconds = []
    monkeypatch.setattr(corpus.time, "sleep", seconds.append)
    return seconds


def fetch(site, folder, name="a.bin", **options):
    return download(site.url + name, folder, **{"progress": False, **options})


def names(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith((".json", ".lock")))


def leave_part(site, folder, num_bytes=100_000):
    """An earlier download that broke off."""
    site.replies.append(("cut", num_bytes))
    with pytest.raises(DownloadError, match="kept in"):
        fetch(site, folder, retries=0)
    assert names(folder) == ["a.bin.part"]
    assert (folder / "a.bin.part").stat().st_size == num_bytes
    site.requests.clear()


# Download: the plain way


def test_download_is_whole_and_has_its_name(site, tmp_path):
    path = fetch(site, tmp_path / "new" / "folder", sha256=SHA_OLD.upper(), size=len(OLD))
    assert path == tmp_path / "new" / "folder" / "a.bin"
    assert path.read_bytes() == OLD
    assert names(path.parent) == ["a.bin"]
    assert site.requests[0]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    "path, name",
    [
        ("x/hi.tar.gz?token=1/2#f", "hi.tar.gz"),
        ("%E0%A4%95%E0%A4%A5%E0%A4%BE.txt.gz", "कथा.txt.gz"),
        ("x/..%2F..%2Fevil", "_.._evil"),
        ("x/..%5C..%5Cevil.gz", "_.._evil.gz"),
        ("x/%2e%2e", "download"),
        ("", "download"),
        ("x/C%3Aevil%00", "C_evil_"),
        ("x/nul.txt", "_nul.txt"),
    ],
)
def test_name_comes_safely_from_the_url(path, name):
    assert corpus._file_name(f"http://example.org/{path}") == name


def test_long_name_fits_the_file_system(site, tmp_path):
    path = fetch(site, tmp_path, "क" * 300 + ".tar.gz")
    assert path.name.endswith("क.tar.gz") and path.read_bytes() == OLD


def test_content_disposition_is_not_trusted(site, tmp_path):
    site.extra = {"Content-Disposition": 'attachment; filename="../evil"'}
    assert fetch(site, tmp_path).name == "a.bin"


@pytest.mark.parametrize("url", ["ftp://example.org/a", "file:///etc/passwd", "example.org/a", "http:///a"])
def test_only_http_urls(url, tmp_path):
    with pytest.raises(DownloadError, match="http://"):
        download(url, tmp_path)


def test_progress_follows_argument_and_environment(site, tmp_path, capfd, monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    fetch(site, tmp_path / "1", progress=False)
    assert capfd.readouterr().err == ""
    fetch(site, tmp_path / "2", progress=True)
    assert "a.bin: 100%" in capfd.readouterr().err


def test_content_encoding_does_not_corrupt(site, tmp_path):
    """A server that names an archive's own gzip as encoding, and one that compresses though asked not to."""
    site.body, site.extra = gzip.compress(OLD), {"Content-Encoding": "gzip"}
    assert gzip.decompress(fetch(site, tmp_path, "a.tar.gz").read_bytes()) == OLD
    assert fetch(site, tmp_path, "a.json").read_bytes() == OLD


# Download: resuming


def test_resumes_with_range(site, tmp_path):
    leave_part(site, tmp_path)
    assert fetch(site, tmp_path).read_bytes() == OLD
    assert [(r["Range"], r["If-Range"]) for r in site.requests] == [("bytes=100000-", '"v1"')]
    assert names(tmp_path) == ["a.bin"]


def test_resumes_by_date_when_the_etag_is_weak_or_missing(site, tmp_path):
    site.etag, site.last_modified = 'W/"v1"', "Mon, 01 Jan 2024 00:00:00 GMT"
    leave_part(site, tmp_path)
    assert fetch(site, tmp_path).read_bytes() == OLD
    assert [r["If-Range"] for r in site.requests] == [site.last_modified]


def test_server_that_ignores_range_starts_again(site, tmp_path):
    leave_part(site, tmp_path)
    site.ranges = False
    assert fetch(site, tmp_path).read_bytes() == OLD
    assert len(site.requests) == 1


@pytest.mark.parametrize("if_range", [True, False])
@pytest.mark.parametrize("tag", ["etag", "last_modified"])
def test_never_mixes_two_versions(site, tmp_path, tag, if_range):
    """Also with a server that honours Range but not If-Range."""
    site.etag = site.last_modified = None
    setattr(site, tag, '"v1"' if tag == "etag" else "Mon, 01 Jan 2024 00:00:00 GMT")
    leave_part(site, tmp_path)
    site.body, site.if_range = NEW, if_range
    setattr(site, tag, '"v2"' if tag == "etag" else "Tue, 02 Jan 2024 00:00:00 GMT")
    assert fetch(site, tmp_path).read_bytes() == NEW


def test_change_between_two_tries_of_one_call(site, tmp_path, waits):
    def change():
        site.body, site.etag = NEW, '"v2"'

    site.replies.extend([("cut", 300_000), change])
    assert fetch(site, tmp_path).read_bytes() == NEW


def test_without_validator_resumes_only_under_a_checksum(site, tmp_path):
    site.etag = None
    leave_part(site, tmp_path)
    fetch(site, tmp_path, sha256=SHA_OLD)
    assert site.requests[0]["Range"] == "bytes=100000-"
    (tmp_path / "a.bin").unlink()
    leave_part(site, tmp_path)
    site.body = NEW
    assert fetch(site, tmp_path).read_bytes() == NEW
    assert "Range" not in site.requests[0]


def test_bad_part_under_a_checksum_is_fetched_anew(site, tmp_path):
    leave_part(site, tmp_path)
    (tmp_path / "a.bin.part").write_bytes(b"x" * 100_000)
    assert fetch(site, tmp_path, sha256=SHA_OLD).read_bytes() == OLD
    assert ["Range" in r for r in site.requests] == [True, False]


def test_part_of_unknown_origin_is_not_used(site, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(b"from somewhere else")
    assert fetch(site, tmp_path).read_bytes() == OLD
    leave_part(site, tmp_path / "b")
    (tmp_path / "b" / "a.bin.part.json").write_text("{broken", encoding="utf-8")
    assert fetch(site, tmp_path / "b").read_bytes() == OLD
    assert all("Range" not in r for r in site.requests)


def test_part_of_another_url_is_not_used(site, tmp_path):
    """Two files of one name and, on a careless server, of one ETag."""
    leave_part(site, tmp_path)
    site.body = NEW
    assert fetch(site, tmp_path, "other/a.bin").read_bytes() == NEW


def test_416_when_the_part_is_complete(site, tmp_path):
    leave_part(site, tmp_path)
    (tmp_path / "a.bin.part").write_bytes(OLD)
    assert fetch(site, tmp_path).read_bytes() == OLD
    assert len(site.requests) == 1


def test_416_when_the_part_is_too_long(site, tmp_path):
    leave_part(site, tmp_path)
    (tmp_path / "a.bin.part").write_bytes(OLD + b"more")
    assert fetch(site, tmp_path).read_bytes() == OLD
    assert ["Range" in r for r in site.requests] == [True, False]


def test_ctrl_c_leaves_only_the_part_and_the_next_call_goes_on(site, tmp_path, monkeypatch):
    class Interrupted(corpus.tqdm):
        def update(self, n=1):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(corpus, "tqdm", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            fetch(site, tmp_path)
    assert names(tmp_path) == ["a.bin.part"]
    assert fetch(site, tmp_path).read_bytes() == OLD
    assert int(site.requests[-1]["Range"][6:-1]) == corpus.CHUNK


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's always full disk")
def test_full_disk_is_told(site, tmp_path):
    (tmp_path / "a.bin.part").symlink_to("/dev/full")
    with pytest.raises(DownloadError, match=r"cannot write .*No space left"):
        fetch(site, tmp_path)
    assert names(tmp_path) == ["a.bin.part"]


# Download: trouble


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_passing_errors_are_tried_again(site, tmp_path, waits, status):
    site.replies.extend([status] * 3)
    assert fetch(site, tmp_path).read_bytes() == OLD
    assert waits == [1, 2, 4]


def test_retry_after_is_obeyed(site, tmp_path, waits):
    site.replies.append(503)
    site.extra = {"Retry-After": "7"}
    fetch(site, tmp_path)
    assert waits == [7]


def test_gives_up_in_the_end(site, tmp_path, waits):
    site.replies.extend([500] * 9)
    with pytest.raises(DownloadError, match="500"):
        fetch(site, tmp_path, retries=2)
    assert len(site.requests) == 3
    assert names(tmp_path) == []


@pytest.mark.parametrize("status", [404, 403, 410, 204])
def test_lasting_errors_are_not_tried_again(site, tmp_path, waits, status):
    site.replies.extend([status] * 9)
    with pytest.raises(DownloadError, match=f"a.bin .*{status}"):
        fetch(site, tmp_path)
    assert len(site.requests) == 1 and waits == []


def test_cut_transfers_go_on_as_long_as_each_brings_something(site, tmp_path, waits):
    site.replies.extend([("cut", 50_000)] * 8)
    assert fetch(site, tmp_path, retries=1).read_bytes() == OLD
    starts = [int(r["Range"][6:-1]) for r in site.requests[1:]]
    assert starts == [50_000 * n for n in range(1, 9)]


def test_no_server(site, tmp_path, waits):
    with pytest.raises(DownloadError, match="network"):
        download("http://127.0.0.1:9/a.bin", tmp_path, retries=1)
    assert waits == [1]


def test_silent_server_times_out(site, tmp_path, waits):
    done = threading.Event()
    site.replies.append(lambda: done.wait(5) and None)
    with pytest.raises(DownloadError, match="no answer"):
        fetch(site, tmp_path, timeout=0.1, retries=0)
    done.set()


@pytest.mark.parametrize("length", [True, False])
def test_wrong_size(site, tmp_path, length):
    site.length = length
    with pytest.raises(DownloadError, match="512000 bytes instead of 7"):
        fetch(site, tmp_path, size=7)
    assert names(tmp_path) == []


def test_wrong_size_is_refused_before_the_bytes_are_paid_for(site, tmp_path, monkeypatch):
    monkeypatch.delattr(corpus, "tqdm")  # the transfer would need it
    with pytest.raises(DownloadError, match="512000 bytes instead of 7"):
        fetch(site, tmp_path, size=7)


def test_wrong_sha256(site, tmp_path):
    with pytest.raises(DownloadError, match=f"{SHA_OLD} instead of {'0' * 64}"):
        fetch(site, tmp_path, sha256="0" * 64)
    assert names(tmp_path) == []


def test_without_length_a_cut_is_found_by_the_checksum(site, tmp_path):
    site.length = False
    site.replies.append(("cut", 1000))
    with pytest.raises(DownloadError, match="SHA-256"):
        fetch(site, tmp_path, sha256=SHA_OLD)
    assert names(tmp_path) == []


# Download: a file that is there already


@pytest.mark.parametrize("check", [{"sha256": SHA_OLD}, {"size": len(OLD)}])
def test_checked_file_is_used_without_network(site, tmp_path, check):
    (tmp_path / "a.bin").write_bytes(OLD)
    assert fetch(site, tmp_path, **check).read_bytes() == OLD
    assert site.requests == []


def test_file_that_fails_its_check_is_replaced_by_a_good_one_only(site, tmp_path):
    (tmp_path / "a.bin").write_bytes(b"mine")
    with pytest.raises(DownloadError):
        fetch(site, tmp_path, sha256="0" * 64)
    assert (tmp_path / "a.bin").read_bytes() == b"mine"
    assert fetch(site, tmp_path, sha256=SHA_OLD).read_bytes() == OLD


def test_unchanged_file_is_used_again(site, tmp_path):
    path = fetch(site, tmp_path)
    before = path.stat().st_mtime_ns
    assert fetch(site, tmp_path) == path and path.stat().st_mtime_ns == before


def test_file_copied_by_hand_counts_if_the_server_has_as_many_bytes(site, tmp_path):
    (tmp_path / "a.bin").write_bytes(NEW)
    assert fetch(site, tmp_path).read_bytes() == NEW
    (tmp_path / "a.bin").write_bytes(NEW[1:])
    assert fetch(site, tmp_path).read_bytes() == OLD


def test_changed_file_is_fetched_anew(site, tmp_path):
    fetch(site, tmp_path)
    site.body, site.etag = NEW, '"v2"'
    assert fetch(site, tmp_path).read_bytes() == NEW


def test_locally_damaged_file_is_fetched_anew(site, tmp_path):
    fetch(site, tmp_path).write_bytes(OLD[:-1])
    assert fetch(site, tmp_path).read_bytes() == OLD


@pytest.mark.parametrize("copied_by_hand", [True, False])
def test_works_offline_with_a_warning(site, tmp_path, waits, copied_by_hand):
    if copied_by_hand:
        (tmp_path / "a.bin").write_bytes(OLD)
    else:
        fetch(site, tmp_path)
    site.replies.append(500)
    with pytest.warns(UserWarning, match="as it is") as caught:
        assert fetch(site, tmp_path).read_bytes() == OLD
    assert waits == [] and caught[0].filename == __file__


def test_two_urls_with_one_name_do_not_share_a_file(site, tmp_path):
    first = fetch(site, tmp_path, "hi/a.bin")
    site.body, site.etag = NEW, '"v2"'
    second = fetch(site, tmp_path, "ta/a.bin")
    assert first.read_bytes() == OLD and second.read_bytes() == NEW
    assert second.name.endswith("-a.bin")
    assert fetch(site, tmp_path, "ta/a.bin") == second


def test_askers_of_one_file_take_turns(site, tmp_path):
    """As the ranks of one training run do; the lock is one of files, so threads stand for processes here."""
    pytest.importorskip("fcntl")
    active, most = [], []

    def serve_slowly():
        active.append(1)
        most.append(len(active))
        time.sleep(0.05)
        active.pop()

    site.replies.extend([serve_slowly] * 4)
    ranks = [threading.Thread(target=fetch, args=(site, tmp_path)) for _ in range(4)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(20)
    assert most == [1] * 4
    assert (tmp_path / "a.bin").read_bytes() == OLD


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


@pytest.mark.parametrize("limits", [{"max_bytes": 10_000_000}, {"max_files": 50}])
def test_extract_stops_bombs(tmp_path, limits, monkeypatch):
    zeros = bytes(1_000_000)
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
    for length in sorted({*range(0, end, 1 + end // 150), *range(0, end, 512), end - 1}):
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


def _first_line(text):
    return next(iter(text))


def test_pickle_and_repr(tmp_path):
    text = TextLines(pack(tmp_path / "a.tar.gz", FILES), "c/train.txt")
    reading = iter(text)
    next(reading)
    again = pickle.loads(pickle.dumps(text))
    assert list(again) == list(text)
    assert len(pickle.dumps(text)) < 1000
    assert eval(repr(text)).member == "c/train.txt"
    assert str(text) == f"{(tmp_path / 'a.tar.gz').as_posix()} (c/train.txt)"
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_first_line, (text,)) == _first_line(text)


def test_memory_stays_flat(tmp_path):
    """60 MB of text; the archive is packed from the file, so that packing needs no memory either."""
    line = "बारिश के दिन चाय की दुकान पर बहुत भीड़ थी। " * 4 + "\n"
    block = (line * 2000).encode()
    path = tmp_path / "train.txt"
    with path.open("wb") as file:
        for _ in range(60_000_000 // len(block) + 1):
            file.write(block)
    archive = tmp_path / "a.tar.gz"
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(path, "train.txt")
    for text in (TextLines(path), TextLines(archive, "train.txt")):
        tracemalloc.start()
        assert sum(1 for _ in text) * len(line.encode()) == path.stat().st_size > 60_000_000
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


def test_quiet_environment_silences_the_corpus_download(site, tmp_path):
    """TQDM_DISABLE is read when tqdm is imported, so this needs a Python of its own."""
    code = f"from ai4india_lib.corpus import download; download({site.url + 'a.bin'!r}, {str(tmp_path)!r})"
    environment = {**os.environ, "TQDM_DISABLE": "1", "NO_PROXY": "127.0.0.1"}
    root = Path(corpus.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, check=True)
    assert done.stderr == b"" and (tmp_path / "a.bin").read_bytes() == OLD


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
