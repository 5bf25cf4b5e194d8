"""What deploy/ asks of a machine: no rights it does not need, no image without a version, no rule about nothing."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml

from ledger.alive import alive
from ledger.cli import main
from ledger.log.export import AS_NOTE, AS_TILE
from ledger.settings import Settings

from .deployed import DEPLOY, LAWFUL, ROOT, UNITS, compose, instructions, lawful_commands, unit

ALERTS = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text(encoding="utf-8"))["groups"][0]["rules"]
SERVICES = compose()["services"]
ENVIRONMENT = re.compile(r"^#?([A-Z_]+)=", re.MULTILINE)


def parses(words: list[str]) -> click.Command:
    """The command that these words reach, with its arguments understood."""
    context = main.make_context("lawful", words)
    while isinstance(context.command, click.Group):
        name, command, rest = context.command.resolve_command(context, [*context._protected_args, *context.args])
        assert command is not None
        context = command.make_context(name, rest, parent=context)
    return context.command


@pytest.mark.parametrize("command", sorted(lawful_commands()))
def test_every_command_of_a_container_or_unit_exists(command: str) -> None:
    assert parses(command.split())


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("check-jsonschema", ["--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml"]),
        ("hadolint", [DEPLOY / "Containerfile"]),
    ],
)
def test_what_cannot_be_run_here_is_accepted_by_its_own_tool(tool: str, arguments: list[object]) -> None:
    program = Path(sys.executable).parent / tool
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_service_runs_without_rights_it_does_not_need(name: str) -> None:
    service = SERVICES[name]
    assert "no-new-privileges:true" in service["security_opt"]
    assert not service.get("privileged")
    assert "docker.sock" not in str(service)
    if name == "postgres":
        return  # its image starts as root, makes its folder its own, and steps down
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    if "build" in service or service["image"].startswith("lawful"):
        assert service["user"] == "10001"


def test_only_the_front_is_reached_from_outside() -> None:
    open_to_all = {
        name: [port for port in service.get("ports", []) if not port.startswith("127.0.0.1:")]
        for name, service in SERVICES.items()
    }
    assert {name: ports for name, ports in open_to_all.items() if ports} == {"caddy": ["80:80", "443:443"]}


def test_the_owner_s_password_goes_to_the_one_that_migrates_alone() -> None:
    holders = {name for name, service in SERVICES.items() if "LAWFUL_OWNER_PASSWORD" in str(service)}
    assert holders == {"postgres", "init"}


def test_every_image_has_a_version_and_it_stands_in_one_place() -> None:
    pinned = dict(
        line.split("=", 1)
        for line in (DEPLOY / "images.env").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    )
    assert all(re.search(r":v?\d+\.\d+", image) for image in pinned.values()), pinned
    used = {service["image"] for service in SERVICES.values() if not service["image"].startswith("lawful")}
    assert used == {f"${{{name}}}" for name in set(pinned) - {"PYTHON_IMAGE"}}
    assert {line.split(" ")[0] for line in instructions("FROM")} == {"${PYTHON_IMAGE}", "base"}


def test_every_variable_of_the_composition_is_in_one_of_its_files() -> None:
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    known = {
        name
        for file in ("images.env", "ledger.env.example")
        for name in ENVIRONMENT.findall((DEPLOY / file).read_text(encoding="utf-8"))
    }
    asked = set(re.findall(r"\$\{(\w+)", text))
    assert asked - known == {"LAWFUL_EXPORT_URL"}  # only for those who export to a bucket
    settings = set(re.findall(r"^\s+LAWFUL_(\w+): ", text, re.MULTILINE)) - {"APP_PASSWORD", "OWNER_PASSWORD"}
    assert {name.lower() for name in settings} <= set(Settings.model_fields)


def test_believed_proxies_are_exactly_the_network_of_the_composition() -> None:
    (network,) = compose()["networks"]["default"]["ipam"]["config"]
    assert SERVICES["web"]["environment"]["LAWFUL_PROXIES"] == f'["{network["subnet"]}"]'


def test_images_hold_no_history_no_keys_and_no_ledger() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert lines[1] == "*"  # nothing goes in that is not named
    named = {line[1:] for line in lines if line.startswith("!")}
    assert named == {
        "attribution",
        "ledger",
        "migrations",
        "models",
        "LICENSE",
        "README.md",
        "constraints.txt",
        "deploy/packages/web.sh",
        "pyproject.toml",
    }


def test_containers_run_as_an_account_that_is_not_root() -> None:
    assert instructions("USER") == ["10001"] * 3
    assert [line for line in instructions("FROM") if line.endswith(("web", "worker-cpu", "worker-gpu"))] == [
        "base AS web",
        "base AS worker-cpu",
        "base AS worker-gpu",
    ]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_accepts_the_unit(path: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("this machine has no systemd-analyze")
    program = shutil.which("lawful", path=str(Path(sys.executable).parent))
    assert program is not None
    name = path.name.replace("@.", "@8000.")
    (tmp_path / name).write_text(path.read_text(encoding="utf-8").replace(LAWFUL, program), encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / name)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_has_no_rights_but_to_its_own_folder(path: Path) -> None:
    service = unit(path)["Service"]
    assert service["User"] == "lawful"
    assert service["NoNewPrivileges"] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["CapabilityBoundingSet"] == ""


def test_caddy_serves_files_as_the_export_wants_them_served() -> None:
    text = (DEPLOY / "Caddyfile").read_text(encoding="utf-8").replace('"', "")
    for name, headers in (("tile", AS_TILE), ("checkpoint", AS_NOTE)):
        block = re.search(rf"handle @{name} \{{(.*?)\n\t\}}", text, re.DOTALL)
        assert block is not None
        for header, value in headers.items():
            assert f"header {header} {value}\n" in block[1]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_every_alert_says_what_to_type_and_is_explained(alert: dict[str, object]) -> None:
    annotations = alert["annotations"]
    assert isinstance(annotations, dict)
    typed = annotations["next"]
    if typed.startswith("lawful "):
        assert parses(typed.split()[1:])
    else:
        assert re.match(r"(systemctl \w+|journalctl -u) '?lawful-", typed)
    assert f"### {alert['alert']}\n" in (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")


def test_what_does_not_answer_is_not_alive() -> None:
    assert alive("9/metrics") is False


def test_the_command_line_of_a_server_has_the_settings_of_its_units(tmp_path: Path) -> None:
    """The script with its folders moved, and a `runuser` that only drops the account."""
    script = (DEPLOY / "systemd" / "lawful").read_text(encoding="utf-8")
    assert "runuser -u lawful -- " + LAWFUL in script
    lawful, settings = tmp_path / "lawful", tmp_path / "etc"
    settings.mkdir()
    (settings / "ledger.env").write_text("LAWFUL_ORIGIN=a/2026\nLAWFUL_PROXIES='[\"127.0.0.1\"]'\n")
    (settings / "owner.env").write_text("LAWFUL_DATABASE_OWNER_URL=postgresql://b\n")
    for path, text in (
        (tmp_path / "runuser", 'shift 3; exec "$@"'),
        (lawful, 'echo "$LAWFUL_HOME $LAWFUL_ORIGIN $LAWFUL_PROXIES $LAWFUL_DATABASE_OWNER_URL $*"'),
    ):
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    moved = script.replace(LAWFUL, str(lawful)).replace("/etc/lawful", str(settings))
    done = subprocess.run(
        ["sh", "-c", moved, "lawful", "index", "my works"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout == '/var/lib/lawful a/2026 ["127.0.0.1"] postgresql://b index my works\n', done.stderr
