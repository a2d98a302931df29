"""The words of notebooks/GLOSSARY.md: each row can be linked to, and each lesson links a word where it first uses it.

A word is linked from the lesson that explains it on; one that also has an everyday meaning, in that lesson alone; words
of the course itself, such as lesson and check, nowhere.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from docutils import nodes

PAGE = "notebooks/GLOSSARY"
COURSE = {"lesson", "exercise", "predict first", "check", "proof", "list", "row", "error", "random"}
EVERYDAY = set(
    "accept advantage angle archive baseline batch bit block capacity chosen client confidence context curve "
    "discount draft export floor forgetting function gain gate head history key latency layer leak licence "
    "list loss margin mean memory merge norm page packing parents pass position process prompt query rank "
    "request reward scale score seed server shape shuffle slope slot step streaming surprise target "
    "temperature training value worker".split()
)


@dataclass(frozen=True)
class Word:
    """A row of the glossary: its forms in English, what is meant, the lesson that explains it, the row's id."""

    forms: tuple[str, ...]
    meaning: str
    lesson: str
    anchor: str

    def linked_in(self, lesson):
        name = self.forms[0]
        explained = name not in COURSE and self.lesson == lesson
        return explained or (name not in COURSE | EVERYDAY and self.lesson < lesson)


def anchor(english):
    return "word-" + re.sub(r"\W+", "-", english.lower()).strip("-")


def forms_of(english):
    """ "byte-pair encoding (BPE)" → both; "slope, gradient" → both; "rank (of a merge)" → "rank"."""
    named = re.sub(r"\(of [^)]*\)", "", english)
    return tuple(form.strip() for form in re.split(r"[,;()]", named) if form.strip())


@cache
def words(page):
    rows = re.findall(r"(?m)^\| ([^|]+) \|[^|]+\|[^|]+\| ([^|]+) \| \[(\d\d)\]\(", page.read_text(encoding="utf-8"))
    return [
        Word(forms_of(english), meaning.replace("`", ""), lesson, anchor(english)) for english, meaning, lesson in rows
    ]


def pattern(form):
    """As a whole word, also with an s; capitals count in short names such as MLP only."""
    spelt = r"\s+".join(map(re.escape, form.split()))
    ignore_case = "" if re.search(r"[A-Z].*[A-Z]|\d", form) else "(?i:"
    return re.compile(rf"(?<![\w-]){ignore_case}{spelt}s?{')' if ignore_case else ''}(?![\w-])")


def prose(doctree):
    """The texts in which words may be linked: no headings, code, links, tables of contents, or Hindi."""
    closed = (nodes.title, nodes.literal, nodes.reference, nodes.literal_block, nodes.raw, nodes.math, nodes.thead)
    for text in doctree.findall(nodes.Text):
        above, node = [], text.parent
        while node is not None:
            above.append(node)
            node = node.parent
        hindi = len(re.findall(r"[\u0900-\u097f]", text)) > len(text) / 2
        hidden = any(isinstance(node, closed) or "cell_output" in node.get("classes", []) for node in above)
        if any(isinstance(node, nodes.paragraph) for node in above) and not hindi and not hidden:
            yield text, any(isinstance(node, nodes.strong) for node in above)


def first_use(word, texts):
    """(text, match) of a word: bold if it is bold anywhere, for there it is explained."""
    hits = [(text, hit, bold) for text, bold in texts for form in word.forms if (hit := pattern(form).search(text))]
    return next((hit for hit in hits if hit[2]), hits[0] if hits else None)


def link(app, docname, word, text, hit):
    """The matched letters of a text become a link to the glossary."""
    href = app.builder.get_relative_uri(docname, PAGE) + f"#{word.anchor}"
    made = nodes.reference("", hit[0], internal=True, refuri=href, reftitle=word.meaning, classes=["word"])
    parts = [nodes.Text(text[: hit.start()]), made, nodes.Text(text[hit.end() :])]
    text.parent.replace(text, [part for part in parts if part.astext()])


def link_words(app, doctree, docname):
    """At `doctree-resolved`: links of a lesson's words; ids of the glossary's rows."""
    page = Path(app.srcdir, f"{PAGE}.md")
    lesson = re.match(r"notebooks/(\d\d)_", docname)
    if docname == PAGE:
        for table in doctree.findall(nodes.table):
            table["classes"].append("glossary")
            for row in next(iter(table.findall(nodes.tbody))).children:
                row["ids"].append(anchor(row.children[0].astext()))
    elif lesson:
        for word in sorted(words(page), key=lambda word: -len(word.forms[0])):
            hit = first_use(word, list(prose(doctree))) if word.linked_in(lesson[1]) else None
            if hit:
                link(app, docname, word, hit[0], hit[1])


def setup(app):
    app.connect("doctree-resolved", link_words)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
