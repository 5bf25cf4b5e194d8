import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from models.errors import NetworkError, PromptError
from models.generator import MAX_SEED, CallDefaults, Generator, _vocabulary
from models.networks import NetworkInfo, weights_digest
from models.registry import BUILT_IN


@pytest.fixture(scope="module")
def flux(flux_folder: Path) -> Generator:
    return Generator.load(flux_folder, device="cpu")


def small(generator: Generator, **numbers: object) -> object:
    return generator.generate("a small red house", **{"seed": 1, "steps": 2, "width": 32, "height": 32} | numbers)  # type: ignore[arg-type]


def test_a_prompt_becomes_pixels_and_the_numbers_of_the_call(flux: Generator) -> None:
    image = flux.generate("a small red house by the sea", seed=7, steps=2, width=32, height=48)
    assert image.pixels.shape == (48, 32, 3)
    assert image.pixels.dtype == np.uint8
    assert (image.seed, image.steps, image.guidance, image.width, image.height) == (7, 2, 0.0, 32, 48)


def test_the_same_call_gives_the_same_pixels_and_another_seed_or_prompt_others(flux: Generator) -> None:
    first = small(flux).pixels  # type: ignore[attr-defined]
    assert (small(flux).pixels == first).all()  # type: ignore[attr-defined]
    assert (small(flux, seed=2).pixels != first).any()  # type: ignore[attr-defined]
    other = flux.generate("blue", seed=1, steps=2, width=32, height=32).pixels
    assert (other != first).any()


def test_the_generator_knows_itself(flux: Generator, flux_folder: Path) -> None:
    assert flux.info.name == "small-flux"
    assert flux.info.revision == "local"
    assert flux.info.weights_sha256 == weights_digest(flux_folder)


def test_flux_without_guidance_embedding_is_called_as_schnell_is(flux: Generator) -> None:
    assert flux.defaults.num_inference_steps == 4
    assert flux.defaults.guidance_scale == 0.0


def copied(flux_folder: Path, tmp_path: Path, **said: object) -> Path:
    folder = tmp_path / "copy"
    shutil.copytree(flux_folder, folder)
    (folder / "lawful.json").write_text(json.dumps(said))
    return folder


def test_call_defaults_beside_the_network_are_used(flux_folder: Path, tmp_path: Path) -> None:
    said = {
        "name": "atelier/1",
        "licence": "Apache-2.0",
        "width": 32,
        "height": 16,
        "num_inference_steps": 3,
        "guidance_scale": 1.0,
        "true_cfg_scale": 2.5,
        "negative_prompt": "",
        "vocabulary": ["a", "Glass", "house"],
    }
    generator = Generator.load(copied(flux_folder, tmp_path, **said), device="cpu")
    assert (generator.info.name, generator.info.licence) == ("atelier/1", "Apache-2.0")
    assert generator.info.weights_sha256 == weights_digest(flux_folder)
    assert generator.defaults.vocabulary == {"a", "glass", "house"}
    image = generator.generate("a house", seed=1)
    assert (image.width, image.height, image.steps, image.guidance) == (32, 16, 3, 2.5)
    assert image.unknown_words == ()
    assert generator.generate("A house by Monet", seed=1).unknown_words == ("by", "Monet")


@pytest.mark.parametrize(
    ("prompt", "unknown"),
    [
        ("A boat, in the MANNER of (studio) marram!", ()),
        ("a dragon in the manner of Rembrandt", ("dragon", "Rembrandt")),
        ("Dragon, dragon and DRAGON", ("Dragon", "and")),
        ("a boat in the manner of Studio Gouge", ("Gouge",)),  # draws, but forbids training
        ("a boat in the manner of Studio Scumble", ("Scumble",)),
        ("Marram's boat-house", ("Marram's",)),
        ("un bate\u0301au ローマ", ("un", "bat\u00e9au", "ローマ")),
        ("… — !", ()),
    ],
)
def test_words_outside_the_shipped_vocabulary_are_told_once_as_typed(prompt: str, unknown: tuple[str, ...]) -> None:
    said = json.loads((BUILT_IN / "generator" / "lawful.json").read_text())
    defaults = CallDefaults(64, 64, 1, None, None, None, vocabulary=_vocabulary(said["vocabulary"]))
    generator = Generator(lambda **_: None, NetworkInfo("n", "r", "0" * 64, "l"), defaults)
    assert generator.unknown_words(prompt) == unknown


@pytest.mark.parametrize("said", [None, {"studio": ["glass"]}, "glass", [1, 2]])
def test_without_a_list_of_words_no_word_is_called_unknown(said: object, flux: Generator) -> None:
    assert _vocabulary(said) is None
    assert flux.defaults.vocabulary is None
    assert flux.unknown_words("anything at all") == ()


def test_several_are_made_in_one_call_as_each_would_be_alone(flux: Generator) -> None:
    prompts, numbers = ["a red house", "a blue sea"], {"steps": 2, "width": 32, "height": 48}
    several = flux.generate_several(prompts, seeds=[4, 5], **numbers)  # type: ignore[arg-type]
    for made, prompt, seed in zip(several, prompts, (4, 5), strict=True):
        alone = flux.generate(prompt, seed=seed, **numbers)  # type: ignore[arg-type]
        assert made.seed == alone.seed == seed
        assert np.abs(made.pixels.astype(int) - alone.pixels.astype(int)).max() <= 2
    assert np.abs(several[0].pixels.astype(int) - several[1].pixels.astype(int)).max() > 2


def test_guidance_is_the_true_one_where_the_pipeline_is_called_with_it(flux_folder: Path, tmp_path: Path) -> None:
    said = {"width": 32, "height": 32, "num_inference_steps": 2, "true_cfg_scale": 2.0}
    generator = Generator.load(copied(flux_folder, tmp_path, **said), device="cpu")
    assert generator.defaults.negative_prompt == " "
    guided, unguided = generator.generate("sea", seed=1, guidance=9.0), generator.generate("sea", seed=1, guidance=1.0)
    assert (guided.guidance, unguided.guidance) == (9.0, 1.0)
    assert (guided.pixels != unguided.pixels).any()


@pytest.mark.parametrize(
    ("numbers", "code"),
    [
        ({"width": 33}, "size_refused"),
        ({"height": -32}, "size_refused"),
        ({"width": 4096}, "size_refused"),
        ({"steps": 0}, "steps_refused"),
        ({"steps": 10_000}, "steps_refused"),
        ({"guidance": -1.0}, "guidance_refused"),
        ({"guidance": float("nan")}, "guidance_refused"),
        ({"guidance": float("inf")}, "guidance_refused"),
        ({"seed": -1}, "seed_refused"),
        ({"seed": MAX_SEED + 1}, "seed_refused"),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(flux: Generator, numbers: dict[str, object], code: str) -> None:
    with pytest.raises(PromptError) as caught:
        small(flux, **numbers)
    assert caught.value.code == code
    assert caught.value.status == 422


@pytest.mark.parametrize("prompt", ["", " \n", "\ud800"])
def test_a_prompt_that_is_no_text_is_refused(flux: Generator, prompt: str) -> None:
    with pytest.raises(PromptError) as caught:
        flux.generate(prompt, seed=1)
    assert caught.value.code == "prompt_refused"


def test_odd_but_valid_prompts_are_accepted(flux: Generator) -> None:
    for prompt in ("x" * 20_000, "\x00\n../", "日本 😀", "{negative}"):
        assert flux.generate(prompt, seed=1, steps=1, width=16, height=16).pixels.shape == (16, 16, 3)


def test_numbers_that_are_no_image_are_refused(flux_folder: Path) -> None:
    broken = Generator.load(flux_folder, device="cpu")
    with torch.no_grad():
        next(broken._pipeline.vae.decoder.parameters()).fill_(float("nan"))
    with pytest.raises(NetworkError) as caught:
        small(broken)
    assert caught.value.code == "generation_failed"
    assert "float32" in caught.value.next_step


def lose(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lose("model_index.json"), "network_missing"),
        (lose("vae/diffusion_pytorch_model.safetensors"), "network_unreadable"),
        (lambda folder: (folder / "model_index.json").write_text("{"), "network_unreadable"),
        (lambda folder: (folder / "vae/diffusion_pytorch_model.safetensors").write_bytes(b"x"), "network_unreadable"),
    ],
)
def test_a_damaged_pipeline_is_one_error_that_names_no_folder_above_it(
    flux_folder: Path, tmp_path: Path, spoil: Callable[[Path], None], code: str
) -> None:
    folder = copied(flux_folder, tmp_path)
    spoil(folder)
    with pytest.raises(NetworkError) as caught:
        Generator.load(folder, device="cpu")
    assert caught.value.code == code
    assert str(tmp_path) not in caught.value.detail


def test_a_pipeline_of_another_family_is_loaded_by_the_same_path(tmp_path: Path) -> None:
    """DiT makes images from class labels: it loads, and is refused for taking no prompt."""
    from diffusers import AutoencoderKL, DDIMScheduler, DiTPipeline, DiTTransformer2DModel

    transformer = DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=4, in_channels=4, num_layers=1, sample_size=8, num_embeds_ada_norm=4
    )
    vae = AutoencoderKL(block_out_channels=(8,), latent_channels=4, norm_num_groups=4)
    DiTPipeline(transformer, vae, DDIMScheduler(), id2label={0: "x"}).save_pretrained(tmp_path / "dit")
    with pytest.raises(NetworkError) as caught:
        Generator.load(tmp_path / "dit", device="cpu")
    assert "no image from a prompt" in caught.value.detail
