"""Gets text: download, verify, unpack safely, stream lines.

A corpus is a `.tar.gz` (or a folder) with `train.txt` and `test.txt` somewhere inside: UTF-8, one sentence or one
document per line. `train_and_test_lines` finds both, by path or URL; `TextLines` streams them, however large.
"""

import codecs
import gzip
import hashlib
import io
import json
import re
import shutil
import tarfile
import time
import uuid
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

import requests
from tqdm.auto import tqdm
from urllib3.exceptions import HTTPError as StreamError  # what requests' raw stream raises

try:
    from lzma import LZMAError
except ImportError:  # a Python that was built without xz
    LZMAError = EOFError

CHUNK = 1 << 18  # bytes per read
DOWNLOADS = Path("data/downloads")


class CorpusError(ValueError):
    """The text or the archive is not what it should be; the message says what to do."""


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
    name, folder = _file_name(url), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with _taking_turns(folder / f".{name}.lock"):
        path = folder / name
        if _read_origin(path).get("url", url) != url:
            path = folder / f"{hashlib.sha256(url.encode()).hexdigest()[:8]}-{name}"
        if path.is_file() and _is_current(path, url, sha256, size, timeout):
            return path
        part = Path(f"{path}.part")
        resumed = part.is_file()
        fetch = partial(_fetch_rest, url, part, sha256=sha256, size=size, timeout=timeout, progress=progress)
        _retry(fetch, url, part, retries)
        if resumed and _mismatch(part, sha256, size):  # perhaps only the old bytes are bad
            part.unlink()
            _retry(fetch, url, part, retries)
        if problem := _mismatch(part, sha256, size):
            part.unlink()
            raise DownloadError(f"{url} is not the expected file: it has {problem}. What came was removed.")
        part.replace(path)
        Path(f"{part}.json").replace(f"{path}.json")
    return path


def _file_name(url: str) -> str:
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
    sent = response.headers
    size = sent.get("Content-Range", "").rpartition("/")[2] or sent.get("Content-Length", "")
    size = int(size) if size.isdigit() else None
    return {"url": url, "size": size, "etag": sent.get("ETag"), "last_modified": sent.get("Last-Modified")}


def _same_version(old: dict, new: dict) -> bool:
    for key in ("etag", "last_modified"):
        if old.get(key) and new[key]:
            return old[key] == new[key]
    return old.get("size") == new["size"] is not None


def _mismatch(path: Path, sha256: str | None, size: int | None) -> str:
    """What is wrong with the file, in words; "" if nothing is."""
    actual = path.stat().st_size
    if size is not None and actual != size:
        return f"{actual} bytes instead of {size}"
    digest = hashlib.sha256()
    if sha256:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    wrong = sha256 and digest.hexdigest() != sha256
    return f"the SHA-256 sum {digest.hexdigest()} instead of {sha256}" if wrong else ""


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
    silent = isinstance(error, (requests.ConnectionError, requests.Timeout))
    return "no answer: check the network and the computer's date" if silent else str(error)


def _retry(fetch, url: str, part: Path, retries: int) -> None:
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
        quiet = {} if progress else {"disable": True}  # disable=False would overrule TQDM_DISABLE
        bar = tqdm(total=new["size"], initial=start, unit="B", unit_scale=True, desc=part.stem, **quiet)
        try:
            with bar, part.open("ab" if start else "wb") as file:
                if not start:  # the old bytes are gone, the new ones have not come
                    Path(f"{part}.json").write_text(json.dumps(new), encoding="utf-8")
                for chunk in response.raw.stream(CHUNK, decode_content=decode):
                    file.write(chunk)
                    bar.update(len(chunk))
        except OSError as error:  # from the disk: those of the network are StreamErrors
            raise DownloadError(f"cannot write {part}: {error.strerror}. What came so far is kept there.") from error
    if new["size"] not in (None, part.stat().st_size):
        raise StreamError(f"the connection ended after {part.stat().st_size} of {new['size']} bytes")


@contextmanager
def _explain_damage(path: Path) -> Iterator[None]:
    """Turn what tarfile, gzip, bz2 and xz raise on bad bytes into a CorpusError that helps."""
    try:
        yield
    except (tarfile.TarError, EOFError, zlib.error, LZMAError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk's fault, not the archive's
            raise
        with path.open("rb") as file:
            start = file.read(1)
        hints = {b"P": "Is it a zip? Unpack it and give the folder.", b"<": "Is it a web page and not the file?"}
        hint = hints.get(start, "It is damaged, cut off, or no archive: get it again, or pack it as .tar.gz.")
        raise CorpusError(f"{path} cannot be read as an archive. {hint} (The reader says: {error})") from error


@contextmanager
def _open_tar(path: Path) -> Iterator[tarfile.TarFile]:
    with _explain_damage(path), tarfile.open(path, "r:*") as tar:
        yield tar


def _check_end(tar: tarfile.TarFile) -> None:
    """tarfile takes a missing or a broken header for the end. After a true end there are only zeros."""
    end_mark = tar.fileobj.tell() - tar.offset
    rest = tar.fileobj.read(1 << 20)  # reading to the end also makes gzip check its sum
    if end_mark < tarfile.BLOCKSIZE or rest.strip(b"\0"):
        raise tarfile.ReadError("the end mark is missing")


def extract(archive: str | Path, folder: str | Path, *, max_bytes: int = 20 * 2**30, max_files: int = 10_000) -> Path:
    """Unpack a tar archive (plain, gz, bz2 or xz) as the new folder `folder`, and return its path.

    Archives can be hostile: tarfile's `data` filter keeps every file inside the folder, links and devices are refused
    (text needs none), and no more than `max_bytes` and `max_files` (folders count too) are written.
    All is unpacked beside the folder, and renamed at the very end: there is never half of it.
    """
    if not hasattr(tarfile, "data_filter"):
        raise RuntimeError("this Python cannot unpack archives safely: update to 3.10.12, 3.11.4, 3.12 or later")
    archive, folder = Path(archive), Path(folder)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists: delete it, or unpack {archive} to another folder")
    fresh = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    num_bytes = 0
    try:
        with _open_tar(archive) as tar:
            fresh.mkdir(parents=True)
            for num_files, member in enumerate(tar, 1):
                num_bytes += member.size
                if num_files > max_files or num_bytes > max_bytes:
                    limits = f"max_files={max_files} or max_bytes={max_bytes}"
                    raise CorpusError(f"{archive} holds more than {limits}: if you trust it, raise the limit")
                if not (member.isfile() or member.isdir()):
                    raise CorpusError(f"{archive} holds {member.name!r}, a link or a device: it was not unpacked")
                try:
                    tar.extract(member, fresh, filter="data")
                except tarfile.FilterError as error:
                    raise CorpusError(f"{archive} is not safe, it was not unpacked: {error}") from error
            _check_end(tar)
        if folder.is_dir():
            folder.rmdir()
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


class TextLines:
    """The lines of a text file, as often as you like, with only one of them in memory at a time.

    `path` is a `.txt`, a `.txt.gz`, or a tar archive together with `member`, the name of a text inside it; nothing is
    unpacked to the disk. A line is a `str` without its end, which is "\\n" or "\\r\\n" and nothing else: U+2028, U+0085
    or a vertical tab, which occur inside Indian text, stay in the line. Blank lines are left out. The text is UTF-8;
    a byte order mark at its start is dropped. It pickles as its path, so it goes to the workers of a DataLoader.
    """

    def __init__(self, path: str | Path, member: str | None = None):
        self.path, self.member = Path(path), member
        self._num_bytes: int | None = None
        if not self.path.is_file():
            raise FileNotFoundError(f"there is no file {path}")
        if member is None and re.search(r"(?i)\.(tar(\.\w+)?|tgz|tbz2|txz)$", self.path.name):
            raise CorpusError(f"{path} is an archive: name the text in it, as in TextLines(path, 'folder/train.txt')")

    def __iter__(self) -> Iterator[str]:
        with self._open() as (stream, _):
            yield from _lines(stream, str(self))

    @property
    def num_bytes(self) -> int:
        """Size of the uncompressed text in bytes, line ends included. For `.gz` this reads it through, once."""
        if self._num_bytes is None:
            with self._open() as (stream, size):
                known = size is not None
                self._num_bytes = size if known else sum(map(len, iter(partial(stream.read, CHUNK), b"")))
        return self._num_bytes

    @contextmanager
    def _open(self) -> Iterator[tuple[BinaryIO, int | None]]:
        """The bytes of the text, and their number if the file system or the archive tells it."""
        if self.member is None:
            with _explain_damage(self.path), self.path.open("rb") as file:
                yield _uncompressed(file, self.path.stat().st_size)
            return
        with _open_tar(self.path) as tar:
            for member in tar:
                if member.isfile() and PurePosixPath(member.name) == PurePosixPath(self.member):
                    yield _uncompressed(tar.extractfile(member), member.size)
                    return
        raise CorpusError(f"{self.path} holds no file {self.member!r}")

    def __str__(self) -> str:
        return self.path.as_posix() + (f" ({self.member})" if self.member else "")

    def __repr__(self) -> str:
        return f"TextLines({self.path.as_posix()!r}{f', {self.member!r}' if self.member else ''})"


def _uncompressed(file: BinaryIO, size: int) -> tuple[BinaryIO, int | None]:
    file = io.BufferedReader(file, CHUNK)
    if file.peek(2)[:2] == b"\x1f\x8b":  # gzip, whatever its name: no UTF-8 text begins so
        return io.BufferedReader(gzip.GzipFile(fileobj=file), CHUNK), None
    return file, size


def _lines(stream: BinaryIO, name: str) -> Iterator[str]:
    for number, raw in enumerate(stream, 1):  # a binary stream ends its lines at \n alone
        if number == 1:
            raw = raw.removeprefix(codecs.BOM_UTF8)
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            utf16 = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
            found = "It looks like UTF-16" if utf16 else f"Byte {error.start + 1} there is {raw[error.start]:#04x}"
            raise CorpusError(f"{name}, line {number}, is not UTF-8. {found}. Save the text as UTF-8.") from error
        line = line[:-2] if line.endswith("\r\n") else line.removesuffix("\n")
        if line and not line.isspace():
            yield line


def train_and_test_lines(source: str | Path, *, folder: str | Path = DOWNLOADS) -> tuple[TextLines, TextLines]:
    """The training and the test text of a corpus.

    `source` is a URL (its file is kept in `folder`), a tar archive, or a folder. `train.txt` and `test.txt` (or
    `train.txt.gz`, `test.txt.gz`) may lie anywhere inside, once each. An archive is read through once to be sure.
    """
    return _survey(source, Path(folder))[:2]


def read_about(source: str | Path, *, folder: str | Path = DOWNLOADS) -> dict:
    """What `about.json` beside `train.txt` says, such as `{"test_floor_bits_per_byte": 0.15}`; {} if there is none."""
    return _survey(source, Path(folder))[2]


def _survey(source: str | Path, folder: Path) -> tuple[TextLines, TextLines, dict]:
    path = _local(source, folder)
    found: dict[str, list[TextLines]] = {"train.txt": [], "test.txt": []}
    abouts: dict[PurePosixPath, bytes] = {}  # folder -> content
    for place, lines, content in _files(path):
        if place.name == "about.json":
            abouts[place.parent] = content
        elif content is None:
            raise CorpusError(f"{lines} is empty: it needs one sentence or document per line")
        else:
            found[place.name.removesuffix(".gz")].append(lines)
    for name, texts in found.items():
        if len(texts) != 1:
            there = ", ".join(map(str, texts)) or "none"
            raise CorpusError(f"{path} must hold one train.txt and one test.txt. What it has as {name}: {there}")
    train, test = found["train.txt"][0], found["test.txt"][0]
    try:
        about = json.loads(abouts.get(PurePosixPath(train.member or train.path.as_posix()).parent, b"{}"))
        if not isinstance(about, dict):
            raise ValueError(f"it must be an object {{…}}, not {about!r:.60}")
    except ValueError as error:
        raise CorpusError(f"about.json beside {train} cannot be used: {error}") from error
    return train, test, about


def _local(source: str | Path, folder: Path) -> Path:
    """The archive or folder on this computer that `source` means."""
    is_url = "://" in str(source)
    path = Path(_file_name(str(source))) if is_url else Path(source).expanduser()
    if not (is_url or path.exists()):
        raise FileNotFoundError(f"there is no {source} in {Path.cwd()}: give an archive, a folder or a URL")
    if path.name.lower().endswith((".txt", ".txt.gz")) and (is_url or path.is_file()):
        raise CorpusError(
            f"{source} is a single text, but a corpus has two. Make a folder with train.txt (most of the lines) and "
            "test.txt (the others, say every 50th line: the model must not see them), and give the folder."
        )
    return download(str(source), folder) if is_url else path


def _files(path: Path) -> Iterator[tuple[PurePosixPath, TextLines, bytes | str | None]]:
    """Each about.json with its bytes, and each train.txt and test.txt (or .gz) with its first line, None if empty."""

    def look(place: PurePosixPath, lines: TextLines, file: BinaryIO, size: int):
        if place.name == "about.json":
            return place, lines, file.read(1 << 20)
        stream, lines._num_bytes = _uncompressed(file, size)
        return place, lines, next(_lines(stream, str(lines)), None)

    wanted = ("train.txt", "train.txt.gz", "test.txt", "test.txt.gz", "about.json")
    if path.is_dir():
        for inside in sorted(path.rglob("*")):
            if inside.name in wanted and inside.is_file():
                with _explain_damage(inside), inside.open("rb") as file:
                    yield look(PurePosixPath(inside.as_posix()), TextLines(inside), file, inside.stat().st_size)
        return
    with _open_tar(path) as tar:
        for member in tar:
            place = PurePosixPath(member.name)
            if place.name in wanted and member.isfile():
                yield look(place, TextLines(path, member.name), tar.extractfile(member), member.size)
        _check_end(tar)
