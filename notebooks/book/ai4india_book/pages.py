"""A stored notebook becomes a page to read: what only a running notebook needs is folded or said in words.

The notebook's file stays as it is, and is what the page offers for download.
"""

import ast
import json
import re
from pathlib import Path

WIDGET = "application/vnd.jupyter.widget-view+json"
LIVE = '<p class="only-live">In the notebook something to move or to click stands here: open it on a computer.</p>'
COLAB = "https://colab.research.google.com/github/{}/blob/main/{}.ipynb"


def text_of(cell):
    return "".join(cell["source"])


def words_of(node):
    """The letters of a string, or the fixed ones of an f-string."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(words_of(part) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return ""


def titles(code):
    """What the pictures of a cell say: the texts of its titles. A title of this course says what to see."""
    found = []
    plain = re.sub(r"(?m)^\s*[%!].*$", "", code)  # what only a notebook understands
    for call in (node for node in ast.walk(ast.parse(plain)) if isinstance(node, ast.Call)):
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        if name in ("set_title", "suptitle", "title") and call.args:
            found.append(words_of(call.args[0]))
        found += [words_of(keyword.value) for keyword in call.keywords if keyword.arg == "title"]
    return "; ".join(" ".join(title.split()) for title in dict.fromkeys(found) if title)


def fold(cell, what, says):
    """A cell that is closed until the reader opens it."""
    cell["metadata"]["tags"] = [*cell["metadata"].get("tags", []), what]
    cell["metadata"]["mystnb"] = {"code_prompt_show": says, "code_prompt_hide": "Fold"}


def show_without_kernel(output):
    """A widget's stored output is a line of its settings: say instead where it lives."""
    data = output.get("data", {})
    if data.pop(WIDGET, None) is not None and "text/html" not in data:
        output["data"] = {"text/html": LIVE}


def of_a_solution(prose):
    """Its headings stand right under the title; the reason behind an answer is folded as the answer is."""
    if prose.startswith("#"):
        return re.sub(r"(?m)^### ", "## ", prose)
    return f"<details><summary>Show the reason</summary>\n\n{prose}\n\n</details>"


def prepare(notebook, *, solution=False):
    """The same notebook, for reading: the setup folded, answers folded, pictures described, Colab's link a button."""
    section = ""
    for cell in notebook["cells"]:
        code = text_of(cell)
        if cell["cell_type"] == "markdown":
            code = re.sub(r"(?m)^\[Open in Colab\]\(.*\)\n", "", code)
            cell["source"] = of_a_solution(code) if solution else code
            section = (re.findall(r"(?m)^##+ (.+)$", code) or [section])[-1]
            continue
        if cell["cell_type"] != "code":
            continue
        if code.startswith("# Setup:"):
            fold(cell, "hide-cell", "Show the setup cell, the same in every lesson")
        elif solution:
            fold(cell, "hide-cell", "Show the solution")
        for output in cell["outputs"]:
            show_without_kernel(output)
        if any("image/png" in output.get("data", {}) for output in cell["outputs"]):
            alt = titles(code) or f"Picture of the section “{section}”"
            cell["metadata"]["mystnb"] = cell["metadata"].get("mystnb", {}) | {"image": {"alt": alt}}
    return notebook


def promise(notebook):
    """(title, sentence) of a lesson, from its first cell."""
    title, *paragraphs = text_of(notebook["cells"][0]).split("\n\n")
    told = next(paragraph for paragraph in paragraphs if not paragraph.startswith(("[Open in Colab]", "|")))
    return title.removeprefix("# ").strip(), " ".join(told.split())


def list_of_lessons(folder):
    rows = []
    for path in sorted(folder.glob("[0-9][0-9]_*.ipynb")):
        title, told = promise(json.loads(path.read_text(encoding="utf-8")))
        rows.append(f"- **[{title}](../{path.name})**  \n  {told}")
    return "\n".join(rows)


def read(app, docname, content):
    """At `source-read`: the text of a source, before it is parsed."""
    if docname == app.config.root_doc:
        content[0] = content[0].replace("% lessons", list_of_lessons(Path(app.srcdir, "notebooks")))
    if app.env.doc2path(docname).suffix == ".ipynb":
        solution = "/solutions/" in docname
        content[0] = json.dumps(prepare(json.loads(content[0]), solution=solution))
        if solution:  # found by the lesson's link, not by a search
            app.env.metadata[docname]["nosearch"] = True


def page(app, pagename, _template, context, doctree):
    """What the page's bar offers."""
    source = app.srcdir / f"{pagename}.ipynb"
    if doctree is not None and source.is_file():
        repository = app.config.repository
        context["notebook"] = context["pathto"](f"_sources/{pagename}.ipynb", 1)
        context["colab"] = COLAB.format(repository.removeprefix("https://github.com/"), pagename)
    context["has_hindi"] = 'class="hindi"' in context.get("body", "")
    context["repository"] = app.config.repository
    tree = context.get("furo_navigation_tree", "")  # its captions are headings of no level
    context["furo_navigation_tree"] = tree.replace('role="heading"', 'role="heading" aria-level="2"')


def entrance(app, error):
    """`index.html` at the top leads to the front page, also from a folder."""
    if error is None and app.builder.name == "html":
        front = f"{app.config.root_doc}.html"
        (app.outdir / "index.html").write_text(
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>ai4india</title>'
            f'<meta http-equiv="refresh" content="0; url={front}"><a href="{front}">ai4india</a></html>\n',
            encoding="utf-8",
        )


def setup(app):
    app.add_config_value("repository", "", "env", str)
    app.connect("source-read", read)
    app.connect("html-page-context", page, priority=900)  # after the theme
    app.connect("build-finished", entrance)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
