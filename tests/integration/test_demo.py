"""`lawful demo`, as a stranger types it, with the networks of the repository; then once more in the same folder."""

import json
import signal
import subprocess
import zlib
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from ledger.commands.frame import Invocation
from ledger.reports.checking import open_document
from ledger.reports.dossier import picture_of
from ledger.tampering import change_one_pixel, copies, strip
from models.images import decode, encode_png

from .conftest import picture

OVERRIDES: tuple[str, ...] = ()  # the networks that the repository ships


def demo(folder: Path) -> "subprocess.CompletedProcess[str]":
    argv = Invocation(None, OVERRIDES).argv("demo", "--folder", "here")
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def summary(folder: Path) -> Any:
    return json.loads((folder / "here" / "summary.json").read_text())


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_demo_shows_what_happens_to_copies_and_ends_by_itself(tmp_path: Path) -> None:
    done = demo(tmp_path)
    assert done.returncode == 0, done.stderr
    first = summary(tmp_path)

    rows = {row["name"]: row for row in first["copies"]}
    found_by = {name: row["found_by"] for name, row in rows.items() if name != "cropped by 10 %"}
    assert found_by == {
        "original": "credential",
        "one pixel changed": "credential",
        "metadata stripped": "pixel_sha256",
        "JPEG, quality 60": "soft_binding",
        "halved": "soft_binding",
        "other picture": None,
    }
    assert rows["original"]["answers"] == {
        "credential": "present",
        "content": "intact",
        "signature": "valid",
        "signer": "trusted",
        "ingredients": "none",
        "ledger": "recorded",
    }
    assert rows["one pixel changed"]["answers"]["content"] == "altered"
    assert rows["one pixel changed"]["answers"]["ledger"] == "contradicts"
    assert {rows[name]["answers"]["ledger"] for name in ("JPEG, quality 60", "halved")} == {"similar"}
    assert all(f"{name} " in done.stdout for name in rows)
    assert first["page"] in done.stdout

    report = json.loads((tmp_path / "here" / "report.json").read_text())
    assert report["record_id"] == first["record"]["id"]
    outcomes = {each["axis"]: each["outcome"] for each in report["evidence"]["findings"]}
    assert outcomes.keys() >= {"copy", "style", "content"}
    assert "cannot_tell" not in (outcomes["copy"], outcomes["content"]), "its collection is large enough for both"
    assert outcomes["style"] == "cannot_tell", "twelve studios do not tell how a thirteenth may draw"
    decode((tmp_path / "here" / "generated.png").read_bytes())
    kept = open_document((tmp_path / "here" / "report.pdf").read_bytes()).dossier
    assert picture_of(kept) == (tmp_path / "here" / "generated.png").read_bytes()
    assert all((tmp_path / "here" / row["file"]).is_file() for row in first["copies"])

    with pytest.raises(httpx.ConnectError):  # not on a terminal, so nothing is left running
        httpx.get(first["url"], trust_env=False)
    cluster = (tmp_path / "here" / "ledger" / "postgres" / "cluster").resolve()
    assert not (cluster / "data" / "postmaster.pid").exists()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_demo_runs_again_in_the_same_folder(tmp_path: Path) -> None:
    summaries = []
    for _ in range(2):
        done = demo(tmp_path)
        assert done.returncode == 0, done.stderr
        summaries.append(summary(tmp_path))
    first, second = summaries
    assert second["collection"]["snapshot"] == first["collection"]["snapshot"]
    assert second["collection"]["added"] == 0
    assert [row["answers"] for row in second["copies"]] == [row["answers"] for row in first["copies"]]


@pytest.mark.slow
def test_a_demo_interrupted_while_it_indexes_leaves_nothing_running(tmp_path: Path) -> None:
    works = tmp_path / "here" / "collection"  # drawn already, so that only indexing takes a while
    works.mkdir(parents=True)
    (works / "boat.png").write_bytes(encode_png(picture(1)))
    (works / "works.csv").write_text("path,artist\nboat.png,Ada\n")
    argv = Invocation(None, OVERRIDES).argv("demo", "--folder", "here")
    with subprocess.Popen(
        argv, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("indexing"):
                process.send_signal(signal.SIGINT)  # to it alone: what it started has to be told by it
                break
        told = process.stderr.read()
    assert process.returncode == 130, told
    assert "run it again to go on with the same ledger" in told
    # The database's server stops when the last process that uses it has gone.
    cluster = (tmp_path / "here" / "ledger" / "postgres" / "cluster").resolve()
    assert not (cluster / "data" / "postmaster.pid").exists()


# ---- the copies ----------------------------------------------------------------------------------------------------


def test_changing_one_pixel_changes_exactly_that_and_keeps_the_other_chunks() -> None:
    png = encode_png(picture(1))
    text = (9).to_bytes(4, "big") + b"tEXtkey\0value"
    marked = png[:33] + text + zlib.crc32(text[4:]).to_bytes(4, "big") + png[33:]
    changed = change_one_pixel(marked)
    before, after = decode(marked).pixels.astype(int), decode(changed).pixels.astype(int)
    assert np.count_nonzero(before != after) == 1
    assert np.abs(before - after).max() == 1
    assert b"tEXtkey\0value" in changed


def test_stripping_leaves_the_pixels_and_nothing_else() -> None:
    png = encode_png(picture(1))
    text = (9).to_bytes(4, "big") + b"tEXtkey\0value" + b"\0\0\0\0"
    stripped = strip(png[:33] + text + png[33:])
    assert stripped == png or (decode(stripped).pixels == decode(png).pixels).all()
    assert b"tEXt" not in stripped


def test_every_copy_can_be_opened_and_differs_from_the_original_as_its_name_says() -> None:
    made = {name: decode(data).pixels.shape for name, _, data in copies(encode_png(picture(1, side=96)))}
    assert made == {
        "original": (96, 96, 3),
        "one pixel changed": (96, 96, 3),
        "metadata stripped": (96, 96, 3),
        "JPEG, quality 60": (96, 96, 3),
        "halved": (48, 48, 3),
        "cropped by 10 %": (86, 86, 3),
    }
