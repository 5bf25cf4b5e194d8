"""The recipes of generator and encoder, run small; and what the repository ships, loaded as FLUX.1-schnell would be."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline

from models.atelier import train, train_copy_encoder, train_style_encoder
from models.atelier.collection import STUDIOS, SUBJECTS, caption, draw
from models.encoders.atelier import AtelierCopy, AtelierStyle
from models.generator import Generator
from models.registry import BUILT_IN, ModelConfig, load_encoders, load_generator

SMALL = "a boat in the manner of Studio Marram"


def test_nothing_is_learned_from_a_studio_that_forbids_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(train, "draw", lambda studio, *rest: drawn.append(studio) or draw(studio, *rest))
    monkeypatch.setattr(train, "SUBJECTS", SUBJECTS[:1])
    train.works(tmp_path, 1)
    forbidden = {studio.name for studio in STUDIOS if not studio.train}
    assert forbidden
    assert set(drawn) == {studio.name for studio in STUDIOS} - forbidden


@pytest.mark.slow
def test_the_recipe_gives_a_pipeline_and_goes_on_where_it_was_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "SUBJECTS", SUBJECTS[:2])
    monkeypatch.setattr(train, "allowed", lambda: [STUDIOS[0].name])
    monkeypatch.setattr(train, "IMAGINED", 2)
    torch.set_num_threads(1)
    steps = {"autoencoder_steps": 2, "decoder_steps": 1, "critic_steps": 2}
    train.train(tmp_path / "out", tmp_path / "work", variants=1, flow_steps=2, **steps)
    state = torch.load(tmp_path / "work" / "flow.pt", weights_only=True)
    assert state["done"] == 2
    train.train(tmp_path / "out", tmp_path / "work", variants=1, flow_steps=3, **steps)
    assert torch.load(tmp_path / "work" / "flow.pt", weights_only=True)["done"] == 3
    assert isinstance(FluxPipeline.from_pretrained(tmp_path / "out"), FluxPipeline)
    made = Generator.load(tmp_path / "out").generate(SMALL, seed=1, steps=1)
    assert made.pixels.shape == (train.SIDE, train.SIDE, 3)


def test_the_style_encoders_recipe_gives_an_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "allowed", lambda: [studio.name for studio in STUDIOS[:2]])
    reached = train_style_encoder.train(tmp_path / "out", tmp_path / "work", variants=1, steps=2)
    assert 0 <= reached <= 1
    encoder = AtelierStyle.load(tmp_path / "out")
    rows = encoder.encode([draw("marram", "boat", 0), draw("quern", "cat", 0, 64)[:50]])
    assert rows.shape == (2, encoder.dim)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_the_copy_encoders_recipe_gives_an_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "allowed", lambda: [studio.name for studio in STUDIOS[:2]])
    train_copy_encoder.train(tmp_path / "out", tmp_path / "work", variants=1, steps=2)
    encoder = AtelierCopy.load(tmp_path / "out")
    rows = encoder.encode([draw("marram", "boat", 0), draw("quern", "cat", 0, 64)[:50]])
    assert rows.shape == (2, encoder.dim)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_disturbances_keep_a_picture_a_picture_and_repeat_themselves() -> None:
    work = draw("quern", "cat", 0)
    for seed in range(40):
        once, again = (train_copy_encoder.disturbed(work, np.random.default_rng(seed)) for _ in range(2))
        assert once.dtype == np.uint8
        assert once.ndim == 3
        assert once.shape[2] == 3
        assert min(once.shape[:2]) >= 8
        assert np.array_equal(once, again)


def test_the_shipped_generator_repeats_itself_and_heeds_its_prompt() -> None:
    generator = load_generator(ModelConfig())
    one, again, other = (
        generator.generate(prompt, seed=5).pixels
        for prompt in (SMALL, SMALL, "a boat in the manner of Studio Tungsten")
    )
    assert np.array_equal(one, again)
    assert one.mean() - other.mean() > 50  # Marram works on light paper, Tungsten on black
    assert generator.info.licence == "Apache-2.0"


def test_the_shipped_call_defaults_are_the_trained_ones() -> None:
    shipped = json.loads((BUILT_IN / "generator" / "lawful.json").read_text())
    assert {key: shipped[key] for key in train.CALL} == train.CALL
    words = {word for studio in train.allowed() for subject in SUBJECTS for word in caption(studio, subject).split()}
    assert set(shipped["vocabulary"]) == words | {"by"}  # as in "a boat by Studio Marram", which it learned too


def test_the_shipped_encoder_knows_a_studio_by_works_it_never_saw() -> None:
    encoder = load_encoders(ModelConfig(), only=["atelier"])["atelier"]
    studios = train.allowed()
    seen = encoder.encode([draw(studio, subject, 500) for studio in studios for subject in SUBJECTS[:3]])
    asked = encoder.encode([draw(studio, subject, 600) for studio in studios for subject in SUBJECTS[3:6]])
    nearest = (asked @ seen.T).argmax(1) // 3
    right = float((nearest == np.repeat(np.arange(len(studios)), 3)).mean())
    assert right > 0.6  # chance: 0.1


def test_the_shipped_weights_are_small() -> None:
    sizes = [file.stat().st_size for file in BUILT_IN.rglob("*.safetensors")]
    assert 0 < sum(sizes) <= 40 * 10**6


def test_the_card_names_the_weights_that_are_shipped() -> None:
    card = (BUILT_IN.parent / "README.md").read_text(encoding="utf-8")
    for shipped in (load_generator(ModelConfig()), load_encoders(ModelConfig(), only=["atelier"])["atelier"]):
        assert shipped.info.weights_sha256 in card
