"""Where there is no terminal, long work says now and then how far it is: to people, beside the answer."""

import pytest

from ledger.commands.progress import Stages


def test_a_stage_says_its_first_step_and_its_last_and_not_every_one(capsys: pytest.CaptureFixture[str]) -> None:
    with Stages() as stages:
        for done in range(1, 101):
            stages.show("looking", done, 100)
    assert capsys.readouterr() == ("", "1 of 100  looking\n100 of 100  looking\n")


def test_a_line_says_where_the_work_is_and_no_name_can_forge_another(capsys: pytest.CaptureFixture[str]) -> None:
    with Stages() as stages:
        stages.show("works", 1, 2, at="ada/[red]x\n2 of 2  done.png")
    assert capsys.readouterr().err == "1 of 2  ada/[red]x\\n2 of 2  done.png\n"


def test_nothing_is_said_while_nobody_knows_how_much_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    with Stages() as stages:
        stages.show("works", 0, None)
    assert capsys.readouterr() == ("", "")
