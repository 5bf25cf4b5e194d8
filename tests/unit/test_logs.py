"""What a process writes to its log: one JSON object a line for machines, no values that were not named."""

import json
import logging

import pytest
import structlog
from structlog.contextvars import bound_contextvars

from ledger import logs


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_an_event_is_one_line_of_json_with_time_level_and_the_ids_around_it(capsys: pytest.CaptureFixture[str]) -> None:
    logs.write_to_stderr(logging.INFO, "json")
    with bound_contextvars(request_id="r-1", record_id="a-2"):
        structlog.get_logger().info("job_done", task="stamp")
    (event,) = lines(capsys)
    assert event.pop("timestamp")
    assert event == {
        "event": "job_done",
        "level": "info",
        "task": "stamp",
        "request_id": "r-1",
        "record_id": "a-2",
    }


def test_auto_is_json_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    logs.write_to_stderr(logging.INFO, "auto")
    structlog.get_logger().info("sequencer_active")
    assert lines(capsys)[0]["event"] == "sequencer_active"


def test_nothing_below_the_level_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    logs.write_to_stderr(logging.WARNING, "json")
    structlog.get_logger().info("job_done")
    assert lines(capsys) == []


def test_a_traceback_names_lines_and_no_values(capsys: pytest.CaptureFixture[str]) -> None:
    logs.write_to_stderr(logging.INFO, "json")
    prompt = "a boat nobody " + "may know of"
    try:
        raise ValueError(len(prompt))
    except ValueError as error:
        structlog.get_logger().error("job_failed", exc_info=error)
    (event,) = lines(capsys)
    assert "ValueError" in str(event["exception"])
    assert "may know of" not in str(event["exception"]).replace('"may know of"', "")
    assert prompt not in json.dumps(event)


def test_no_name_can_forge_a_line_or_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    logs.write_to_stderr(logging.INFO, "json")
    structlog.get_logger().info("indexed", artist='x\n{"event": "forged"}\x1b[2J\u202e\u2028')
    written = capsys.readouterr().err
    assert written.count("\n") == 1
    assert written.isascii()
    assert "\x1b" not in written


def test_what_a_library_says_has_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    logs.write_to_stderr(logging.INFO, "json")
    before = logging.root.handlers[:], logging.root.level
    try:
        logs.take_in_libraries("json")
        with bound_contextvars(request_id="r-1"):
            logging.getLogger("procrastinate.worker").warning("lost %s", "its connection")
            logging.getLogger("uvicorn").info("quiet")
        (event,) = lines(capsys)
    finally:
        logging.root.handlers[:], logging.root.level = before
    assert (event["event"], event["logger"], event["level"], event["request_id"]) == (
        "lost its connection",
        "procrastinate.worker",
        "warning",
        "r-1",
    )
