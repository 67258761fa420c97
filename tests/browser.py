"""Debian's Chromium, driven by playwright: pages as people see them. Skips where either is missing."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
OPTIONS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


class Seen:
    """A page that is open, with all that it asked for and complained of."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def texts(self, selector: str) -> list[str]:
        """The text of each element, as it is seen."""
        return [text.strip() for text in self.page.locator(selector).all_inner_texts()]

    def choose(self, state: str) -> None:
        self.page.locator(f'input[name="state"][value="{state}"]').check()

    def unfold(self, summaries: Iterable[Any]) -> None:
        """Open them, and wait for what that draws: the event "toggle" comes a while after the click."""
        for summary in summaries:
            summary.click()
        self.page.locator("#rows > li:not(.open):has(> details[open])").first.wait_for(state="detached")


@contextmanager
def chromium() -> Iterator[Any]:
    """The browser. Skips the test where it or playwright is not installed."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=OPTIONS)
        yield browser
        browser.close()


def opened(browser: Any, path: Path, **context: Any) -> Seen:
    """The file in a new window; context: playwright's, as color_scheme or viewport."""
    seen = Seen(browser.new_context(**context).new_page())
    seen.page.goto(path.absolute().as_uri())
    return seen
