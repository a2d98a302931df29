"""Hindi beside English: `<details class="hindi">` of a lesson, and which English it stands for.

The English before such a block, back to the last code, heading or other block, is marked, so that the page's switch can
show one, the other or both (static/book.js). Formulas, pictures and tables belong to both.
"""

from docutils import nodes

SAID = (nodes.paragraph, nodes.bullet_list, nodes.enumerated_list)


def begins(node):
    return isinstance(node, nodes.raw) and '<details class="hindi"' in node.astext()


def english_of(block):
    """The nodes that a Hindi block stands for."""
    siblings = block.parent.children
    for node in reversed(siblings[: siblings.index(block)]):
        ends = isinstance(node, nodes.raw) and "</details>" in node.astext()
        if ends or isinstance(node, nodes.container | nodes.title | nodes.section):
            return
        if isinstance(node, SAID) and not list(node.findall(nodes.image)):
            yield node


def mark(_app, doctree):
    """At `doctree-read`."""
    for number, block in enumerate(node for node in doctree.findall(nodes.raw) if begins(node)):
        for node in english_of(block):
            node["classes"] += ["english", f"english-{number}"]


def setup(app):
    app.connect("doctree-read", mark)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
