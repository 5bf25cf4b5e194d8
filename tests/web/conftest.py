"""A ledger served by the real server on a free port, and a real browser to look at it."""

import shutil
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from ledger import genesis
from ledger.runtime import Runtime, open_runtime, sequencing
from ledger.settings import Settings
from ledger.web.app import serve

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    """The ledger behind the site, founded, with a sequencer beside it. Its settings name the port that is served."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    settings = settings.model_copy(update={"port": port, "public_url": f"http://127.0.0.1:{port}"})
    genesis.found(settings)
    with open_runtime(settings) as opened, sequencing(opened):
        yield opened


@pytest.fixture
def site(runtime: Runtime) -> Iterator[str]:
    """The address of the served ledger."""
    stop, failure = threading.Event(), []

    def run() -> None:
        try:
            serve(runtime.settings, stop)
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        for _ in range(200):
            assert not failure, failure
            try:
                httpx.get(runtime.settings.public_url + "/healthz")
                break
            except httpx.TransportError:
                time.sleep(0.05)
        yield runtime.settings.public_url
    finally:
        stop.set()
        thread.join(15)
    assert not thread.is_alive()


@pytest.fixture(scope="session")
def chromium() -> Iterator["Browser"]:  # noqa: F821
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()
