"""Progress of long work on stderr: a bar on a terminal, a line every few seconds elsewhere."""

import time

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ledger.commands.frame import err, shown

PLAIN_SECONDS = 5.0  # between two lines where there is no terminal


class Stages:
    """Work in named stages, each of so many steps. A new stage starts its own bar."""

    def __init__(self) -> None:
        console = err()
        self._plain = None if console.is_terminal else console
        self._bar = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}", markup=False),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._said = 0.0

    def __enter__(self) -> "Stages":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, stage: str, done: int, total: int | None, at: str = "") -> None:
        """`done` of `total` steps of a stage are behind us; `at` says where, in place of the stage's name.

        Without a `total`, which is not known yet, only a bar moves. Cheap enough to be called at every step.
        """
        said = shown(at or stage)
        if stage not in self._tasks:
            self._tasks[stage] = self._bar.add_task(said, total=total)
        self._bar.update(self._tasks[stage], completed=done, total=total, description=said)
        now = time.monotonic()
        if self._plain is not None and total is not None and (now - self._said >= PLAIN_SECONDS or done == total):
            self._said = now
            self._plain.print(f"{done} of {total}  {said}")
