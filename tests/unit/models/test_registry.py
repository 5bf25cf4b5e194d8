import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from models.errors import NetworkError
from models.registry import (
    BUILT_IN,
    CLIP,
    FLUX,
    INTERNVIT,
    ModelConfig,
    encoder_names,
    generator_source,
    load_encoders,
    load_generator,
)


def test_each_profile_has_its_encoders_and_a_setting_adds_one() -> None:
    assert encoder_names(ModelConfig()) == ("atelier", "texture", "colour", "vae")
    assert encoder_names(ModelConfig("open")) == ("clip", "dinov2")
    assert encoder_names(ModelConfig("flux")) == ("clip", "internvit", "dinov2", "csd", "vae")
    assert encoder_names(ModelConfig("open", internvit="x/y")) == ("clip", "dinov2", "internvit")
    assert encoder_names(ModelConfig("flux", clip="x/y")) == encoder_names(ModelConfig("flux"))


def test_sscd_joins_any_profile_where_its_setting_names_a_file() -> None:
    for profile in ("atelier", "open", "flux"):
        assert "sscd" not in encoder_names(ModelConfig(profile))
        assert encoder_names(ModelConfig(profile, sscd="sscd.pt"))[-1] == "sscd"


def test_each_profile_has_its_generator_and_a_setting_replaces_it() -> None:
    assert generator_source(ModelConfig()) == str(BUILT_IN / "generator")
    assert generator_source(ModelConfig("flux")) == FLUX
    assert generator_source(ModelConfig("open", generator="x/y")) == "x/y"
    assert (CLIP, INTERNVIT) == ("openai/clip-vit-large-patch14", "OpenGVLab/InternViT-300M-448px")


def test_a_profile_without_a_generator_says_so() -> None:
    with pytest.raises(NetworkError) as caught:
        load_generator(ModelConfig("open"))
    assert caught.value.code == "no_generator"
    assert caught.value.next_step


def test_an_unknown_profile_is_refused() -> None:
    for call in (load_encoders, load_generator):
        with pytest.raises(NetworkError) as caught:
            call(ModelConfig("baroque"))
        assert caught.value.code == "no_profile"
        assert "atelier, open, flux" in caught.value.next_step


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        projection_dim=8,
    )
    folder = tmp_path_factory.mktemp("clip")
    CLIPVisionModelWithProjection(config).save_pretrained(folder)
    return folder


def test_settings_lead_to_loaded_networks(clip_folder: Path, flux_folder: Path) -> None:
    config = ModelConfig("flux", device="cpu", generator=str(flux_folder), clip=str(clip_folder))
    encoders = load_encoders(config, only={"clip", "vae"})
    assert list(encoders) == ["clip", "vae"]
    assert all(encoder.name == name for name, encoder in encoders.items())
    assert encoders["vae"].info.name == f"{flux_folder.name}/vae"
    assert load_generator(config).info.name == flux_folder.name


LAZY = """
import sys
from models.registry import ModelConfig, load_encoders
assert "torch" not in sys.modules
load_encoders(ModelConfig("open", device="cpu", clip=sys.argv[1]), only={"clip"})
assert "models.encoders.clip" in sys.modules
assert "models.generator" not in sys.modules and "models.encoders.dinov2" not in sys.modules
"""


@pytest.mark.slow
def test_nothing_is_loaded_that_was_not_asked_for(clip_folder: Path) -> None:
    run = subprocess.run([sys.executable, "-c", LAZY, str(clip_folder)], capture_output=True, text=True, timeout=200)
    assert run.returncode == 0, run.stderr


LIGHT = """
import sys
import attribution.evidence, attribution.fingerprints, attribution.snapshot, attribution.wording
import models.images, models.networks
heavy = {"torch", "faiss", "cv2", "diffusers", "transformers"} & set(sys.modules)
assert not heavy, heavy
"""


def test_the_light_rooms_load_no_network_library() -> None:
    run = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stderr
