"""Chromium by Playwright, for the tests that look at pages: whether it is here, and one that runs for a while."""

import shutil
from contextlib import contextmanager
from importlib.util import find_spec

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def what_is_missing() -> list[str]:
    """Names of what `running_chromium` needs and this machine lacks."""
    missing = [] if find_spec("playwright") else ["playwright"]
    return missing + ([] if PROGRAM else ["Chromium (on Debian: apt install chromium fonts-noto-core)"])


@contextmanager
def running_chromium():
    """A browser without a window; it is closed in the end."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=PROGRAM, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()
