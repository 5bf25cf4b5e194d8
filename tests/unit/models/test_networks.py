import hashlib
import json
import struct
from pathlib import Path

import pytest

from models.errors import NetworkError
from models.networks import NetworkInfo, encoder_key, weights_digest


def saved(folder: Path, **files: bytes) -> Path:
    for name, data in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def test_the_digest_is_the_documented_one(tmp_path: Path) -> None:
    folder = saved(tmp_path, config_dot_json=b"{}", model_dot_safetensors=b"weights")
    expected = hashlib.sha256(b"lawful-ledger/weights/1\0")
    for name, data in (("config.json", b"{}"), ("model.safetensors", b"weights")):
        expected.update(struct.pack(">I", len(name)) + name.encode() + struct.pack(">Q", len(data)))
        expected.update(hashlib.sha256(data).digest())
    assert weights_digest(folder) == expected.hexdigest()


@pytest.mark.parametrize("change", ["content", "name", "more"])
def test_the_digest_sees_every_file_that_is_read(tmp_path: Path, change: str) -> None:
    one = saved(tmp_path / "one", config_dot_json=b"{}", model_dot_safetensors=b"weights")
    other = saved(tmp_path / "other", config_dot_json=b"{}", model_dot_safetensors=b"weights")
    assert weights_digest(one) == weights_digest(other)
    if change == "content":
        saved(other, model_dot_safetensors=b"Weights")
    elif change == "name":
        (other / "model.safetensors").rename(other / "model2.safetensors")
    else:
        saved(other, deeper__vocab_dot_txt=b"")
    assert weights_digest(one) != weights_digest(other)


def test_documentation_call_defaults_pickles_and_hidden_files_do_not_count(tmp_path: Path) -> None:
    folder = saved(tmp_path, config_dot_json=b"{}", model_dot_safetensors=b"weights")
    before = weights_digest(folder)
    saved(folder, README_dot_md=b"x", lawful_dot_json=b"{}", old_dot_bin=b"x")
    saved(folder, _dot_cache__x_dot_json=b"{}")
    assert weights_digest(folder) == before


def test_of_a_pipeline_only_the_parts_it_names_count(tmp_path: Path) -> None:
    index = json.dumps({"_class_name": "FluxPipeline", "vae": ["diffusers", "AutoencoderKL"]}).encode()
    folder = saved(tmp_path, model_index_dot_json=index, vae__config_dot_json=b"{}")
    before = weights_digest(folder)
    saved(folder, flux1_dot_safetensors=b"one file of everything")
    assert weights_digest(folder) == before
    saved(folder, vae__config_dot_json=b"{ }")
    assert weights_digest(folder) != before


def test_a_linked_cache_counts_like_plain_files(tmp_path: Path) -> None:
    plain = saved(tmp_path / "plain", config_dot_json=b"{}", model_dot_safetensors=b"weights")
    linked = tmp_path / "linked"
    linked.mkdir()
    for path in plain.iterdir():
        (linked / path.name).symlink_to(path)
    assert weights_digest(linked) == weights_digest(plain)


def test_a_single_file_has_a_digest_and_an_empty_folder_has_none(tmp_path: Path) -> None:
    saved(tmp_path, one_dot_safetensors=b"weights")
    assert len(weights_digest(tmp_path / "one.safetensors")) == 64
    for nothing in (tmp_path / "absent", saved(tmp_path / "empty", README_dot_md=b"x")):
        with pytest.raises(NetworkError) as caught:
            weights_digest(nothing)
        assert caught.value.code == "network_missing"
        assert str(tmp_path) not in caught.value.detail


def test_an_encoder_key_changes_with_the_weights() -> None:
    assert encoder_key(NetworkInfo("clip", "1", "ab" * 32, "MIT")) == "clip@abababababababab"
