"""`lawful embed`: look at a collection before it is indexed, on one machine or on many."""

import click
import rich_click

from ledger import lab
from ledger.commands.frame import Invocation, answer_json, err, json_option, out, resume_with, shown, terms_options
from ledger.commands.progress import Stages
from ledger.errors import BadRequest
from ledger.sources import Grants


@rich_click.command(epilog="Example: lawful embed ./paintings ./embeddings --licence CC0-1.0")
@click.argument("source")
@click.argument("output")
@rich_click.option("--ray", metavar="ADDRESS", help="Spread it over a Ray cluster; `local`: over this machine's cores.")
@terms_options
@json_option
@click.pass_obj
def embed(
    invocation: Invocation,
    source: str,
    output: str,
    ray: str | None,
    licence: str,
    train: bool,
    compare: bool,
    name: bool,
    as_json: bool,
) -> None:
    """Look at the works in SOURCE with the encoders of the profile, and write what they see to the folder OUTPUT.

    SOURCE is what `lawful index` takes, or Parquet files with the columns image and artist, or tar files (WebDataset),
    or a folder of those; Parquet and tar files, and OUTPUT, may be s3://BUCKET/FOLDER. `lawful index --embedded OUTPUT`
    puts the result into a collection. Needs no ledger. The same command again does only what is missing: a work, one
    file under one artist, is looked at once. Give the folder to one run at a time.
    """
    from ledger.embedding import parts, sources, steps
    from ledger.embedding.on_ray import on_ray

    settings = invocation.settings()
    limit, open_embedder = settings.max_upload_bytes, lab.opener(settings)
    place = parts.located(output)
    terms = sources.Terms(licence, Grants(train=train, compare=compare, name=name))
    shards, bad = sources.shards(source, terms)
    total = steps.Written(bad=bad)
    resume_with("every finished file is kept; the same command again goes on from there")
    with Stages() as stages:
        stages.show("works", 0, None)
        if ray is None:
            parts_done = steps.in_process(shards, place, limit, open_embedder())
        else:
            parts_done = on_ray(shards, place, limit, open_embedder, ray)
        for each in parts_done:
            total.add(each)
            stages.show("works", total.met, None)
    if not total.embedded and not total.known:
        raise BadRequest(
            f"no work could be looked at: {len(total.bad)} files are unusable"
            + (f", the first because {total.bad[0].detail}" if total.bad else ""),
            code="source_empty",
            next_step="give PNG, JPEG or WebP files in a subfolder per artist, or Parquet or tar files of them",
        )
    if as_json:
        answer_json({"folder": output, "written": total})
        return
    for bad_one in total.bad:
        err().print(f"passed over {shown(bad_one.path)}: {shown(bad_one.detail)} [{bad_one.code}]")
    out().print(
        f"{shown(output)}: {total.embedded} looked at, {total.known} known, {len(total.bad)} passed over",
        soft_wrap=True,
    )
