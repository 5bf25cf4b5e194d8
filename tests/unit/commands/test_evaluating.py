"""`lawful evaluate` from the command line, on a folder of a few pictures."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from attribution.evaluation import copy, suite
from attribution.evaluation.edits import EDITS
from attribution.evaluation.suite import Data
from ledger import lab
from ledger.cli import main
from models.atelier.collection import draw
from models.images import encode_png


@pytest.fixture
def works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(copy, "MOST_LARGE", 2)
    monkeypatch.setattr(copy, "EDITS", {"10 % border": EDITS["10 % border"]})
    folder = tmp_path / "works"
    for studio in ("aspen", "bramble", "gable"):
        (folder / studio).mkdir(parents=True)
        for variant, subject in enumerate(("boat", "tree")):
            (folder / studio / f"{studio}-{subject}.png").write_bytes(encode_png(draw(studio, subject, variant, 256)))
    (folder / "loose.png").write_bytes(b"")
    return folder


def evaluate(tmp_path: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["--home", str(tmp_path / "home"), "evaluate", *words])


def test_a_suite_prints_its_table_and_leaves_json_and_a_picture(tmp_path: Path, works: Path) -> None:
    ran = evaluate(tmp_path, "copy", str(works), "--out", str(tmp_path / "out" / "new"), "--seed", "4")
    assert ran.exit_code == 0, ran.stderr
    assert "10 % border" in ran.stdout
    assert "baseline: PDQ" in ran.stdout
    assert "passed over loose.png" in ran.stderr
    written = json.loads((tmp_path / "out" / "new" / "copy.json").read_bytes())
    assert written["command"] == f"lawful evaluate copy {works} --seed 4"
    assert (written["seed"], written["data"]["works"], written["data"]["artists"]) == (4, 6, 3)
    assert (tmp_path / "out" / "new" / "copy.svg").read_text().startswith("<?xml")
    assert not (tmp_path / "home").exists()


def test_with_json_the_answer_is_the_result(tmp_path: Path, works: Path) -> None:
    ran = evaluate(tmp_path, "copy", str(works), "--out", str(tmp_path / "out"), "--json")
    answer = json.loads(ran.stdout)
    assert answer["result"]["suite"] == "copy"
    assert [Path(name).name for name in answer["files"]] == ["copy.json", "copy.svg"]


def test_pictures_to_look_at_lie_beside_the_figures(tmp_path: Path) -> None:
    data = Data(name="atelier", works=120, artists=12, digest="0" * 64)
    result = suite.Result(suite="atelier", figures=[], data=data, seed=0, sample=None)
    paths = lab.written(result, {"atelier": b"a sheet", "atelier-nearest": b"pairs"}, tmp_path / "new")
    assert [path.name for path in paths] == ["atelier.json", "atelier.svg", "atelier.png", "atelier-nearest.png"]
    assert paths[3].read_bytes() == b"pairs"


@pytest.mark.parametrize(
    ("words", "code"), [(("copy", "nowhere"), "dataset_missing"), (("copy", "."), "dataset_empty")]
)
def test_a_folder_without_works_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], code: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = evaluate(tmp_path, *words, "--json")
    assert ran.exit_code == 3
    assert json.loads(ran.stdout)["error"]["code"] == code


def test_an_unknown_suite_is_a_usage_error(tmp_path: Path) -> None:
    assert evaluate(tmp_path, "luck").exit_code == 2
