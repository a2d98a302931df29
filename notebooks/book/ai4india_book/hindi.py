"""Hindi beside English: `<details class="hindi">` of a lesson, and which English it stands for.

The English before such a block, back to the last code, heading or other block, is marked, so that the page's switch can
show one, the other or both (static/book.js). Formulas and quotations are marked if the Hindi has them too; pictures and
tables belong to both.
"""

from itertools import takewhile

from docutils import nodes

SAID = (nodes.paragraph, nodes.bullet_list, nodes.enumerated_list)
REPEATED = (nodes.math_block, nodes.block_quote, nodes.literal_block)


def begins(node):
    return isinstance(node, nodes.raw) and '<details class="hindi"' in node.astext()


def ends(node):
    return isinstance(node, nodes.raw) and "</details>" in node.astext()


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
    for number, block in enumerate(node for node in doctree.findall(nodes.raw) if begins(node)):
        for node in english_of(block):
            node["classes"] += ["english", f"english-{number}"]


def setup(app):
    app.connect("doctree-read", mark)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
