"""docs/integrations/diffusers_callback.py around the atelier's FLUX pipeline, as somebody runs their own."""

import hashlib
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image

from ledger import genesis
from ledger.client import Ledger
from ledger.database.tables.records import Stamp
from ledger.errors import Unavailable
from ledger.log.statements import commitment
from ledger.runtime import Runtime
from ledger.settings import Settings

from .http_ledger import api_key, process, served, with_a_port, working
from .small_networks import save_open
from .typed_pages import ROOT

pytestmark = pytest.mark.postgres

CALL = {"seed": 7, "num_inference_steps": 2, "guidance_scale": 1.5, "width": 64, "height": 64}


@pytest.fixture(scope="module")
def integration() -> ModuleType:
    """The file as it is copied: it stands in no package."""
    path = ROOT / "docs" / "integrations" / "diffusers_callback.py"
    specification = importlib.util.spec_from_file_location("diffusers_callback", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pipeline() -> Any:
    import torch
    from diffusers import FluxPipeline

    loaded = FluxPipeline.from_pretrained(ROOT / "models" / "atelier" / "weights" / "generator", dtype=torch.float32)
    loaded.set_progress_bar_config(disable=True)
    return loaded


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_a_port(settings)


def test_an_image_of_ones_own_pipeline_is_recorded_with_what_made_it(
    integration: ModuleType, pipeline: Any, runtime: Runtime, tmp_path: Path
) -> None:
    steps = []

    def own_callback(_pipeline: Any, step: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        steps.append(step)
        return tensors

    with served(runtime) as address, working(runtime), Ledger(address, api_key(runtime)) as ledger:
        recorder = integration.Recorder(ledger, tmp_path / "out", model="atelier")
        (made,) = recorder(pipeline, "a secret boat", callback_on_step_end=own_callback, **CALL)
        seen = ledger.verify(made.path)
    assert steps == [0, 1], "a callback of one's own is still called"
    assert (seen["found_by"], seen["answers"]["ledger"]) == ("credential", "recorded")
    assert made.path.name == f"{made.record['id']}.png"
    assert hashlib.sha256(made.path.read_bytes()).hexdigest() == made.record["file_sha256"]
    declared = "atelier (seed 7, image 0, steps 2, guidance 1.5, width 64, height 64)"
    assert made.record["made"]["declared_model"] == declared

    import torch

    again = pipeline(
        "a secret boat",
        generator=torch.Generator("cpu").manual_seed(made.parameters["seed"]),
        num_inference_steps=made.parameters["steps"],
        guidance_scale=made.parameters["guidance"],
        width=64,
        height=64,
    )
    assert np.array_equal(np.asarray(Image.open(made.path)), np.asarray(again.images[0])), "the numbers lead back to it"

    kept = json.loads(made.path.with_suffix(".json").read_text())
    with runtime.sessions() as session:
        stamp = session.scalars(sa.select(Stamp)).one()
    opened = commitment(
        "lawful-ledger/prompt/1", bytes.fromhex(kept["prompt_salt"]), hashlib.sha256(kept["prompt"].encode()).digest()
    )
    assert (stamp.prompt, stamp.prompt_commitment) == (None, opened.hex())


def test_nothing_is_written_when_the_ledger_does_not_answer(
    integration: ModuleType, pipeline: Any, tmp_path: Path
) -> None:
    with Ledger("http://127.0.0.1:1", "lawful_x") as ledger, pytest.raises(Unavailable):
        integration.Recorder(ledger, tmp_path / "out", model="atelier")(pipeline, "a boat", **CALL)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.xdist_group("worker")
def test_with_the_web_and_worker_processes_of_an_operator(
    integration: ModuleType, pipeline: Any, settings: Settings, tmp_path: Path
) -> None:
    key = genesis.found(settings).api_key
    networks = {"LAWFUL_PROFILE": "open"}
    networks |= {f"LAWFUL_{name.upper()}": value for name, value in save_open(tmp_path / "networks").items()}
    address = f"http://127.0.0.1:{settings.port}"
    with process(settings, "worker", **networks), process(settings), Ledger(address, key) as ledger:
        recorder = integration.Recorder(ledger, tmp_path / "out", model="atelier")
        first, second = recorder(pipeline, "a boat", num_images_per_prompt=2, **CALL)
        assert {ledger.verify(made.path)["answers"]["ledger"] for made in (first, second)} == {"recorded"}
    assert first.record["pixel_sha256"] != second.record["pixel_sha256"]
    assert (first.parameters["image"], second.parameters["image"]) == (0, 1)
