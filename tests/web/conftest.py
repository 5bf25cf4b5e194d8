"""A ledger behind the real server on a free port, and a real browser to look at it."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from ledger.runtime import Runtime
from ledger.settings import Settings

from ..integration.http_ledger import served, with_a_port  # noqa: TID252 - tests are no package

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next((found for name in NAMES if (found := shutil.which(name))), None)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Those of the ledger behind the site; they name the port that is served."""
    return with_a_port(settings)


@pytest.fixture
def site(runtime: Runtime) -> Iterator[str]:
    """The address of the served ledger."""
    with served(runtime) as address:
        yield address


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed on this machine")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()
