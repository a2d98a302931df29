"""Protects the book (notebooks/book): it builds without a warning, needs no network, reads on a phone, finds Hindi.

Building needs the extra `book`, looking at it a Chromium, `playwright` and `axe-playwright-python`; without them the
tests are skipped. What is read from a notebook is tested everywhere.
"""

import gzip
import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
from functools import cache, partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from chromium import running_chromium, what_is_missing

ROOT = Path(__file__).parent.parent
BOOK = ROOT / "notebooks" / "book"
LESSONS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
SOLUTIONS = sorted((ROOT / "notebooks" / "solutions").glob("*.ipynb"))
NEEDS = ("sphinx", "myst_nb", "furo", "fontTools", "brotli", "latex2mathml", "ziamath")
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1300, "height": 900}


def module(name):
    """One of the book's own modules, without Sphinx where it needs none."""
    spec = importlib.util.spec_from_file_location(f"book_{name}", BOOK / "ai4india_book" / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


def cell(kind, text, **more):
    return {"cell_type": kind, "source": text, "metadata": {}, **more}


# What is read from a notebook


def test_a_page_folds_and_describes_what_a_notebook_shows():
    pages = module("pages")
    drawn = {"output_type": "display_data", "data": {"image/png": "", "text/plain": "<Figure>"}}
    sliders = {"output_type": "display_data", "data": {pages.WIDGET: {}, "text/plain": "interactive(…)"}}
    told = cell(
        "code", '%matplotlib inline\nfig.suptitle("Loss falls")\nax.set_title(f"after {n} steps")', outputs=[drawn]
    )
    bare = cell("code", "plot(x)", outputs=[drawn, sliders])
    notebook = {
        "cells": [
            cell("markdown", "# 01 · Text\n\n[Open in Colab](https://x)\n\nYou learn."),
            cell("code", "# Setup: the same", outputs=[]),
            cell("markdown", "## 1 · Why"),
            told,
            bare,
        ]
    }
    assert pages.promise(json.loads(json.dumps(notebook))) == ("01 · Text", "You learn.")
    read = pages.prepare(notebook)["cells"]
    assert "Colab" not in read[0]["source"] and "You learn." in read[0]["source"]
    assert read[1]["metadata"]["tags"] == ["hide-cell"]
    assert told["metadata"]["mystnb"]["image"]["alt"] == "Loss falls; after … steps"
    assert "1 · Why" in bare["metadata"]["mystnb"]["image"]["alt"]
    assert bare["outputs"][1]["data"] == {"text/html": pages.LIVE}


def test_a_solution_folds_its_answer_and_its_reason():
    cells = [cell("markdown", "### Core: a mask"), cell("code", "x = 1", outputs=[]), cell("markdown", "Because.")]
    task, answer, reason = module("pages").prepare({"cells": cells}, solution=True)["cells"]
    assert task["source"] == "## Core: a mask" and answer["metadata"]["tags"] == ["hide-cell"]
    assert reason["source"].startswith("<details>")


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_each_picture_of_a_lesson_is_described(path):
    notebook = module("pages").prepare(json.loads(path.read_text(encoding="utf-8")))
    for shown in notebook["cells"]:
        if any("image/png" in output.get("data", {}) for output in shown.get("outputs", [])):
            assert len(shown["metadata"]["mystnb"]["image"]["alt"]) > 15


def test_words_keep_their_marks_in_the_search():
    pytest.importorskip("sphinx", reason="the extra `book` is not installed")
    search = module("search")
    assert search.split("बच्चों की कहानी।") == ["बच्चों", "की", "कहानी"]
    assert search.split("ज़रा") == search.split("\u095bरा") == ["जरा"] and search.split("हाँ") == search.split("हां")
    assert search.split("क्\u200dष") == search.split("क्ष") and search.split("தமிழ், top-k") == ["தமிழ்", "top", "k"]


def test_formulas_become_mathml():
    pytest.importorskip("latex2mathml", reason="the extra `book` is not installed")
    pytest.importorskip("sphinx", reason="the extra `book` is not installed")
    mathml = module("formulas").mathml
    shown = mathml(r"\begin{gathered} x' = -\max_i |W_i| \\[4pt] \text{head\_dim} \end{gathered}", display=True)
    shown = re.sub(r'alttext="[^"]*"', "", shown)
    assert "\\" not in shown and "<mtable" in shown and "<munder>" in shown and "head_dim" in shown
    assert 'form="prefix">−' in shown and "<msup>" not in shown


def test_a_word_is_linked_where_it_is_explained():
    nodes = pytest.importorskip("docutils.nodes", reason="the extra `book` is not installed")
    glossary = module("glossary")
    word = glossary.Word(("byte-pair encoding", "BPE"), "merges", "03", "word-bpe")
    plain = [(nodes.Text("No ABPES, but BPE."), False), (nodes.Text("Byte-pair encoding"), True)]
    assert glossary.first_use(word, plain)[1][0] == "Byte-pair encoding"
    assert glossary.first_use(word, plain[:1])[1].span() == (14, 17)
    assert glossary.first_use(word, [(nodes.Text("byte-pair encodings-like"), False)]) is None
    assert [word.linked_in(lesson) for lesson in ("02", "03", "04")] == [False, True, True]
    known = glossary.words(ROOT / "notebooks" / "GLOSSARY.md")
    assert len({word.anchor for word in known}) == len(known) >= 120


def test_the_hindi_of_a_cell_is_cut_at_its_headings():
    """Each piece goes to the English that it stands for: an answer before the next section, a text before its part."""
    nodes = pytest.importorskip("docutils.nodes", reason="the extra `book` is not installed")

    def section(title, *parts):
        return nodes.section("", nodes.title("", title), *parts)

    def says(text):
        return nodes.paragraph("", text)

    def hindi(*texts):
        parts = [
            nodes.paragraph("", "", nodes.Text(""), nodes.strong("", text)) if text[0].isdigit() else says(text)
            for text in texts
        ]
        fold = ('<details class="hindi">', "</details>")
        return [nodes.raw("", fold[0], format="html"), *parts, nodes.raw("", fold[1], format="html")]

    first = section("1", says("one"), nodes.container(""), says("answer"))
    second = section("2", says("two"), *hindi("उत्तर", "2 दो", "दो"))
    inner = section("3.1", says("task"), *hindi("3 तीन", "बिंदु", "3.1 काम"))
    page = section("page", first, second, section("3", says("dots"), inner))
    module("hindi").mark(None, page)
    marked = [(node.astext(), node["classes"][1]) for node in page.findall(nodes.paragraph) if node["classes"]]
    assert marked == [(said, f"english-{n}") for n, said in enumerate(("answer", "two", "dots", "task"))]
    assert [part.astext() for part in first[3:]] == ["answer", '<details class="hindi">', "उत्तर", "</details>"]
    assert [part.astext() for part in page[-1][2:-1]] == ['<details class="hindi">', "3 तीन", "बिंदु", "</details>"]


def test_the_workflow_runs_the_readmes_command_and_publishes_from_main_alone():
    yaml = pytest.importorskip("yaml")
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "book.yml").read_text(encoding="utf-8"))
    build, publish = workflow["jobs"]["build"], workflow["jobs"]["publish"]
    commands = [step["run"] for step in build["steps"] if "run" in step]
    assert f"`{commands[1]}`" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert commands[2].endswith("pytest tests/test_book.py")
    assert publish["needs"] == "build" and publish["if"] == "github.event_name == 'push'"
    assert workflow[True]["push"] == {"branches": ["main"]}  # YAML reads the word `on` as true


# The book as files


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """Its folder, built from the repository as it stands; or one that was built before, named in AI4INDIA_BOOK."""
    if "AI4INDIA_BOOK" in os.environ:
        return Path(os.environ["AI4INDIA_BOOK"]).resolve()
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"the extra `book` is not installed: {', '.join(missing)}")
    folder = tmp_path_factory.mktemp("book") / "html"
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-c", str(BOOK), str(ROOT), str(folder)]
    ran = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr[-3000:]
    return folder


class Page(HTMLParser):
    """What a page names: ids, links, what is loaded with it, pictures, headings."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.loaded, self.pictures, self.headings = set(), [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        self.ids |= {named.get("id")}
        if tag == "a" and named.get("href"):
            self.links.append(named["href"])
        loads = tag in ("link", "script", "img", "iframe", "source")
        if loads and named.get("rel") not in ("search", "next", "prev", "index"):
            self.loaded += [named[key] for key in ("src", "href") if key in named]
        if tag == "img":
            self.pictures.append(named)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))


@cache
def pages_of(folder):
    return {path: Page(path) for path in sorted(folder.rglob("*.html"))}


@pytest.mark.slow
def test_each_lesson_and_solution_is_a_page_and_a_download(book):
    for path in [*LESSONS, *SOLUTIONS]:
        name = path.relative_to(ROOT)
        assert (book / name.with_suffix(".html")).exists()
        assert (book / "_sources" / name).read_bytes() == path.read_bytes()


@pytest.mark.slow
def test_links_inside_the_book_lead_somewhere(book):
    broken = []
    for path, page in pages_of(book).items():
        for link in [*page.links, *page.loaded]:
            parts = urlsplit(link)
            if parts.scheme or link in ("#", ""):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            known = pages_of(book)[target].ids if target in pages_of(book) else None
            if not target.exists() or (parts.fragment and known is not None and unquote(parts.fragment) not in known):
                broken.append((path.relative_to(book).as_posix(), link))
    assert broken == []


@pytest.mark.slow
def test_links_to_the_repository_lead_to_files_of_it(book):
    repository = re.search(r'Repository = "(.+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))[1]
    links = {link for page in pages_of(book).values() for link in page.links if link.startswith(repository + "/")}
    paths = {re.fullmatch(rf"{repository}/(?:blob|tree)/main/([^#]+)(?:#.*)?", link)[1] for link in links}
    assert paths and [path for path in sorted(paths) if not (ROOT / path).exists()] == []


@pytest.mark.slow
def test_nothing_is_loaded_from_another_host(book):
    foreign = {link for page in pages_of(book).values() for link in page.loaded if re.match("(https?:)?//", link)}
    sheets = "".join(path.read_text(encoding="utf-8") for path in book.rglob("*.css"))
    assert foreign == set() and re.findall(r"""url\(["']?(?:https?:)?//|@import""", sheets) == []


@pytest.mark.slow
def test_pictures_are_described_wait_and_keep_their_place(book):
    for path, page in pages_of(book).items():
        for picture in page.pictures:
            assert len(picture.get("alt") or "") > 15, (path.name, picture)
            assert picture["loading"] == "lazy" and picture["width"] and picture["height"], (path.name, picture)
            assert not picture["src"].startswith("data:")


@pytest.mark.slow
def test_headings_are_in_order(book):
    for path, page in pages_of(book).items():
        steps = [level - before for before, level in zip([0, *page.headings], page.headings, strict=False)]
        assert max(steps, default=1) <= 1 and page.headings.count(1) <= 1, (path.name, page.headings)


@pytest.mark.slow
def test_lessons_link_their_words_to_the_glossary(book):
    words = module("glossary").words(ROOT / "notebooks" / "GLOSSARY.md")
    linked = {}
    for path in LESSONS:
        html = (book / "notebooks" / f"{path.stem}.html").read_text(encoding="utf-8")
        linked[path.name[:2]] = re.findall(r'class="word [^>]*href="GLOSSARY\.html#([\w-]+)"', html)
    assert all(len(set(anchors)) == len(anchors) > 3 for anchors in linked.values()), "each once, at its first use"
    there = [word for word in words if word.linked_in(word.lesson) and word.lesson in linked]
    unlinked = [word.forms[0] for word in there if word.anchor not in linked[word.lesson]]
    assert len(unlinked) <= 0.2 * len(there), f"some stand in headings only, but not all of {unlinked}"


@pytest.mark.slow
def test_solutions_are_not_found_by_the_search(book):
    index = (book / "searchindex.js").read_text(encoding="utf-8")
    found = json.loads(index.removeprefix("Search.setIndex(").removesuffix(")"))
    hidden = {place for place, name in enumerate(found["docnames"]) if "/solutions/" in name}
    lists = [places if isinstance(places, list) else [places] for places in found["terms"].values()]
    assert len(hidden) == len(SOLUTIONS) and not hidden & set(chain(*lists))


# The book in a browser


@pytest.fixture(scope="module")
def chromium():
    if lacking := what_is_missing():
        pytest.skip(f"needs {', '.join(lacking)}")
    with running_chromium() as browser:
        yield browser


def left(request):
    """Not missing: the next page was asked for before this picture was there."""
    return request.failure == "net::ERR_ABORTED"


@pytest.fixture
def visit(chromium, book):
    """A function that opens a page of the book from its folder, and fails if it complains or asks a network."""
    said, contexts = [], []

    def visit(name, *, size=PHONE, dark=False, storage=True):
        context = chromium.new_context(viewport=size, color_scheme="dark" if dark else "light")
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: None if request.url.startswith("file:") else said.append(request.url))
        page.on("requestfailed", lambda request: None if left(request) else said.append(request.url))
        page.goto((book / name.partition("?")[0]).as_uri() + name[len(name.partition("?")[0]) :])
        return page

    yield visit
    for context in contexts:
        context.close()
    assert said == []


def names_of(book):
    return [path.relative_to(book).as_posix() for path in pages_of(book) if path != book / "index.html"]


@pytest.mark.slow
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_no_page_is_wider_than_the_screen(visit, book, size):
    page = visit("notebooks/book/index.html", size=size)
    for name in names_of(book):
        page.goto((book / name).as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], name
        script = """() => [...document.querySelectorAll("article *")].filter((node) => {
            if (node.closest("pre, .table-wrapper, .formula, details:not([open]), math")) return false;
            return node.getBoundingClientRect().right > innerWidth + 1;
        }).map((node) => node.outerHTML.slice(0, 120))"""
        assert page.evaluate(script) == [], name


LOOKED_AT = ["notebooks/book/index", "notebooks/06_attention", "notebooks/16_evaluation", "notebooks/GLOSSARY"]
LOOKED_AT += ["notebooks/TEACHING", "notebooks/solutions/06_attention", "README", "search"]


OTHERS = [f"notebooks/{path.stem}" for path in LESSONS] + [f"notebooks/solutions/{path.stem}" for path in SOLUTIONS]
OTHERS = [pytest.param(name, marks=pytest.mark.long) for name in OTHERS if name not in LOOKED_AT]


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", [*LOOKED_AT, *OTHERS])
def test_axe_finds_nothing_serious(visit, name, dark):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page = visit(f"{name}.html", dark=dark)
    page.evaluate("""() => {
        document.querySelectorAll("details").forEach((node) => { node.open = true; });
        document.getAnimations().forEach((one) => one.finish());
    }""")  # what was folded fades in: half way its colours are paler
    found = axe.Axe().run(page, options={"preload": False}).response["violations"]
    serious = [
        (one["id"], node["html"][:200], node["failureSummary"][:300])
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
    assert serious == []


@pytest.mark.slow
@pytest.mark.parametrize("asked", ["कहानी", "बच्चों", "बच्चो", "कहान", "attention"])
def test_the_search_finds_words_from_a_folder(visit, asked):
    page = visit(f"search.html?q={asked}")
    page.wait_for_selector("#search-results li a")
    page.click("#search-results li:first-child a")
    page.wait_for_selector("article span.highlighted")


@pytest.mark.slow
def test_the_front_page_is_found(visit):
    page = visit("index.html")
    page.wait_for_url("**/notebooks/book/index.html")
    page.click("text=Begin with lesson 00")
    page.click(".next-page")
    assert page.inner_text("h1").startswith("01")


@pytest.mark.slow
def test_predictions_stay_folded(visit, book):
    html = (book / "notebooks" / "06_attention.html").read_text(encoding="utf-8")
    page = visit("notebooks/06_attention.html")
    folded = page.locator("details.hide")
    assert folded.count() == len(re.findall('<details class="[^"]*hide', html)) > 5
    assert page.locator("details.hide[open]").count() == 0


@pytest.mark.slow
def test_conjuncts_are_drawn_with_the_books_own_font(visit):
    """क्ष as one letter is narrower than क् and ष side by side, and the font is the one that travels."""
    page = visit("notebooks/01_text_and_scripts.html")
    page.wait_for_function("document.fonts.check('16px \"Book Devanagari\"', 'क')")
    script = """(text) => { const box = document.createElement("span"); box.textContent = text;
        document.querySelector("article").append(box); const width = box.getBoundingClientRect().width;
        box.remove(); return width; }"""
    joined, apart = (page.evaluate(script, text) for text in ("क्षक्षक्ष", "क्\u200cषक्\u200cषक्\u200cष"))
    assert joined < 0.8 * apart
    assert page.evaluate("[...document.fonts].filter((font) => font.status === 'loaded').length") >= 1


def with_hindi(book):
    for path in sorted((book / "notebooks").glob("[0-9]*.html")):
        if '<details class="hindi"' in path.read_text(encoding="utf-8"):
            return path.relative_to(book).as_posix()
    pytest.skip("no lesson has Hindi blocks")


@pytest.mark.slow
def test_one_switch_opens_or_hides_all_hindi_and_is_remembered(visit, book):
    page = visit(with_hindi(book))
    hindi, english = page.locator("details.hindi"), page.locator(".english").first
    assert hindi.first.is_visible() and english.is_visible() and hindi.first.get_attribute("open") is None
    page.click("button[data-words=hi]")
    assert page.locator("details.hindi[open]").count() == hindi.count() and not english.is_visible()
    hindi.first.locator("summary").click()
    english.wait_for(state="visible")
    page.click("button[data-words=both]")
    assert page.locator("details.hindi[open]").count() == hindi.count() and english.is_visible()
    page.click("button[data-words=en]")
    page.reload()
    assert not hindi.first.is_visible() and english.is_visible()
    assert page.get_attribute("button[data-words=en]", "aria-pressed") == "true"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["06_attention", "18_scaling"])
def test_in_hindi_alone_no_english_text_is_left_that_has_its_hindi(visit, name):
    page = visit(f"notebooks/{name}.html")
    page.click("button[data-words=hi]")
    script = """() => [...document.querySelectorAll("article p")].filter((p) => p.checkVisibility() &&
        !p.closest("details, .lesson-bar, .cell, table") && p.innerText.split(/\\s+/).length > 6)
        .map((p) => p.innerText)"""
    left = [text for text in page.evaluate(script) if not re.search("[ऀ-ॿ]", text)]
    assert left == []


class Packed(SimpleHTTPRequestHandler):
    """Serves files as web hosts do: text is compressed on the way. The server notes the size of each file."""

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        text = path.suffix in (".html", ".css", ".js", ".svg")
        body = path.read_bytes()
        self.server.loaded.append(len(body))
        body = gzip.compress(body) if text else body
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Length", str(len(body)))
        if text:
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server(book):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Packed, directory=str(book)))
    server.loaded, server.address = [], f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


LARGEST = sorted(LESSONS, key=lambda path: path.stat().st_size)[-3:]


@pytest.mark.slow
def test_what_a_lesson_loads_at_first_is_small(chromium, server):
    """With its fonts and the pictures near the top, nothing kept from another page."""
    for path in LESSONS:
        server.loaded.clear()
        context = chromium.new_context(viewport=PHONE)
        page = context.new_page()
        page.goto(f"{server.address}/notebooks/{path.stem}.html")
        page.wait_for_function("document.fonts.status === 'loaded'")
        context.close()
        assert 100_000 < sum(server.loaded) <= 1.5e6, f"{path.stem}: {sum(server.loaded)} bytes"


def seconds_to_first_words(chromium, url):
    """On a processor a quarter as fast, behind what Chromium calls Slow 4G."""
    context = chromium.new_context(viewport=PHONE)
    page = context.new_page()
    wire = context.new_cdp_session(page)
    wire.send("Network.enable")
    down, up = 1.6e6 / 8 * 0.9, 0.75e6 / 8 * 0.9  # bytes a second
    limits = {"offline": False, "latency": 562.5, "downloadThroughput": down, "uploadThroughput": up}
    wire.send("Network.emulateNetworkConditions", limits)
    wire.send("Emulation.setCPUThrottlingRate", {"rate": 4})
    page.goto(url)
    painted = "performance.getEntriesByType('paint').find((one) => one.name === 'first-contentful-paint')"
    page.wait_for_function(painted)
    seconds = page.evaluate(f"{painted}.startTime") / 1000
    context.close()
    return seconds


@pytest.mark.slow
@pytest.mark.long  # a busy machine would fail it
@pytest.mark.parametrize("path", LARGEST, ids=lambda path: path.stem)
def test_words_are_soon_there_on_a_slow_phone(chromium, server, path):
    """The best of three, for the machine may have other work."""
    seconds = min(seconds_to_first_words(chromium, f"{server.address}/notebooks/{path.stem}.html") for _ in range(3))
    print(f"{path.stem}: first words after {seconds:.1f} s")
    assert seconds <= 3
