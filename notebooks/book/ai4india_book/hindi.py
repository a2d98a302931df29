"""Hindi beside English: `<details class="hindi">` of a lesson, and which English it stands for.

The English before such a block, back to the last code, heading or other block, is marked, so that the page's switch can
show one, the other or both (static/book.js). Formulas and quotations are marked if the Hindi has them too; pictures and
tables belong to both. A cell that ends one section and begins the next has one block for both: it is cut at its
headings, and each piece goes where its English stands. The two summaries are each other's translation.
"""

from itertools import takewhile

from docutils import nodes

SAID = (nodes.paragraph, nodes.bullet_list, nodes.enumerated_list)
SUMMARIES = {"Summary": "summary-en", "सारांश": "summary-hi"}
REPEATED = (nodes.math_block, nodes.block_quote, nodes.literal_block)


def begins(node):
    return isinstance(node, nodes.raw) and '<details class="hindi"' in node.astext()


def ends(node):
    return isinstance(node, nodes.raw) and "</details>" in node.astext()


def heads(node):
    """Is it the Hindi of a heading, a bold line?"""
    said = [part for part in node if part.astext()] if isinstance(node, nodes.paragraph) else []
    return len(said) == 1 and isinstance(said[0], nodes.strong)


def before(section):
    """Where the text that stands before a section ends: (the section that has it, the place in there)."""
    parent, place = section.parent, section.parent.index(section)
    if not isinstance(parent[place - 1], nodes.section):
        return parent, place
    parent = parent[place - 1]
    while isinstance(parent[-1], nodes.section):
        parent = parent[-1]
    return parent, len(parent)


def divide(block):
    """Leave the last heading's piece where it is, and take what is before it to the sections before."""
    section = block.parent
    inside = section[section.index(block) + 1 :]
    hindi = list(takewhile(lambda node: not ends(node), inside))
    if ends(block) or len(hindi) == len(inside):
        return  # printed by a cell, as a whole
    closing, pieces = inside[len(hindi)], [[]]
    for node in hindi:
        pieces += [[]] if heads(node) else []
        pieces[-1].append(node)
    for piece in reversed([piece for piece in pieces if piece][:-1]):
        for node in piece:
            node.parent.remove(node)
        section, place = before(section)
        section[place:place] = [block.deepcopy(), *piece, closing.deepcopy()]


def english_of(block):
    """The nodes that a Hindi block stands for."""
    siblings = block.parent.children
    place = siblings.index(block)
    hindi = list(takewhile(lambda node: not ends(node), siblings[place + 1 :]))
    marked = SAID + tuple(kind for kind in REPEATED if any(isinstance(node, kind) for node in hindi))
    for node in reversed(siblings[:place]):
        if ends(node) or isinstance(node, nodes.container | nodes.title | nodes.section):
            return
        if isinstance(node, marked) and not list(node.findall(nodes.image)):
            yield node


def mark(_app, doctree):
    """At `doctree-read`."""
    for section in doctree.findall(nodes.section):
        if title := SUMMARIES.get(section[0].astext()):
            section["classes"].append(title)
    for block in [node for node in doctree.findall(nodes.raw) if begins(node)]:
        divide(block)
    for number, block in enumerate(node for node in doctree.findall(nodes.raw) if begins(node)):
        for node in english_of(block):
            node["classes"] += ["english", f"english-{number}"]


def setup(app):
    app.connect("doctree-read", mark)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
