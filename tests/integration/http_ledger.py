"""A founded ledger behind the HTTP application, and a worker without networks: all of it is real but the engine."""

import hashlib
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import msgspec
import sqlalchemy as sa
from litestar.testing import TestClient

from attribution.evidence import (
    PROTECTED_WORK,
    PROTECTED_WORKS,
    Area,
    ArtistFinding,
    CalibrationNote,
    Classification,
    CopyAxis,
    CopyMatch,
    Evidence,
    Neighbour,
    NeighbourAxis,
    SnapshotRef,
    StyleAxis,
)
from attribution.fingerprints import fingerprint
from attribution.gate import GatePolicy, decide
from attribution.wording import findings, not_proven, statement
from ledger import api_keys, issue, supervisor, verifications, verify
from ledger.database.tables.log import LogEntry, LogOutbox, LogPublished
from ledger.database.tables.principals import Principal
from ledger.database.tables.records import Record, Verification
from ledger.runtime import Runtime
from ledger.settings import Settings
from ledger.web.app import create_app, serve
from models.images import decode, encode_png
from tests.ports import free_port
from tests.waiting import until

from .conftest import picture

MODEL = {"name": "test-generator", "revision": "1", "weights_sha256": "0" * 64, "licence": "none"}
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> {{ 7*7 }} {% raw %}"

DRAWING = encode_png(picture(9))
DRAWN = hashlib.sha256(DRAWING).hexdigest()


def told(evidence: Evidence, refused: bool = False, policy: GatePolicy | None = None) -> Evidence:
    """The evidence with what the engine makes of its axes: findings, the statement, and the gate where one is asked."""
    said = findings(evidence)
    evidence = msgspec.structs.replace(
        evidence, findings=said, statement=statement(evidence, said), not_proven=not_proven(evidence)
    )
    return msgspec.structs.replace(evidence, gate=decide(evidence, refused, policy)) if policy is not None else evidence


def area(left: float, top: float, right: float, bottom: float) -> Area:
    return Area(corners=[(left, top), (right, top), (right, bottom), (left, bottom)])


FOUND = Evidence(
    statement="",
    copy=CopyAxis(
        method="rootsift@0123456789abcdef",
        searched=445,
        matches=[
            CopyMatch(
                work_id="w1",
                artist_id="a1",
                artist="Vincent van Gogh",
                title="Wheat Field",
                score=41.7,
                p_value=0.0005,
                details=212,
                of_image=area(0.1, 0.2, 0.6, 0.7),
                of_work=area(0.02, 0.01, 0.98, 0.97),
                mirrored=True,
                picture=DRAWN,
            ),
            CopyMatch(
                work_id=None,
                artist_id=None,
                artist=None,
                title=PROTECTED_WORK,
                score=17.3,
                p_value=0.0312,
                details=31,
                of_image=Area(corners=[(0.6, 0.6), (0.95, 0.55), (0.99, 0.9), (0.62, 0.97)]),
                of_work=area(0.3, 0.3, 0.7, 0.8),
                mirrored=False,
                protected=True,
            ),
            CopyMatch(
                work_id="w3",
                artist_id="a2",
                artist=HOSTILE,
                title=HOSTILE,
                score=16.9,
                p_value=0.044,
                details=18,
                of_image=area(0, 0, 0.4, 0.4),
                of_work=area(0, 0, 1, 1),
                mirrored=False,
            ),
        ],
        missed={"cropped to half": 0.012, "mirrored": 0.0, "pasted at a quarter of the area": 0.147},
        calibration=CalibrationNote(
            n=4000,
            method="leave-artist-out",
            smallest_p=1 / 4001,
            text="p is the part of 4,000 images that reach this with the works of somebody else.",
        ),
    ),
    style=StyleAxis(
        method="style/1",
        artists=[
            ArtistFinding(artist_id="a1", artist="Vincent van Gogh", share=0.58, p_value=0.0022),
            ArtistFinding(artist_id="a2", artist=HOSTILE, share=0.11, p_value=0.31),
            ArtistFinding(artist_id=None, artist=PROTECTED_WORKS, share=0.004, p_value=0.93, protected=True),
        ],
        none_of_these=0.306,
        calibration=CalibrationNote(
            n=999, method="leave-artist-out", smallest_p=0.001, text="From 999 works of artists left out in turn."
        ),
        note="Fitted on held-out works of the collection.",
    ),
    classification=Classification(
        classifier="head@0011223344556677",
        artists=[
            ArtistFinding(artist_id="a1", artist="Vincent van Gogh", share=0.71),
            ArtistFinding(artist_id="a3", artist="Claude Monet", share=0.09),
        ],
        unknown=0.2,
    ),
    snapshot=SnapshotRef(digest="ab" * 32, works=445, artists=8, collection="paintings"),
    neighbours={
        "clip": NeighbourAxis(
            encoder="clip@0123456789abcdef",
            axes=["style", "content"],
            nearest=[
                Neighbour(
                    work_id="w1",
                    artist_id="a1",
                    artist="Vincent van Gogh",
                    title="Wheat Field",
                    score=0.91,
                    p_value=0.0022,
                ),
                Neighbour(
                    work_id="w2",
                    artist_id="a1",
                    artist="Vincent van Gogh",
                    title="The Sower",
                    score=0.83,
                    p_value=0.047,
                ),
                Neighbour(
                    work_id=None,
                    artist_id=None,
                    artist=None,
                    title="a protected work",
                    score=0.7,
                    protected=True,
                    p_value=0.21,
                ),
                Neighbour(work_id="w3", artist_id="a2", artist=HOSTILE, title=HOSTILE, score=0.6, p_value=0.5),
            ],
            calibration=CalibrationNote(
                n=445,
                method="leave-artist-out",
                smallest_p=0.0022,
                text="From 445 works, each compared with all other artists'.",
            ),
        ),
        "vae": NeighbourAxis(
            encoder="vae@fedcba9876543210",
            axes=["content"],
            nearest=[Neighbour(work_id="w9", artist_id="a3", artist="Claude Monet", title="Haystacks", score=0.5)],
        ),
    },
)
EVIDENCE = told(FOUND)
"""What an engine answers on all axes, with everything that a page could stumble over."""


def png(seed: int = 1, side: int = 96) -> bytes:
    return encode_png(picture(seed, side))


def operator(runtime: Runtime) -> uuid.UUID:
    with runtime.sessions() as session:
        return session.scalars(sa.select(Principal.id).where(Principal.name == "operator")).one()


def api_key(runtime: Runtime) -> str:
    with runtime.sessions.begin() as session:
        return api_keys.new_key(session, session.scalars(sa.select(Principal.id)).first(), "test")[1]  # type: ignore[arg-type]


def generated(runtime: Runtime, seed: int = 1, evidence: Evidence = EVIDENCE, prompt: str = "a boat") -> uuid.UUID:
    """An issued generation of `picture(seed)`."""
    with runtime.sessions.begin() as session:
        record_id = issue.accept_generation(
            session,
            principal_id=operator(runtime),
            prompt=prompt,
            seed=seed,
            parameters={"steps": 4},
            idempotency_key=None,
            max_prompt_chars=1000,
        )
    do(runtime, record_id, evidence, image=png(seed))
    return record_id


def stamped(runtime: Runtime, image: bytes, model: str | None = None, by: uuid.UUID | None = None) -> uuid.UUID:
    """An issued stamp of `image`, by the operator unless another principal is named."""
    with runtime.sessions.begin() as session:
        record_id = issue.accept_stamp(
            session,
            runtime,
            principal_id=by or operator(runtime),
            image=image,
            media_type=decode(image).media_type,
            declared_model=model,
            prompt=None,
            prompt_commitment=None,
            idempotency_key=None,
        )
    do(runtime, record_id, EVIDENCE)
    return record_id


def looked(runtime: Runtime, image: bytes) -> uuid.UUID:
    """A finished verification of `image`."""
    with runtime.sessions.begin() as session:
        record_id = verifications.accept_verification(session, runtime, image=image, principal_id=None)
    do(runtime, record_id, EVIDENCE)
    return record_id


def do(
    runtime: Runtime, record_id: uuid.UUID, evidence: Evidence, image: bytes | None = None, **generator: Any
) -> None:
    """What the worker does with a job, the networks' answer being given; `generator` is what the generator told."""
    with runtime.sessions() as session:
        record = session.get_one(Record, record_id)
        look = session.get(Verification, record_id)
    if look is not None:
        if look.upload_key is None:
            return
        with runtime.sessions() as session:
            found = verify.verify(
                runtime.storage.get(look.upload_key),
                session=session,
                anchors_pem=runtime.keys.root_pem,
                log_vkeys=runtime.log_vkeys,
                examine=lambda _pixels, _found: evidence,
                now=runtime.clock(),
            )
        verifications.record(runtime, record_id, found)
        return
    if record.state == "accepted":
        data = image or (runtime.storage.get(record.source_key) if record.source_key else png())
        decoded = decode(data)
        model = MODEL if record.kind == "generation" else None
        issue.sign(
            runtime,
            record_id,
            issue.Produced(
                data,
                decoded.media_type,
                fingerprint(data, decoded.pixels),
                evidence,
                model,
                pictures={DRAWN: DRAWING} if DRAWN in str(evidence.copy) else {},
                **generator,
            ),
        )
    issue.finish(runtime, record_id)


@contextmanager
def working(runtime: Runtime) -> Iterator[None]:
    """Does every accepted job until the block ends."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(0.02):
            with runtime.sessions() as session:
                waiting = session.scalars(sa.select(Record.id).where(Record.state == "accepted")).all()
            for record_id in waiting:
                do(runtime, record_id, EVIDENCE)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def serving(runtime: Runtime) -> Iterator[TestClient]:  # type: ignore[type-arg]
    with TestClient(create_app(runtime.settings, runtime), raise_server_exceptions=False) as client:
        yield client


@contextmanager
def served(runtime: Runtime) -> Iterator[str]:
    """The ledger behind the real server, in a thread; yields its address, which is the settings' port."""
    listener = supervisor.listen(runtime.settings.host, runtime.settings.port)
    stop, failure = threading.Event(), []

    def run() -> None:
        try:
            serve(runtime.settings, listener, stop)
        except Exception as error:  # noqa: BLE001 - told by whoever waits
            failure.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    address = f"http://127.0.0.1:{runtime.settings.port}"
    try:
        for _ in range(400):
            assert not failure, failure
            try:
                httpx.get(address + "/healthz", trust_env=False)
                break
            except httpx.TransportError:
                time.sleep(0.05)
        yield address
    finally:
        stop.set()
        thread.join(20)
    assert not thread.is_alive(), "the server did not stop when it was told to"


def with_a_port(settings: Settings) -> Settings:
    """The same ledger on a port that is free now."""
    port = free_port()
    return settings.model_copy(update={"port": port, "public_url": f"http://127.0.0.1:{port}"})


def all_logged(runtime: Runtime) -> None:
    """Wait until everything that was written for the log can be read in it."""

    def done() -> bool:
        with runtime.reading() as session:
            waiting, held = (session.query(table).count() for table in (LogOutbox, LogEntry))
            return waiting == 0 and session.get_one(LogPublished, runtime.shard).size == held

    until(done)


@contextmanager
def process(settings: Settings, part: str = "web", **more: str) -> Iterator["subprocess.Popen[bytes]"]:
    """`lawful run web` (ready to answer) or `lawful run worker` with these settings and `more` of the environment."""
    environment = {
        **os.environ,
        **more,
        "LAWFUL_HOME": str(settings.home),
        "LAWFUL_PORT": str(settings.port),
        "LAWFUL_DATABASE_URL": settings.database_url.get_secret_value(),  # type: ignore[union-attr]
        "LAWFUL_DATABASE_OWNER_URL": settings.database_owner_url.get_secret_value(),  # type: ignore[union-attr]
    }
    command = [sys.executable, "-m", "ledger.cli", "run", part]
    with subprocess.Popen(command, env=environment, cwd=settings.home) as started:
        try:
            for _ in range(600 if part == "web" else 0):
                assert started.poll() is None, "the web process ended before it answered"
                try:
                    httpx.get(f"http://127.0.0.1:{settings.port}/healthz", trust_env=False)
                    break
                except httpx.TransportError:
                    time.sleep(0.1)
            yield started
        finally:
            if started.poll() is None:
                started.kill()
