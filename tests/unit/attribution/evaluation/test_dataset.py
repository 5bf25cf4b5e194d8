"""Reading a collection to measure on: folders, Parquet, the atelier's own."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from attribution.evaluation.dataset import Dataset, DatasetError, drawn, read
from models.errors import ImageError
from models.images import encode_png


def picture(number: int) -> bytes:
    return encode_png(np.full((4, 6, 3), number % 256, np.uint8))


def fill(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number))


def by_name(dataset: Dataset) -> dict[str, tuple[str, str, str | None]]:
    return {item.name: (item.group, item.artist, item.content) for item in dataset.items}


def test_the_folder_that_holds_a_picture_is_its_artist_and_the_one_above_its_group(tmp_path: Path) -> None:
    fill(tmp_path, "ada/boat.png", "oils/bo/tree.png", "oils/bo/.hidden.png", "oils/bo/notes.txt")
    assert by_name(read(tmp_path)) == {
        "ada/boat.png": ("", "ada", None),
        "oils/bo/tree.png": ("oils", "bo", None),
    }


def test_names_that_a_groups_artists_share_are_what_is_shown(tmp_path: Path) -> None:
    fill(tmp_path, *(f"icons/{artist}/{code}.png" for artist in ("ada", "bo") for code in ("1F004", "1F0CF", "203C")))
    fill(tmp_path, "oils/cy/boat.png", "oils/di/tree.png", "oils/di/cat.png")
    contents = {name: content for name, (_, _, content) in by_name(read(tmp_path)).items()}
    assert contents["icons/ada/1F004.png"] == contents["icons/bo/1F004.png"] == "1F004"
    assert contents["oils/cy/boat.png"] is None


def test_mere_numbering_is_not_content(tmp_path: Path) -> None:
    fill(tmp_path, *(f"{artist}/lj_{number}.png" for artist in ("ada", "bo") for number in range(5)))
    assert {item.content for item in read(tmp_path).items} == {None}


def test_what_is_no_picture_or_has_no_artist_is_told_and_passed_over(tmp_path: Path) -> None:
    fill(tmp_path, "ada/boat.png", "loose.png")
    (tmp_path / "ada" / "broken.png").write_bytes(b"not a picture")
    (tmp_path / "ada" / "link.png").symlink_to(tmp_path / "loose.png")
    dataset = read(tmp_path)
    assert [item.name for item in dataset.items] == ["ada/boat.png"]
    assert {(bad.name, bad.code) for bad in dataset.bad} == {
        ("loose.png", "artist_missing"),
        ("ada/broken.png", "image_format_unsupported"),
    }


@pytest.mark.parametrize(("make", "code"), [(None, "dataset_missing"), ("empty", "dataset_empty")])
def test_a_folder_without_pictures_is_refused(tmp_path: Path, make: str | None, code: str) -> None:
    folder = tmp_path / "works"
    if make:
        folder.mkdir()
    with pytest.raises(DatasetError) as refused:
        read(folder)
    assert refused.value.code == code


def test_the_error_of_a_file_that_was_damaged_meanwhile_names_it(tmp_path: Path) -> None:
    fill(tmp_path, "ada/boat.png")
    boat = read(tmp_path).items[0]
    (tmp_path / "ada" / "boat.png").write_bytes(picture(0)[:-20])
    with pytest.raises(ImageError, match=r"ada/boat\.png"):
        boat.pixels()


def test_the_digest_names_the_very_pictures_and_artists(tmp_path: Path) -> None:
    fill(tmp_path, "ada/boat.png", "bo/tree.png")
    first = read(tmp_path)
    assert read(tmp_path).digest == first.digest
    (tmp_path / "ada" / "boat.png").write_bytes(picture(9))
    assert read(tmp_path).digest != first.digest


def test_equal_files_are_one_picture_under_any_name(tmp_path: Path) -> None:
    fill(tmp_path, "ada/boat.png", "bo/tree.png")
    (tmp_path / "bo" / "again.png").write_bytes(picture(0))
    dataset = read(tmp_path)
    names = [item.name for item in dataset.items]
    codes = dict(zip(names, dataset.picture_codes(), strict=True))
    assert codes["ada/boat.png"] == codes["bo/again.png"] != codes["bo/tree.png"]


def test_a_sample_keeps_every_artist_and_takes_a_content_whole() -> None:
    whole = drawn(variants=2, size=32)
    some = whole.sample(96, seed=3)
    assert some.digest == whole.sample(96, seed=3).digest != whole.sample(96, seed=4).digest
    assert 0 < len(some.items) <= 96
    assert set(some.artists) == set(whole.artists)
    kept = {item.content for item in some.items}
    assert len(some.items) == sum(item.content in kept for item in whole.items)


def test_a_sample_of_pictures_without_content_is_in_proportion(tmp_path: Path) -> None:
    fill(tmp_path, *(f"ada/a{number}.png" for number in range(40)), *(f"bo/b{number}.png" for number in range(4)))
    some = read(tmp_path).sample(11, seed=0)
    of_ada = sum(item.artist == "ada" for item in some.items)
    assert (of_ada, len(some.items) - of_ada) in {(10, 1), (9, 2)}


def test_the_atelier_draws_a_dataset_without_files() -> None:
    dataset = drawn(variants=1, size=32)
    assert len(dataset.artists) == 12
    assert len({item.content for item in dataset.items}) == 12
    assert dataset.items[0].pixels().shape == (32, 32, 3)
    assert dataset.digest == drawn(variants=1, size=32).digest != drawn(variants=1, size=64).digest


# ---- Parquet, as huggan/wikiart has it -------------------------------------------------------------------------------


def wikiart(path: Path, artists: list[object], names: list[str] | None) -> Path:
    """A small file of the same columns: image struct{bytes, path}, and three ClassLabels with their names beside."""
    images = [{"bytes": picture(number), "path": None} for number in range(len(artists))]
    table = pa.table({"image": images, "artist": artists, "genre": [0] * len(images), "style": [1] * len(images)})
    if names is not None:
        label = {"names": names, "_type": "ClassLabel"}
        features = {"image": {"_type": "Image"}, "artist": label, "genre": label, "style": label}
        metadata = json.dumps({"info": {"features": features}}).encode()
        table = table.replace_schema_metadata({b"huggingface": metadata})
    path.parent.mkdir(exist_ok=True)
    pq.write_table(table, path, row_group_size=2)
    return path


def test_wikiarts_parquet_is_read_with_its_artists_names(tmp_path: Path) -> None:
    file = wikiart(tmp_path / "train-0.parquet", [1, 0, 1], ["albrecht-durer", "boris-kustodiev"])
    dataset = read(file)
    assert [item.artist for item in dataset.items] == ["boris-kustodiev", "albrecht-durer", "boris-kustodiev"]
    assert [int(item.pixels()[0, 0, 0]) for item in dataset.items] == [0, 1, 2]


def test_a_folder_of_parquet_files_is_one_dataset(tmp_path: Path) -> None:
    wikiart(tmp_path / "data" / "train-0.parquet", [0, 1], ["a", "b"])
    wikiart(tmp_path / "data" / "train-1.parquet", ["c"], None)
    assert read(tmp_path / "data").artists == ("a", "b", "c")


def test_a_parquet_file_of_other_columns_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"picture": [b"x"]}), tmp_path / "other.parquet")
    with pytest.raises(DatasetError, match=r"other\.parquet"):
        read(tmp_path / "other.parquet")
    (tmp_path / "text.parquet").write_bytes(b"no parquet")
    with pytest.raises(DatasetError, match=r"text\.parquet"):
        read(tmp_path / "text.parquet")


def test_an_artist_that_the_file_does_not_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="artist 7"):
        read(wikiart(tmp_path / "train.parquet", [7], ["a", "b"]))
