"""Fetches a file over HTTP and verifies it: a broken, changed or mixed transfer never passes for a whole file.

A download that broke off goes on where it ended, a file that is there already is used again, and a network that
fails for a while is asked again. `download` is all that others need.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

import requests
from tqdm.auto import tqdm
from urllib3.exceptions import HTTPError as StreamError  # what requests' raw stream raises

CHUNK = 1 << 18  # bytes per read


class DownloadError(OSError):
    """The file could not be fetched, or what came is not what was asked for."""


def download(
    url: str,
    folder: str | Path,
    *,
    sha256: str | None = None,
    size: int | None = None,
    timeout: float | tuple[float, float] = (10, 60),
    retries: int = 4,
    progress: bool = True,
) -> Path:
    """Fetch `url` into `folder`, under the name at the end of the URL, and return the path.

    The bytes go to `NAME.part`, and a finished file is renamed: what stands under NAME is whole. A `.part` that is
    there already is continued if the server says by ETag or date that its file is still the same one (or if `sha256`
    is given, which notices a mixture); otherwise the download starts again.

    A finished file that is there already is used again
    - without any network if `sha256` or `size` (bytes) is given and fits;
    - otherwise if the server still has the same, by the ETag, date and size noted in `NAME.json`;
    - with a warning if the server cannot be asked: a class without a network works with files copied by hand.

    `timeout` is in seconds: to connect, and between two pieces. Time-outs, broken connections and the statuses 408,
    429 and 5xx are tried again after 1, 2, 4 … 30 s, until `retries` tries in a row have brought nothing new.
    A server that does not send the length can hide a cut-off transfer: give `sha256` there. Two URLs that end in the
    same name do not share a file. Processes of one Linux or macOS machine that want the same file take turns.
    """
    if urlsplit(url).scheme.lower() not in ("http", "https") or not urlsplit(url).hostname:
        raise DownloadError(f"{url!r} cannot be downloaded: give http:// or https://, then the server's name")
    sha256 = sha256 and sha256.strip().lower()
    name, folder = file_name(url), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with _taking_turns(folder / f".{name}.lock"):
        path = folder / name
        if _read_origin(path).get("url", url) != url:
            path = folder / f"{hashlib.sha256(url.encode()).hexdigest()[:8]}-{name}"
        if path.is_file() and _is_current(path, url, sha256, size, timeout):
            return path
        part = Path(f"{path}.part")
        fetch = partial(_fetch_rest, url, part, sha256=sha256, size=size, timeout=timeout, progress=progress)
        _fetch_whole(partial(_retry, fetch, url, part, retries), url, part, sha256, size)
        part.replace(path)
        Path(f"{part}.json").replace(f"{path}.json")
    return path


def file_name(url: str) -> str:
    """The last part of the URL's path as a name that every system accepts; never a way to another folder."""
    name = unquote(urlsplit(url).path.rsplit("/", 1)[-1])
    name = re.sub(r'[\x00-\x1f\x7f<>:"/\\|?*]', "_", name).strip(". ")
    if re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?", name):  # devices on Windows
        name = f"_{name}"
    return name.encode()[-200:].decode(errors="ignore") or "download"


@contextmanager
def _taking_turns(lock: Path) -> Iterator[None]:
    """Several ranks of one training run ask for the same file at once. The lock ends with its process."""
    with lock.open("ab") as file:
        with suppress(ImportError, OSError):  # Windows and some network drives have no such locks
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read_origin(path: Path) -> dict:
    """Where the bytes of `path` came from: url, size, etag, last_modified; {} if that is not known."""
    try:
        return dict(json.loads(Path(f"{path}.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _origin(url: str, response: requests.Response) -> dict:
    """What the server says about the file, as `_read_origin` returns it; None stands for what it does not say."""
    sent = response.headers
    size = sent.get("Content-Range", "").rpartition("/")[2] or sent.get("Content-Length", "")
    size = int(size) if size.isdigit() else None
    return {"url": url, "size": size, "etag": sent.get("ETag"), "last_modified": sent.get("Last-Modified")}


def _same_version(old: dict, new: dict) -> bool:
    """Are two origins those of the same bytes? By ETag, else by date, else by size."""
    for key in ("etag", "last_modified"):
        if old.get(key) and new[key]:
            return old[key] == new[key]
    return old.get("size") == new["size"] is not None


def _mismatch(path: Path, sha256: str | None, size: int | None) -> str:
    """What is wrong with the file, in words; "" if nothing is."""
    actual = path.stat().st_size
    if size is not None and actual != size:
        return f"{actual} bytes instead of {size}"
    if not sha256:
        return ""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return "" if digest.hexdigest() == sha256 else f"the SHA-256 sum {digest.hexdigest()} instead of {sha256}"


def _is_current(path: Path, url: str, sha256: str | None, size: int | None, timeout) -> bool:
    """May the finished file at `path` be used again? The rule stands in `download`."""
    if sha256 or size is not None:
        return not _mismatch(path, sha256, size)
    actual = path.stat().st_size
    try:
        with _get(url, {}, timeout) as response:  # only its headers are read; some servers refuse HEAD
            new = _origin(url, response)
    except (requests.RequestException, DownloadError) as error:
        warnings.warn(f"cannot ask for {url} ({_reason(error)}): using {path} as it is", stacklevel=3)
        return True
    return new["size"] in (None, actual) and _same_version(_read_origin(path) or {"size": actual}, new)


def _fetch_whole(fetch: Callable[[], None], url: str, part: Path, sha256: str | None, size: int | None) -> None:
    """Bring `part` to its end and verify it; what fails is removed."""
    resumed = part.is_file()
    fetch()
    if resumed and _mismatch(part, sha256, size):  # perhaps only the old bytes are bad
        part.unlink()
        fetch()
    if problem := _mismatch(part, sha256, size):
        part.unlink()
        raise DownloadError(f"{url} is not the expected file: it has {problem}. What came was removed.")


def _get(url: str, headers: dict, timeout) -> requests.Response:
    """One request. A failure that may pass raises an exception of requests, any other a DownloadError."""
    headers = {"Accept-Encoding": "identity", "User-Agent": "ai4india_lib", **headers}
    try:
        response = requests.get(url, headers=headers, stream=True, timeout=timeout)
    except (requests.TooManyRedirects, ValueError) as error:  # ValueError: a URL that requests cannot read
        raise DownloadError(f"{url} cannot be downloaded: {error}") from error
    status = response.status_code
    if status in (200, 206, 416):
        return response
    response.close()
    answer = f"the server answers {status} {response.reason}"
    if status in (408, 429) or status >= 500:
        raise requests.HTTPError(answer, response=response)
    raise DownloadError(f"{url} cannot be downloaded: {answer}. Is the address right, and open to everyone?")


def _reason(error: Exception) -> str:
    """The error in words; for silence, what to check instead of the names of sockets."""
    silent = isinstance(error, (requests.ConnectionError, requests.Timeout))
    return "no answer: check the network and the computer's date" if silent else str(error)


def _retry(fetch: Callable[[], None], url: str, part: Path, retries: int) -> None:
    """Call `fetch` until it succeeds, or until `retries` tries in a row have brought nothing new."""
    failures, longest = 0, part.stat().st_size if part.is_file() else 0
    while True:
        try:
            return fetch()
        except (requests.RequestException, StreamError) as error:
            length = part.stat().st_size if part.is_file() else 0
            failures, longest = (1, length) if length > longest else (failures + 1, longest)
            if failures > retries:
                kept = f" {length} bytes are kept in {part}: run it again to go on." if length else ""
                raise DownloadError(f"{url} could not be downloaded: {_reason(error)}.{kept}") from error
            after = getattr(getattr(error, "response", None), "headers", {}).get("Retry-After", "")
        time.sleep(min(int(after), 120) if after.isdigit() else min(2 ** (failures - 1), 30))


def _fetch_rest(url: str, part: Path, *, sha256: str | None, size: int | None, timeout, progress: bool) -> None:
    """One request for the bytes that `part` lacks. Bytes of two versions of the file never come together."""
    origin = _read_origin(part)
    etag = origin.get("etag") or ""
    validator = etag if etag.startswith('"') else origin.get("last_modified")  # a weak ETag (W/) does not mean bytes
    known = origin.get("url") == url and (validator or sha256) and part.is_file()
    start = part.stat().st_size if known else 0
    headers = {"Range": f"bytes={start}-", "If-Range": validator} if start else {}  # requests leaves None out
    with _get(url, headers, timeout) as response:
        new, status = _origin(url, response), response.status_code
        if start and status != 200:
            same = _same_version(origin, new)
            if same and status == 416 and new["size"] == start:
                return  # every byte was here already
            if not (same and response.headers.get("Content-Range", "").startswith(f"bytes {start}-")):
                part.unlink()
                return _fetch_rest(url, part, sha256=sha256, size=size, timeout=timeout, progress=progress)
        elif status != 200:
            raise DownloadError(f"{url} cannot be downloaded: the server answers {status} to a plain request")
        else:
            start = 0
        encoded = response.headers.get("Content-Encoding", "identity").lower() != "identity"
        decode = encoded and not part.stem.endswith(("gz", "bz2", "xz"))  # there it names the file's own format
        if decode:
            new = {"url": url, "size": None}
        if size is not None and new["size"] not in (None, size):
            part.unlink(missing_ok=True)
            raise DownloadError(f"{url} is not the expected file: it has {new['size']} bytes instead of {size}.")
        _write(part, response.raw.stream(CHUNK, decode_content=decode), start, new, progress)


def _write(part: Path, chunks: Iterator[bytes], start: int, origin: dict, progress: bool) -> None:
    """Put `chunks` behind the first `start` bytes of `part`. With start=0 it begins anew, and `origin` is noted."""
    quiet = {} if progress else {"disable": True}  # disable=False would overrule TQDM_DISABLE
    bar = tqdm(total=origin["size"], initial=start, unit="B", unit_scale=True, desc=part.stem, **quiet)
    try:
        with bar, part.open("ab" if start else "wb") as file:
            if not start:  # the old bytes are gone, the new ones have not come
                Path(f"{part}.json").write_text(json.dumps(origin), encoding="utf-8")
            for chunk in chunks:
                file.write(chunk)
                bar.update(len(chunk))
    except OSError as error:  # from the disk: those of the network are StreamErrors
        raise DownloadError(f"cannot write {part}: {error.strerror}. What came so far is kept there.") from error
    length = part.stat().st_size
    if origin["size"] not in (None, length):
        raise StreamError(f"the connection ended after {length} of {origin['size']} bytes")
