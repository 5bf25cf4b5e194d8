"""The log of what a process does: structlog events as lines of JSON for a service, as text for somebody at a terminal.

An event is a name and facts, never a sentence built from them; what happens for a request carries its `request_id`,
and what happens to a record its `record_id`, in the web process and in the worker that does the job. Prompts, keys,
uploads and addresses of visitors are never among the facts. A traceback names lines, never the values of variables.
"""

import json
import logging
import sys
from typing import Any, Literal

import structlog

Format = Literal["auto", "json", "text"]

_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def write_to_stderr(level: int, form: Format = "text") -> None:
    """Send events from `level` on to stderr: stdout is for answers. `auto` is text on a terminal and JSON elsewhere."""
    structlog.configure(
        processors=[*_SHARED, *_rendering(form)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def take_in_libraries(form: Format) -> None:
    """Let what libraries say through `logging`, from WARNING on, look the same. For processes of our own only."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_SHARED, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(form)],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def _rendering(form: Format) -> list[Any]:
    if form == "json" or (form == "auto" and not sys.stderr.isatty()):
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_json)]
    return [structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)]


def _json(event: dict[str, Any], default: Any) -> str:
    """ASCII only, so that no name in an event can forge a line or move a terminal's cursor."""
    return json.dumps(event, default=default, ensure_ascii=True)
