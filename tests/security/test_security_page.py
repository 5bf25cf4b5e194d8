"""SECURITY.md names a test for each attack, and each of them is there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")


def rows() -> list[list[str]]:
    """Attack, defence and tests, of each row."""
    section = PAGE.partition("## Attacks")[2].partition("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_every_attack_has_a_defence_and_a_test_that_exists() -> None:
    assert len(rows()) > 15
    for attack, defence, shown in rows():
        named = re.findall(r"`([^`]+)`", shown)
        assert defence, attack
        assert named, attack
        for each in named:
            path, _, function = each.partition("::")
            assert (ROOT / path).is_file(), each
            found = {
                node.name
                for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8")))
                if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
            }
            assert function in found if function else found, each


def test_no_test_of_this_folder_is_left_out_of_the_page() -> None:
    here = {path.relative_to(ROOT).as_posix() for path in Path(__file__).parent.glob("test_*.py")}
    assert {each for each in here if each not in PAGE} == set()
