"""A record with something to report: matches, hands, hostile names, and the pictures of its matches."""

import hashlib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import sqlalchemy as sa
from psycopg import sql

from attribution.evidence import (
    Area,
    ArtistFinding,
    CalibrationNote,
    CopyAxis,
    CopyMatch,
    Evidence,
    Finding,
    Gate,
    Identity,
    Match,
    Neighbour,
    NeighbourAxis,
    SnapshotRef,
    StyleAxis,
)
from attribution.fingerprints import fingerprint
from ledger import genesis, issue
from ledger.runtime import Runtime, open_runtime, sequencing
from ledger.settings import Settings
from models.images import encode_png

from .conftest import picture
from .test_issue import MODEL, accept

HOSTILE = '<script>alert(1)</script> #import "x" $y$ \u202egnp.exe\x00 \u2067 中文 عربي 한국 😀 ' + "w" * 400
DRAWING = encode_png(picture(900, 192))
CALIBRATION = CalibrationNote(n=295, method="leave-artist-out/1", smallest_p=1 / 296, text="p is a part of 295 works.")


def match(title: str, artist: str | None, drawn: bool = False) -> CopyMatch:
    area = Area(corners=[(0.1, 0.1), (0.8, 0.15), (0.75, 0.9), (0.12, 0.85)])
    return CopyMatch(
        work_id=None if artist is None else "w",
        artist_id=None,
        artist=artist,
        title=title,
        score=1.5,
        p_value=1 / 296,
        details=412,
        of_image=area,
        of_work=area,
        mirrored=False,
        picture=hashlib.sha256(DRAWING).hexdigest() if drawn else None,
        protected=artist is None,
    )


def evidence() -> Evidence:
    """Something on every axis, with names that are none."""
    text = f"A part of this image is a copy of “{HOSTILE}” by Ким; an image that copies nothing reaches this rarely."
    return Evidence(
        snapshot=SnapshotRef(digest="0" * 64, works=295, artists=12, collection="studios"),
        identity=Identity(
            works=[Match(work_id=None, artist_id=None, artist="Δημήτρης", title="Θάλασσα", by="pixel_sha256")]
        ),
        neighbours={
            "clip": NeighbourAxis(
                encoder="clip@0123456789abcdef",
                axes=["content"],
                nearest=[
                    Neighbour(work_id=None, artist_id=None, artist=HOSTILE, title=HOSTILE, score=0.9, p_value=0.2)
                ],
                calibration=CALIBRATION,
            )
        },
        copy=CopyAxis(
            method="rootsift",
            searched=295,
            matches=[match(HOSTILE, "Ким", drawn=True), match("a protected work", None)],
            missed={"JPEG quality 30": 0.02},
            calibration=CALIBRATION,
        ),
        style=StyleAxis(
            method="style",
            artists=[ArtistFinding(artist_id=None, artist=HOSTILE, share=0.4, p_value=0.01)],
            none_of_these=0.6,
            calibration=CALIBRATION,
        ),
        findings=[
            Finding(axis="copy", outcome="found", text=text, p_value=1 / 296),
            Finding(axis="style", outcome="nothing", text="No single source stands out among 12 artists.", p_value=0.4),
        ],
        gate=Gate(decision="warn", reasons=["copy_of_work"], text="It copies a work.", policy={"copy": "warn"}),
        statement=text,
        not_proven=["Similarity does not prove that a work was copied."],
    )


def issue_reported(runtime: Runtime, seed: int = 5, side: int = 96) -> uuid.UUID:
    """A generation, issued, whose report has something on every axis."""
    record_id = accept(runtime)
    pixels = picture(seed, side)
    data = encode_png(pixels)
    drawings = {hashlib.sha256(DRAWING).hexdigest(): DRAWING}
    found = fingerprint(data, pixels)
    issue.sign(runtime, record_id, issue.Produced(data, "image/png", found, evidence(), MODEL, pictures=drawings))
    issue.finish(runtime, record_id)
    return record_id


@contextmanager
def settings_of_the_module(
    superuser: psycopg.Connection, superuser_url: str, template: str, home: Path
) -> Iterator[Settings]:
    """Settings as `tests/conftest.py` makes them for one test, for a module's tests together."""
    name = f"test_{uuid.uuid4().hex}"
    names = {"name": sql.Identifier(name), "template": sql.Identifier(template)}
    superuser.execute(sql.SQL("CREATE DATABASE {name} OWNER lawful_owner TEMPLATE {template}").format(**names))
    urls = [
        sa.make_url(superuser_url)
        .set(
            drivername="postgresql", database=name, username=role, password="only-for-tests"
        )  # as in tests/conftest.py
        .render_as_string(hide_password=False)
        for role in ("lawful_app", "lawful_owner")
    ]
    yield Settings(
        _env_file=None,
        home=home,
        looks_per_minute=1_000_000,
        database_url=urls[0],
        database_owner_url=urls[1],
    )
    superuser.execute(sql.SQL("DROP DATABASE {name} WITH (FORCE)").format(**names))


@contextmanager
def ledger_of_the_module(
    superuser: psycopg.Connection, superuser_url: str, template: str, home: Path
) -> Iterator[Runtime]:
    """A founded ledger with a sequencer for many tests that only read it: founding one costs more than most of them."""
    with settings_of_the_module(superuser, superuser_url, template, home) as settings:
        genesis.found(settings)
        with open_runtime(settings) as runtime, sequencing(runtime):
            yield runtime
