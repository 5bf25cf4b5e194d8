"""Web and worker as an operator runs them, and the client as others use it: nothing stands in for anything."""

import signal
from pathlib import Path

import httpx
import pytest

from ledger import genesis
from ledger.client import Ledger
from ledger.settings import Settings

from .http_ledger import png, process, with_a_port
from .small_networks import save_open

pytestmark = [pytest.mark.postgres, pytest.mark.xdist_group("worker")]


@pytest.mark.slow
def test_an_image_made_and_one_stamped_over_http_are_recognised_by_anyone(settings: Settings, tmp_path: Path) -> None:
    settings = with_a_port(settings)
    key = genesis.found(settings).api_key
    networks = {"LAWFUL_PROFILE": "open"}
    networks |= {f"LAWFUL_{name.upper()}": value for name, value in save_open(tmp_path).items()}
    address = f"http://127.0.0.1:{settings.port}"
    with process(settings, "worker", **networks) as worker, process(settings) as web, Ledger(address, key) as ledger:
        made = ledger.generate("a boat", seed=1, steps=1, width=64, height=64, wait=200)
        assert made.record["made"]["by"] == "generated here"
        seen = ledger.verify(made.data)
        assert seen["found_by"] == "credential"
        assert set(seen["answers"].values()) == {"present", "intact", "valid", "trusted", "none", "recorded"}
        assert seen["evidence"] is not None
        stamped = ledger.stamp(png(3), model="my-model", prompt="a secret")
        with Ledger(address) as anyone:
            assert anyone.verify(png(3))["found_by"] in {"file_sha256", "pixel_sha256"}
            assert [each["id"] for each in anyone.lookup(stamped.data)] == [stamped.record["id"]]
        ready = httpx.get(address + "/readyz", trust_env=False)
        assert (ready.status_code, ready.json()["status"]) == (200, "ready")
        assert ready.json()["checkpoint"]["size"] >= 5
        for each in (web, worker):
            each.send_signal(signal.SIGTERM)
        assert web.wait(30) is not None
        assert worker.wait(60) is not None
