"""`lawful doctor`: is everything there that this ledger needs? Named checks, each with the next command where it fails.

It changes nothing, except that it starts the embedded database while it looks and writes one file it deletes again. All
checks passing does not show that the database is the newest one, nor that nobody copied the keys.
"""

import datetime as dt
import platform
import shutil
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from importlib.metadata import version
from typing import Literal, TypeVar
from urllib.parse import urlsplit

import msgspec
import numpy as np
import sqlalchemy as sa

from ledger import jobs
from ledger.credentials.read import read_credential
from ledger.credentials.write import CredentialRequest, new_manifest_urn, write_credential
from ledger.database.session import open_database
from ledger.database.tables.log import LogEntry, LogOutbox, LogPublished, LogWitness
from ledger.errors import LedgerError, Unavailable
from ledger.keys.current import CurrentKeys
from ledger.keys.ring import keys_of, staged
from ledger.log.head import compare
from ledger.log.notes import Checkpoint, NoteError, open_note
from ledger.log.policy import NO_QUORUM, load_policy
from ledger.log.shard import newest_head, query_of, right_edge, witnessed_head
from ledger.runtime import Runtime, open_decoders, open_storage, utc_now
from ledger.settings import Settings
from ledger.standing import Standing, standing
from models.errors import ModelError
from models.images import encode_png

Result = Literal["pass", "warn", "fail", "skip"]

DISK_WARN, DISK_FAIL = 2 * 2**30, 200 * 2**20  # bytes free
CERTIFICATE_WARN = dt.timedelta(days=30)
OUTBOX_WARN = dt.timedelta(seconds=30)
WITNESSES_MAY_LAG = dt.timedelta(minutes=2)
WAITING_WARN = 600.0  # seconds
CLAIM_WARN = 3600.0  # seconds
LOG_TABLES = ("log_shards", "log_entries", "log_tiles", "log_checkpoints")

T = TypeVar("T")


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One check's answer; `next_step` wherever there is something to do."""

    name: str
    result: Result
    detail: str
    next_step: str | None = None


class _Warning(Exception):
    def __init__(self, detail: str, next_step: str) -> None:
        super().__init__(detail)
        self.detail, self.next_step = detail, next_step


def examine(settings: Settings, *, networks: bool = True) -> Iterator[Finding]:
    """Every check in order, each as it is done; what needs keys or database is skipped where those failed.

    `networks` False leaves out loading them, which takes seconds to minutes.
    """
    broken = set()
    for name, look in ON_SETTINGS.items():
        if name in {"credentials", "database"} and "keys" in broken:
            yield Finding(name=name, result="skip", detail="not without the keys")
            broken.add(name)
            continue
        finding = _ask(name, look, settings)
        if finding.result == "fail":
            broken.add(name)
        yield finding
    if "database" in broken:
        for name in (*ON_RUNTIME, *ON_STANDING, *(["networks"] if networks else [])):
            yield Finding(name=name, result="skip", detail="not without the database")
        return
    with open_database(settings, migrate=False) as database, open_decoders(settings) as files:
        keys = CurrentKeys(settings, database.sessions)
        runtime = Runtime(settings, database, open_storage(settings), keys, files)
        for name, check in ON_RUNTIME.items():
            yield _ask(name, check, runtime)
        read = cache(partial(standing, runtime))  # once for all who tell of it
        for name, tell in ON_STANDING.items():
            yield _ask(name, partial(_told, tell), read)
        if networks:
            yield _ask("networks", _networks, runtime)


def _told(tell: Callable[[Standing], str], read: Callable[[], Standing]) -> str:
    return tell(read())


def _ask(name: str, look: Callable[[T], str], of: T) -> Finding:
    """A check returns what it saw, or raises: `_Warning`, or the error that the commands would end with."""
    try:
        return Finding(name=name, result="pass", detail=look(of))
    except _Warning as warning:
        return Finding(name=name, result="warn", detail=warning.detail, next_step=warning.next_step)
    except (LedgerError, ModelError) as error:
        return Finding(name=name, result="fail", detail=f"{error.detail} [{error.code}]", next_step=error.next_step)
    except (OSError, sa.exc.SQLAlchemyError) as error:
        return Finding(
            name=name,
            result="fail",
            detail=f"{type(error).__name__}: {error}",
            next_step="mend that, then run `lawful doctor` again",
        )


# ---- without the database ------------------------------------------------------------------------------------------


def _python(_: Settings) -> str:
    python = f"Python {platform.python_version()}, {sys.platform} {platform.machine()}"
    return f"lawful-ledger {version('lawful-ledger')}, {python}"


def _folders(settings: Settings) -> str:
    home = settings.home
    if not home.exists():
        raise Unavailable(f"{home} does not exist", code="home_missing", next_step="run `lawful init`")
    if home.stat().st_mode & 0o022:
        raise Unavailable(f"{home} can be written by others", code="home_exposed", next_step=f"run: chmod go-w {home}")
    for private in (settings.keys_folder, settings.files_folder):
        if private.exists() and private.stat().st_mode & 0o077:
            raise Unavailable(
                f"{private} is open to others", code="folder_exposed", next_step=f"run: chmod -R go= {private}"
            )
    return f"{home} is this account's own"


def _disk(settings: Settings) -> str:
    folder = settings.home
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    said = f"{free / 2**30:.1f} GiB free"
    if free < DISK_FAIL:
        raise Unavailable(said, code="disk_low", next_step="free some space before anything else is recorded")
    if free < DISK_WARN:
        raise _Warning(said, "free some space soon: a full disk stops issuing, though nothing is lost")
    return said


def _keys(settings: Settings) -> str:
    keys = keys_of(settings)
    if keys.log.name != settings.origin:
        raise Unavailable(
            f"the log's key is for {keys.log.name}, the setting origin says {settings.origin}",
            code="log_key_mismatch",
            next_step="set origin to what the key says, or point home at the other log's folder",
        )
    left = keys.credential.not_after - utc_now()
    said = f"log key {keys.log.vkey.split('+')[1]}; certificate valid for {left.days} days"
    if left < dt.timedelta(0):
        raise Unavailable(
            "the signing certificate has expired",
            code="credential_expired",
            next_step="run `lawful keys rotate credential`",
        )
    if left < CERTIFICATE_WARN:
        raise _Warning(
            said, "run `lawful keys rotate credential`: files signed without a timestamp read as expired after it"
        )
    for use in staged(settings.keys_folder):
        raise _Warning(
            f"{said}; a rotation of the {use} key was begun and not finished", f"run `lawful keys rotate {use}`"
        )
    return said


def _storage(settings: Settings) -> str:
    storage = open_storage(settings)
    key, data = f"doctor/{uuid.uuid4()}", b"lawful doctor"
    storage.put(key, data)
    same = storage.get(key) == data
    storage.delete(key)
    if not same:
        raise Unavailable(
            "storage returned other bytes than were stored",
            code="storage_unfaithful",
            next_step="check the storage service",
        )
    return "a file was written, read back and deleted"


def _mail(settings: Settings) -> str:
    """How links to sign in are sent. Whoever reads them is who they were sent to."""
    if settings.smtp_url is None:
        host = urlsplit(settings.public_url).hostname or ""
        if host != "localhost" and not host.startswith("127.") and host != "::1":
            raise _Warning(
                f"no mail server is set and {host} is not this machine: links to sign in are printed to the log of the"
                " web process, and whoever reads it can sign in as anybody",
                "set LAWFUL_SMTP_URL and LAWFUL_MAIL_FROM",
            )
        return "no mail server is set: links to sign in are printed to the log, for development"
    if settings.mail_from is None:
        raise _Warning("a mail server is set and no sender: no link to sign in is sent", "set LAWFUL_MAIL_FROM")
    return f"links to sign in are sent by mail from {settings.mail_from}"


def _credentials(settings: Settings) -> str:
    """Sign a small picture and read it back, with the trust list that the ledger uses."""
    keys = keys_of(settings)
    ramp = np.arange(64 * 64 * 3, dtype=np.uint32).reshape(64, 64, 3).astype(np.uint8)
    request = CredentialRequest(
        manifest_urn=new_manifest_urn(),
        intent="declared",
        software=("Lawful Ledger", version("lawful-ledger")),
        ledger={"schema": "lawful-ledger/self-test/1"},
    )
    written = write_credential(encode_png(ramp), "image/png", request, keys.credential, root_pem=keys.root_pem)
    more = settings.trust_anchors.read_text() if settings.trust_anchors else ""
    reading = read_credential(written.data, "image/png", anchors_pem=f"{keys.root_pem}\n{more}", now=utc_now())
    seen = (reading.credential, reading.content, reading.signature, reading.signer)
    if seen != ("present", "intact", "valid", "trusted"):
        raise Unavailable(
            f"a credential just written reads {', '.join(seen)}: {' '.join(reading.codes[:3])}",
            code="credential_self_test",
            next_step="install the c2pa-python of constraints.txt",
        )
    return "a credential just written reads present, intact, valid, trusted"


def _database(settings: Settings) -> str:
    if settings.database_url is None and not settings.postgres_folder.exists():
        raise Unavailable("this ledger has no database yet", code="database_missing", next_step="run `lawful init`")
    with open_database(settings, migrate=False) as database, database.sessions() as session:
        server, vector, revision = session.execute(
            sa.text(
                "SELECT current_setting('server_version'),"
                " (SELECT extversion FROM pg_extension WHERE extname = 'vector'),"
                " (SELECT version_num FROM alembic_version)"
            )
        ).one()
    where = "embedded" if settings.database_url is None else "external"
    return f"{where} Postgres {server}, pgvector {vector}, revision {revision}"


# ---- with it -------------------------------------------------------------------------------------------------------


def _append_only(runtime: Runtime) -> str:
    """The service's own role must lack the rights, and the triggers must stand against everybody else's."""
    with runtime.sessions() as session:
        role, powerful = session.execute(
            sa.text("SELECT current_user, rolsuper FROM pg_roles WHERE rolname = current_user")
        ).one()
        allowed = session.scalars(
            sa.text(
                "SELECT name FROM unnest(CAST(:tables AS text[])) AS name"
                " WHERE has_table_privilege(name, 'UPDATE, DELETE, TRUNCATE')"
            ),
            {"tables": list(LOG_TABLES)},
        ).all()
        guarded = session.execute(
            sa.text(
                "SELECT count(DISTINCT tgrelid) FROM pg_trigger WHERE tgname = 'never_truncated' AND tgenabled = 'A'"
                " AND tgrelid = ANY (CAST(CAST(:tables AS text[]) AS regclass[]))"
            ),
            {"tables": list(LOG_TABLES)},
        ).scalar_one()
    if powerful or allowed:
        raise Unavailable(
            f"{role} may rewrite {', '.join(allowed) or 'anything: it is a superuser'}",
            code="database_role_too_powerful",
            next_step="let database_url name the role lawful_app",
        )
    if guarded != len(LOG_TABLES):
        raise Unavailable(
            f"only {guarded} of {len(LOG_TABLES)} log tables have their triggers",
            code="log_unguarded",
            next_step="ask who dropped them; compare the log with a backup and the witnesses before going on",
        )
    return f"{role} can only append to the log"


def _log(runtime: Runtime) -> str:
    """The newest checkpoint is signed by our key, its root is that of what the tables hold, and nothing newer was ever
    let out."""
    let_out = runtime.head.read()
    with runtime.reading() as session:
        query = query_of(session)
        head = newest_head(query, runtime.shard)
        compare(runtime.head, let_out, runtime.keys.log.verifier, query, runtime.shard, head)
        if head is None:
            raise _Warning("the log has no checkpoint yet", "run `lawful up`: its sequencer writes the first one")
        edge = right_edge(query, runtime.shard, head.size)
    try:
        signed = Checkpoint.parse(open_note(head.note, [runtime.keys.log.verifier]).text)
    except NoteError as error:
        raise _diverged(f"the newest checkpoint is not signed by this ledger's key: {error.detail}") from error
    with runtime.sessions() as session:
        entries, last = session.execute(
            sa.select(sa.func.count(), sa.func.max(LogEntry.idx)).where(LogEntry.shard == runtime.shard)
        ).one()
        oldest = session.execute(sa.select(sa.func.min(LogOutbox.created_at))).scalar()
    if (signed.origin, signed.size, signed.root) != (runtime.settings.origin, head.size, edge.root()):
        raise _diverged(f"the checkpoint of size {head.size} does not fit the stored entries")
    if (entries, last) != (head.size, head.size - 1 if head.size else None):
        raise _diverged(f"the checkpoint covers {head.size} entries, the table holds {entries}")
    if oldest is not None and runtime.clock() - oldest > OUTBOX_WARN:
        raise _Warning(
            f"{head.size} entries; the oldest that waits does so since {oldest.isoformat(timespec='seconds')}",
            "run `lawful up` or `lawful run sequencer`",
        )
    return f"{head.size} entries under a checkpoint of our key"


def _diverged(detail: str) -> Unavailable:
    return Unavailable(
        detail,
        code="log_inconsistent",
        next_step="stop the ledger, keep the database as it is, compare it with a backup and with the witnesses",
    )


def _witnesses(runtime: Runtime) -> str:
    """Each witness of the policy, how far it is behind what is published, and whether enough of them have cosigned."""
    path = runtime.settings.witness_policy
    if path is None:
        return "no witness policy is set: the log stands on its own word"
    policy = load_policy(path)
    with runtime.sessions() as session:
        published = session.get(LogPublished, runtime.shard)
        known = {row.vkey: row for row in session.scalars(sa.select(LogWitness).filter_by(shard=runtime.shard))}
        witnessed = witnessed_head(query_of(session), runtime.shard, policy.sha256)
    size = published.size if published is not None else 0
    said = []
    for witness in policy.witnesses:
        row = known.get(witness.verifier.vkey)
        if witness.url is None:
            said.append(f"{witness.name}: not asked, the policy has no URL for it")
        elif row is None:
            said.append(f"{witness.name}: never asked yet")
        else:
            behind = "nothing cosigned" if row.size is None else f"{max(size - row.size, 0)} entries behind"
            said.append(f"{witness.name}: {behind}" + (f", {row.failure}" if row.failure else ""))
    told = "; ".join(said) or "the policy names no witness"
    quorum = "nothing is witnessed yet" if witnessed is None else f"{witnessed.size} of {size} entries are witnessed"
    failing = [each for each in policy.witnesses if (row := known.get(each.verifier.vkey)) and row.failure]
    late = published is not None and runtime.clock() - published.published_at > WITNESSES_MAY_LAG
    if policy.quorum != NO_QUORUM and late and (witnessed is None or witnessed.size < size):
        raise _Warning(
            f"{quorum}; {told}", "run `lawful up` if it does not run; else ask the operators of those that fail"
        )
    if failing:
        raise _Warning(f"{quorum}; {told}", "ask the operators of the witnesses that fail")
    return f"{quorum}; {told}"


def _worker(runtime: Runtime) -> str:
    with runtime.sessions() as session:
        if jobs.worker_is_alive(session):
            return "a worker's heartbeat is fresh"
    raise _Warning("no worker runs; commands do the work in place", "run `lawful up` to serve others over HTTP")


def _queue(now: Standing) -> str:
    """What waits, what was given up, and what stands half-way with no job to finish it."""
    waiting = sum(queue.waiting for queue in now.queues.values())
    failed = {task: queue.failed for task, queue in now.queues.items() if queue.failed}
    oldest = max((queue.oldest or 0.0 for queue in now.queues.values()), default=0.0)
    said = f"{waiting} jobs wait" + (f", the oldest for {oldest:.0f} s" if waiting else "")
    if now.unfinished:
        raise _Warning(
            f"{said}; {now.unfinished} records stand half-way since more than 5 minutes",
            "run `lawful up`: its worker finishes them",
        )
    if oldest > WAITING_WARN:
        raise _Warning(said, "run `lawful up` if no worker runs; else start another with `lawful run worker`")
    if failed:
        raise _Warning(
            f"{said}; jobs given up for good: {', '.join(f'{count} {task}' for task, count in failed.items())}",
            "read `job_failed` in the worker's log; whoever asked has been told, and may ask again",
        )
    return said


def _collection(now: Standing) -> str:
    """What images are compared with, and whether its error rates are known."""
    found = now.collection
    if found is None:
        return "no collection is indexed: images are compared with nothing"
    said = f"snapshot {found.digest[:16]}…: {found.works} works, frozen {found.age / 86400:.0f} days ago"
    if found.calibrated is None:
        raise _Warning(
            f"{said}; its error rates are not measured", "run `lawful up`: its worker measures them before it compares"
        )
    return f"{said}, error rates measured {found.calibrated / 86400:.0f} days ago"


def _claims(now: Standing) -> str:
    """Claims that wait for the ledger, and since when. What waits for a person is that person's to move."""
    claims = now.claims
    if claims.oldest is None:
        return "no claim waits for its decision"
    said = f"{claims.undecided} claims wait for their decision, the first for {_span(claims.oldest)}"
    if claims.oldest > CLAIM_WARN:
        raise _Warning(
            said, "run `lawful up` if no worker runs; else see `lawful claim list` and read the worker's log for why"
        )
    return said


def _span(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _networks(runtime: Runtime) -> str:
    """Load every network of the profile, as the worker will."""
    from ledger.examiner import Examiner

    examiner = Examiner(runtime)
    names = list(examiner.loaded())
    try:
        generator = f"generator {examiner.generator().info.name}"
    except ModelError as error:
        if error.code != "no_generator":
            raise
        generator = "no generator: images made elsewhere can be stamped"
    return f"profile {runtime.settings.profile}: {generator}; encoders {', '.join(names) or 'none'}"


ON_SETTINGS: dict[str, Callable[[Settings], str]] = {
    "python": _python,
    "folders": _folders,
    "disk": _disk,
    "storage": _storage,
    "mail": _mail,
    "keys": _keys,
    "credentials": _credentials,
    "database": _database,
}
ON_RUNTIME: dict[str, Callable[[Runtime], str]] = {
    "append_only": _append_only,
    "log": _log,
    "witnesses": _witnesses,
    "worker": _worker,
}
ON_STANDING: dict[str, Callable[[Standing], str]] = {
    "queue": _queue,
    "collection": _collection,
    "claims": _claims,
}


def worst(findings: Iterable[Finding]) -> Result:
    """fail, warn or pass: the worst that was found."""
    results = {finding.result for finding in findings}
    return next((result for result in ("fail", "warn") if result in results), "pass")
