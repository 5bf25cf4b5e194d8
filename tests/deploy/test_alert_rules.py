"""Alert rules speak of metrics that exist, and fire when they should."""

import re
import shutil
import subprocess

import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from ledger.metrics import registry_of
from ledger.runtime import Runtime

from .deployed import DEPLOY, ROOT

pytestmark = pytest.mark.postgres


def test_every_metric_that_a_rule_names_is_one_that_processes_show(runtime: Runtime) -> None:
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text(encoding="utf-8"))["groups"][0]["rules"]
    named = {name for rule in rules for name in re.findall(r"\blawful_\w+", rule["expr"])}
    text = generate_latest(registry_of(runtime, list)).decode()
    shown = {family.name for family in text_string_to_metric_families(text)}
    assert len(named) > 10
    assert {name for name in named if name.removesuffix("_count") not in shown} == set()


def test_the_rules_fire_when_they_should() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("this machine has no promtool (it comes with Prometheus)")
    done = subprocess.run(
        [promtool, "test", "rules", str(ROOT / "tests" / "deploy" / "alerts_test.yaml")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
