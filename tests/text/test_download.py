"""Protects text.download: no mixed, cut or changed file ever passes for a good one."""

import gzip
import hashlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from servers import NEW, OLD, serve_site  # noqa: F401 (the fixture `site`)

from ai4india_lib.text.download import DownloadError, download

module = sys.modules["ai4india_lib.text.download"]  # in the room, this name is the function's
SHA_OLD = hashlib.sha256(OLD).hexdigest()


@pytest.fixture
def waits(monkeypatch):
    """The seconds that download would have waited between tries."""
    seconds = []
    monkeypatch.setattr(module.time, "sleep", seconds.append)
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


# The plain way


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
    assert module.file_name(f"http://example.org/{path}") == name


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


def stderr_of_download(site, folder, **environment):
    """TQDM_DISABLE is read when tqdm is imported, so this needs a Python of its own.

    Of the library it imports no more than it needs: empty packages stand for those that would import torch.
    """
    code = (
        "import sys, types\n"
        "for name in ('ai4india_lib', 'ai4india_lib.basics', 'ai4india_lib.text'):\n"
        "    package = sys.modules[name] = types.ModuleType(name)\n"
        "    package.__path__ = [name.replace('.', '/')]\n"
        f"from ai4india_lib.text.download import download; download({site.url + 'a.bin'!r}, {str(folder)!r})"
    )
    inherited = {name: value for name, value in os.environ.items() if name != "TQDM_DISABLE"}
    environment = {**inherited, **environment, "NO_PROXY": "127.0.0.1"}
    root = Path(module.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, check=True)
    assert (folder / "a.bin").is_file()
    return done.stderr.decode("utf-8")


def test_progress_follows_argument_and_environment(site, tmp_path, capfd):
    fetch(site, tmp_path / "1", progress=False)
    assert capfd.readouterr().err == ""
    assert "a.bin: 100%" in stderr_of_download(site, tmp_path / "2")
    assert stderr_of_download(site, tmp_path / "3", TQDM_DISABLE="1") == ""


def test_content_encoding_does_not_corrupt(site, tmp_path):
    """A server that names an archive's own gzip as encoding, and one that compresses though asked not to."""
    site.body, site.extra = gzip.compress(OLD), {"Content-Encoding": "gzip"}
    assert gzip.decompress(fetch(site, tmp_path, "a.tar.gz").read_bytes()) == OLD
    assert fetch(site, tmp_path, "a.json").read_bytes() == OLD


# Resuming


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
    class Interrupted(module.tqdm):
        def update(self, n=1):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "tqdm", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            fetch(site, tmp_path)
    assert names(tmp_path) == ["a.bin.part"]
    assert fetch(site, tmp_path).read_bytes() == OLD
    assert int(site.requests[-1]["Range"][6:-1]) == module.CHUNK


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's always full disk")
def test_full_disk_is_told(site, tmp_path):
    (tmp_path / "a.bin.part").symlink_to("/dev/full")
    with pytest.raises(DownloadError, match=r"cannot write .*No space left"):
        fetch(site, tmp_path)
    assert names(tmp_path) == ["a.bin.part"]


# Trouble


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
    monkeypatch.delattr(module, "tqdm")  # the transfer would need it
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


# A file that is there already


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
