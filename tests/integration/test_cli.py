"""The commands on a founded ledger, with real networks of few weights and a database of each test's own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from ledger.cli import main
from ledger.settings import Settings
from ledger.tampering import change_one_pixel, strip
from models.images import decode, encode_png
from models.registry import BUILT_IN

from .conftest import picture
from .small_networks import save_open

Lawful = Callable[..., Result]
QUICK = ("--steps", "1", "--width", "64", "--height", "64")


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return save_open(tmp_path_factory.mktemp("networks"))


@pytest.fixture
def lawful(settings: Settings, networks: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lawful:
    """Runs a command against this test's database; the current folder is `tmp_path`/work."""
    assert settings.database_url is not None
    assert settings.database_owner_url is not None
    overrides = {
        "database_url": settings.database_url.get_secret_value(),
        "database_owner_url": settings.database_owner_url.get_secret_value(),
        "profile": "open",
        **networks,
    }
    words = [
        "--home",
        str(tmp_path / "home"),
        *(w for name, value in overrides.items() for w in ("--set", f"{name}={value}")),
    ]
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")

    def run(*command: str) -> Result:
        return CliRunner().invoke(main, [*words, *command])

    return run


@pytest.fixture
def founded(lawful: Lawful) -> Lawful:
    assert lawful("init").exit_code == 0
    return lawful


def answer(result: Result, exit_code: int = 0) -> Any:
    assert result.exit_code == exit_code, result.output
    return json.loads(result.stdout)


def test_init_shows_the_api_key_once_and_changes_nothing_the_second_time(lawful: Lawful) -> None:
    first = answer(lawful("init", "--json"))
    second = answer(lawful("init", "--json"))
    assert first["api_key"].startswith("lawful_")
    assert second == first | {"api_key": None}


def test_a_new_ledger_is_well(founded: Lawful) -> None:
    found = answer(founded("doctor", "--json"))
    results = {check["name"]: check["result"] for check in found["checks"]}
    assert results.pop("worker") == "warn"  # none runs
    assert set(results.values()) == {"pass"}
    assert {"append_only", "log", "networks", "credentials", "storage", "disk", "queue", "collection"} <= set(results)
    assert all(check["next_step"] for check in found["checks"] if check["result"] != "pass")


def test_doctor_names_what_is_wrong_and_ends_with_1(founded: Lawful, tmp_path: Path) -> None:
    (tmp_path / "home" / "keys" / "log.skey").chmod(0o644)
    found = answer(founded("doctor", "--json"), exit_code=1)
    by_name = {check["name"]: check for check in found["checks"]}
    assert by_name["keys"]["result"] == "fail"
    assert "keys_exposed" in by_name["keys"]["detail"]
    assert "chmod" in by_name["keys"]["next_step"]
    assert by_name["log"]["result"] == "skip"


def test_doctor_sees_a_log_that_was_rewritten(founded: Lawful, superuser_url: str, database_name: str) -> None:
    import psycopg
    import sqlalchemy as sa

    url = sa.make_url(superuser_url).set(drivername="postgresql", database=database_name)
    with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as connection:
        connection.execute("ALTER TABLE log_entries DISABLE TRIGGER USER")
        connection.execute("UPDATE log_entries SET leaf_hash = sha256(leaf_hash)")
    by_name = {check["name"]: check for check in answer(founded("doctor", "--quick", "--json"), exit_code=1)["checks"]}
    assert by_name["append_only"]["result"] == "fail"
    assert "log_inconsistent" in by_name["log"]["detail"]


def test_from_a_prompt_to_a_file_that_verifies(founded: Lawful) -> None:
    made = answer(founded("generate", "a heron", "-o", "heron.png", "--seed", "3", *QUICK, "--json"))
    assert made["record"]["state"] == "issued"
    assert made["page"] == f"http://127.0.0.1:8000/r/{made['record']['file_sha256']}"
    found = answer(founded("verify", "heron.png", "--json"))
    assert found["answers"] == {
        "credential": "present",
        "content": "intact",
        "signature": "valid",
        "signer": "trusted",
        "ingredients": "none",
        "ledger": "recorded",
    }
    assert found["found_by"] == "credential"
    assert [record["id"] for record in found["records"]] == [made["record"]["id"]]
    offline = answer(founded("verify", "--offline", "heron.png", "--json"))
    assert offline["answers"] == found["answers"]


def test_lookup_finds_a_record_by_file_hash_pixels_iscc_and_id(founded: Lawful) -> None:
    record = answer(founded("generate", "a heron", "-o", "heron.png", *QUICK, "--json"))["record"]
    Path("stripped.png").write_bytes(strip(Path("heron.png").read_bytes()))
    asked = {
        "heron.png": "file_sha256",
        "stripped.png": "pixel_sha256",
        record["file_sha256"].upper(): "hash",
        record["pixel_sha256"]: "hash",
        record["iscc"]: "iscc",
        record["id"]: "id",
    }
    for what, found_by in asked.items():
        found = answer(founded("lookup", what, "--json"))
        assert found["found_by"] == found_by
        assert [each["id"] for each in found["records"]] == [record["id"]]
    assert record["id"] in founded("lookup", "heron.png").stdout


def test_what_nobody_recorded_ends_with_1_and_says_what_that_means(founded: Lawful) -> None:
    assert answer(founded("lookup", "ab" * 32, "--json"), exit_code=1)["records"] == []
    result = founded("lookup", "ab" * 32)
    assert "says nothing about how the image was made" in result.stdout


def test_a_changed_copy_of_a_stamped_file_contradicts_the_ledger(founded: Lawful) -> None:
    Path("mine.png").write_bytes(encode_png(picture(5)))
    stamped = answer(founded("stamp", "mine.png", "-o", "stamped.png", "--model", "brush", "--json"))
    assert stamped["record"]["made"]["declared_model"] == "brush"
    assert (decode(Path("stamped.png").read_bytes()).pixels == picture(5)).all()
    Path("changed.png").write_bytes(change_one_pixel(Path("stamped.png").read_bytes()))
    found = answer(founded("verify", "changed.png", "--json"), exit_code=1)
    assert found["answers"]["content"] == "altered"
    assert found["answers"]["ledger"] == "contradicts"


def test_the_same_request_again_is_one_record(founded: Lawful) -> None:
    words = ("generate", "a heron", "--idempotency-key", "monday", *QUICK, "--json")
    first = answer(founded(*words, "-o", "a.png"))
    second = answer(founded(*words, "-o", "b.png"))
    assert first["record"] == second["record"]
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    other = founded("generate", "a goose", "--idempotency-key", "monday", *QUICK, "-o", "c.png")
    assert other.exit_code == 3
    assert "[idempotency_key_reused]" in other.stderr


def test_an_existing_file_is_refused_before_any_work(founded: Lawful) -> None:
    Path("heron.png").write_bytes(b"precious")
    result = founded("generate", "a heron", "-o", "heron.png", *QUICK)
    assert result.exit_code == 3
    assert "[output_exists]" in result.stderr
    assert Path("heron.png").read_bytes() == b"precious"
    answer(founded("generate", "a heron", "-o", "heron.png", "--force", *QUICK, "--json"))
    assert decode(Path("heron.png").read_bytes()).media_type == "image/png"


@pytest.mark.parametrize(("prompt", "code"), [("x" * 100_000, "prompt_too_long"), ("  ", "prompt_empty")])
def test_a_prompt_that_cannot_be_used_is_refused(founded: Lawful, prompt: str, code: str) -> None:
    error = answer(founded("generate", prompt, "-o", "x.png", *QUICK, "--json"), exit_code=3)["error"]
    assert error["code"] == code
    assert len(error["detail"]) < 200
    assert not Path("x.png").exists()


def test_a_request_that_can_never_be_met_fails_the_same_way_again(founded: Lawful) -> None:
    words = ("generate", "a heron", "-o", "x.png", "--width", "100000", "--idempotency-key", "k", "--json")
    first, second = answer(founded(*words), exit_code=3), answer(founded(*words), exit_code=3)
    assert first["error"]["code"] == second["error"]["code"]


# ---- index ---------------------------------------------------------------------------------------------------------


def collect(folder: Path, artists: dict[str, int]) -> Path:
    """`artists` → number of works; each picture is another."""
    for number, (artist, works) in enumerate(artists.items()):
        (folder / artist).mkdir(parents=True, exist_ok=True)
        for work in range(works):
            (folder / artist / f"{work}.png").write_bytes(encode_png(picture(1000 * number + work, side=48)))
    return folder


def test_a_second_run_adds_only_what_is_new(founded: Lawful) -> None:
    collect(Path("paintings"), {"ada": 3, "bob": 2})
    first = answer(founded("index", "paintings", "--licence", "CC0-1.0", "--json"))
    assert (first["added"], first["known"], first["works"], first["artists"]) == (5, 0, 5, 2)
    assert first["collection"] == "paintings"
    again = answer(founded("index", "paintings", "--licence", "CC0-1.0", "--json"))
    assert (again["added"], again["known"], again["snapshot"]) == (0, 5, first["snapshot"])
    collect(Path("paintings"), {"ada": 3, "bob": 4})
    third = answer(founded("index", "paintings", "--json"))
    assert (third["added"], third["works"]) == (2, 7)
    assert third["snapshot"] != first["snapshot"]


def test_bad_files_are_listed_and_never_fatal(founded: Lawful) -> None:
    collect(Path("c"), {"ada": 2})
    Path("c/ada/[red]not\nan image.png").write_bytes(b"hello")
    Path("c/ada/empty.png").write_bytes(b"")
    Path("c/ada/cut.png").write_bytes(encode_png(picture(9))[:200])
    Path("c/stray.png").write_bytes(encode_png(picture(8)))
    result = founded("index", "c")
    assert result.exit_code == 0
    assert "2 added, 0 known, 4 passed over, of 6 found" in result.stdout
    assert r"passed over ada/[red]not\nan image.png" in result.stderr
    bad = {each["path"]: each["code"] for each in answer(founded("index", "c", "--json"))["bad"]}
    assert bad["stray.png"] == "artist_missing"
    assert len(bad) == 4


def test_a_list_of_works_is_indexed_with_its_own_licences_and_grants(founded: Lawful) -> None:
    collect(Path("c"), {"ada": 2})
    Path("c/works.csv").write_text(
        "path,artist,licence,train\nada/0.png,Ada,CC0-1.0,yes\n../../home/keys/log.skey,Eve,,\n"
    )
    found = answer(founded("index", "c/works.csv", "--json"))
    assert (found["collection"], found["added"], found["works"]) == ("works", 1, 1)
    assert [each["code"] for each in found["bad"]] == ["path_outside"]


@pytest.mark.parametrize("content", [{}, {"ada": 0}])
def test_an_empty_collection_is_told_as_such(founded: Lawful, content: dict[str, int]) -> None:
    collect(Path("c"), content)
    Path("c").mkdir(exist_ok=True)
    error = answer(founded("index", "c", "--json"), exit_code=3)["error"]
    assert error["code"] == "collection_empty"
    assert "subfolder per artist" in error["next_step"]


def test_a_collection_of_one_artist_answers_without_shares(founded: Lawful) -> None:
    collect(Path("c"), {"ada": 3})
    assert answer(founded("index", "c", "--json"))["artists"] == 1
    Image.fromarray(picture(77)).save("other.jpg")
    evidence = answer(founded("verify", "other.jpg", "--json"))["evidence"]
    assert evidence["snapshot"]["artists"] == 1
    assert "annot tell" in evidence["statement"]


def test_a_source_that_is_not_there_is_bad_input(founded: Lawful) -> None:
    assert answer(founded("index", "nowhere", "--json"), exit_code=3)["error"]["code"] == "source_missing"


# ---- what is out of reach ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["lookup", "ab" * 32], ["index", "c"], ["init"], ["verify", "a.png"], ["up"]])
def test_a_database_that_is_down_is_said_so_with_4(founded: Lawful, tmp_path: Path, command: list[str]) -> None:
    collect(Path("c"), {"ada": 1})
    Path("a.png").write_bytes(encode_png(picture(1)))
    nowhere = "postgresql://lawful_app:secret@127.0.0.1:9/ledger"
    words = [
        "--home",
        str(tmp_path / "home"),
        "--set",
        f"database_url={nowhere}",
        "--set",
        f"database_owner_url={nowhere}",
    ]
    result = CliRunner().invoke(main, [*words, "--set", "port=8397", *command, "--json"])
    assert answer(result, exit_code=4)["error"]["code"] == "database_down"
    assert "secret" not in result.output


def test_a_network_that_is_missing_is_said_so_with_4(founded: Lawful, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    main_words = ["--set", f"generator={empty}"]
    result = founded(*main_words, "generate", "x", "-o", "x.png", "--json")
    assert answer(result, exit_code=4)["error"]["code"] == "network_missing"
    assert not Path("x.png").exists()


def test_a_key_for_a_registered_generator_is_made_and_its_rights_never_change(founded: Lawful) -> None:
    assert answer(founded("keys", "api", "studio", "--generator", "m@1", "--json"))["api_key"].startswith("lawful_")
    assert answer(founded("keys", "api", "studio", "--generator", "m@1", "--json"))["generator"] == "m@1"
    assert answer(founded("keys", "api", "studio", "--json"), exit_code=3)["error"]["code"] == "submitter_differs"
    assert answer(founded("keys", "api", "a\nb", "--json"), exit_code=3)["error"]["code"] == "submitter_name"


def test_words_that_the_generator_never_learned_are_told_to_whoever_asked_and_to_nobody_else(founded: Lawful) -> None:
    """Studio Gouge draws, and forbids training: its name is as strange to the generator as a dragon."""
    generate = ("--set", f"generator={BUILT_IN / 'generator'}", "generate")
    prompt = "A DRAGON, in the manner of Studio Gouge!"
    record = answer(founded(*generate, prompt, "-o", "a.png", "--steps", "1", "--json"))["record"]
    assert record["unknown_words"] == ["DRAGON", "Gouge"]
    assert founded("report", record["id"], "-o", "report.json").exit_code == 0
    report = Path("report.json").read_text()
    assert '"unknown_words":2' in report.replace(" ", "")
    for public in (report, founded("lookup", record["id"], "--json").stdout):
        assert record["id"] in public
        assert "dragon" not in public.casefold()
    warned = founded(*generate, prompt, "-o", "b.png", "--steps", "1")
    assert warned.exit_code == 0
    assert "warning: the generator never learned DRAGON, Gouge;" in warned.stderr
    known = founded(*generate, "a BOAT in the manner of Studio Marram.", "-o", "c.png", "--steps", "1")
    assert known.exit_code == 0
    assert "learned" not in known.stderr
