"""`lawful index`, `lawful generate` and `lawful stamp`: what puts images into the ledger."""

import uuid
from pathlib import Path
from typing import Any

import click
import msgspec
import rich_click
from click.core import ParameterSource

from attribution.evidence import Evidence
from ledger import catalog, issue, lookup
from ledger.commands.files import check_writable, read_image, write_whole
from ledger.commands.frame import Invocation, answer_json, err, json_option, out, resume_with, shown, terms_options
from ledger.commands.progress import Stages
from ledger.commands.work import do, founded, logged, operator
from ledger.errors import BadRequest
from ledger.lookup import RecordView
from ledger.runtime import Runtime
from ledger.sources import Grants

MOST_WORDS = 10

_timeout = rich_click.option(
    "--timeout", type=click.FloatRange(min=1), default=600.0, show_default=True, help="Seconds to wait."
)
_output = rich_click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Where the finished file goes."
)
_force = rich_click.option("--force", is_flag=True, help="Replace the output file if it exists.")
_again = rich_click.option(
    "--idempotency-key", help="Your name for this request: asked again with it, the work is done once."
)


@rich_click.command(epilog="Example: lawful index ./paintings --licence CC0-1.0")
@click.argument("source")
@rich_click.option("--collection", help="Name of the collection; unset: the source's own name.")
@rich_click.option(
    "--embedded", is_flag=True, help="SOURCE is a folder that `lawful embed` wrote: nothing is looked at again."
)
@terms_options
@json_option
@click.pass_obj
def index(
    invocation: Invocation,
    source: str,
    collection: str | None,
    embedded: bool,
    licence: str,
    train: bool,
    compare: bool,
    name: bool,
    as_json: bool,
) -> None:
    """Add the works in SOURCE to a collection, and freeze a snapshot of it.

    SOURCE is a folder with one subfolder per artist, or a CSV or Parquet file with the columns path and artist (and, if
    wanted, title, licence, train, compare, name), or with --embedded what `lawful embed` wrote, in which licences and
    grants stand already. A file that cannot be read is listed and passed over. What is done
    stays when the run is cut off; the same command again adds only what is new.
    """
    from ledger.examiner import Examiner

    settings = invocation.settings()
    path = Path(source)
    called = collection or (path.resolve().name if path.is_dir() else path.stem)
    if embedded and any(_was_typed(option) for option in ("licence", "train", "compare", "name")):
        raise BadRequest(
            "licence and grants stand in the rows that `lawful embed` wrote",
            code="terms_stated_before",
            next_step="leave these options out; `lawful grant` changes a grant afterwards",
        )
    with founded(settings) as runtime, logged(runtime), Stages() as stages:
        resume_with("every finished batch is kept; the same command again goes on from there")
        stages.show("works", 0, None)  # the networks are loaded first
        examiner = Examiner(runtime)

        def progress(each: catalog.Progress) -> None:
            stages.show("works", each.done, each.total, at=each.name)

        if embedded:
            indexed = catalog.index_embedded(runtime, source, collection=called, embedder=examiner, progress=progress)
        else:
            grants = Grants(train=train, compare=compare, name=name)
            indexed = catalog.index(
                runtime, path, collection=called, licence=licence, grants=grants, embedder=examiner, progress=progress
            )
    if as_json:
        answer_json(indexed)
        return
    for bad in indexed.bad:
        err().print(f"passed over {shown(bad.path)}: {shown(bad.detail)} [{bad.code}]")
    console = out()
    console.print(
        f"{shown(indexed.collection)}: {indexed.added} added, {indexed.known} known, {len(indexed.bad)} passed over,"
        f" of {indexed.found} found",
        soft_wrap=True,
    )
    console.print(f"snapshot {indexed.snapshot}: {indexed.works} works by {indexed.artists} artists", soft_wrap=True)


def _was_typed(option: str) -> bool:
    return click.get_current_context().get_parameter_source(option) is ParameterSource.COMMANDLINE


@rich_click.command(epilog='Example: lawful generate "a heron at dusk" -o heron.png')
@click.argument("prompt")
@_output
@rich_click.option("--seed", type=click.IntRange(0, 2**53 - 1), help="Same seed, same image; unset: a random one.")
@rich_click.option("--steps", type=click.IntRange(min=1), help="Denoising steps; unset: the generator's own.")
@rich_click.option("--guidance", type=click.FloatRange(min=0), help="Guidance scale; unset: the generator's own.")
@rich_click.option("--width", type=click.IntRange(min=16), help="Pixels; unset: the generator's own.")
@rich_click.option("--height", type=click.IntRange(min=16), help="Pixels; unset: the generator's own.")
@_again
@_timeout
@_force
@json_option
@click.pass_obj
def generate(
    invocation: Invocation,
    /,
    prompt: str,
    output: Path,
    seed: int | None,
    idempotency_key: str | None,
    timeout: float,
    force: bool,
    as_json: bool,
    **parameters: Any,
) -> None:
    """Make an image from PROMPT, record it, and write the PNG with its credential to the output file."""
    settings = invocation.settings()
    check_writable(output, force=force)
    key = idempotency_key or str(uuid.uuid4())
    with founded(settings) as runtime:
        with runtime.sessions.begin() as session:
            record_id = issue.accept_generation(
                session,
                principal_id=operator(session),
                prompt=prompt,
                seed=seed,
                parameters=parameters,
                idempotency_key=key,
                max_prompt_chars=settings.max_prompt_chars,
            )
        resume_with(f"record {record_id} is kept; the same command with --idempotency-key {shown(key)} finishes it")
        do(runtime, "generate", record_id, timeout)
        _hand_over(runtime, record_id, output, force, as_json)


@rich_click.command(epilog="Example: lawful stamp picture.png -o stamped.png --model my-model")
@click.argument("file", type=click.Path(path_type=Path))
@_output
@rich_click.option("--model", help="What made it, as you declare it.")
@rich_click.option("--prompt", help="The prompt, if the ledger may keep it.")
@_again
@_timeout
@_force
@json_option
@click.pass_obj
def stamp(
    invocation: Invocation,
    file: Path,
    output: Path,
    model: str | None,
    prompt: str | None,
    idempotency_key: str | None,
    timeout: float,
    force: bool,
    as_json: bool,
) -> None:
    """Record an image made elsewhere, and write it with a credential to the output file.

    The ledger vouches for what it saw and when, not for how the image was made. A credential the file has is kept as
    the new one's parent.
    """
    settings = invocation.settings()
    check_writable(output, force=force)
    data = read_image(file, settings.max_upload_bytes)
    key = idempotency_key or str(uuid.uuid4())
    with founded(settings) as runtime:
        image = runtime.files.decode(data)
        with runtime.sessions.begin() as session:
            record_id = issue.accept_stamp(
                session,
                runtime,
                principal_id=operator(session),
                image=data,
                media_type=image.media_type,
                declared_model=model,
                prompt=prompt,
                prompt_commitment=None,
                idempotency_key=key,
            )
        resume_with(f"record {record_id} is kept; the same command with --idempotency-key {shown(key)} finishes it")
        do(runtime, "stamp", record_id, timeout)
        _hand_over(runtime, record_id, output, force, as_json)


def _hand_over(runtime: Runtime, record_id: uuid.UUID, output: Path, force: bool, as_json: bool) -> None:
    """Write the issued file where the user wants it, and say what it is."""
    with runtime.sessions() as session:
        key, _ = lookup.file_key(session, record_id)
        record = lookup.for_its_owner(session, record_id)
        evidence = msgspec.convert(msgspec.json.decode(lookup.report(session, record_id))["evidence"], Evidence)
    write_whole(output, runtime.storage.get(key), force=force)
    page = f"{runtime.settings.public_url}/r/{record.file_sha256}"
    if as_json:
        gate, found = msgspec.to_builtins(evidence.gate), msgspec.to_builtins(evidence.findings)
        answer_json(
            {
                "file": str(output),
                "page": page,
                "record": msgspec.to_builtins(record),
                "statement": evidence.statement,
                "findings": found,
                "gate": gate,
            }
        )
        return
    out().print(f"{shown(output)}  {_said(record)}", soft_wrap=True)
    out().print(f"record {record.id}\npage   {page}", soft_wrap=True)
    out().print(shown(evidence.statement), soft_wrap=True)
    if record.unknown_words:
        err().print(f"warning: {_outside(record.unknown_words)}", soft_wrap=True)
    if evidence.gate is not None and evidence.gate.decision == "warn":
        err().print(f"warning: {shown(evidence.gate.text)} ({', '.join(evidence.gate.reasons)})", soft_wrap=True)


def _outside(words: list[str]) -> str:
    named = ", ".join(shown(word) for word in words[:MOST_WORDS])
    more = f" and {len(words) - MOST_WORDS} more" if len(words) > MOST_WORDS else ""
    return f"the generator never learned {named}{more}; what it drew for that is left to chance"


def _said(record: RecordView) -> str:
    place = f"entry {record.log.index} of {record.log.origin}" if record.log else "on its way into the log"
    return f"{record.width} x {record.height} pixels, {place}"
