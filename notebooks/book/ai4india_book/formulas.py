"""Formulas as MathML, made when the book is built: no script runs on the phone, and no font but a small one travels.

latex2mathml 3 reads most of our LaTeX. What it lacks is put into words that it knows before, and mended after.
"""

import re
from html import unescape
from xml.etree.ElementTree import Element, tostring

from docutils import nodes
from latex2mathml.converter import convert_to_element
from sphinx.util import logging

logger = logging.getLogger(__name__)
FUNCTIONS = {"log", "ln", "cos", "sin", "arg", "exp", "mod", "max", "min"}
OPENS = set("=(,≈≤≥←[<>")
FENCES = set("⌊⌋⌈⌉")


def readable(latex):
    """The same formula in the LaTeX that latex2mathml knows."""
    latex = re.sub(r"\\\\\[\d+pt\]", r"\\\\", latex).replace(r"\!", "").replace(r"\dots", r"\ldots")
    latex = re.sub(r"\\text\{([^{}]*)\}", lambda text: text[0].replace(r"\_", "_"), latex)
    latex = latex.replace(r"\begin{aligned}", r"\begin{array}{rl}").replace(r"\end{aligned}", r"\end{array}")
    return latex.replace("{gathered}", "{matrix}")


def mend_sign(element):
    """One sign: words keep their spaces, fences are fences, names of functions are no products of letters."""
    text = element.text = unescape(element.text or "")
    if element.tag == "mtext":
        element.text = text.replace(" ", "\u00a0")
    elif element.tag == "mi" and text == "\\arg":
        element.text = "arg"
    elif element.tag == "mi" and text in FENCES:
        element.tag = "mo"
        element.set("stretchy", "false")
    elif text == "∞":
        element.tag = "mi"
    elif text == "¯":
        element.text, element.attrib = "‾", {"stretchy": "false"}
    if text == "|":
        element.set("lspace", "0")
        element.set("rspace", "0")


def mend_prime(element):
    """x′ and z′ᵢ: the sign is raised already, and as an exponent it would fly."""
    primed = element.tag in ("msup", "msubsup") and element[-1].text == "′"
    if primed:
        base = Element("mrow")
        base.extend([element[0], element[-1]])
        base[1].tag = "mo"
        base[1].set("lspace", "0")
        rest = element[1:-1]
        element[:] = [base, *rest]
        element.tag = "msub" if rest else "mrow"


def mend_row(row):
    """Space around names of functions, none behind the minus of a negative number."""
    for place, child in reversed(list(enumerate(row))):
        before = row[place - 1] if place else None
        behind = row[place + 1] if place + 1 < len(row) else None
        name = child[0] if child.tag in ("msub", "msup", "munder") and len(child) else child
        if name.text in FUNCTIONS:
            if name.text in ("max", "min"):
                name.attrib |= {"lspace": "0", "rspace": "0"}
            if behind is not None and behind.text not in ("(", "⁡"):
                row.insert(place + 1, Element("mspace", width="0.167em"))
            if before is not None and (before.tag != "mo" or before.text == "·"):
                row.insert(place, Element("mspace", width="0.167em"))
        elif child.tag == "mo" and child.text == "−" and (before is None or before.text in OPENS):
            child.set("form", "prefix")


def mend(element):
    """What latex2mathml writes, as a browser should set it."""
    for child in element:
        mend(child)
    mend_sign(element)
    mend_prime(element)
    if element.tag == "mtable":
        element.set("displaystyle", "true")
    if element.tag == "msub" and element[0].text in ("max", "min"):
        element.tag = "munder"
    if element.tag in ("mrow", "mtd", "math", "msqrt"):
        mend_row(element)


def mathml(latex, *, display):
    """LaTeX as MathML; `alttext` keeps the source."""
    made = convert_to_element(readable(latex), display="block" if display else "inline")
    mend(made)
    made.set("alttext", " ".join(latex.split()))
    text = tostring(made, encoding="unicode")
    shown = re.sub(r'alttext="[^"]*"', "", text)
    if "\\" in shown or ">&amp;<" in shown:
        logger.warning("latex2mathml does not know a command of the formula %s", latex)
    return text


def visit_inline(self, node):
    self.body.append(mathml(node.astext(), display=False))
    raise nodes.SkipNode


def visit_block(self, node):
    classes = " ".join(["formula", *node["classes"]])
    self.body.append(f'<div class="{classes}">{mathml(node.astext(), display=True)}</div>')
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
