"""python -m ai4india_lib class secret: a teacher's own secret, with which the codes of certificates are made."""

from __future__ import annotations

import argparse
import os
import secrets
from pathlib import Path

USUAL_FILE = ".ai4india-class-secret"  # in the teacher's home folder, never in the course's, which is handed on


def secret_path(named: str | None) -> Path:
    """The file that holds the secret: the one that is named, else the usual one."""
    return Path(named) if named else Path.home() / USUAL_FILE


def read_secret(named: str | None = None) -> bytes:
    """The teacher's secret. Raises FileNotFoundError where there is none, ValueError for a file that holds none."""
    path = secret_path(named)
    if not path.is_file():
        raise FileNotFoundError(f"there is no secret in {path}: make one with python -m ai4india_lib class secret")
    text = path.read_text(encoding="utf-8", errors="replace").strip()
    if len(text) != 64 or set(text) - set("0123456789abcdef"):
        raise ValueError(f"{path} holds no secret of `class secret`: name the right file with --secret")
    return bytes.fromhex(text)


def run(options: argparse.Namespace) -> None:
    """Make the secret, once; one that is there stays."""
    path = secret_path(options.secret)
    if path.exists():
        read_secret(options.secret)
        print(f"{path} holds your secret already: it stays, or codes made with it could not be verified any more")
        return
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(secrets.token_hex(32) + "\n")
    print(f"{path} holds your secret: show it to nobody, and keep a copy. `class collect --certificates` uses it")
