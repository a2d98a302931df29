"""Protects what a learner sees and does in JupyterLab, in a real browser: lesson 00 by *Run All*, the stop button and a
progress bar, the sliders of lesson 10, and pages that can be read in wide and in narrow windows, light and dark.

Pictures of the pages go to the folder that AI4INDIA_SCREENSHOTS names.
"""

import os
from pathlib import Path

import pytest
from jupyterlab_pages import ROOT, jupyterlab, what_is_missing

LACKING = what_is_missing()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(LACKING), reason=f"needs {', '.join(LACKING)}")]
LESSONS = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
OWN_TEXT = """\
Path("my-text.txt").write_text("\\n".join(read * 6), encoding="utf-8")
loaders = download_and_prepare_data("my-text.txt", batch_size, tokenizer, context_size)
train(model, *loaders, get_hyperparameters("quick", max_steps=3)).steps"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("jupyterlab")
    pictures = Path(os.environ.get("AI4INDIA_SCREENSHOTS", folder / "pictures")).resolve()
    with jupyterlab(folder, pictures) as opened:
        yield opened


def look_at(lab, name):
    """Nothing is cut in a wide and in a narrow window, without the list of files; a wide one hides nothing that has to
    be scrolled sideways; dark texts stand on light paper, and light ones on dark."""
    for width in (1300, 390):
        lab.show_all(width)
        wide = lab.page.evaluate("looks.tooWide()")
        assert wide["cut"] == [], f"at {width} px"
        assert width == 390 or wide["scrolled"] == []
        for theme in ("JupyterLab Light", "JupyterLab Dark"):
            lab.theme(theme)
            assert lab.page.evaluate("looks.faint(4.5)") == [], theme
            lab.picture(f"{name}-{width}-{theme.split()[1].lower()}")


def test_lesson_00_goes_on_after_the_stop_button(lab):
    """In the page that opens by itself. The rest of the lesson tells with what was learned so far."""
    lab.wait("path => looks.opened(path)", "notebooks/00_start_here.ipynb")
    lab.menu("Run", "Run All Cells")
    lab.wait("() => looks.cell('training').kinds.includes('image/png') && looks.cell('training').busy")
    lab.page.wait_for_timeout(2000)  # some more steps
    lab.page.evaluate("looks.select('training')")
    lab.picture("00-in-training")
    lab.page.locator("[data-command='notebook:interrupt-kernel']").click()
    lab.wait("() => looks.cells().every(cell => cell.number && !cell.busy)")
    cells = lab.cells()
    assert {name: cell["error"] for name, cell in cells.items() if cell["error"]} == {}
    assert "you stopped it after" in cells["facts"]["text"] and "image/png" in cells["training"]["kinds"]
    assert "names in each" in cells["names"]["text"] and "logits as our model: True" in cells["save"]["text"]


def test_a_bar_shows_how_far_a_run_is(lab):
    """The learner's own cell, at the end of the lesson before this test."""
    written = lab.run_new_cell(OWN_TEXT)
    assert written["error"] is None and written["kinds"].count("application/vnd.jupyter.widget-view+json") == 1
    bar = lab.page.locator(".jp-OutputArea-output", has=lab.page.locator(".progress-bar")).last
    assert "3/3" in bar.inner_text()
    look_at(lab, "00-after-a-run")


@pytest.mark.long
def test_sliders_of_lesson_10_answer(lab):
    lab.open("10_generation")
    lab.menu("Edit", "Clear Outputs of All Cells")
    lab.page.evaluate("looks.select('playground')")
    lab.menu("Run", "Run All Above Selected Cell")
    lab.run("playground")
    panel = lab.page.locator(".widget-interact")
    write = panel.get_by_role("button", name="write")
    written = "(document.querySelector('.widget-interact .jp-OutputArea-output')?.innerText ?? '')"
    told = []
    for key, shown in (("ArrowRight", "0.80"), ("End", "2.00"), ("Home", "0.00")):
        temperature = panel.locator(".widget-hslider").first
        temperature.locator(".noUi-handle").press(key)
        assert temperature.locator(".widget-readout").inner_text() == shown
        before = lab.page.evaluate(written)
        write.click()  # the kernel hears of it a moment later: what stands there until then is the story before
        lab.wait(f"before => {written} !== before && looks.rests()", before)
        told.append(lab.page.evaluate(written))
    assert len(set(told)) == 3 and all(text.startswith("एक दिन मीरा") for text in told)
    greedy = lab.cells()["three"]["text"].splitlines()[0]  # "0.0: एक दिन … …"
    assert told[2].startswith(greedy.removeprefix("0.0: ").removesuffix(" …"))
    look_at(lab, "10-with-sliders")


@pytest.mark.long
@pytest.mark.parametrize("lesson", LESSONS)
def test_pages_can_be_read(lab, lesson):
    """As they come, not run."""
    lab.open(lesson)
    look_at(lab, lesson)
    lab.close()
