"""Protects text.download: no mixed, cut or changed file ever passes for a good one."""

import gzip
import hashlib
import http.server
import os
import shutil
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import urllib3
from servers import NEW, OLD, serve_site  # noqa: F401 (the fixture `site`)

from ai4india_lib.text.archives import CorpusError
from ai4india_lib.text.corpus import train_and_test_lines
from ai4india_lib.text.download import DownloadError, download
from ai4india_lib.text.urls import file_name, without_secrets

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
        ("x/my%20100%25.tar.gz", "my 100%.tar.gz"),
        ("x/100%.tar.gz", "100%.tar.gz"),
        ("x/a%2Fb.tar.gz", "a_b.tar.gz"),
    ],
)
def test_name_comes_safely_from_the_url(path, name):
    assert file_name(f"http://example.org/{path}") == name


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


NO_URLS = [
    "http://[::1/a",
    "http://example.org:port/a",
    "http://a:99999/x",
    "http://host²/a",
    "http://a b/x",
    "http://a..b/x",
]


@pytest.mark.parametrize("url", NO_URLS)
def test_what_is_no_url_is_told(url, tmp_path, waits):
    with pytest.raises(DownloadError, match="cannot be downloaded"):
        download(url, tmp_path)
    with pytest.raises(DownloadError, match="cannot be downloaded"):
        train_and_test_lines(url, folder=tmp_path)
    assert waits == []


def test_a_redirect_to_what_is_no_url_is_told(site, tmp_path, waits):
    site.replies.append(302)
    site.extra = {"Location": "http://[::1/a"}
    with pytest.raises(DownloadError, match="cannot be downloaded"):
        fetch(site, tmp_path)


@pytest.mark.parametrize(
    "header",
    [{"Content-Length": "²"}, {"Content-Length": "7, 8"}, {"Content-Length": "many"}, {"Content-Length": "-1"}],
)
def test_senseless_headers_end_in_a_file_or_an_error(site, tmp_path, waits, header):
    site.length, site.extra = False, header
    try:
        assert fetch(site, tmp_path, retries=0).read_bytes() == OLD
    except DownloadError:
        assert names(tmp_path) in ([], ["a.bin.part"])
    site.extra, site.length = {"Retry-After": "²"}, True
    site.replies.append(503)
    assert fetch(site, tmp_path / "2").read_bytes() == OLD


SECRETS = [
    ("https://asha:pa55@example.org/a.tar.gz", "https://…@example.org/a.tar.gz"),
    ("https://pa55@example.org/a", "https://…@example.org/a"),
    ("https://asha:x/pa55@example.org/a", "https://…@example.org/a"),
    ("https://asha:p%40pa55@example.org:8443/a", "https://…@example.org:8443/a"),
    ("https://example.org/a?token=pa55&x=1#b", "https://example.org/a?token=…&x=1#b"),
    ("https://example.org/a?x=1&X-Amz-Signature=pa55", "https://example.org/a?x=1&X-Amz-Signature=…"),
    ("cannot reach http://u:pa55@h/a (and ftp://u:pa55@h)", "cannot reach http://…@h/a (and ftp://…@h)"),
    ("https://example.org/a@b?lang=hi", "https://example.org/a@b?lang=hi"),
    ("data/kahani-hi.tar.gz", "data/kahani-hi.tar.gz"),
]


@pytest.mark.parametrize(("text", "shown"), SECRETS)
def test_secrets_of_a_url_are_left_out(text, shown):
    assert without_secrets(text) == shown


@pytest.mark.parametrize("reply", [404, 500, "no server", "wrong sum", "not a URL", "single text"])
def test_passwords_are_never_shown_or_kept(site, tmp_path, waits, reply):
    url = site.url.replace("http://", "http://asha:pa55@") + "a.bin?token=pa55"
    if isinstance(reply, int):
        site.replies.extend([reply] * 5)
    url = {"no server": "http://asha:pa55@127.0.0.1:9/a", "not a URL": "http://asha:pa55@[::1/a"}.get(reply, url)
    with pytest.raises((DownloadError, CorpusError)) as caught:
        if reply == "single text":
            train_and_test_lines(url.replace("a.bin", "train.txt"))
        download(url, tmp_path, progress=False, retries=1, sha256="0" * 64)
    assert "pa55" not in str(caught.value)


def test_passwords_are_not_kept_beside_the_file(site, tmp_path):
    url = site.url.replace("http://", "http://asha:pa55@") + "a.bin"
    for _ in range(2):
        path = download(url, tmp_path, progress=False)
    assert names(tmp_path) == ["a.bin"] and "pa55" not in (tmp_path / "a.bin.json").read_text(encoding="utf-8")
    assert path.read_bytes() == OLD and site.requests[0]["Authorization"].startswith("Basic ")


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


@pytest.mark.parametrize("more", [1, -1])
@pytest.mark.parametrize("tag", ["etag", "last_modified"])
def test_one_etag_and_two_sizes_are_two_versions(site, tmp_path, tag, more):
    """As of a careless server, for a file that grew or shrank."""
    site.etag = site.last_modified = None
    setattr(site, tag, '"v1"' if tag == "etag" else "Mon, 01 Jan 2024 00:00:00 GMT")
    leave_part(site, tmp_path)
    site.body = NEW + b"!" if more > 0 else NEW[:-1]
    assert fetch(site, tmp_path).read_bytes() == site.body
    site.body = OLD  # and for a whole file
    assert fetch(site, tmp_path).read_bytes() == OLD


def test_a_range_that_ends_early_is_gone_on_with(site, tmp_path, waits, monkeypatch):
    """A server may send less than was asked for, and end the answer properly."""
    leave_part(site, tmp_path)
    whole = len(OLD)
    site.extra = {"Content-Range": f"bytes 100000-199999/{whole}", "Content-Length": "100000"}
    site.length = False
    site.replies.append(("cut", 100_000))

    def then(seconds):
        site.extra, site.length = {}, True

    monkeypatch.setattr(module.time, "sleep", then)
    assert fetch(site, tmp_path).read_bytes() == OLD
    assert [r["Range"] for r in site.requests] == ["bytes=100000-", "bytes=200000-"]


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
    assert 0 < int(site.requests[-1]["Range"][6:-1]) <= module.CHUNK


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


def test_an_older_urllib3_keeps_what_came_too(site, tmp_path, waits, monkeypatch):
    for kind in (urllib3.HTTPResponse, *urllib3.HTTPResponse.__bases__):
        monkeypatch.delattr(kind, "read1", raising=False)
    site.replies.extend([("stall", 200_000)] * 2)
    assert fetch(site, tmp_path, timeout=0.2, retries=1).read_bytes() == OLD
    assert len(site.requests) == 3 and all(int(r["Range"][6:-1]) > 190_000 for r in site.requests[1:])


def test_what_came_before_a_line_stalled_is_kept(site, tmp_path, waits):
    """Less than is read at once, in each of many tries."""
    site.body = OLD[:40_000]
    site.replies.extend([("stall", 5_000)] * 7)
    assert fetch(site, tmp_path, timeout=0.2, retries=1).read_bytes() == OLD[:40_000]
    assert [int(r["Range"][6:-1]) for r in site.requests[1:]] == [5_000 * n for n in range(1, 8)]


def certificate(folder):
    """A key and a certificate that nobody has signed, made by openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    make = "openssl req -x509 -newkey rsa:2048 -nodes -keyout k.pem -out c.pem -days 2 -subj /CN=localhost"
    subprocess.run(make.split(), cwd=folder, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "c.pem", folder / "k.pem")
    return context


def test_a_certificate_that_is_not_trusted_is_named_at_once(tmp_path, waits, monkeypatch):
    """As behind a proxy that looks into everything."""
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    server.handle_error = lambda *about: None
    server.socket = certificate(tmp_path).wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("NO_PROXY", "*")
    url = f"https://localhost:{server.server_port}/a.tar.gz"
    try:
        with pytest.raises(DownloadError, match=r"certificate is not trusted \(.+\).*REQUESTS_CA_BUNDLE.* path"):
            download(url, tmp_path / "new", progress=False)
        (tmp_path / "new" / "a.tar.gz").write_bytes(OLD)
        with pytest.warns(UserWarning, match="certificate is not trusted"):
            assert download(url, tmp_path / "new", progress=False).read_bytes() == OLD
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "nowhere.pem"))
        with pytest.raises(DownloadError, match=r"nowhere\.pem"):
            download(url, tmp_path / "other", progress=False)
    finally:
        server.shutdown()
        server.server_close()
    assert waits == []


def test_a_proxy_that_refuses_is_named(tmp_path, waits, site, monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", site.url.replace("http://", "http://asha:pa55@"))
    with pytest.raises(DownloadError, match=r"the proxy does not let it through.*HTTPS_PROXY") as caught:
        download("https://example.invalid/a.tar.gz", tmp_path, progress=False, retries=0)
    assert "pa55" not in str(caught.value)


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


def test_a_file_in_a_read_only_folder_is_used(site, tmp_path, monkeypatch):
    """A share of the classroom: no lock, no question to the server, nothing written."""
    (tmp_path / "a.bin").write_bytes(NEW)
    (tmp_path / ".a.bin.lock").mkdir()  # cannot be opened, even by root
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(module.os, "access", lambda path, mode: False)
    assert fetch(site, tmp_path).read_bytes() == NEW
    assert fetch(site, tmp_path, size=len(NEW)).read_bytes() == NEW
    assert site.requests == [] and sorted(tmp_path.iterdir()) == before


def test_another_users_lock_is_no_hindrance(site, tmp_path, monkeypatch):
    (tmp_path / ".a.bin.lock").mkdir()
    assert fetch(site, tmp_path).read_bytes() == OLD


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_forbids_writing(site, tmp_path):
    (tmp_path / "a.bin").write_bytes(NEW)
    tmp_path.chmod(0o555)
    try:
        assert fetch(site, tmp_path).read_bytes() == NEW
        with pytest.raises(DownloadError, match=r"Give a folder that you may write to|cannot write"):
            fetch(site, tmp_path, "b.bin")
    finally:
        tmp_path.chmod(0o755)


def test_a_place_that_cannot_be_written_is_told(site, tmp_path):
    (tmp_path / "a.bin.part.json").mkdir()
    (tmp_path / "a.bin.part.json" / "x").write_bytes(b"")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DownloadError, match="cannot write"):
        fetch(site, tmp_path)
    with pytest.raises(DownloadError, match="Give a folder that you may write to"):
        fetch(site, tmp_path / "file" / "folder")


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
