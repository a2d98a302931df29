"""The book: all lessons as pages that need no network. `sphinx-build -W -c notebooks/book . build/book` makes it.

The sources lie where they are (notebooks, READMEs), so the source folder is the repository. Nothing is run: the stored
outputs are shown. What is special about this book stands in the package beside this file, one idea a module.
"""

import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
PROJECT = tomllib.loads((HERE.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = PROJECT["name"]
project_copyright = "MIT licence"
repository = PROJECT["urls"]["Repository"]
language = "en"

extensions = ["myst_nb", *(f"ai4india_book.{part}" for part in ("pages", "links", "glossary", "hindi", "formulas"))]
extensions += [f"ai4india_book.{part}" for part in ("pictures", "tables", "fonts", "search")]
root_doc = "notebooks/book/index"
include_patterns = [
    "README.md",
    "notebooks/*.md",
    "notebooks/[0-9][0-9]_*.ipynb",
    "notebooks/solutions/*.ipynb",
    "notebooks/book/*.md",
    "data/**.md",
    "models/README.md",
    "ai4india_lib/**.md",
]
# folders that need not be looked into
exclude_patterns = [".*", "**/.*", "venv", "my", "build", "dist", "tests", "models/*/**", "data/downloads"]

source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}
nb_execution_mode = "off"
nb_ipywidgets_js = {}  # else from a server: sliders move in the notebook only
nb_number_source_lines = False
nb_code_prompt_show = "Show the {type}"
nb_code_prompt_hide = "Fold the {type}"
nb_mime_priority_overrides = [
    ("html", "application/vnd.jupyter.widget-view+json", None),
    ("html", "text/html", 1),
    ("html", "image/png", 2),
]
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = "ai4india"
html_static_path = ["static"]
templates_path = ["templates"]
html_css_files = ["book.css"]
html_js_files = ["book.js"]
html_show_sphinx = False
html_sourcelink_suffix = ""  # _sources/ has the notebooks as they are: their download
html_use_index = False
html_domain_indices = False
html_show_search_summary = False  # it would fetch each page that was found, which a page from a folder may not
html_search_language = "ai4india"
html_math_renderer = "mathml"
_letters = "'Book Devanagari', system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif"
_code = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'Roboto Mono', 'DejaVu Sans Mono', 'Book Devanagari', monospace"
html_theme_options = {
    "light_css_variables": {"font-stack": _letters, "font-stack--monospace": _code},
    "top_of_page_buttons": [],
    "navigation_with_keys": True,
}
