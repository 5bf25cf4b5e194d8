import numpy as np
import pytest

from attribution.calibration import Null
from attribution.evaluation.asking import NOBODY, Answers, Pictures
from attribution.evaluation.claims import Findings, evaluate
from attribution.evaluation.dataset import drawn
from attribution.evaluation.suite import OURS, PERFECT, Options
from models.encoders.atelier import AtelierStyle
from models.registry import BUILT_IN


def reference(works: list[int]) -> Pictures:
    artists = np.repeat(np.arange(len(works)), works)
    numbers = np.arange(len(artists))
    return Pictures({}, artists, numbers, numbers, tuple(f"artist {n}" for n in range(len(works))))


def answers(p_values: list[float], nearest: list[int], null: int = 999) -> Answers:
    n = len(p_values)
    null_scores = Null.of(np.linspace(0, 1, null))
    return Answers(np.array(nearest), np.array(p_values), np.full(n, NOBODY), np.full(n, 0.9), null_scores)


def test_false_findings_are_counted_by_artist_and_by_catalogue() -> None:
    found = Findings(seed=0)
    said = answers([0.001, 0.2, 0.001, 0.5], [1, 0, 1, 0])
    found.false("style", "here", 0.01, said, np.array([0, 0, 2, 2]), reference([5, 20, 10]))
    (figure,) = found.figures
    assert (figure.value, figure.n, figure.target, figure.at_most) == (0.5, 4, 0.01, True)
    assert figure.low < 0.5 < figure.high
    by_artist, by_catalogue = found.tables
    assert by_artist.rows == [["artist 0", 2, 1, 0.5], ["artist 2", 2, 1, 0.5]]
    assert by_catalogue.rows == [["artist 1", 20, 2, 1.0], ["artist 2", 10, 0, 0.0], ["artist 0", 5, 0, 0.0]]


def test_a_null_too_small_for_alpha_is_said_and_gives_no_rate() -> None:
    found = Findings(seed=0)
    found.false("style", "here", 0.01, answers([1.0], [0], null=40), np.array([0]), reference([5, 5]))
    assert found.figures == []
    assert "40 calibration images are too few" in found.notes[0]


def test_power_counts_the_right_artist_and_another_apart() -> None:
    found = Findings(seed=0)
    found.power("here", 0.01, answers([0.001, 0.001, 0.5, 0.001], [0, 1, 1, 1]), np.array([0, 0, 1, 1]))
    right, wrong = found.figures
    assert (right.value, wrong.value) == (0.5, 0.25)


def test_shares_that_are_as_often_right_as_they_say_have_a_small_error() -> None:
    rng = np.random.default_rng(1)
    sure = rng.uniform(0.5, 1, 4000)
    right, other = rng.random(4000) < sure, rng.random(4000) < sure
    nothing = np.zeros(4000)
    known = Answers(nothing, nothing, np.where(right, 3, 4), sure, Null.of([0.0]))
    unknown = Answers(nothing, nothing, np.where(other, NOBODY, 2), sure, Null.of([0.0]))
    found = Findings(seed=0)
    found.shares("honest", known, np.full(4000, 3), unknown, np.arange(4000) % 9, same=False)
    ours, perfect, plain = found.figures
    assert (ours.n, ours.method, perfect.method) == (8000, OURS, PERFECT)
    assert ours.value < 0.03
    assert perfect.low < ours.value < perfect.high
    assert plain.value == pytest.approx(ours.value, abs=0.01)
    assert sum(row[3] for row in found.tables[0].rows) == pytest.approx(1)
    boastful, loud = known._replace(confidence=np.ones(4000)), unknown._replace(confidence=np.ones(4000))
    found.shares("boastful", boastful, np.full(4000, 3), loud, np.arange(4000) % 9, same=False)
    assert found.figures[3].value == pytest.approx(0.25, abs=0.03)


def test_a_null_of_too_few_artists_says_how_many_there_are() -> None:
    codes = np.repeat(np.arange(4), 300)
    null = Null.of(3 * codes + np.random.default_rng(0).normal(size=1200), artists=codes)
    said = Answers(np.array([0]), np.array([1.0]), np.array([NOBODY]), np.array([0.9]), null)
    found = Findings(seed=0)
    found.false("style", "here", 0.01, said, np.array([0]), reference([5, 5]))
    assert "1200 calibration images by 4 artists are too few" in found.notes[0]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_suite_measures_a_collection_and_the_strangers() -> None:
    """With few works its rates say little; that each is there, or a note says why not, is what is asked here."""
    encoders = {"atelier": AtelierStyle.load(BUILT_IN / "style_encoder", "cpu")}
    studios = ["marram", "quern", "clerestory", "tessel", "dotwell"]
    result = evaluate(drawn(3, 96, studios), encoders, Options(sample=180))
    by_name = {(figure.group, figure.name): figure for figure in result.figures if figure.method == OURS}
    assert by_name["atelier", "false style findings at p <= 0.01"].n == 180
    assert by_name["atelier", "calibration error of shares"].value < 0.5
    assert any("too few for p <= 0.001" in note for note in result.notes)  # 19 strangers x 12 works
    assert by_name["strangers", "calibration error of shares"].n > 0
