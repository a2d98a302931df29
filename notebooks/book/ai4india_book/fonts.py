"""Two fonts travel: Devanagari for words, and signs of formulas. Both are cut down to what the book can show."""

import io
import logging
from importlib.resources import files

from fontTools import subset
from fontTools.ttLib import TTFont
from fontTools.varLib import instancer

DEVANAGARI = [*range(0x0900, 0x0980), 0x200C, 0x200D, 0x25CC, 0x20B9, 0xA8FB, 0xA8FC]
GREEK = range(0x0391, 0x03F6)
FORMULAS = [*range(0x20, 0x7F), *GREEK, *range(0x1D434, 0x1D468), *range(0x1D6E2, 0x1D71C), 0x210E]
FORMULAS += [*range(0x2032, 0x2036), 0xB1, 0xB7, 0xD7, 0xF7, 0x302, 0x304, 0x305, 0x2C6, 0xAF, 0x2016, 0x2026, 0x2113]
FORMULAS += [*range(0x2190, 0x2194), *range(0x2200, 0x2266), 0x22C5, 0x22EF, 0x22A4, *range(0x2308, 0x230C), 0x27E8]
FORMULAS += [0x27E9, 0x2223, 0x2225, 0x2227, 0x22EE, 0x22F1, 0x239B, 0x239C, 0x239D, 0x239E, 0x239F, 0x23A0, 0x23B7]

logging.getLogger("fontTools").setLevel(logging.WARNING)


def opened(path):
    return TTFont(io.BytesIO(path.read_bytes()))


def cut(font, letters):
    """The font with these code points alone, and all shapes that they can join to."""
    cutter = subset.Subsetter(subset.Options(layout_features=["*"], hinting=False, notdef_outline=True))
    cutter.populate(unicodes=letters)
    cutter.subset(font)
    return font


def packed(font):
    """The bytes of a WOFF2 file."""
    font.flavor = "woff2"
    written = io.BytesIO()
    font.save(written)
    return written.getvalue()


def devanagari():
    (path,) = (path for path in files("fontpkg_noto_sans_devanagari").joinpath("files").iterdir())
    font = cut(opened(path), DEVANAGARI)
    return packed(instancer.instantiateVariableFont(font, {"wdth": 100, "wght": (400, 700)}))


def formulas():
    return packed(cut(opened(files("ziamath").joinpath("fonts", "STIXTwoMath-Regular.ttf")), FORMULAS))


def write(app, error):
    if error is not None or app.builder.format != "html":
        return
    for name, make in (("devanagari", devanagari), ("formulas", formulas)):
        target = app.outdir / "_static" / f"{name}.woff2"
        if not target.exists():
            target.write_bytes(make())


def setup(app):
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
