"""Submitters' statements over HTTP, a batch at a time and one at a time, until they stand under a published checkpoint.

    python -m benchmarks.submissions [--entries 100000] [--batch 1000] [--connections 2]

Web process, sequencer, database and clients are processes of their own on one machine, as in `lawful up`; statements
are signed before the clock starts. Beside it in the same run, on one core: the bare Ed25519 checks of the same
statements, the checks of a whole body, and their insertion into the outbox. On a machine that does other work, look at
the processor time of the web process: with its one interpreter lock, it is what bounds the rate.
"""

import argparse
import http.client
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from benchmarks.measuring import PORT, show, spread, throwaway_ledger, web
from ledger import api_keys, submissions
from ledger.log import cbor_sequence
from ledger.log.declarations import DECLARATION, checked
from ledger.log.entries import append_many
from ledger.log.statements import StatementKey, sign_statement
from ledger.runtime import Runtime, utc_now

SEQUENCER = """
import sys
from ledger.commands.frame import Invocation
from ledger.runtime import open_runtime, sequencing
from pathlib import Path
with open_runtime(Invocation(Path(sys.argv[1]), ()).settings()) as runtime, sequencing(runtime):
    sys.stdin.read()
"""


def signed(key: StatementKey, issuer: str, count: int) -> list[bytes]:
    payload = {"type": DECLARATION, "created_at": utc_now().isoformat()}
    return [
        sign_statement(payload | {"commitment": os.urandom(32).hex()}, key, issuer, DECLARATION) for _ in range(count)
    ]


@contextmanager
def web_and_log(home: Path, **settings: object) -> Iterator["subprocess.Popen[bytes]"]:
    """The web process, and a sequencer beside it."""
    with (
        subprocess.Popen([sys.executable, "-c", SEQUENCER, str(home)], stdin=subprocess.PIPE),  # closed, it ends
        web(home, **settings) as server,
    ):
        yield server


def send(bodies: list[bytes], route: str, api_key: str, connections: int, wait: str) -> tuple[float, list[float]]:
    """Seconds for all bodies, and seconds of each."""
    content_type = "application/cbor-seq" if route.endswith("batch") else "application/cose"
    headers = {"Authorization": f"Bearer {api_key}", "Content-Type": content_type}
    waiting, each, failures = iter(bodies), [], []
    lock = threading.Lock()

    def work() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", PORT)
        while True:
            with lock:
                body = next(waiting, None)
            if body is None:
                return
            begun = time.perf_counter()
            connection.request("POST", route + wait, body, headers)
            answer = connection.getresponse()
            text = answer.read()
            each.append(time.perf_counter() - begun)
            if answer.status not in (201, 202):
                failures.append(text[:300])
                return

    threads = [threading.Thread(target=work) for _ in range(connections)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    return time.perf_counter() - begun, each


def processor_seconds(process: "subprocess.Popen[bytes]") -> float:
    """User and system time so far (Linux)."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def published(runtime: Runtime) -> int:
    with runtime.sessions() as session:
        return int(session.scalar(sa.text("SELECT max(size) FROM log_published")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--singles", type=int, default=4_000)
    parser.add_argument("--batch", type=int, default=1_000)
    parser.add_argument("--connections", type=int, default=2)
    options = parser.parse_args()
    with throwaway_ledger(sequencer=False) as runtime:
        key = StatementKey.generate()
        with runtime.sessions.begin() as session:
            api_key = api_keys.make(session, runtime, "benchmark", "submitter", "benchmark")[1]
            registered = submissions.register_key(session, runtime, "benchmark", key.public_key)
        statements = signed(key, registered.issuer, options.entries + options.singles)
        many, singles = statements[: options.entries], statements[options.entries :]
        bodies = [b"".join(many[i : i + options.batch]) for i in range(0, len(many), options.batch)]
        with runtime.sessions() as session:
            signers = submissions.signers_of(session, uuid.UUID(registered.issuer.partition("/")[2]))

        public_key = Ed25519PublicKey.from_public_bytes(key.public_key)
        bare = {}
        begun = time.process_time()
        for item in cbor_sequence.items(bodies[0]):
            public_key.verify(item.signature, item.signed)
        bare["signatures alone"] = options.batch / (time.process_time() - begun)
        begun = time.process_time()
        checked(bodies[0], signers, batch=True)
        bare["a body's checks"] = options.batch / (time.process_time() - begun)
        begun = time.perf_counter()
        for start in range(0, 20 * options.batch, options.batch):
            with runtime.sessions.begin() as session:
                append_many(session, [os.urandom(len(statements[0])) for _ in many[start : start + options.batch]])
        bare["insertion into the outbox"] = 20 * options.batch / (time.perf_counter() - begun)

        with web_and_log(runtime.settings.home) as server:
            send(bodies[:1], "/v1/statements/batch", api_key, 1, "?wait=integrated")  # warm, and the outbox is empty
            before = published(runtime)
            begun = time.perf_counter()
            busy = processor_seconds(server)
            seconds, each = send(bodies[1:], "/v1/statements/batch", api_key, options.connections, "")
            busy = processor_seconds(server) - busy
            while published(runtime) < before + len(many) - options.batch:
                time.sleep(0.005)
            until_published = time.perf_counter() - begun
            one, one_each = send(singles[: len(singles) // 2], "/v1/statements", api_key, 8, "")
            two, two_each = send(singles[len(singles) // 2 :], "/v1/statements", api_key, 8, "?wait=integrated")
    taken = len(many) - options.batch
    show(
        {
            "batch": options.batch,
            "connections": options.connections,
            "bytes_an_entry": len(statements[0]),
            "on_one_core_per_second": {name: round(value) for name, value in bare.items()},
            "batch_route": {
                "taken_per_second": round(taken / seconds),
                "published_per_second": round(taken / until_published),
                "a_request": spread(each),
                "web_processor_us_an_entry": round(busy / taken * 1e6, 1),
            },
            "single_route_8_connections": {
                "taken_per_second": round(len(one_each) / one),
                "a_request": spread(one_each),
                "integrated_per_second": round(len(two_each) / two),
                "a_request_until_integrated": spread(two_each),
            },
        }
    )


if __name__ == "__main__":
    main()
