"""Chromium for the tests of a file, and a tab for each."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.web.browsers import console_of

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """One browser for all tests of a file: while Playwright runs, asyncio.run cannot, which other files' tests call."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: scripts/setup dev")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: apt install chromium")
    with playwright.sync_playwright() as run:
        browser = run.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium: Any) -> Iterator[Any]:
    """A tab of a phone's size. At the end of the test nothing may stand in its console: no error, and nothing that the
    policy stopped."""
    context = chromium.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark", locale="en-GB")
    made = context.new_page()
    said = console_of(made)
    yield made
    context.close()
    assert said == []
