"""Pictures are loaded when the reader comes near them, and keep their place before: nothing jumps."""

import re
from pathlib import Path

from docutils import nodes
from PIL import Image
from sphinx.writers.html5 import HTML5Translator


def size_of(path):
    """(width, height) in pixels, or None: of a picture or of a diagram's viewBox."""
    if path.suffix == ".svg":
        box = re.search(r'viewBox="[\d.-]+ [\d.-]+ ([\d.]+) ([\d.]+)"', path.read_text(encoding="utf-8"))
        return tuple(round(float(number)) for number in box.groups()) if box else None
    with Image.open(path) as image:
        return image.size


class Translator(HTML5Translator):
    def visit_image(self, node):
        path = Path(self.builder.srcdir, node["uri"])
        size = size_of(path) if path.is_file() else None
        super().visit_image(node)
        more = 'loading="lazy" decoding="async" '
        if size:
            more += f'width="{size[0]}" height="{size[1]}" '
        self.body[-1] = self.body[-1].replace("<img ", f"<img {more}", 1)


def open_large(app, doctree, docname):
    """A diagram is a link to itself: on a phone one looks at it alone, and enlarges it."""
    for image in list(doctree.findall(nodes.image)):
        if image["uri"].endswith(".svg") and not isinstance(image.parent, nodes.reference):
            path = app.builder.images.get(image["uri"], Path(image["uri"]).name)
            up = "../" * docname.count("/")
            link = nodes.reference("", "", image.copy(), refuri=f"{up}_images/{path}", internal=True)
            link["classes"].append("large")
            image.replace_self(link)


def setup(app):
    app.set_translator("html", Translator)
    app.connect("doctree-resolved", open_large)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
