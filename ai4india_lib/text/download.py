"""Fetches a file over HTTP and verifies it: a broken, changed or mixed transfer never passes for a whole file.

`download` is all that others need, and says the rules.
"""

import hashlib
import json
import os
import re
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import requests
from tqdm.auto import tqdm
from urllib3.exceptions import HTTPError as StreamError  # what requests' raw stream raises

from ..basics.arguments import at_least
from ..basics.files import write_json
from .urls import DownloadError, file_name, without_secrets

CHUNK = 1 << 18  # bytes per read


@contextmanager
def _taking_turns(lock: Path) -> Iterator[None]:
    """Several ranks of one training run ask for the same file at once. The lock ends with its process.

    Where there can be none (a shared folder that is read-only, another user's lock, some drives) it does without.
    """
    with ExitStack() as opened:
        with suppress(ImportError, OSError):  # Windows and some network drives have no such locks
            import fcntl

            readable = lock.exists() and not os.access(lock, os.W_OK)  # another user's
            fcntl.flock(opened.enter_context(lock.open("rb" if readable else "ab")), fcntl.LOCK_EX)
        yield


def _read_origin(path: Path) -> dict:
    """Where the bytes of a file came from, as `_origin` said and NAME.json keeps it; {} if that is not known."""
    try:
        return dict(json.loads(Path(f"{path}.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _number(header: str) -> int | None:
    """The whole number in a header; None if it is none. (`isdigit` takes "²" for one.)"""
    return int(header) if re.fullmatch(r"[0-9]{1,18}", header) else None


def _origin(url: str, response: requests.Response) -> dict:
    """The origin of a file: its URL, and what the server says of the whole of it; None is what it does not say."""
    sent = response.headers
    size = sent.get("Content-Range", "").rpartition("/")[2] or sent.get("Content-Length", "")
    return {
        "url": without_secrets(url),
        "size": _number(size),
        "etag": sent.get("ETag"),
        "last_modified": sent.get("Last-Modified"),
    }


def _same_version(old: dict, new: dict) -> bool:
    """Are two origins those of the same bytes? By ETag, else by date; and by size, which must agree where it is known.

    Some servers keep the ETag of a file that grew.
    """
    if None not in (old.get("size"), new["size"]) and old["size"] != new["size"]:
        return False
    for key in ("etag", "last_modified"):
        if old.get(key) and new[key]:
            return old[key] == new[key]
    return old.get("size") == new["size"] is not None


def _get(url: str, headers: dict, timeout) -> requests.Response:
    """One request. A failure that may pass raises an exception of requests, any other a DownloadError."""
    headers = {"Accept-Encoding": "identity", "User-Agent": "ai4india_lib", **headers}
    try:
        response = requests.get(url, headers=headers, stream=True, timeout=timeout)
    except (requests.TooManyRedirects, ValueError, StreamError) as error:  # URLs or headers that nobody can read
        raise DownloadError(without_secrets(f"{url} cannot be downloaded: {error}")) from None
    except requests.exceptions.SSLError as error:
        if "CERTIFICATE" not in str(error):
            raise
        raise DownloadError(without_secrets(f"{url} cannot be downloaded: {_about_certificate(error)}")) from None
    except requests.RequestException:
        raise
    except OSError as error:  # such as a REQUESTS_CA_BUNDLE that is not there
        raise DownloadError(without_secrets(f"{url} cannot be downloaded: {error}")) from None
    status = response.status_code
    if status in (200, 206, 416):
        return response
    response.close()
    answer = f"the server answers {status} {response.reason}"
    if status in (408, 429) or status >= 500:
        raise requests.HTTPError(answer, response=response)
    shown = without_secrets(url)
    raise DownloadError(f"{shown} cannot be downloaded: {answer}. Is the address right, and open to everyone?")


def _about_certificate(error: Exception) -> str:
    """What a certificate that is not trusted means, and the ways out."""
    reason = re.search(r"certificate verify failed: ([^(\"']+)", str(error))
    return (
        f"the server's certificate is not trusted ({reason[1].strip() if reason else 'it cannot be checked'}). Is the "
        "computer's date right? A school's or an office's proxy shows a certificate of its own: set REQUESTS_CA_BUNDLE "
        "to its file (ask who runs the network), or fetch the file with a browser and give its path instead of the URL"
    )


def _reason(error: Exception) -> str:
    """The error in words; for silence, what to check instead of the names of sockets."""
    if isinstance(error, requests.exceptions.ProxyError):
        return (
            f"the proxy does not let it through ({without_secrets(str(error))[-120:]}): check HTTP_PROXY, HTTPS_PROXY"
        )
    silent = isinstance(error, (requests.ConnectionError, requests.Timeout))
    return "no answer: check the network and the computer's date" if silent else without_secrets(str(error))


def _as_they_come(response: requests.Response, decode: bool) -> Iterator[bytes]:
    """The bytes of a response, none waiting for others: those before a line stalls are kept."""
    if not hasattr(response.raw, "read1"):  # urllib3 1
        yield from response.raw.stream(1 << 10, decode_content=decode)
        return
    while piece := response.raw.read1(CHUNK, decode_content=decode):
        yield piece


def _size(path: Path) -> int:
    """Bytes that are there; 0 without a file."""
    return path.stat().st_size if path.is_file() else 0


@dataclass(frozen=True)
class _Transfer:
    """One file that is wanted: from where, to where, and what is known of it. The arguments are those of `download`."""

    url: str
    path: Path
    sha256: str | None
    size: int | None
    timeout: float | tuple[float, float]
    progress: bool

    @property
    def part(self) -> Path:
        """Where the bytes are until all have come."""
        return Path(f"{self.path}.part")

    @property
    def shown(self) -> str:
        """The URL as it may be shown."""
        return without_secrets(self.url)

    def mismatch(self, path: Path) -> str:
        """What is wrong with the file, in words; "" if nothing is."""
        if self.size is not None and _size(path) != self.size:
            return f"{_size(path)} bytes instead of {self.size}"
        if not self.sha256:
            return ""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return "" if digest == self.sha256 else f"the SHA-256 sum {digest} instead of {self.sha256}"

    def _refuse(self, problem: str) -> NoReturn:
        self.part.unlink(missing_ok=True)
        raise DownloadError(f"{self.shown} is not the expected file: it has {problem}. What came was removed.")

    def is_here(self) -> bool:
        """May a finished file be used again? The rule stands in `download`."""
        if not self.path.is_file():
            return False
        if self.sha256 or self.size is not None:
            return not self.mismatch(self.path)
        if not os.access(self.path.parent, os.W_OK):  # a shared folder
            return True
        try:
            with _get(self.url, {}, self.timeout) as response:  # only its headers are read; some servers refuse HEAD
                new = _origin(self.url, response)
        except (requests.RequestException, DownloadError) as error:
            warnings.warn(f"cannot ask for {self.shown} ({_reason(error)}): using {self.path} as it is", stacklevel=3)
            return True
        actual = _size(self.path)
        return new["size"] in (None, actual) and _same_version(_read_origin(self.path) or {"size": actual}, new)

    def fetch(self, retries: int) -> None:
        """Bring the file to its place, verified; what fails is removed."""
        resumed = self.part.is_file()
        self._fetch_part(retries)
        if resumed and self.mismatch(self.part):  # perhaps only the old bytes are bad
            self.part.unlink()
            self._fetch_part(retries)
        if problem := self.mismatch(self.part):
            self._refuse(problem)
        self.part.replace(self.path)
        Path(f"{self.part}.json").replace(f"{self.path}.json")

    def _fetch_part(self, retries: int) -> None:
        """Ask until all bytes are in `part`, or until `retries` tries in a row have brought nothing new."""
        failures, longest = 0, _size(self.part)
        while True:
            try:
                return self._fetch_rest()
            except (requests.RequestException, StreamError) as error:
                length = _size(self.part)
                failures, longest = (1, length) if length > longest else (failures + 1, longest)
                if failures > retries:
                    kept = f" {length} bytes are kept in {self.part}: run it again to go on." if length else ""
                    raise DownloadError(f"{self.shown} could not be downloaded: {_reason(error)}.{kept}") from None
                after = getattr(getattr(error, "response", None), "headers", {}).get("Retry-After", "")
            wait = _number(after)
            time.sleep(min(2 ** (failures - 1), 30) if wait is None else min(wait, 120))

    def _fetch_rest(self) -> None:
        """One request for the bytes that `part` lacks. Bytes of two versions of the file never come together."""
        old = _read_origin(self.part)
        etag = old.get("etag") or ""
        validator = etag if etag.startswith('"') else old.get("last_modified")  # a weak ETag (W/) does not mean bytes
        start = _size(self.part) if old.get("url") == self.shown and (validator or self.sha256) else 0
        headers = {"Range": f"bytes={start}-", "If-Range": validator} if start else {}  # requests leaves None out
        with _get(self.url, headers, self.timeout) as response:
            new, status, sent = _origin(self.url, response), response.status_code, response.headers
            same = start > 0 and _same_version(old, new)
            if same and status == 416 and new["size"] == start:
                return  # every byte was here already
            if status == 200:
                start = 0  # all of it comes
            elif not start:
                raise DownloadError(
                    f"{self.shown} cannot be downloaded: the server answers {status} to a plain request"
                )
            elif not (same and sent.get("Content-Range", "").startswith(f"bytes {start}-")):
                self.part.unlink()
                return self._fetch_rest()
            packed = self.path.name.endswith(("gz", "bz2", "xz"))  # then an encoding names the file's own format
            if decode := sent.get("Content-Encoding", "identity").lower() != "identity" and not packed:
                new = {"url": self.shown, "size": None}
            if self.size is not None and new["size"] not in (None, self.size):
                self._refuse(f"{new['size']} bytes instead of {self.size}")
            self._write(_as_they_come(response, decode), start, new)
            if new["size"] not in (None, length := _size(self.part)):
                raise StreamError(f"{length} of {new['size']} bytes came")

    def _write(self, chunks: Iterator[bytes], start: int, origin: dict) -> None:
        """Put `chunks` behind the first `start` bytes of `part`. With start=0 it begins anew, and `origin` is noted."""
        quiet = {} if self.progress else {"disable": True}  # disable=False would overrule TQDM_DISABLE
        total = origin["size"]
        bar = tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=self.path.name, **quiet)
        try:
            with bar, self.part.open("ab" if start else "wb") as file:
                if not start:  # the old bytes are gone, the new ones have not come
                    write_json(f"{self.part}.json", origin)
                for chunk in chunks:
                    file.write(chunk)
                    bar.update(len(chunk))
        except OSError as error:  # from the disk: those of the network are StreamErrors
            problem = f"cannot write {self.part}: {error.strerror}. What came so far is kept there."
            raise DownloadError(problem) from error
        if total not in (None, _size(self.part)):
            raise StreamError(f"the connection ended after {_size(self.part)} of {total} bytes")


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
    - without any network if the folder is read-only: a share of the classroom;
    - with a warning if the server cannot be asked: a class without a network works with files copied by hand.

    `timeout` is in seconds: to connect, and between two pieces. Time-outs, broken connections and the statuses 408,
    429 and 5xx are tried again after 1, 2, 4 … 30 s, until `retries` tries in a row have brought nothing new.
    A server that does not send the length can hide a cut-off transfer: give `sha256` there. Two URLs that end in the
    same name do not share a file. Processes of one Linux or macOS machine that want the same file take turns.
    """
    at_least(0, size=size, retries=retries)
    name, folder, shown = file_name(url), Path(folder), without_secrets(url)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _taking_turns(folder / f".{name}.lock"):
            path = folder / name
            if _read_origin(path).get("url", shown) != shown:
                path = folder / f"{hashlib.sha256(shown.encode()).hexdigest()[:8]}-{name}"
            transfer = _Transfer(url, path, sha256 and sha256.strip().lower(), size, timeout, progress)
            if not transfer.is_here():
                transfer.fetch(retries)
    except DownloadError:
        raise
    except OSError as error:  # of the disk: another user's .part, a folder that cannot be made
        problem = f"{shown} cannot be kept in {folder}: {error.strerror or error} ({error.filename})"
        raise DownloadError(f"{problem}. Give a folder that you may write to.") from error
    return path
