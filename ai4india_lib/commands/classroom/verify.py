"""python -m ai4india_lib class verify: whether a certificate's code belongs to its words."""

from __future__ import annotations

import argparse
import hmac
from pathlib import Path

from ...checks.certificates import Certificate, read_certificate
from .secret import read_secret

OWN = "It was made without a secret: anybody can make one. It shows only that these words belong together."
TEACHERS = "It was made with your secret, for answers that were marked with it. Who wrote them it does not say."


def run(options: argparse.Namespace) -> None:
    """Compute the code of a page anew. Raises ValueError where it is another one."""
    made, code = _asked(options)
    code = "-".join([code[:1], *(code.replace("-", "")[1:][i : i + 4] for i in range(0, 16, 4))]).upper()
    secret = read_secret(options.secret) if code.startswith("T") else None
    if not hmac.compare_digest(code.encode(), made.code(secret).encode()):
        whose = " with this secret" if secret else ""
        raise ValueError(
            f"the code {code} does not belong to {made.name}, {made.date}, {made.core}, {made.solved}{whose}"
        )
    print(f"{code} belongs to: {made.name}, {made.date}, core exercises {made.core}, exercises {made.solved}")
    print(f"Compare that with the page. {TEACHERS if secret else OWN}")


def _asked(options: argparse.Namespace) -> tuple[Certificate, str]:
    """What the page says, and its code: from its .svg, or from the words of the command line."""
    words = {name: getattr(options, name) for name in ("name", "date", "core", "solved")}
    if options.what.lower().endswith((".svg", ".pdf")) or Path(options.what).is_file():
        if any(words.values()):
            raise ValueError(f"the words of {options.what} stand in the file: leave --name and so on out")
        if not Path(options.what).is_file() or options.what.lower().endswith(".pdf"):
            raise FileNotFoundError(f"there is no file {options.what} of a certificate: name its .svg, or its code")
        return read_certificate(Path(options.what))
    if missing := [f"--{name}" for name, value in words.items() if not value]:
        raise ValueError(f"what does the page say? Give {', '.join(missing)} too, or name its .svg file")
    return Certificate(**words), options.what
