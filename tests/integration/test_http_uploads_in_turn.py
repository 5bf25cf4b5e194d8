"""More uploads at once than can be opened: they wait in line, the line has an end, and look-ups go on beside it."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from ledger.runtime import Runtime
from ledger.web.in_turn import WAITING

from .http_ledger import png, serving

pytestmark = pytest.mark.postgres


def test_what_does_not_fit_the_line_is_told_to_come_back_and_the_rest_is_answered(runtime: Runtime) -> None:
    image, at_once = png(), runtime.settings.decoders
    with serving(runtime) as client:

        def ask(_: int) -> tuple[int, str | None]:
            answer = client.post("/v1/matches/byContent", content=image, headers={"content-type": "image/png"})
            return answer.status_code, answer.headers.get("retry-after")

        assert ask(0) == (200, None)
        runtime.files.start(at_once)
        assert len(runtime.files.pids) == at_once
        for pid in runtime.files.pids:
            os.kill(pid, signal.SIGSTOP)
        with ThreadPoolExecutor(at_once + WAITING + 4) as pool:
            asked = [pool.submit(ask, number) for number in range(at_once + WAITING + 4)]
            deadline = time.monotonic() + 60
            while sum(each.done() for each in asked) < 4:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert client.get("/v1/records", params={"file_sha256": "0" * 64}).status_code == 200
            assert client.get("/healthz").status_code == 200
            for pid in runtime.files.pids:
                os.kill(pid, signal.SIGCONT)
            answers = sorted((each.result(60) for each in asked), key=lambda each: each[0])
    assert answers == [(200, None)] * (at_once + WAITING) + [(503, "5")] * 4
    assert threading.active_count() < 40


def test_a_decoder_that_dies_over_an_upload_costs_that_upload_alone(runtime: Runtime) -> None:
    headers = {"content-type": "image/png"}
    with serving(runtime) as client:
        assert client.post("/v1/verifications", content=png(), headers=headers).status_code == 202
        for pid in runtime.files.pids:
            os.kill(pid, signal.SIGSTOP)
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(client.post, "/v1/verifications", content=png(), headers=headers)
            time.sleep(0.5)
            for pid in runtime.files.pids:
                os.kill(pid, signal.SIGSEGV)
                os.kill(pid, signal.SIGCONT)
            refused = asked.result(60)
        assert (refused.status_code, refused.json()["code"]) == (422, "image_undecodable")
        assert client.post("/v1/verifications", content=png(), headers=headers).status_code == 202
