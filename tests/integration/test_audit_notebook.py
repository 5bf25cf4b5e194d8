"""The notebook in docs/ audits a month of a served ledger: its cells run in order, and what is wrong is found."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ledger
from attribution.gate import GatePolicy
from ledger import genesis
from ledger.errors import Conflict
from ledger.runtime import open_runtime, sequencing
from ledger.settings import Settings

from .audited import token
from .http_ledger import FOUND, generated, looked, png, served, stamped, told, with_a_port

pytestmark = pytest.mark.postgres

NOTEBOOK = Path(ledger.__file__).resolve().parents[1] / "docs" / "audit-a-month.ipynb"
CELLS = {
    cell["id"]: "".join(cell["source"])
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    if cell["cell_type"] == "code"
}

Change = Callable[[dict[str, Any]], None]


def run(parameters: dict[str, Any], after_fetch: Change = lambda _names: None) -> dict[str, Any]:
    """All cells in order; `parameters` take the place of the notebook's own."""
    names: dict[str, Any] = {}
    for name, source in CELLS.items():
        exec(compile(source, f"{NOTEBOOK.name}:{name}", "exec"), names)
        if name == "parameters":
            assert names.keys() >= parameters.keys()
            names.update(parameters)
        if name == "fetch":
            after_fetch(names)
    names["client"].close()
    return names


def leave_one_out(names: dict[str, Any]) -> None:
    del names["rows"][2]


def cut_the_end_off(names: dict[str, Any]) -> None:
    del names["rows"][-2:]


def change_a_word(names: dict[str, Any]) -> None:
    row = names["rows"][1]
    entry = base64.b64decode(row["entry"])
    row["entry"] = base64.b64encode(entry.replace(b"generation", b"generatiom")).decode()


def test_a_month_is_audited_and_what_is_wrong_with_it_is_found(settings: Settings) -> None:
    settings = with_a_port(settings)
    genesis.found(settings)
    with open_runtime(settings) as runtime, sequencing(runtime):
        blocking = GatePolicy(identity="block", copy="block", refused="block", alpha=0.01)
        with pytest.raises(Conflict):
            generated(runtime, seed=4, evidence=told(FOUND, policy=blocking))
        looked(runtime, png(3))
        generated(runtime)
        stamped(runtime, png(2), "another model")  # its last entry was waited for, and with it all before
        with served(runtime) as address:
            given = {
                "LEDGER": address,
                "TOKEN": token(runtime),
                "LOG_KEY": runtime.keys.log.vkey,
                "MONTH": f"{runtime.clock():%Y-%m}",
                "ANCHOR": runtime.keys.root_pem,
            }
            names = run(given)
            assert names["findings"] == []
            assert names["by_type"]["lawful-ledger/record/1"] == 2
            assert names["signatures"] == {"verified": len(names["rows"])}
            assert (len(names["record_leaves"]), names["open_records"]) == (2, [])
            assert sum(names["refused"].values()) >= 1
            assert len(names["checked"]) == 2

            assert ("gap", 1, "followed by 3") in run(given, leave_one_out)["findings"]
            assert {kind for kind, *_ in run(given, cut_the_end_off)["findings"]} == {"cut short"}
            kinds = {(kind, index) for kind, index, _ in run(given, change_a_word)["findings"]}
            assert kinds == {("not proven", 1), ("statement_signature_invalid", 1)}
            other = genesis_key(settings)
            assert len(run(given | {"LOG_KEY": other, "ANCHOR": None})["findings"]) == len(names["rows"])


def genesis_key(settings: Settings) -> str:
    """A key of the same name that somebody else made."""
    from ledger.log.notes import NoteSigner

    return NoteSigner.generate(settings.origin).vkey
