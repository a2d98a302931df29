"""What is wider than a phone. Sentences that were printed in one line are broken into several; tables lose empty heads.

Markdown wants a head for each table. An empty one is a line without sense, most of all for a screen reader.
"""

import re

from docutils import nodes

WIDEST = 90  # letters: no table that the course prints is wider
COLUMNS = re.compile(r"(?m)\S {2,}\S|^ {2,}\S")  # something stands below something


def drop_empty_heads(_app, doctree):
    """At `doctree-read`."""
    for head in list(doctree.findall(nodes.thead)):
        if not head.astext().strip():
            head.parent.remove(head)


def break_long_lines(_app, doctree):
    """At `doctree-read`: outputs that are sentences, and no table, tensor or drawing of letters."""
    for cell in doctree.findall(nodes.container):
        if "cell_output" in cell["classes"]:
            for block in cell.findall(nodes.literal_block):
                text = block.astext()
                if not COLUMNS.search(text) or max(map(len, text.splitlines())) > WIDEST:
                    block["classes"].append("wraps")


def setup(app):
    app.connect("doctree-read", drop_empty_heads)
    app.connect("doctree-read", break_long_lines)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
