"""`lawful up`: one process that keeps the database, the worker and the web process running, and ends them together.

It holds an exclusive flock on `<home>/up.lock`, so a second one is refused. Children run in process groups of their
own, so that Ctrl-C reaches only the supervisor, which then stops them in order; each has the reading end of a pipe from
the supervisor as its stdin and ends itself when that closes, so that not even a kill -9 leaves an orphan.
"""

import errno
import fcntl
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from ledger.errors import Conflict, Unavailable

Say = Callable[[str], None]

START_PATIENCE = 300.0  # seconds until both must be ready: a busy machine is slow; a child that dies is told at once
STOP_PATIENCE = 15.0  # seconds a child has to end after SIGTERM before it is killed; its work resumes at the next start
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds before a child that died is started again; doubles every time
STEADY = 60.0  # seconds after which a child counts as running well and its pause starts over
TICK = 0.1


@dataclass
class Child:
    """A process to keep running. Children stop in the order they are listed, the web process first."""

    name: str
    argv: Sequence[str]
    pass_fds: Sequence[int] = ()  # what it inherits
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    pause: float = FIRST_PAUSE
    resume_at: float = 0.0
    restarts: int = field(default=0)

    def start(self) -> None:
        # Arguments are our own; stdout joins stderr so that `up --json` keeps its stdout to itself.
        self.process = subprocess.Popen(  # noqa: S603
            list(self.argv), stdin=subprocess.PIPE, stdout=2, start_new_session=True, pass_fds=self.pass_fds
        )
        self.started = time.monotonic()

    def ended(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs or waits to be started again."""
        return None if self.process is None else self.process.poll()

    def stop(self, deadline: float) -> bool:
        """Ask it to end, kill it at `deadline` (monotonic seconds). False if it had to be killed."""
        process, self.process = self.process, None
        if process is None:
            return True
        with process:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return False
        return True


@contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Hold `<home>/up.lock`. Raises Conflict `already_running`; the kernel drops the lock with the process."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (home / "up.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read(20).strip()
            raise Conflict(
                f"`lawful up` runs already for {home}" + (f" as process {holder}" if holder.isdigit() else ""),
                code="already_running",
                next_step="use the one that runs, stop it with Ctrl-C there, or choose another --home",
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield
        lock.truncate(0)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 takes any free one.

    The supervisor holds it and the web process inherits it, so that nobody else takes the port between two starts and
    whoever calls while the web process starts again waits for it.
    Raises Conflict `address_in_use` or `address_unusable`.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family)
        # asyncio does this only for sockets that name their protocol; without it each answer waits 40 ms for an ACK.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        raise not_listening(host, port, error, "port") from None


def not_listening(host: str, port: int, error: OSError, setting: str) -> Conflict:
    """What is said when a socket cannot listen there; `setting` names the port."""
    taken = error.errno == errno.EADDRINUSE
    return Conflict(
        f"{host}:{port} {'is used by another program' if taken else f'cannot be listened on: {error.strerror}'}",
        code="address_in_use" if taken else "address_unusable",
        next_step=f"stop what listens there, or choose another port: lawful --set {setting}={min(port + 1, 65535)} up",
    )


def keep_running(
    children: Sequence[Child], *, url: str, stop: threading.Event, ready: Callable[[], None], say: Say
) -> None:
    """Start `children`, call `ready` once `url` answers, start again whatever dies, until `stop` is set; then end all.

    Raises Unavailable `start_failed` when a child ends, or nothing answers, before everything was ready.
    """
    try:
        for child in reversed(children):  # the worker loads its networks while the web process starts
            child.start()
        if _await(children, url, stop):
            ready()
            while not stop.wait(TICK):
                for child in children:
                    _look_after(child, say)
    finally:
        deadline = time.monotonic() + STOP_PATIENCE
        for child in children:
            if not child.stop(deadline):
                say(f"{child.name} did not end within {STOP_PATIENCE:.0f} s and was killed; its work resumes next time")


def _await(children: Sequence[Child], url: str, stop: threading.Event) -> bool:
    """True once `url` answers 200; False if told to stop before."""
    deadline = time.monotonic() + START_PATIENCE
    with httpx.Client(timeout=2.0, trust_env=False) as client:
        while not stop.wait(TICK):
            for child in children:
                if (code := child.ended()) is not None:
                    raise _start_failed(f"{child.name} ended with {_said(code)} while starting")
            try:
                if client.get(url).status_code == httpx.codes.OK:
                    return True
            except httpx.TransportError:
                pass
            if time.monotonic() > deadline:
                raise _start_failed(f"{url} did not answer within {START_PATIENCE:.0f} s")
    return False


def _look_after(child: Child, say: Say) -> None:
    """Start a child that died again, each time after a longer pause."""
    now = time.monotonic()
    if (code := child.ended()) is not None:
        child.stop(now)  # collects it
        pause = FIRST_PAUSE if now - child.started > STEADY else child.pause
        child.resume_at, child.pause = now + pause, min(pause * 2, LONGEST_PAUSE)
        say(f"{child.name} ended with {_said(code)}; starting it again in {pause:g} s")
    elif child.process is None and now >= child.resume_at:
        child.restarts += 1
        child.start()
        say(f"{child.name} started again (no. {child.restarts})")


def _said(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


def _start_failed(detail: str) -> Unavailable:
    return Unavailable(detail, code="start_failed", next_step="read the lines above, then run `lawful doctor`")


def end_with_supervisor() -> None:
    """In a child: a thread that ends this process as SIGTERM would, once the supervisor's end of stdin is closed."""

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="supervisor-watch", daemon=True).start()
