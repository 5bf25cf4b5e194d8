import hashlib
import re
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attribution.calibrated import Calibrated, calibrate
from attribution.engine import Engine
from attribution.evidence import PROTECTED_WORK, PROTECTED_WORKS, Evidence, StyleAxis, from_json, to_json
from attribution.fingerprints import fingerprint
from attribution.reference import Reference
from attribution.snapshot import ReferenceWork, snapshot_digest
from models.errors import NetworkError
from models.head_training import train_head
from models.images import encode_png, pixel_sha256
from models.networks import Axis, NetworkInfo, encoder_key

MANY = 20  # artists: enough to tell at 1 in 100 how far a further one may reach
FORBIDDEN = re.compile(r"influenc|train", re.IGNORECASE)


class ColourEncoder:
    """A real descriptor without weights: the 4 x 4 thumbnail, less its mean."""

    def __init__(self, name: str = "colour", shift: float = 0.0) -> None:
        self.name = name
        self.dim = 48
        self.axes: frozenset[Axis] = frozenset({"style", "content"})
        self.shift = shift
        self.info = NetworkInfo(name, "1", hashlib.sha256(f"{name}{shift}".encode()).hexdigest(), "Apache-2.0")

    def encode(self, images: Sequence[np.ndarray]) -> np.ndarray:
        rows = []
        for image in images:
            height, width = image.shape[0] // 4 * 4, image.shape[1] // 4 * 4
            cells = image[:height, :width].reshape(4, height // 4, 4, width // 4, 3).mean(axis=(1, 3))
            rows.append((cells - cells.mean() + self.shift).ravel())
        matrix = np.array(rows, np.float32).reshape(len(images), 48)
        return matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-6)


def painting(artist: int, number: int, strength: float = 1.0) -> np.ndarray:
    """A picture in the hand of an artist: its own 4 x 4 ground under a motif."""
    ground = np.random.default_rng(1000 + artist).normal(128, 40 * strength, (4, 4, 3))
    motif = np.random.default_rng((artist + 1) * 10_000 + number).normal(0, 22, (4, 4, 3))
    return np.kron(np.clip(ground + motif, 0, 255).astype(np.uint8), np.ones((8, 8, 1), np.uint8))


def work(artist: int, number: int, pixels: np.ndarray, **changes: object) -> ReferenceWork:
    values = {
        "id": f"work-{artist}-{number}",
        "artist_id": f"artist-{artist}",
        "artist": f"Painter {artist}",
        "title": f"Picture {number} of {artist}",
        "licence": "CC0-1.0",
        "file_sha256": hashlib.sha256(encode_png(pixels)).hexdigest(),
        "pixel_sha256": pixel_sha256(pixels).hex(),
        "train": False,
        "compare": True,
        "name": True,
    }
    return ReferenceWork(**values | changes)  # type: ignore[arg-type]


def reference(works: Sequence[ReferenceWork], pictures: Sequence[np.ndarray], *encoders: ColourEncoder) -> Reference:
    infos = {encoder.name: encoder.info for encoder in encoders}
    return Reference(
        works=tuple(works),
        vectors={encoder.name: encoder.encode(pictures) for encoder in encoders},
        encoders=infos,
        digest=snapshot_digest(works, {name: vars(info) for name, info in infos.items()}, None),
        collection="test",
    )


def collection(artists: int = 8, each: int = 20, *encoders: ColourEncoder, **changes: object) -> Reference:
    pairs = [(artist, number) for artist in range(artists) for number in range(each)]
    pictures = [painting(*pair) for pair in pairs]
    works = [work(*pair, picture, **changes) for pair, picture in zip(pairs, pictures, strict=True)]
    return reference(works, pictures, *(encoders or (ColourEncoder(),)))


def engine(known: Reference | None, *encoders: ColourEncoder) -> Engine:
    named = {encoder.name: encoder for encoder in encoders or (ColourEncoder(),)}
    if known is None:
        return Engine(named, None)
    calibrated = Calibrated.from_bytes(calibrate(named, known).to_bytes())
    return Engine(named, known, calibrated)


def examined(asked: Engine, pixels: np.ndarray) -> Evidence:
    evidence = asked.examine(pixels, fingerprint(encode_png(pixels), pixels)).evidence
    assert from_json(to_json(evidence)) == evidence
    assert not FORBIDDEN.search(evidence.statement)
    if (style := evidence.style) is not None:
        assert sum(slot.share for slot in style.artists) + style.none_of_these == pytest.approx(1, abs=1e-9)
    return evidence


def styled(evidence: Evidence) -> StyleAxis:
    assert evidence.style is not None
    return evidence.style


def told(evidence: Evidence, axis: str) -> str:
    (found,) = [finding for finding in evidence.findings if finding.axis == axis]
    assert found.outcome == "cannot_tell"
    return found.text


def outcome(evidence: Evidence, axis: str) -> str:
    (found,) = [finding.outcome for finding in evidence.findings if finding.axis == axis]
    return found


@pytest.fixture(scope="module")
def eight() -> Engine:
    return engine(collection())


# What is found ----------------------------------------------------------------------------------------


def test_a_work_of_the_collection_is_found_by_its_file(eight: Engine) -> None:
    evidence = examined(eight, painting(3, 7))
    assert [match.work_id for match in evidence.identity.works] == ["work-3-7"]
    assert evidence.identity.works[0].by == "file_sha256"
    assert evidence.statement == "This very file is in the collection: “Picture 7 of 3” by Painter 3."
    assert evidence.neighbours["colour"].nearest[0].work_id == "work-3-7"
    assert evidence.neighbours["colour"].nearest[0].score == pytest.approx(1, abs=1e-5)


def test_a_work_saved_otherwise_is_found_by_its_pixels(eight: Engine) -> None:
    pixels = painting(3, 7)
    evidence = eight.examine(pixels, fingerprint(encode_png(pixels, compress_level=0), pixels)).evidence
    assert evidence.identity.works[0].by == "pixel_sha256"
    assert evidence.statement.startswith("A picture with these very pixels is in the collection: “Picture 7 of 3”")


def test_a_new_picture_in_a_known_hand_stands_out_with_its_error_rate() -> None:
    evidence = examined(engine(collection(MANY)), painting(5, 999))
    style = styled(evidence)
    assert evidence.identity.works == []
    assert (style.artists[0].artist_id, style.artists[0].artist) == ("artist-5", "Painter 5")
    assert style.artists[0].share > 0.5
    assert style.artists[0].p_value is not None
    assert style.artists[0].p_value <= 0.01
    assert outcome(evidence, "style") == "found"
    assert evidence.statement.startswith("This image resembles the hand of Painter 5")


def test_eight_artists_do_not_tell_what_a_ninth_may_reach() -> None:
    evidence = examined(engine(collection(8, 40)), painting(5, 999))
    assert styled(evidence).artists[0].artist == "Painter 5"
    assert "needs works by more artists" in told(evidence, "style")


def test_a_picture_in_an_unknown_hand_does_not_stand_out(eight: Engine) -> None:
    found = [examined(eight, painting(artist, 1)) for artist in range(50, 80)]
    stood_out = [evidence for evidence in found if outcome(evidence, "style") == "found"]
    assert len(stood_out) <= 3, "eight artists make a rough error rate, and a rate of 1 in 100 all the same"
    assert np.median([styled(evidence).none_of_these for evidence in found]) > 0.5


def test_neighbours_come_best_first_with_p_values_that_rise(eight: Engine) -> None:
    axis = examined(eight, painting(5, 999)).neighbours["colour"]
    assert len(axis.nearest) == 10
    assert axis.encoder == encoder_key(ColourEncoder().info)
    assert axis.metric == "cosine"
    scores = [neighbour.score for neighbour in axis.nearest]
    p_values = [neighbour.p_value for neighbour in axis.nearest]
    assert scores == sorted(scores, reverse=True)
    assert p_values == sorted(p_values)
    assert axis.calibration is not None
    assert axis.calibration.n == 160
    assert axis.calibration.smallest_p == pytest.approx(1 / 161)


def test_the_evidence_names_its_snapshot_and_what_it_does_not_prove(eight: Engine) -> None:
    evidence = examined(eight, painting(50, 1))
    assert evidence.version == "evidence/1"
    assert evidence.snapshot is not None
    assert evidence.snapshot.digest == (eight.reference.digest or b"").hex()
    assert (evidence.snapshot.works, evidence.snapshot.artists, evidence.snapshot.collection) == (160, 8, "test")
    assert any("does not prove" in sentence for sentence in evidence.not_proven)


def test_one_image_examined_twice_gives_the_same_evidence(eight: Engine) -> None:
    assert to_json(examined(eight, painting(5, 999))) == to_json(examined(engine(collection()), painting(5, 999)))


def test_many_artists_are_listed_up_to_twelve_and_the_rest_together() -> None:
    shares = styled(examined(engine(collection(16, 4)), painting(2, 999)))
    assert len(shares.artists) == 13
    assert shares.artists[-1].artist == "all other artists"
    assert shares.artists[-1].artist_id is None


def test_the_same_picture_under_two_artists_is_a_conflict_and_calibrates_soundly() -> None:
    known = collection()
    copy = msgspec.structs.replace(known.works[0], id="copy", artist_id="artist-7", artist="Painter 7", title="Copy")
    vectors = {"colour": np.concatenate([known.vectors["colour"], known.vectors["colour"][:1]])}
    doubled = engine(Reference((*known.works, copy), vectors, known.encoders, None, "test"))
    evidence = examined(doubled, painting(0, 0))
    assert [match.work_id for match in evidence.identity.works] == ["work-0-0", "copy"]
    (conflict,) = evidence.conflicts
    assert conflict.artists == ["Painter 0", "Painter 7"]
    calibration = evidence.neighbours["colour"].calibration
    assert calibration is not None
    assert evidence.neighbours["colour"].nearest[0].p_value == pytest.approx(calibration.smallest_p)
    assert evidence.snapshot is not None
    assert evidence.snapshot.digest is None


def test_the_error_rate_is_shared_among_axes_and_encoders() -> None:
    """The two encoders of content share one chance: 160 works are then too few for 1 in 100, 420 are enough."""
    pair = (ColourEncoder("one"), ColourEncoder("two", shift=3.0))
    few = examined(engine(collection(8, 20, *pair), *pair), painting(50, 1))
    assert outcome(few, "content") == "cannot_tell"
    enough = examined(engine(collection(14, 30, *pair), *pair), painting(5, 999))
    assert (outcome(enough, "style"), outcome(enough, "content")) == ("found", "found")
    assert set(enough.neighbours) == {"one", "two"}


# When there is little or nothing to compare with -------------------------------------------------------


def test_without_a_collection_it_cannot_tell() -> None:
    evidence = examined(engine(None), painting(0, 0))
    assert evidence.statement == "Cannot tell: there is no collection to compare with."
    assert evidence.snapshot is None


def test_an_empty_collection_cannot_tell() -> None:
    evidence = examined(engine(Reference((), {}, {}, None, "empty")), painting(0, 0))
    assert evidence.statement == "Cannot tell: the collection is empty."
    assert evidence.snapshot is not None
    assert evidence.snapshot.works == 0


@pytest.mark.parametrize("each", [1, 50])
def test_one_artist_cannot_tell_but_still_finds_the_very_image(each: int) -> None:
    alone = engine(collection(1, each))
    evidence = examined(alone, painting(0, 999))
    assert outcome(evidence, "style") == "cannot_tell"
    assert ("all works are by one artist" if each > 1 else "too few") in told(evidence, "style")
    assert evidence.neighbours["colour"].nearest[0].p_value is None
    assert evidence.neighbours["colour"].calibration is None
    assert evidence.style is None
    assert examined(alone, painting(0, 0)).statement.startswith("This very file")


def test_few_works_cannot_tell_and_say_how_many_it_takes() -> None:
    assert "at least 20" in told(examined(engine(collection(3, 3)), painting(0, 999)), "style")
    assert "needs 199 calibration works" in told(examined(engine(collection(6, 10)), painting(0, 999)), "style")


def test_no_encoder_leaves_identity() -> None:
    bare = Engine({}, collection())
    assert examined(bare, painting(0, 0)).identity.works
    assert {finding.outcome for finding in examined(bare, painting(0, 999)).findings[1:]} == {"cannot_tell"}
    unindexed = Engine({"other": ColourEncoder("other")}, collection())
    assert examined(unindexed, painting(0, 999)).neighbours == {}


def test_a_collection_that_was_not_calibrated_cannot_tell() -> None:
    evidence = examined(Engine({"colour": ColourEncoder()}, collection()), painting(5, 999))
    assert "has not been calibrated" in told(evidence, "style")
    assert evidence.neighbours["colour"].nearest[0].p_value is None


def test_a_calibration_of_another_collection_is_refused() -> None:
    named = {"colour": ColourEncoder()}
    with pytest.raises(ValueError, match="calibrated on"):
        Engine(named, collection(8, 20), calibrate(named, collection(8, 19)))


def test_an_image_that_an_encoder_sees_nothing_in_cannot_be_told(eight: Engine) -> None:
    evidence = examined(eight, np.zeros((32, 32, 3), np.uint8))
    assert "nothing to go by" in told(evidence, "style")
    assert evidence.style is None
    assert evidence.neighbours == {}


# What may be shown ------------------------------------------------------------------------------------


def test_works_that_may_not_be_compared_are_not_searched() -> None:
    known = collection(8, 20, compare=False)
    evidence = examined(engine(known), painting(3, 7))
    assert evidence.identity.works == []
    assert evidence.neighbours == {}
    assert evidence.statement == "Cannot tell: no work in the collection may be compared."
    half = [msgspec.structs.replace(one, compare=one.artist_id != "artist-3") for one in known.works]
    partly = examined(engine(Reference(tuple(half), known.vectors, known.encoders, None, "test")), painting(3, 7))
    assert partly.identity.works == []
    assert partly.snapshot is not None
    assert (partly.snapshot.works, partly.snapshot.artists) == (140, 7)
    assert "artist-3" not in to_json(partly).decode()


def hidden(known: Reference, *artists: str) -> Reference:
    works = [msgspec.structs.replace(one, name=one.name and one.artist_id not in artists) for one in known.works]
    return Reference(tuple(works), known.vectors, known.encoders, None, "test")


def test_a_protected_work_is_found_and_not_named() -> None:
    asked = engine(hidden(collection(MANY), "artist-3"))
    evidence = examined(asked, painting(3, 7))
    assert evidence.statement == f"This very file is in the collection: {PROTECTED_WORK}."
    assert evidence.identity.works[0].protected
    style = examined(asked, painting(3, 999))
    assert outcome(style, "style") == "found"
    assert "the hand of an artist whose works are protected" in style.statement
    slots = styled(style).artists
    assert slots[-1].artist == PROTECTED_WORKS
    assert slots[-1].share > 0.5
    for text in (to_json(evidence).decode(), to_json(style).decode()):
        assert not re.search(r"artist-3|work-3|Painter 3|of 3", text)


@given(st.sets(st.integers(0, 159), max_size=160), st.integers(0, 7), st.sampled_from([0, 7, 999]))
@settings(max_examples=40, deadline=None)
def test_protected_works_never_leak_an_id_a_name_or_a_title(rows: set[int], artist: int, number: int) -> None:
    known = EIGHT
    works = [msgspec.structs.replace(one, name=row not in rows) for row, one in enumerate(known.works)]
    asked = engine(Reference(tuple(works), known.vectors, known.encoders, None, "test"))
    text = to_json(examined(asked, painting(artist, number))).decode()
    for one in works:
        if not one.name:
            assert f'"{one.id}"' not in text
            assert f'{one.title}"' not in text
            assert f"“{one.title}”" not in text
    unnamed = {one.artist_id for one in works} - {one.artist_id for one in works if one.name}
    for artist_id in unnamed:
        assert f'"{artist_id}"' not in text
        assert f'"Painter {artist_id.removeprefix("artist-")}"' not in text


EIGHT = collection()


def test_an_unnamed_work_gives_its_share_to_the_protected_slot_though_its_artist_is_named() -> None:
    """Else the score of "a protected work" beside the share of a named artist would tell whose it is."""
    known = EIGHT
    works = [msgspec.structs.replace(one, name=one.id != "work-3-7") for one in known.works]
    asked = engine(Reference(tuple(works), known.vectors, known.encoders, None, "test"))
    slots = {slot.artist: slot.share for slot in styled(examined(asked, painting(3, 7))).artists}
    plain = {slot.artist: slot.share for slot in styled(examined(engine(known), painting(3, 7))).artists}
    assert slots[PROTECTED_WORKS] > 0.1
    assert slots["Painter 3"] + slots[PROTECTED_WORKS] == pytest.approx(plain["Painter 3"], abs=0.01)


@pytest.mark.parametrize("by", ["artist_id", "artist"])
def test_the_classifier_names_only_who_may_be_named(by: str) -> None:
    """Its artists are ids where it was trained on a collection, names where it was trained on a folder."""
    known = hidden(collection(), "artist-3")
    (key,) = (encoder_key(info) for info in known.encoders.values())
    head, _ = train_head({key: known.vectors["colour"]}, [getattr(work, by) for work in known.works])
    asked = Engine({"colour": ColourEncoder()}, known, head=head)
    named, protected = (
        examined(asked, painting(5, 999)).classification,
        examined(asked, painting(3, 999)).classification,
    )
    assert named is not None
    assert protected is not None
    assert named.artists[0].artist_id == "artist-5"
    assert protected.artists[-1].artist == PROTECTED_WORKS
    assert protected.artists[-1].share > 0.5
    for said in (named, protected):
        assert sum(each.share for each in said.artists) + said.unknown == pytest.approx(1)
        assert "Painter 3" not in {each.artist for each in said.artists}


# What is refused --------------------------------------------------------------------------------------


def test_vectors_of_other_weights_are_never_compared() -> None:
    with pytest.raises(NetworkError) as caught:
        engine(collection(), ColourEncoder("colour", shift=1.0))
    assert caught.value.code == "encoder_changed"
    assert "ndex the collection again" in caught.value.next_step


@pytest.mark.parametrize("spoil", ["short", "zero", "nan"])
def test_vectors_that_do_not_fit_the_works_are_refused(spoil: str) -> None:
    known = collection()
    vectors = known.vectors["colour"].copy()
    if spoil == "short":
        vectors = vectors[:-1]
    elif spoil == "zero":
        vectors[3] = 0
    else:
        vectors[3, 3] = np.nan
    with pytest.raises(ValueError, match="colour"):
        engine(Reference(known.works, {"colour": vectors}, known.encoders, None, "test"))


def test_vectors_rounded_by_half_precision_storage_are_scaled_again() -> None:
    known = collection()
    rounded = {"colour": (known.vectors["colour"].astype(np.float16) * np.float16(0.99)).astype(np.float32)}
    evidence = examined(engine(Reference(known.works, rounded, known.encoders, None, "test")), painting(3, 7))
    assert evidence.neighbours["colour"].nearest[0].score == pytest.approx(1, abs=1e-3)
