"""From dropping a known file to its verdict on the screen, in Chromium: `python -m benchmarks.drop [--runs 20]`.

A PNG of noise, the largest of its size, is issued by a ledger in a folder that is thrown away, and dropped onto its
page. The clock runs from the drop event to the later of the answer's first paint and the end of its parsing: hashing,
look-up, navigation, the whole answer. Beside it, in the same run and page: a fetch that has nothing to answer.
"""

import argparse
import base64
import shutil

from playwright.sync_api import Page, sync_playwright

from benchmarks.measuring import PORT, ratio, show, spread, throwaway_ledger, web
from benchmarks.report import issued
from ledger import lookup

TARGET_MS = 500
EMPTY = """async () => {
  const begun = performance.now();
  await (await fetch("/healthz", {cache: "no-store"})).text();
  return performance.now() - begun;
}"""
DROP = """base64 => {
  const bytes = Uint8Array.from(atob(base64), each => each.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], "picture.png", {type: "image/png"}));
  const begun = performance.timeOrigin + performance.now();
  document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
  return begun;
}"""
SHOWN = """() => {
  const [paint] = performance.getEntriesByName("first-contentful-paint");
  const [page] = performance.getEntriesByType("navigation");
  return paint && page.domInteractive && performance.timeOrigin + Math.max(paint.startTime, page.domInteractive);
}"""


def once(page: Page, url: str, file: str) -> tuple[float, float]:
    """Seconds from drop to verdict, and seconds of an empty fetch."""
    page.goto(url)
    empty = page.evaluate(EMPTY)
    begun = page.evaluate(DROP, file)
    page.wait_for_url("**/r/*")
    assert "credential is intact" in page.locator("h1.verdict").inner_text()
    shown = page.wait_for_function(SHOWN).json_value()
    return (shown - begun) / 1000, empty / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--side", type=int, default=1024)
    options = parser.parse_args()
    with throwaway_ledger() as runtime:
        record_id = issued(runtime, options.side)
        with runtime.sessions() as session:
            data = runtime.storage.get(lookup.file_key(session, record_id)[0])
        file = base64.b64encode(data).decode()
        with web(runtime.settings.home), sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page, url = browser.new_page(), f"http://127.0.0.1:{PORT}"
            once(page, url, file)  # starts what starts late
            runs = [once(page, url, file) for _ in range(options.runs)]
            browser.close()
    dropped, empty = ([each[at] for each in runs] for at in (0, 1))
    show(
        {
            "file_bytes": len(data),
            "target_ms": TARGET_MS,
            "drop_to_verdict": spread(dropped),
            "empty_fetch": spread(empty),
            "ratio": ratio(dropped, empty),
        }
    )


if __name__ == "__main__":
    main()
