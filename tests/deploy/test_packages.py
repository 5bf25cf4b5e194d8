"""What we stand on and what we hand on: licences, known weaknesses, the list of parts, and the wheel."""

import hashlib
import json
import os
import re
import runpy
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest

from .deployed import DEPLOY, ROOT

PACKAGES = DEPLOY / "packages"
SHIPPED = ["attribution", "ledger", "migrations", "models"]
FOR_READERS = {"models/atelier/README.md", "models/atelier/samples.jpg"}
pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("packages")]


def python(*arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=os.environ | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )


def make(target: str, into: Path, umask: int = 0o022) -> None:
    """`make <target>` with the environment that runs this test, which is not made again."""
    here = Path(sys.executable).parent.parent
    command = ["make", "-s", "-o", f"{here}/.ready", target, f"VENV={here}", f"DIST={into}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, umask=umask)
    assert done.returncode == 0, done.stdout + done.stderr


def pinned() -> set[str]:
    names = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    return {canonical(name) for name in names}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


# ---- licences --------------------------------------------------------------------------------------------------------


def test_every_package_that_is_pinned_and_installed_stands_under_a_licence_that_may_be_here() -> None:
    done = python(PACKAGES / "licences.py")
    assert done.returncode == 0, done.stdout
    assert int(done.stdout.split()[0]) > 100


@pytest.mark.parametrize(
    ("name", "says", "code"),
    [
        ("somebody-s", ["License-Expression: MIT"], 0),
        ("somebody-s", ["License-Expression: GPL-3.0-only OR Apache-2.0 AND BSD-3-Clause"], 0),
        ("somebody-s", ["License-Expression: MIT AND GPL-3.0-only"], 1),
        ("somebody-s", ["License-Expression: (MIT)"], 1),
        ("somebody-s", ["Classifier: License :: OSI Approved :: MIT License"], 0),
        (
            "somebody-s",
            [
                "Classifier: License :: OSI Approved :: MIT License",
                "Classifier: License :: OSI Approved :: GNU Affero General Public License v3",
            ],
            1,
        ),
        ("somebody-s", ["License: Apache-2.0"], 0),
        ("somebody-s", ["License: ask us"], 1),
        ("somebody-s", [], 1),
        ("psycopg-somewhat", ["License-Expression: LGPL-3.0-only"], 0),
        ("psycopg-somewhat", ["License-Expression: GPL-3.0-only"], 1),
        ("nvidia-somewhat", [], 0),
    ],
)
def test_a_licence_that_is_not_allowed_is_named(name: str, says: Sequence[str], code: int, tmp_path: Path) -> None:
    about = tmp_path / f"{name.replace('-', '_')}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("\n".join(["Metadata-Version: 2.4", f"Name: {name}", "Version: 1.0", *says]))
    (tmp_path / "constraints.txt").write_text(f"{name}==1.0\n")
    done = python(PACKAGES / "licences.py", tmp_path / "constraints.txt", PYTHONPATH=str(tmp_path))
    assert done.returncode == code, done.stdout
    assert (f"{name} 1.0: " in done.stdout) == bool(code)


def test_where_nothing_is_installed_nothing_is_said_to_be_allowed(tmp_path: Path) -> None:
    (tmp_path / "constraints.txt").write_text("nobody-s==1.0\n")
    assert python(PACKAGES / "licences.py", tmp_path / "constraints.txt").returncode == 1


# ---- known weaknesses ------------------------------------------------------------------------------------------------

SOUND = {"name": "sound", "version": "1", "vulns": []}
WEAK = {"name": "weak", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}
UNKNOWN = {"name": "unknown", "skip_reason": "not found on PyPI"}


@pytest.mark.parametrize(
    ("packages", "code", "said"),
    [
        ([SOUND], 0, "1 of 1 packages audited, 0 with"),
        ([SOUND, WEAK], 1, "weak 2: PYSEC-1, mended in 3"),
        ([SOUND, UNKNOWN], 2, "1 of 2 packages audited"),
        ([UNKNOWN], 2, "not known to the service: unknown"),
        ([WEAK, UNKNOWN], 1, "1 of 2 packages audited, 1 with"),
    ],
)
def test_what_was_not_looked_at_is_not_sound(
    packages: list[dict[str, Any]], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert runpy.run_path(str(PACKAGES / "vulnerabilities.py"))["told"](packages) == code
    assert said in capsys.readouterr().out


def test_a_service_that_cannot_be_reached_is_told(tmp_path: Path) -> None:
    done = python(PACKAGES / "vulnerabilities.py", UV_OFFLINE="1", UV_CACHE_DIR=str(tmp_path))
    assert done.returncode == 2
    assert "not audited: the service was not reached\nnext: " in done.stdout


# ---- the list of parts -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_list_of_parts_names_every_pinned_package_that_is_installed(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        make("sbom", tmp_path / folder)
    first, second = ((tmp_path / folder / "sbom.json").read_bytes() for folder in ("a", "b"))
    assert first == second
    listed = json.loads(first)
    assert (listed["bomFormat"], listed["specVersion"]) == ("CycloneDX", "1.6")
    assert listed["metadata"]["component"]["name"] == "lawful-ledger"
    named = {(canonical(each["name"]), each["version"]) for each in listed["components"]}
    wanted = {(canonical(each.name), each.version) for each in distributions() if canonical(each.name) in pinned()}
    assert len(wanted) > 100
    assert wanted - named == set()
    assert str(ROOT).encode() not in first


# ---- the wheel -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (ROOT / ".git").exists():
        pytest.skip("a wheel is made of what is committed, and there is no repository here")
    folder = tmp_path_factory.mktemp("wheel")
    make("wheel", folder)
    (made,) = folder.glob("*.whl")
    return made


def test_the_same_commit_gives_the_same_wheel_whoever_makes_it(wheel: Path, tmp_path: Path) -> None:
    make("wheel", tmp_path, umask=0o077)
    (again,) = tmp_path.glob("*.whl")
    assert again.name == wheel.name
    digests = [hashlib.sha256(each.read_bytes()).hexdigest() for each in (wheel, again)]
    assert digests[0] == digests[1]


def test_the_wheel_holds_all_that_is_committed_of_what_runs_and_nothing_else(wheel: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-tree", "-rz", "--name-only", "HEAD", *SHIPPED], cwd=ROOT, capture_output=True, text=True, check=True
    )
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == set(listed.stdout.rstrip("\0").split("\0")) - FOR_READERS
    for wanted in (
        r"migrations/versions/.*\.sql",
        r"ledger/web/templates/.*\.html",
        r"ledger/web/static/.*\.(css|js)",
        r"ledger/reports/fonts/.*\.ttf",
        r"models/.*\.safetensors",
        r"(ledger|attribution|models)/py\.typed",
    ):
        assert any(re.fullmatch(wanted, name) for name in held), wanted


def test_the_installed_wheel_runs_without_the_repository(wheel: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "uv", "pip", "install", "-q", "--no-deps", "--offline"]
    installed = [*command, "--python", sys.executable, "--target", str(tmp_path / "here"), str(wheel)]
    subprocess.run(installed, check=True, timeout=120)
    alone = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(tmp_path / "here")}, "text": True, "timeout": 120}
    version = subprocess.run(
        [sys.executable, "-P", "-m", "ledger.cli", "--version"], check=True, capture_output=True, **alone
    )
    assert re.search(r"\d+\.\d+", version.stdout)
    program = (
        "import ledger, migrations, models.atelier, ledger.web.app as web; from ledger.settings import Settings;"
        " web.create_app(Settings(_env_file=None)); print(ledger.__file__, migrations.FOLDER, models.atelier.__file__)"
    )
    told = subprocess.run([sys.executable, "-P", "-c", program], check=True, capture_output=True, **alone)
    assert told.stdout.count(str(tmp_path / "here")) == 3
