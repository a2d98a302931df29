"""What a URL names, and what of it may be shown: passwords and tokens in it are nobody's business."""

import re
from urllib.parse import unquote, urlsplit


class DownloadError(OSError):
    """The file could not be fetched, or what came is not what was asked for."""


def without_secrets(text: str) -> str:
    """A URL, or an error text with URLs, as it may be shown and kept: without names, passwords, tokens in it.

    >>> without_secrets("https://asha:secret@example.org/hi.tar.gz?token=12")
    'https://…@example.org/hi.tar.gz?token=…'
    """
    text = re.sub(r"(?<=://)(?:[^/\s@]*|[^/\s@:]*:[^\s@]*)@", "…@", text)
    return re.sub(r"(?i)([?&][^=&\s]*(?:pass|pwd|token|key|secret|sig|auth|cred)[^=&\s]*=)[^&#\s]+", r"\1…", text)


def _check_url(url: str) -> None:
    """Raises DownloadError for what is no URL that can be fetched."""
    try:
        parts = urlsplit(url)
        is_one = parts.scheme.lower() in ("http", "https") and parts.hostname and (parts.port is None or parts.port)
        problem = ""
    except ValueError as error:  # such as "http://[::1/a", "http://a:port/"
        is_one, problem = False, f" ({error})"
    if not is_one:
        wanted = "give http:// or https://, then the server's name"
        raise DownloadError(without_secrets(f"{url!r} cannot be downloaded: {wanted}{problem}"))


def file_name(url: str) -> str:
    """The last part of the URL's path as a name that every system accepts; never a way to another folder."""
    _check_url(url)
    name = unquote(urlsplit(url).path.rsplit("/", 1)[-1])
    name = re.sub(r'[\x00-\x1f\x7f<>:"/\\|?*]', "_", name).strip(". ")
    if re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?", name):  # devices on Windows
        name = f"_{name}"
    return name.encode()[-200:].decode(errors="ignore") or "download"
