"""A page for who has solved all core exercises, as SVG and PDF, with a code that belongs to its words.

A code that begins with L was made by the learner's own computer, without a secret. It shows that name, date and numbers
of a page belong together; who reads this file can make one. A code that begins with T was made with a teacher's secret:
nobody makes it without that. Neither says who wrote the answers.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
import unicodedata
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ..basics.files import replaced_file
from .exercises import course_exercises
from .tries import own_tries, progress_file

_SHAPE = re.compile(r"ai4india \| (.+) \| (\d{4}-\d\d-\d\d) \| (\d+/\d+) \| (\d+/\d+) \| ([LT](?:-[A-Z2-7]{4}){4})")


@dataclass(frozen=True)
class Certificate:
    """What a certificate says."""

    name: str
    date: str  # 2026-11-29
    core: str  # solved/all: "18/18"
    solved: str  # "40/54"

    def __post_init__(self):
        plain = " ".join(unicodedata.normalize("NFC", self.name).replace("|", " ").split())
        if not plain or len(plain) > 60 or not any(sign.isalnum() for sign in plain):
            raise ValueError(f"a certificate needs a name of 1 to 60 signs, got {self.name[:70]!r}")
        object.__setattr__(self, "name", plain)

    def code(self, secret: bytes | None = None) -> str:
        """L-XXXX-XXXX-XXXX-XXXX; with a teacher's secret T-…"""
        words = f"ai4india certificate|{self.name}|{self.date}|{self.core}|{self.solved}".encode()
        digest = hmac.digest(secret, words, "sha256") if secret else hashlib.sha256(words).digest()
        letters = base64.b32encode(digest[:10]).decode()  # 16 letters
        return "-".join(["T" if secret else "L", *(letters[i : i + 4] for i in range(0, 16, 4))])

    def line(self, secret: bytes | None = None) -> str:
        """All of it in one line, as it also stands in the page's file."""
        return " | ".join(["ai4india", self.name, self.date, self.core, self.solved, self.code(secret)])


def certificate_of(name: str, solved: Collection[str]) -> Certificate:
    """What may be said of who has solved these exercises.

    Raises ValueError as long as a core exercise is open, and where the lessons, which say which these are, are missing.
    """
    exercises = course_exercises()
    if not exercises:
        raise ValueError("the lessons are not here, which say what the core exercises are: run this in the course")
    core = [exercise.name for exercise in exercises.values() if exercise.kind == "core"]
    if missing := [exercise for exercise in core if exercise not in solved]:
        listed = ", ".join(missing[:6]) + (f" and {len(missing) - 6} more" if len(missing) > 6 else "")
        raise ValueError(f"{len(core) - len(missing)} of {len(core)} core exercises are solved; still open: {listed}")
    done = sum(exercise in solved for exercise in exercises)
    return Certificate(name, time.strftime("%Y-%m-%d"), f"{len(core)}/{len(core)}", f"{done}/{len(exercises)}")


def certificate(name: str, folder: str | Path | None = None) -> Path:
    """Make your page when all core exercises are solved: certificate.svg and certificate.pdf. Gives the first's path.

    They lie beside the file that keeps your tries, or in `folder`. Raises ValueError while a core exercise is open.
    """
    made = certificate_of(name, {exercise for exercise, tried in own_tries().items() if tried.solved})
    place = progress_file()
    target = Path(folder) if folder is not None else place.parent if place else Path()
    target.mkdir(parents=True, exist_ok=True)
    draw_certificate(made, target / "certificate.svg")
    print(f"{target / 'certificate.svg'} and .pdf: {made.code()}")
    return target / "certificate.svg"


def draw_certificate(made: Certificate, svg: Path, secret: bytes | None = None) -> None:
    """Write the page as `svg`, and beside it as PDF. Raises ValueError for a name in letters that no font has."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from ..plots import BLUE, ORANGE, use_indic_fonts

    code, about = made.code(secret), {"Title": f"ai4india: {made.name}"}
    with mpl.rc_context({"svg.hashsalt": code}), warnings.catch_warnings():
        warnings.filterwarnings("error", message="Glyph .* missing")
        use_indic_fonts()
        page = Figure(figsize=(11.69, 8.27), facecolor="white")  # A4, lying
        for edge, colour, width in ((0.03, BLUE, 5), (0.045, ORANGE, 1.5)):
            size = 1 - 2 * edge
            page.add_artist(mpl.patches.Rectangle((edge, edge), size, size, fill=False, ec=colour, lw=width))
        for height, size, colour, text in _words(made, code):
            page.text(0.5, height, text, fontsize=size, color=colour, ha="center", va="center")
        try:
            with replaced_file(svg) as beside:
                page.savefig(beside, metadata=about | {"Description": made.line(secret), "Date": None})
            with replaced_file(svg.with_suffix(".pdf")) as beside:
                page.savefig(beside, metadata=about | {"Subject": made.line(secret), "CreationDate": None})
        except UserWarning as missing:
            raise ValueError(
                f"no font here has all letters of {made.name!r} ({missing}): pip install "
                "fontpkg-noto-sans-tamil, or -bengali, -telugu …, or write the name in other letters"
            ) from None


def _words(made: Certificate, code: str) -> list[tuple[float, float, str, str]]:
    """(height, size, colour, text) of each line of the page."""
    from ..plots import BLUE

    (_, all_core), (solved, every) = made.core.split("/"), made.solved.split("/")
    size = min(40.0, 40.0 * 24 / len(made.name))
    honest = "made with a teacher's secret" if code.startswith("T") else "made by the learner's own computer"
    return [
        (0.86, 26, BLUE, "ai4india"),
        (0.79, 15, "black", "Build a language model for an Indian language, and understand every line of it"),
        (0.73, 15, "black", "एक भारतीय भाषा का मॉडल बनाइए, और उसकी हर पंक्ति समझिए"),
        (0.58, size, "black", made.name),
        (0.46, 16, "black", f"solved all {all_core} core exercises of the course, and {solved} of its {every} in all."),
        (0.40, 16, "black", f"ने इस कोर्स के सभी {all_core} मुख्य अभ्यास हल किए, कुल मिलाकर {every} में से {solved}।"),
        (0.29, 15, "black", made.date),
        (0.19, 15, BLUE, code),
        (0.13, 10, "#555555", f"The code was {honest}: python -m ai4india_lib class verify says what it belongs to."),
    ]  # fmt: skip


def read_certificate(svg: Path) -> tuple[Certificate, str]:
    """What stands in a certificate's SVG file, and its code. Raises ValueError for any other file."""
    import html

    text = svg.read_text(encoding="utf-8", errors="replace")
    found = _SHAPE.search(html.unescape(text)) if len(text) < 5_000_000 else None
    if found is None:
        raise ValueError(f"{svg} is no certificate of this course: name its .svg file, or give the code and its words")
    return Certificate(*found.groups()[:4]), found[5]
