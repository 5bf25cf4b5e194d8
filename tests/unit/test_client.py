"""The client without a ledger: what it imports, what it sends, and how it answers when nobody is there."""

import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest

from ledger.client import Ledger, encoded
from ledger.errors import BadRequest, LedgerError, Unavailable
from tests.ports import free_port

HEAVY = ("torch", "sqlalchemy", "litestar", "psycopg", "procrastinate", "diffusers", "transformers", "faiss", "c2pa")


def test_importing_it_loads_nothing_heavy() -> None:
    code = f"import ledger.client, sys; print([name for name in {HEAVY} if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_nobody_there_is_one_clear_error() -> None:
    with Ledger(f"http://127.0.0.1:{free_port()}", api_key="k") as ledger, pytest.raises(Unavailable) as error:
        ledger.record("x")
    assert error.value.code == "ledger_unreachable"
    assert "lawful up" in error.value.next_step


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, html="<h1>Welcome</h1>"),
        httpx.Response(502, text="bad gateway"),
        httpx.Response(302, headers={"location": "https://login.example"}),
        httpx.Response(500, json=["no", "problem"]),
    ],
)
def test_somebody_else_answering_is_told_apart_from_a_ledger(answer: httpx.Response) -> None:
    transport = httpx.MockTransport(lambda _: answer)  # servers that are no ledger cannot all be had
    with Ledger("http://ledger.test", api_key="k", transport=transport) as ledger, pytest.raises(Unavailable) as error:
        ledger.record("x")
    assert error.value.code == "not_a_ledger"


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (np.zeros((4, 4, 3), np.float32), "array_unsupported"),
        (np.zeros((4, 4), np.uint8), "array_unsupported"),
        (Path("/nowhere/at/all.png"), "file_unreadable"),
        ("a\0b", "file_unreadable"),
        (42, "image_type_unsupported"),
    ],
)
def test_what_is_no_image_is_refused_before_anything_is_sent(given: object, code: str) -> None:
    with pytest.raises(BadRequest) as error:
        encoded(given)  # type: ignore[arg-type]
    assert error.value.code == code


def test_no_error_holds_the_key() -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(401, json={"detail": "no", "code": "c", "next_step": "n"}))
    ledger = Ledger("http://ledger.test", api_key="lawful_secret", transport=transport)
    with ledger, pytest.raises(LedgerError) as error:
        ledger.generate("a boat")
    assert "secret" not in repr(error.value) + str(vars(error.value)) + repr(ledger)
