"""The pictures of the pages in docs/images: `python -m benchmarks.screenshots [FOLDER]`, FOLDER being `lawful demo`'s.

Plays the demo, so that whatever the pages show was made, measured and decided by the ledger itself; then somebody hands
in a part of a work as theirs, its artist claims that it copies the work, and Chromium takes the pictures. Look at them
before committing.
"""

import argparse
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import sqlalchemy as sa
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from ledger.claims.opening import Wish, open_claim
from ledger.client import Ledger
from ledger.commands.frame import Invocation
from ledger.database.tables.works import Artist, Work
from ledger.demo import demo
from ledger.runtime import open_runtime

IMAGES = Path(__file__).parent.parent / "docs" / "images"
DESK, PHONE = (1100, 820), (390, 844)
ARTIST = "Studio Clerestory"  # whose manner the demo's prompt names
COLOURS = 128
DECIDED_WITHIN_S = 300


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


def claimed(folder: Path, url: str) -> str:
    """The address of a claim, decided by the demo's worker, on a stamped part of a work."""
    with open_runtime(Invocation(folder / "ledger", ()).settings()) as runtime:
        with runtime.sessions() as session:
            works = sa.select(Work).join(Artist).where(Artist.name == ARTIST).order_by(Work.title)
            work = session.scalars(works).first()
        assert work is not None
        with Image.open(folder / "collection" / ARTIST / work.source.rpartition("/")[2]) as picture:
            part = picture.convert("RGB").resize((400, 400)).crop((60, 40, 360, 330))
        with Ledger(url, api_key=(folder / "ledger" / "demo-api-key").read_text().strip()) as ledger:
            stamped = ledger.stamp(part, model="somebody's")
        wish = Wish(
            kind="copies",
            claimant=ARTIST,
            about=uuid.UUID(stamped.record["id"]),
            work_id=work.id,
            words="This is a part of mine.",
        )
        claim_id = open_claim(runtime, wish, identity_id=None)
    for _ in range(DECIDED_WITHIN_S):
        if httpx.get(f"{url}/v1/claims/{claim_id}", trust_env=False).json()["decision"]:
            break
        time.sleep(1)
    return f"/claims/{claim_id}"


def take(browser: Browser, address: str, name: str, size: tuple[int, int], scheme: str = "light") -> None:
    """One picture, in few colours, as pages need no more."""
    width, height = size
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,  # type: ignore[arg-type]
    )
    page = context.new_page()
    page.goto(address)
    page.wait_for_load_state("networkidle")
    path = IMAGES / f"{name}.png"
    page.screenshot(path=path)
    context.close()
    with Image.open(path) as picture:
        few = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    print(f"{path.relative_to(IMAGES.parent.parent)}: {path.stat().st_size / 1000:.0f} kB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("demo"))
    options = parser.parse_args()
    with demo(options.folder, Invocation(None, ()), print) as summary, chromium() as browser:
        claim = claimed(options.folder, summary.url)
        take(browser, summary.url, "page-check", DESK)
        take(browser, summary.page, "page-record", (DESK[0], 1150))
        take(browser, summary.page, "page-record-phone", PHONE, "dark")
        take(browser, f"{summary.url}/log", "page-log", DESK)
        take(browser, summary.url + claim, "page-claim", (DESK[0], 1020))


if __name__ == "__main__":
    main()
