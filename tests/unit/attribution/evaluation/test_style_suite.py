from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from attribution.evaluation import style
from attribution.evaluation.dataset import Dataset, DatasetError, drawn
from attribution.evaluation.style import HISTOGRAM, LEFT_OUT, Pictures, histogram, measure, without_colour
from attribution.evaluation.suite import OURS, PERFECT, SHUFFLED, Figure, Options, Result
from models.networks import NetworkInfo

ARTISTS, CONTENTS = 5, 16


def hands(seed: int = 0, strength: float = 0.9) -> Pictures:
    """Five artists who each drew sixteen contents: vectors around one direction of the artist and one of the content.

    One encoder of style sees mostly the artist, one of content mostly the content; the histogram sees neither.
    """
    rng = np.random.default_rng(seed)
    artists, contents = np.repeat(np.arange(ARTISTS), CONTENTS), np.tile(np.arange(CONTENTS), ARTISTS)
    n = len(artists)

    def rows(of_artist: float, of_content: float) -> np.ndarray:
        every = (
            of_artist * rng.normal(size=(ARTISTS, 32))[artists] + of_content * rng.normal(size=(CONTENTS, 32))[contents]
        )
        every = every + rng.normal(size=(n, 32))
        return np.asarray(every / np.linalg.norm(every, axis=1, keepdims=True), np.float32)

    colour = {"hand": rows(strength, 1.0), "eye": rows(strength / 2, 1.0), "subject": rows(0.0, 2.0)}
    colour[HISTOGRAM] = rows(0.0, 0.0)
    grey = {"hand": rows(strength / 4, 1.0), "eye": rows(strength / 4, 1.0), HISTOGRAM: rows(0.0, 0.0)}
    names = tuple(f"artist {number}" for number in range(ARTISTS))
    return Pictures(
        "drawings", colour, grey, ("hand", "eye"), ("subject",), artists, contents, np.arange(n), names, True
    )


@pytest.fixture(scope="module")
def measured() -> style.Measured:
    return measure(hands(), Options())


def figure(figures: list[Figure], name: str, method: str = OURS) -> Figure:
    of_method = [each for each in figures if each.method == method]
    (found,) = [each for each in of_method if each.name == name] or [x for x in of_method if x.name.startswith(name)]
    return found


def error(figures: list[Figure], method: str = OURS) -> Figure:
    return figure([each for each in figures if not each.name.endswith(", grey")], "error of the artist named", method)


def test_an_artist_is_named_from_contents_that_nobody_in_the_index_drew(measured: style.Measured) -> None:
    ours, best = error(measured.figures), error(measured.figures, "baseline: hand")
    assert ours.n == ARTISTS * CONTENTS
    assert ours.value < best.value
    assert ours.low <= ours.value <= ours.high
    assert "nobody in the index drew" in ours.name
    assert ours.target == pytest.approx(best.value / 2)
    assert error(measured.figures, f"baseline: {HISTOGRAM}").value > 0.5


def test_a_baseline_that_knows_the_content_alone_does_not_profit_from_it() -> None:
    """Every drawing of a content is asked about together: its other hands are not in the index to help or mislead."""
    seen = hands()
    named = style.naming(replace(seen, style=("subject",)), Options(), grey=False)
    assert figure(named, "error", "baseline: subject").value > 0.5


def test_grey_pictures_are_reported_apart(measured: style.Measured) -> None:
    grey = [each for each in measured.figures if each.name.endswith(", grey")]
    assert figure(grey, "error").value > error(measured.figures).value


def test_works_credited_by_lot_are_named_by_chance(measured: style.Measured) -> None:
    assert error(measured.figures, SHUFFLED).value > 0.5
    assert error(measured.figures, "baseline: random").value == pytest.approx(1 - 1 / ARTISTS)


def test_works_of_the_artist_come_before_others_in_a_ranking(measured: style.Measured) -> None:
    ours, control = figure(measured.figures, "mAP@10"), figure(measured.figures, "mAP@10", SHUFFLED)
    assert ours.value > figure(measured.figures, "mAP@10", "baseline: eye").value
    assert ours.value > 0.6 > 0.4 > control.value
    assert figure(measured.figures, "mAP@1").value == figure(measured.figures, "Recall@1").value


def test_style_finds_the_hand_and_content_finds_the_subject(measured: style.Measured) -> None:
    figures = measured.figures
    artist, content = "nearest shares the artist", "nearest shares the content"
    assert figure(figures, artist, "baseline: hand").value > figure(figures, artist, "baseline: subject").value
    assert figure(figures, content, "baseline: subject").value > 0.9


def test_every_artist_is_taken_out_once_and_false_findings_are_counted_for_each(measured: style.Measured) -> None:
    false = figure(measured.figures, "false finding at p <= 0.01")
    removed = measured.tables[0]
    assert len(removed.rows) == min(LEFT_OUT, ARTISTS)
    assert false.n == sum(row[1] for row in removed.rows) == ARTISTS * CONTENTS
    assert false.value == pytest.approx(np.mean([row[2] for row in removed.rows]))
    assert figure(measured.figures, "abstains").value >= 1 - false.value


def test_the_error_of_shares_stands_beside_that_of_a_perfect_model(measured: style.Measured) -> None:
    perfect = figure(measured.figures, "calibration error of shares", PERFECT)
    assert 0 < perfect.low < perfect.value < perfect.high
    target = figure(measured.figures, "calibration error of shares")
    assert (target.target, target.at_most, target.n) == (0.05, True, 2 * ARTISTS * CONTENTS)
    assert measured.tables[1].title == "Reliability of the largest share: drawings"
    assert sum(row[2] for row in measured.tables[1].rows) == 2 * ARTISTS * CONTENTS


def test_too_few_calibration_images_for_the_level_are_said(measured: style.Measured) -> None:
    (note,) = measured.notes  # 64 images by the four artists who stay
    assert "p <= 0.01" in note
    assert figure(measured.figures, "false finding").value == 0
    assert figure(measured.figures, "finding at p").value == 0


def test_measuring_again_gives_the_same_figures(measured: style.Measured) -> None:
    figures, tables, notes = style.trust(hands(), Options())
    assert figures == measured.figures[-len(figures) :]
    assert (tables, notes) == (measured.tables, measured.notes)


@pytest.mark.parametrize(
    ("change", "same"),
    [(lambda image: image[::-1], True), (lambda image: image // 2, False)],
    ids=["turned-over", "darkened"],
)
def test_a_histogram_sees_colours_and_not_places(change: Callable[[np.ndarray], np.ndarray], same: bool) -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    row = histogram(image)
    assert row.shape == (512,)
    assert np.linalg.norm(row) == pytest.approx(1, abs=1e-6)
    assert np.allclose(histogram(np.asarray(change(image), np.uint8)), row) == same


def test_luma_is_grey_and_weighs_green_most() -> None:
    pure = without_colour((np.eye(3, dtype=np.uint8) * 255)[None])
    assert (pure[0, :, 0] == pure[0, :, 1]).all()
    assert pure[0, :, 0].tolist() == [76, 150, 29]


# ---- from pictures -------------------------------------------------------------------------------------------------


class Strokes:
    """A weight-free encoder: the spectrum of differences between neighbouring pixels, (16,)."""

    name, axes, dim = "strokes", frozenset({"style"}), 16
    info = NetworkInfo("strokes", "1", "0" * 64, "Apache-2.0")

    def encode(self, images: list[np.ndarray]) -> np.ndarray:
        rows = [np.histogram(np.abs(np.diff(image.astype(int), axis=1)), 16, (0, 64))[0] + 1.0 for image in images]
        return np.stack([row / np.linalg.norm(row) for row in rows]).astype(np.float32)


@pytest.fixture(scope="module")
def result() -> Result:
    few = drawn(1, 32, ["marram", "quern"])
    return style.evaluate(few, {"strokes": Strokes()}, Options())


def test_colour_and_texture_take_part_beside_the_encoders_given(result: Result) -> None:
    methods = {each.method for each in result.figures if each.name.startswith("error of the artist named")}
    assert {"baseline: colour", "baseline: texture", "baseline: strokes", f"baseline: {HISTOGRAM}"} <= methods
    assert (result.suite, result.data.artists) == ("style", 2)
    assert {each.group for each in result.figures} == {"atelier"}
    assert all(0 <= each.low <= each.value <= each.high <= 1 for each in result.figures)


def test_too_few_pictures_are_said_and_not_measured() -> None:
    few = drawn(1, 32, ["marram"])
    with pytest.raises(DatasetError) as caught:
        style.evaluate(Dataset("few", few.items, few.digest), {}, Options())
    assert caught.value.code == "too_small"
