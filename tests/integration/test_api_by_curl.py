"""docs/api-by-curl.md, typed against a server that listens, with a worker whose networks' answer is given."""

import json
import os
import shutil
import uuid
from collections.abc import Iterator

import psycopg
import pytest

from ledger import genesis
from ledger.runtime import open_runtime, sequencing

from .audited import token
from .claiming import claimed, somebody
from .http_ledger import api_key, png, served, with_a_port, working
from .reported import settings_of_the_module
from .typed_pages import Shell, Step, steps_of, variables_of

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.xdist_group("api-by-curl"),
    pytest.mark.timeout(900),  # of the first test, for which the whole page is typed
    pytest.mark.skipif(shutil.which("curl") is None, reason="the page is about curl"),
]

BRING, *STEPS = steps_of("api-by-curl.md")


@pytest.fixture(scope="module")
def shell(
    superuser: psycopg.Connection, superuser_url: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shell]:
    """The terminal in which the whole page was typed. Somebody claims the picture once it is stamped."""
    home, folder = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("terminal")
    (folder / "outside.png").write_bytes(png(3))
    with settings_of_the_module(superuser, superuser_url, template, home) as given:
        genesis.found(settings := with_a_port(given))
        with open_runtime(settings) as runtime, sequencing(runtime), served(runtime) as address, working(runtime):
            brought = {"LEDGER": address, "KEY": api_key(runtime), "TOKEN": token(runtime), "LIMIT": "1"}
            assert variables_of(BRING) == set(brought)
            shell = Shell(folder, os.environ["PATH"], **brought)
            for step in STEPS:
                shell.type(step)
                if step.name == "stamp":
                    about = uuid.UUID(json.loads((folder / "stamp.json").read_text())["id"])
                    claimed(runtime, somebody(runtime), about=about, work=png(5))
            yield shell


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_each_request_of_the_page_is_answered_as_the_page_shows(shell: Shell, step: Step) -> None:
    assert shell.holds(step), shell.printed[step.name]


def test_what_was_fetched_is_whole(shell: Shell) -> None:
    stamp = json.loads((shell.folder / "stamp.json").read_text())
    assert (shell.folder / "stamped.png").read_bytes().startswith(b"\x89PNG")
    assert shell.printed["file"].startswith(stamp["file_sha256"])
    assert (shell.folder / "by-leaf-hash.tlog-proof").read_bytes().startswith(b"c2sp.org/tlog-proof@v1\n")
    assert b"jumb" in (shell.folder / "manifest.c2pa").read_bytes()[:16]
    rows = [json.loads(line) for line in (shell.folder / "rows.ndjson").read_text().splitlines()]
    assert [row["record"]["kind"] for row in rows] == ["stamp", "generation"], "two pages of one row each"
