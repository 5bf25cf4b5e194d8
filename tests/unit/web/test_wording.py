"""Every value that a verification can answer has its words, and the words keep their promises."""

import typing

import pytest

from ledger.verdict import Answers, FoundBy, Result
from ledger.web import wording

HINTS = typing.get_type_hints(Answers)


def test_every_answer_has_a_question_and_every_value_a_meaning() -> None:
    assert list(wording.QUESTIONS) == list(Answers.__struct_fields__)
    for name in Answers.__struct_fields__:
        assert set(wording.ANSWERS[name]) == set(typing.get_args(HINTS[name])), name
    assert set(wording.FOUND_BY) == set(typing.get_args(FoundBy))
    assert set(wording.RESULTS) == set(typing.get_args(Result))


@pytest.mark.parametrize("answers", wording.ANSWERS.values(), ids=wording.ANSWERS)
def test_different_answers_are_told_in_different_words(answers: dict[str, wording.Meaning]) -> None:
    assert len({meaning.means for meaning in answers.values()}) == len(answers)
    assert len({meaning.label for meaning in answers.values()}) == len(answers)
    assert all(meaning.does_not_mean for meaning in answers.values())


def test_absence_and_strangers_are_never_alarming() -> None:
    for name, value in (
        ("credential", "absent"),
        ("ledger", "not_recorded"),
        ("signer", "unknown"),
        ("ledger", "similar"),
    ):
        assert wording.ANSWERS[name][value].tone == "plain"
    assert "forged" in wording.ANSWERS["signer"]["unknown"].does_not_mean
    assert "human" in wording.ANSWERS["credential"]["absent"].does_not_mean
    assert "human" in wording.ANSWERS["ledger"]["not_recorded"].does_not_mean
