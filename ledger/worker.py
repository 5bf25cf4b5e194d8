"""The process that owns the networks: takes jobs from the queue, runs the log's sequencer, resumes what was cut off."""

import asyncio
import contextlib
import datetime as dt
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, get_args

import procrastinate
import procrastinate.worker
import sqlalchemy as sa
import structlog
from procrastinate.exceptions import AlreadyEnqueued
from sqlalchemy.orm import Session
from structlog.contextvars import bound_contextvars

from attribution.fingerprints import fingerprint
from ledger import issue, jobs, limits, tracing, training_sets, verifications, verify
from ledger.abandonment import abandon, failure
from ledger.artists import enrolling, webhooks
from ledger.claims import deciding, identities, replies
from ledger.database.tables.principals import Principal
from ledger.database.tables.records import Generation, Record, Stamp, Verification
from ledger.errors import BadRequest, LedgerError, Unavailable
from ledger.examiner import Examiner
from ledger.log import entries
from ledger.log.policy import load_policy
from ledger.log.sequencer import SequencerThread
from ledger.metrics import JOBS, Stages, exposed
from ledger.runtime import Runtime, open_runtime, sequencing
from ledger.settings import Settings
from ledger.sweep import sweep
from ledger.trust import anchors
from models.errors import ModelError
from models.images import encode_png
from models.memory import gpu_memory

log = structlog.get_logger()

# A record that stands half-way this long without its job being done is picked up again.
RESUME_AFTER = dt.timedelta(seconds=60)
HOUSEKEEPING_SECONDS = 5.0
FIRST_SWEEP_SECONDS = 60.0  # by then a sequencer has refused a database that is older than its files
SWEEP_SECONDS = 3600.0
HEARTBEAT_SECONDS = 2.0
STALLED_SECONDS = 10.0  # without a heartbeat a worker counts as dead; locks keep a living one from being doubled
MOST_ATTEMPTS = 100  # whatever the reason: about an hour and a half of waiting for a disk or a timestamp authority
MOST_ATTEMPTS_ON_CLAIM = 10  # then the job has failed, and the next one comes later (`deciding.waiting`)
NOTICE_RETRIES = 6
NOTICES_AT_ONCE = 4
TICK = 0.1  # seconds between two looks at whether to go on
SHUTDOWN_SECONDS = 10.0  # a job that takes longer is resumed by the next worker


class Worker:
    """What the five jobs do with the networks of one profile."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.examiner = Examiner(runtime)

    def run(self, task: jobs.Task, record_id: uuid.UUID) -> None:
        """Do one job; doing it twice is harmless, at the same time impossible. Raises LedgerError or ModelError."""
        with self.runtime.database.advisory_lock(record_id) as ours:
            if not ours:
                raise Unavailable(
                    f"another process is working on record {record_id}",
                    code="record_busy",
                    next_step="wait for it to finish; nothing is lost",
                )
            doing: dict[jobs.Task, Callable[[uuid.UUID], None]] = {
                "generate": self.generate,
                "stamp": self.stamp,
                "verify": self.verify,
                "examine": self.settle,
                "enrol": self.enrol,
            }
            doing[task](record_id)

    def enrol(self, enrolment_id: uuid.UUID) -> None:
        """A picture that was handed in → a work of its artist's collection, or a refusal."""
        enrolling.enrol(self.runtime, self.examiner, enrolment_id)

    def settle(self, claim_id: uuid.UUID) -> None:
        """A claim → facts → a decision by the rules; each is a step of its own."""
        deciding.settle(self.runtime, self.examiner, claim_id)

    def generate(self, record_id: uuid.UUID) -> None:
        """Prompt → image → evidence → record."""
        with self.runtime.sessions() as session:
            state = session.get_one(Record, record_id).state
            wish = session.get_one(Generation, record_id)
            prompt, seed, parameters = wish.prompt, wish.seed, dict(wish.parameters)
        pixels, stages = None, Stages("generate")
        if state == "accepted":
            if prompt is None:
                raise BadRequest("the prompt was deleted", code="prompt_erased", next_step="ask for a new generation")
            generator = self.examiner.generator()
            made = generator.generate(prompt, seed=seed, **parameters)
            actual = {"steps": made.steps, "guidance": made.guidance, "width": made.width, "height": made.height}
            if made.unknown_words:  # how many is for everybody; the words are part of the prompt
                actual["unknown_words"] = len(made.unknown_words)
            stages.reached("generated")
            data = encode_png(made.pixels)
            found = fingerprint(data, made.pixels)
            examined = self.examiner.examine(made.pixels, found, stages.reached)
            stages.reached("examined")
            model = asdict(generator.info)
            if (snapshot := examined.evidence.snapshot) is not None and snapshot.digest is not None:
                training_sets.declare(self.runtime, model, generator.learned_from, snapshot.digest)
            produced = issue.Produced(
                data,
                "image/png",
                found,
                examined.evidence,
                model,
                actual,
                made.unknown_words,
                pictures=examined.pictures,
            )
            issue.sign(self.runtime, record_id, produced)
            stages.reached("signed")
            pixels = made.pixels
        issue.finish(self.runtime, record_id, stages.reached, pixels=pixels)

    def stamp(self, record_id: uuid.UUID) -> None:
        """Somebody's image → evidence → record. Its own credential, if it has one, becomes the new one's parent."""
        runtime = self.runtime
        with runtime.sessions() as session:
            record = session.get_one(Record, record_id)
            state, source_key, media_type = record.state, record.source_key, record.media_type
        pixels, stages = None, Stages("stamp")
        if state == "accepted":
            assert source_key is not None
            assert media_type is not None
            data = runtime.storage.get(source_key)
            image = runtime.files.decode(data)
            found = fingerprint(data, image.pixels)
            reading = runtime.files.read_credential(data, media_type, anchors_pem=anchors(runtime), now=runtime.clock())
            if reading.credential == "unreadable":
                raise BadRequest(
                    f"the file's own credential cannot be read ({', '.join(reading.codes[:2])}), so it cannot be kept",
                    code="credential_unreadable",
                    next_step="stamp a copy without the broken credential",
                )
            with runtime.sessions() as session:
                own = _own_model(session, found.pixel_sha256)
                ai_origin = own is not None or _is_registered(session, record_id)
            stages.reached("decoded")
            examined = self.examiner.examine(image.pixels, found, stages.reached)
            stages.reached("examined")
            produced = issue.Produced(
                data,
                media_type,
                found,
                examined.evidence,
                model=own,
                pictures=examined.pictures,
                ai_origin=ai_origin,
                parent_manifest_urn=reading.manifest_urn if reading.credential == "present" else None,
            )
            issue.sign(runtime, record_id, produced)
            stages.reached("signed")
            pixels = image.pixels
        issue.finish(runtime, record_id, stages.reached, pixels=pixels)

    def verify(self, record_id: uuid.UUID) -> None:
        """Somebody's image → answers → an unlisted entry; the upload is deleted."""
        runtime = self.runtime
        with runtime.sessions() as session:
            if session.get_one(Record, record_id).state != "accepted":
                return
            upload_key = session.get_one(Verification, record_id).upload_key
        assert upload_key is not None
        stages = Stages("verify")
        data = runtime.storage.get(upload_key)
        try:
            examine: verify.Examine | None = self.examiner.look(stages.reached)
        except (LedgerError, ModelError) as error:  # five of the six answers need no networks
            log.warning("not_compared", code=error.code, detail=error.detail)
            examine = None
        with runtime.sessions() as session:
            found = verify.verify(
                data,
                session=session,
                anchors_pem=anchors(runtime),
                log_vkeys=runtime.log_vkeys,
                policy=load_policy(policy) if (policy := runtime.settings.witness_policy) is not None else None,
                examine=examine,
                now=runtime.clock(),
                files=runtime.files,
            )
        stages.reached("examined")
        verifications.record(runtime, record_id, found)
        stages.reached("signed")


def _own_model(session: Session, pixel_sha256: str) -> dict[str, Any] | None:
    """The generator that made these very pixels here, if one did; whatever a submitter says of them."""
    return session.execute(
        sa.select(Generation.model)
        .join(Record, Record.id == Generation.record_id)
        .where(Record.listed, Record.pixel_sha256 == bytes.fromhex(pixel_sha256))
        .order_by(Record.created_at)
        .limit(1)
    ).scalar()


def _is_registered(session: Session, record_id: uuid.UUID) -> bool:
    """Does the stamp name the very generator that its submitter's key is registered to?"""
    registered, declared = session.execute(
        sa.select(Principal.generator, Stamp.declared_model)
        .join(Record, Record.principal_id == Principal.id)
        .join(Stamp, Stamp.record_id == Record.id)
        .where(Record.id == record_id)
    ).one()
    return registered is not None and registered == declared


# ---- running -------------------------------------------------------------------------------------------------------


def run_in_place(runtime: Runtime, task: jobs.Task, record_id: uuid.UUID) -> None:
    """Do a job here and now, for a CLI without a running worker. Its queued twin finds the work done.

    Raises what the job raises, after the record was abandoned if trying again cannot help.
    """
    with sequencing(runtime):
        try:
            Worker(runtime).run(task, record_id)
        except (LedgerError, ModelError) as error:
            if _is_final(error) and (leaf := abandon(runtime, record_id, failure(error))) is not None:
                with contextlib.suppress(Unavailable):  # then the next process that writes the log has it
                    entries.wait(runtime.sessions, runtime.shard, leaf, runtime.settings.issue_timeout)
            raise


def _is_final(error: BaseException) -> bool:
    """Bad input stays bad; anything else may pass."""
    return isinstance(error, LedgerError | ModelError) and error.status < 500


def _is_passing(error: BaseException) -> bool:
    """A full disk, a timestamp authority or a log that does not answer: what was accepted waits for it."""
    return isinstance(error, LedgerError | ModelError) and error.status in {503, 507}


def _log_failure(error: Exception, **facts: Any) -> None:
    """Errors that we name are told by their code; a traceback is for those that we do not know."""
    if isinstance(error, LedgerError | ModelError):
        log.warning("job_failed", code=error.code, detail=error.detail, **facts)
    else:
        log.error("job_failed", exc_info=error, **facts)


class _Retry(procrastinate.BaseRetryStrategy):
    """Wait 1, 2, 4 … up to 60 seconds between attempts, as long as trying again can help."""

    def __init__(self, attempts: int) -> None:
        self._attempts = attempts

    def get_retry_decision(
        self, *, exception: BaseException, job: procrastinate.jobs.Job
    ) -> procrastinate.RetryDecision | None:
        if _is_final(exception) or (job.attempts + 1 >= self._attempts and not _is_passing(exception)):
            return None
        return procrastinate.RetryDecision(retry_in={"seconds": min(2 ** min(job.attempts, 6), 60)})


def _application(worker: Worker) -> procrastinate.App:
    settings = worker.runtime.settings
    app = procrastinate.App(
        connector=procrastinate.PsycopgConnector(conninfo=worker.runtime.database.async_dsn, min_size=1, max_size=4)
    )

    def register(name: jobs.Task) -> None:
        @app.task(name=name, queue=jobs.QUEUE, retry=_Retry(settings.job_attempts), pass_context=True)
        def task(
            context: procrastinate.JobContext,
            record_id: str,
            request_id: str | None = None,
            traceparent: str | None = None,
        ) -> None:
            record, known = uuid.UUID(record_id), {"request_id": request_id} if request_id else {}
            with (
                bound_contextvars(task=name, record_id=record_id, **known),
                tracing.job(name, record_id, request_id, traceparent),
            ):
                attempt(context, record)

        def attempt(context: procrastinate.JobContext, record: uuid.UUID) -> None:
            is_claim = name == "examine"  # it waits, ever longer: nobody is left unheard because a disk was full
            # It may be what kills the worker, every time.
            if context.job.attempts >= (MOST_ATTEMPTS_ON_CLAIM if is_claim else MOST_ATTEMPTS):
                given_up = RuntimeError("given up")
                JOBS.labels(name, "abandoned").inc()
                if is_claim:
                    raise given_up
                give_up(record, given_up)
                return
            try:
                worker.run(name, record)
                JOBS.labels(name, "done").inc()
                log.info("job_done")
            except Exception as error:
                last = context.job.attempts + 1 >= settings.job_attempts and not _is_passing(error)
                _log_failure(error, attempt=context.job.attempts + 1)
                for_good = last or _is_final(error)
                JOBS.labels(name, "abandoned" if for_good else "retried").inc()
                if for_good and not is_claim:
                    give_up(record, error)
                raise

        def give_up(record: uuid.UUID, error: Exception) -> None:
            if name == "enrol":
                enrolling.refuse(worker.runtime, record, failure(error)["detail"])
            else:
                abandon(worker.runtime, record, failure(error))

    for name in get_args(jobs.Task):
        register(name)
    _register_notices(app, worker.runtime)
    return app


def _register_notices(app: procrastinate.App, runtime: Runtime) -> None:
    """Sent again after 5 seconds, 25, … and at last more than four hours, then no more; see `ledger.artists.webhooks`
    for when an address hears nothing any more."""
    again = procrastinate.RetryStrategy(max_attempts=NOTICE_RETRIES, exponential_wait=5)

    @app.task(name="tell", queue=jobs.NOTICES, retry=again, pass_context=True)
    def tell(
        context: procrastinate.JobContext, about: str, artist_id: str, identity_id: str, traceparent: str | None = None
    ) -> None:
        with bound_contextvars(task="tell", record_id=about), tracing.job("tell", about, None, traceparent):
            try:
                webhooks.send(runtime, uuid.UUID(about), uuid.UUID(artist_id), uuid.UUID(identity_id))
                JOBS.labels("tell", "done").inc()
            except Unavailable as error:
                last = context.job.attempts >= NOTICE_RETRIES
                _log_failure(error, attempt=context.job.attempts + 1)
                JOBS.labels("tell", "abandoned" if last else "retried").inc()
                if not last:
                    raise


def serve(settings: Settings, stop: threading.Event) -> None:
    """The worker process: runs until `stop` is set, finishes the job in hand, and lets go of the log."""
    with (
        tracing.exported(settings, "worker"),
        open_runtime(settings) as runtime,
        exposed(settings, runtime, gpu_memory),
        sequencing(runtime) as sequencer,
    ):
        runtime.files.start()
        asyncio.run(_serve(Worker(runtime), sequencer, stop))
        if sequencer.failure is not None:
            raise sequencer.failure


async def _serve(worker: Worker, sequencer: SequencerThread, stop: threading.Event) -> None:
    app = _application(worker)
    takers = [_taker(app, jobs.QUEUE, at_once=1), _taker(app, jobs.NOTICES, at_once=NOTICES_AT_ONCE)]
    end = asyncio.Event()
    async with app.open_async():
        # They are told to end, not cancelled: while one asks the database, a cancellation may be lost.
        work = [*(taker.run() for taker in takers), _housekeeping(worker, app, end)]  # type: ignore[no-untyped-call]
        tasks = [asyncio.create_task(each) for each in work]
        await asyncio.sleep(0)  # each has begun: one that is told to end before that begins all the same
        log.info("worker_ready", profile=worker.runtime.settings.profile)
        while not stop.is_set() and not (sequencer.failure or any(each.done() for each in tasks)):  # noqa: ASYNC110 - `stop` is a thread's, set by a signal
            await asyncio.sleep(TICK)
        for taker in takers:
            taker.stop()  # type: ignore[no-untyped-call]
        end.set()
        for error in await asyncio.gather(*tasks, return_exceptions=True):
            if error is not None:  # what ended one of them ends the process, which is then restarted
                raise error


def _taker(app: procrastinate.App, queue: str, *, at_once: int) -> procrastinate.worker.Worker:
    """Does the jobs of one queue until it is told to stop; what is in hand then has `SHUTDOWN_SECONDS`."""
    return procrastinate.worker.Worker(
        app,
        queues=[queue],
        name="worker",
        concurrency=at_once,
        install_signal_handlers=False,
        fetch_job_polling_interval=1.0,
        shutdown_graceful_timeout=SHUTDOWN_SECONDS,
        delete_jobs="successful",
        update_heartbeat_interval=HEARTBEAT_SECONDS,
        stalled_worker_timeout=STALLED_SECONDS,
    )


async def _housekeeping(worker: Worker, app: procrastinate.App, end: asyncio.Event) -> None:
    """Until `end`: give jobs of dead workers to the living, enqueue what stands half-way without a job, sweep the
    store; close claims whose time is up, forget addresses that only a link was sent to."""
    next_sweep = time.monotonic() + FIRST_SWEEP_SECONDS
    while not end.is_set():
        try:
            with worker.runtime.sessions.begin() as session:
                limits.forget(session)
            if time.monotonic() >= next_sweep:
                next_sweep = time.monotonic() + SWEEP_SECONDS
                with worker.runtime.sessions.begin() as session:
                    identities.forget_expired(session, worker.runtime.clock())
                await asyncio.to_thread(replies.close_due, worker.runtime)
                await asyncio.to_thread(sweep, worker.runtime)
            for job in await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=STALLED_SECONDS):
                await app.job_manager.retry_job(job)
            now = worker.runtime.clock()
            with worker.runtime.sessions() as session:
                left = issue.unfinished(session, now - RESUME_AFTER)
                left += [(claim_id, "examine") for claim_id in deciding.waiting(session, now, RESUME_AFTER)]
            for record_id, task in left:
                try:
                    await app.configure_task(
                        name=task,
                        queue=jobs.QUEUE,
                        lock=str(record_id),
                        queueing_lock=str(record_id),
                        priority=jobs.priority(task),
                    ).defer_async(record_id=str(record_id))
                except AlreadyEnqueued:
                    continue
        except (LedgerError, sa.exc.SQLAlchemyError, procrastinate.exceptions.ConnectorException) as error:
            log.warning("housekeeping_failed", exc_info=error)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HOUSEKEEPING_SECONDS):
                await end.wait()
