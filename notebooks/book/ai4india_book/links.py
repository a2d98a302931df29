"""Links to files that are no pages of the book lead to the repository, whose address is in pyproject.toml alone."""

from pathlib import Path
from posixpath import dirname, join, normpath

from docutils import nodes
from sphinx import addnodes

TRAVELS = {".pdf", ".svg", ".png"}  # small files, which the book brings


def address(app, path):
    """Of a file or folder of the repository, `path` from its top."""
    kind = "tree" if Path(app.srcdir, path).is_dir() else "blob"
    return f"{app.config.repository}/{kind}/main/{path}"


def target(app, docname, link):
    """Where a link of a page leads: a path from the repository's top, or "" if nothing is there."""
    path = normpath(join(dirname(docname), link["reftarget"].split("#")[0]))
    if link.get("refdomain") == "doc":
        path = Path(app.env.doc2path(link["reftarget"], False)).as_posix()
    return path if Path(app.srcdir, path).exists() else ""


def resolve(app, doctree):
    """At `doctree-read`."""
    docname = app.env.docname
    links = [*doctree.findall(addnodes.pending_xref), *doctree.findall(addnodes.download_reference)]
    for link in links:
        if link.get("reftype") != "myst" or link.get("reftarget", "").startswith("#"):
            continue
        path = target(app, docname, link)
        is_page = link.get("refdomain") == "doc" and link["reftarget"] in app.env.found_docs
        if path and not is_page and Path(path).suffix not in TRAVELS:
            outside = nodes.reference("", "", *link.children[0].children, refuri=address(app, path), internal=False)
            link.replace_self(outside)


def setup(app):
    app.connect("doctree-read", resolve, priority=400)  # before downloads are collected
    return {"parallel_read_safe": True, "parallel_write_safe": True}
