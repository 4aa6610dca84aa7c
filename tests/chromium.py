"""Debian's Chromium for tests of pages, with patience for a busy machine."""

import shutil
from contextlib import contextmanager

import pytest
from playwright.sync_api import expect, sync_playwright

PATH = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# What a page is given to show something, in milliseconds: a limit, so it costs nothing.
PATIENCE = 120_000
needs_chromium = pytest.mark.skipif(
    not PATH, reason="NO CHROMIUM FOUND: the browser tests did not run"
)

expect.set_options(timeout=PATIENCE)


@contextmanager
def launched():
    """Start a browser, and end it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=PATH, args=FLAGS, timeout=PATIENCE)
        yield browser
        browser.close()
