import json
import pickle
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from models.errors import NetworkError
from models.loading import device_for, dtype_for, locate, reading, renamed


def refusal(source: str) -> NetworkError:
    with pytest.raises(NetworkError) as caught:
        locate(source)
    assert caught.value.next_step
    return caught.value


def test_a_folder_is_named_by_its_own_defaults_or_else_by_its_last_part(tmp_path: Path) -> None:
    folder = tmp_path / "my-clip"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    found = locate(str(folder))
    assert (found.name, found.revision, found.licence) == ("my-clip", "local", "unknown")
    assert str(tmp_path) not in str(found.info())
    (folder / "lawful.json").write_text(json.dumps({"name": "atelier/1", "licence": "Apache-2.0"}))
    found = locate(str(folder))
    assert (found.name, found.licence) == ("atelier/1", "Apache-2.0")


def test_a_licence_is_read_from_the_model_card(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\n")
    assert locate(str(tmp_path)).licence == "apache-2.0"


def test_a_folder_without_a_network_is_refused(tmp_path: Path) -> None:
    error = refusal(str(tmp_path))
    assert error.code == "network_missing"
    assert "config.json" in error.detail


@pytest.mark.parametrize("source", ["", "nonsense", "/no/such/folder", "../up", "a/b/c", "owner/name\nx"])
def test_what_is_neither_folder_nor_hub_id_is_refused_without_asking_anyone(source: str) -> None:
    started = time.monotonic()
    assert refusal(source).code == "network_missing"
    assert time.monotonic() - started < 5  # a hub that cannot be reached is waited for longer


@pytest.mark.parametrize("text", ["not json", "[]"])
def test_broken_call_defaults_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "lawful.json").write_text(text)
    assert refusal(str(tmp_path)).code == "network_unreadable"


ASK = """
import sys, time
import models.loading
from models.errors import NetworkError
models.loading.HUB_TIMEOUT_S = 1.0
started = time.perf_counter()
try:
    models.loading.locate("owner/name")
except NetworkError as error:
    print(error.code, "atelier" in error.next_step, time.perf_counter() - started < 5)
"""


@pytest.mark.slow
@pytest.mark.parametrize("hub", ["silent", "closed", "offline"])
def test_a_hub_out_of_reach_is_one_quick_error(tmp_path: Path, hub: str) -> None:
    """A hub that accepts and never answers, one that is not there, and one that the user switched off."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if hub == "closed":
            server.close()
        environment = {
            "HF_ENDPOINT": f"http://127.0.0.1:{port}",
            "HF_HUB_OFFLINE": "1" if hub == "offline" else "0",
            "HF_HOME": str(tmp_path),
            "PATH": "",
        }
        run = subprocess.run([sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, timeout=200)
    assert run.stdout.split() == ["network_unavailable", "True", "True"], run.stderr


def cached_hub(home: Path, revision: str = "0123456789abcdef0123456789abcdef01234567") -> Path:
    """A hub cache as a download leaves it: refs/main and a folder of the commit."""
    repository = home / "hub" / "models--owner--name"
    snapshot = repository / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    (snapshot / "config.json").write_text("{}")
    (snapshot / "model.safetensors").write_bytes(b"weights")
    return snapshot


FIND = """
from models.loading import locate
found = locate("owner/name")
print(found.name, found.revision, len(found.info().weights_sha256))
"""


@pytest.mark.slow
def test_a_network_in_the_hub_cache_needs_no_network(tmp_path: Path) -> None:
    cached_hub(tmp_path)
    environment = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "PATH": ""}
    run = subprocess.run([sys.executable, "-c", FIND], env=environment, capture_output=True, text=True, timeout=200)
    assert run.stdout.split() == ["owner/name", "0123456789abcdef0123456789abcdef01234567", "64"], run.stderr


@pytest.mark.parametrize("cause", [OSError("/secret/folder"), EOFError(), pickle.UnpicklingError(), KeyError("width")])
def test_whatever_a_library_says_of_a_bad_file_is_one_error_that_names_the_network(cause: Exception) -> None:
    with pytest.raises(NetworkError) as caught, reading("owner/name"):
        raise cause
    assert caught.value.code == "network_unreadable"
    assert "owner/name" in caught.value.detail
    assert "secret" not in caught.value.detail
    assert caught.value.__cause__ is cause


def test_an_error_that_says_more_is_not_covered_up() -> None:
    with pytest.raises(NetworkError, match="a program"), reading("owner/name"):
        raise NetworkError("It is a program.", code="network_unreadable", next_step="Fetch the weights.")


def test_weights_are_renamed_by_all_rules_in_turn_and_split_into_q_k_and_v() -> None:
    rows = torch.arange(12.0).reshape(6, 2)
    held = {"blocks.0.qkv.weight": rows, "blocks.0.norm.bias": rows[0]}
    native = renamed(held, [(r"^blocks\.", "layers."), (r"^layers\.", "encoder.layers.")], fused=".qkv.")
    assert list(native) == [*(f"encoder.layers.0.{part}_proj.weight" for part in "qkv"), "encoder.layers.0.norm.bias"]
    assert torch.equal(torch.cat(list(native.values())[:3]), rows)
    with pytest.raises(ValueError, match="zip"):
        renamed({"qkv.weight": rows[:2]}, [], fused="qkv.")


def test_devices_and_precisions() -> None:
    assert device_for("cpu") == torch.device("cpu")
    assert device_for("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert dtype_for("auto", torch.device("cpu")) == torch.float32
    assert dtype_for("auto", torch.device("cuda")) == torch.bfloat16
    assert dtype_for("float16", torch.device("cpu")) == torch.float16


@pytest.mark.parametrize("setting", ["cuda:99", "toaster", ""])
def test_a_device_that_is_not_there_is_refused(setting: str) -> None:
    with pytest.raises(NetworkError) as caught:
        device_for(setting)
    assert caught.value.code == "device_unavailable"
