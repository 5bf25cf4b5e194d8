"""What every command shares: settings, `--json`, how errors and interruptions end, how unfriendly text is shown.

With `--json` exactly one JSON document goes to stdout, an error's included; all else goes to stderr. Exit codes:

    0    done, and the answer is good
    1    done, and the answer is bad: a broken credential, a contradiction, nothing found, a failed check
    2    the command line or a setting is wrong; nothing was done
    3    the input was refused (`code` says why); nothing was kept
    4    something that is needed is out of reach or broken; trying again later may help
    130  interrupted by Ctrl-C (143: by SIGTERM); what was committed stays
"""

import errno
import importlib
import json
import logging
import signal
import sys
import traceback
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeVar, cast

import click
import msgspec
import rich_click
from pydantic import ValidationError
from rich.console import Console

from ledger import logs
from ledger.errors import BadRequest, LedgerError, StorageFull, Unavailable
from ledger.settings import Settings
from models.errors import ModelError

OK, BAD_ANSWER, USAGE, REFUSED, UNAVAILABLE, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 4, 130, 143

_JSON, _RESUME = "lawful.json", "lawful.resume"
_LINE_BREAKS_ETC = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # Unicode categories that change how a terminal shows what follows

Command = TypeVar("Command", bound=Callable[..., Any])


class SettingError(BadRequest):
    """A value for a setting that cannot be used; ends with exit code 2, as a wrong option does."""

    code = "setting_invalid"


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised where the command stands, so that the database is let go of as after Ctrl-C."""


@dataclass(frozen=True)
class Invocation:
    """The options before the command's name. Children of `up` and `demo` are started with the same ones."""

    home: Path | None
    overrides: tuple[str, ...]  # name=value

    def settings(self) -> Settings:
        """Settings from the environment and `.env`, then `--set`, then `--home`. Raises SettingError."""
        values = dict(_override(text) for text in self.overrides)
        if self.home is not None:
            values["home"] = self.home.expanduser().absolute()
        try:
            settings = Settings(**values)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"]).removeprefix("LAWFUL_").lower()
            raise SettingError(
                f"{name}: {first['msg']}", next_step="docs/reference/settings.md says what each setting takes"
            ) from None
        if "public_url" not in settings.model_fields_set:
            # another port without another public_url would write dead links into credentials
            settings = settings.model_copy(update={"public_url": f"http://{settings.host}:{settings.port}"})
        return settings

    def argv(self, *command: str) -> list[str]:
        """How to start another `lawful` with these options, whatever PATH and the current folder hold."""
        home = [] if self.home is None else ["--home", str(self.home.expanduser().absolute())]
        overrides = [part for text in self.overrides for part in ("--set", text)]
        return [sys.executable, "-P", "-m", "ledger.cli", *home, *overrides, *command]


def _override(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    name = name.strip().removeprefix("LAWFUL_").lower()
    if not equals or name not in Settings.model_fields:
        raise SettingError(
            f"--set {shown(text)}: NAME=VALUE with a setting's name is wanted",
            code="setting_unknown",
            next_step="docs/reference/settings.md lists the names",
        )
    if value.startswith("["):  # a list, as the environment takes it
        try:
            return name, json.loads(value)
        except json.JSONDecodeError:
            raise SettingError(f"--set {name}: not a JSON list", next_step='write it as ["a", "b"]') from None
    return name, value or None


# ---- the way out -----------------------------------------------------------------------------------------------------


def out() -> Console:
    """Answers. Markup is off: a file may be called `[red]`. Wide enough for a hash where there is no terminal."""
    return Console(markup=False, emoji=False, highlight=False, width=None if sys.stdout.isatty() else 120)


def err() -> Console:
    """Everything that is not the answer: progress, remarks, errors."""
    return Console(stderr=True, markup=False, emoji=False, highlight=False, soft_wrap=True)


def shown(text: object) -> str:
    """`text` with every control, format and line-breaking character as its escape, so that no name can forge a line."""
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in _LINE_BREAKS_ETC
        else character
        for character in str(text)
    )


def answer_json(value: object) -> None:
    """The one JSON document of `--json`. ASCII only: what a terminal shows of it is what it holds."""
    sys.stdout.write(json.dumps(msgspec.to_builtins(value), indent=2, ensure_ascii=True) + "\n")
    sys.stdout.flush()


def json_wanted() -> bool:
    context = click.get_current_context(silent=True)
    return bool(context is not None and context.meta.get(_JSON))


def resume_with(hint: str) -> None:
    """What to say if the user interrupts from here on."""
    click.get_current_context().meta[_RESUME] = hint


def end(code: int) -> NoReturn:
    raise click.exceptions.Exit(code)


def json_option(command: Command) -> Command:
    """`--json`, remembered for errors too; the command takes `as_json`."""

    def remember(context: click.Context, _: click.Parameter, value: bool) -> bool:
        context.meta[_JSON] = value
        return value

    return rich_click.option(
        "--json", "as_json", is_flag=True, is_eager=True, callback=remember, help="One JSON document on stdout."
    )(command)


# ---- how a command ends ----------------------------------------------------------------------------------------------


class Group(rich_click.RichGroup):
    """Turns whatever ends a command into one clear error and a documented exit code.

    Commands are named as `module:function` and imported when they are asked for: `lawful --version` waits for nothing.
    """

    def __init__(self, *args: Any, lazily: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazily = dict(lazily or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self._lazily, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self._lazily:
            module, _, function = self._lazily[cmd_name].partition(":")
            return cast("click.Command", getattr(importlib.import_module(module), function))
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        previous = _raise_on_sigterm()
        logs.write_to_stderr(logging.WARNING)
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt as interrupt:
            ctx.exit(_interrupted(ctx, interrupt))
        except Exception as error:  # noqa: BLE001 - the outermost frame: a bug must not look like a bad answer (exit code 1)
            ctx.exit(tell(error, ctx.meta.get(_RESUME)))
        finally:
            if previous is not None:
                signal.signal(signal.SIGTERM, previous)


def explain(error: Exception) -> LedgerError | ModelError | None:
    """The error as the user is told it, or None for what nobody foresaw."""
    import psycopg
    import sqlalchemy.exc

    if isinstance(error, LedgerError | ModelError):
        return error
    if isinstance(error, sqlalchemy.exc.OperationalError | sqlalchemy.exc.InterfaceError | psycopg.OperationalError):
        return Unavailable(
            f"the database went away: {str(error.__cause__ or error).strip().splitlines()[0]}",
            code="database_down",
            next_step="run `lawful doctor`; what was committed is kept, so the same command goes on from there",
        )
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StorageFull("the disk is full", next_step="free some space and try again; nothing was half-written")
    if isinstance(error, OSError):
        return Unavailable(
            f"{error.strerror or type(error).__name__}: {error.filename or 'no file named'}",
            code="system_refused",
            next_step="check that the file or folder exists and may be used by this account",
        )
    return None


def tell(error: Exception, resume: str | None = None) -> int:
    """Print the error (as the JSON document with `--json`) and return the exit code that belongs to it.

    `resume`: what brings unfinished work to its end, where the command has said so.
    """
    known = explain(error)
    if known is None:
        traceback.print_exception(error, file=sys.stderr)
        known = LedgerError(
            f"a defect of this program: {type(error).__name__}: {error}",
            code="internal_error",
            next_step="nothing is lost; please report it with the lines above",
        )
    next_step = f"free some space; then: {resume}" if resume and isinstance(known, StorageFull) else known.next_step
    _tell(known.code, known.detail, next_step, known.status)
    if isinstance(known, SettingError):
        return USAGE
    return REFUSED if 400 <= known.status < 500 else UNAVAILABLE


def _tell(code: str, detail: str, next_step: str, status: int | None) -> None:
    console = err()
    console.print(f"error: {shown(detail)} [{code}]", style="bold red")
    console.print(f"next: {shown(next_step)}")
    if json_wanted():
        answer_json({"error": {"code": code, "status": status, "detail": detail, "next_step": next_step}})


def _interrupted(context: click.Context, interrupt: KeyboardInterrupt) -> int:
    hint = context.meta.get(_RESUME, "what was committed stays; run the same command again")
    _tell("interrupted", "interrupted", hint, None)
    return TERMINATED if isinstance(interrupt, Terminated) else INTERRUPTED


def asked_by_option(roles: Sequence[str]) -> Callable[[Any], Any]:
    """`--asked-by`, for what the log says was asked for, and by whom."""
    return rich_click.option(
        "--asked-by",
        type=click.Choice(roles),
        required=True,
        help="Who asked, by role and never by name; it goes into the log.",
    )


def _raise_on_sigterm() -> Any:
    """SIGTERM's former handler, once ours is set; None where only the main thread may set one."""

    def handler(_signal: int, _frame: FrameType | None) -> None:
        raise Terminated

    try:
        return signal.signal(signal.SIGTERM, handler)
    except ValueError:
        return None


def terms_options(command: Command) -> Command:
    """`--licence`, `--train`, `--compare`, `--name`: what holds for works of which a source says nothing else."""
    options = (
        rich_click.option(
            "--licence", default="unknown", show_default=True, help="Licence of works whose row names none."
        ),
        rich_click.option("--train/--no-train", default=False, show_default=True, help="Grant: may be learned from."),
        rich_click.option("--compare/--no-compare", default=True, show_default=True, help="Grant: may be searched."),
        rich_click.option(
            "--name/--no-name", default=True, show_default=True, help="Grant: may be shown and credited."
        ),
    )
    for option in reversed(options):  # as a stack of decorators: the last is applied first
        command = option(command)
    return command
