"""The log as C2SP tlog-tiles serves it, and what this ledger says of it: all of it public, none of it beyond what is
published.

Below `/log/<shard>/` lie the files that any C2SP client reads; `lawful log export` writes the same ones elsewhere. A
file has one address: what the request line says must be its one spelling, not only mean it.
"""

import gzip
from typing import Annotated, Any
from urllib.parse import quote

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter
from sqlalchemy.orm import Session

from ledger.errors import BadRequest, NotFound
from ledger.log import entries, tiles
from ledger.log.receipts import sign_receipt
from ledger.log.shard import query_of
from ledger.log.state import LogView, log_view, policy_in_force, policy_text, shown_head
from ledger.log.timestamps import newest_timestamp
from ledger.runtime import Runtime
from ledger.web.problems import problems

NOTE = "text/plain"  # the framework says the charset, UTF-8
TILE = "application/octet-stream"
TIMESTAMP = "application/timestamp-reply"
RECEIPT = "application/cose; cose-type=cose-sign1"

# Anybody's page may read the log; see tlog-tiles for how long what may be kept.
ANYWHERE = {"Access-Control-Allow-Origin": "*", "Cross-Origin-Resource-Policy": "cross-origin"}
FOR_A_MOMENT = ANYWHERE | {"Cache-Control": "public, max-age=1"}
FOR_EVER = ANYWHERE | {"Cache-Control": "public, max-age=31536000, immutable"}

Until = Annotated[
    entries.Fact,
    QueryParameter(description="Under the newest checkpoint of the log, or the newest that its witnesses signed."),
]
Size = Annotated[
    int | None, QueryParameter(ge=1, description="A size at which the log signed; otherwise its newest published one.")
]


@get(
    "/log/{shard:str}/checkpoint",
    sync_to_thread=True,
    tags=["Log"],
    summary="The newest checkpoint",
    response_description="A signed note.",
    media_type=NOTE,
    responses=problems(404),
)
def read_checkpoint(
    request: "Request[Any, Any, Any]", runtime: NamedDependency[Runtime], shard: FromPath[str]
) -> Response[bytes]:
    """C2SP tlog-checkpoint. Where a witness policy is set: the newest with enough cosignatures, and with them."""
    _in_its_one_spelling(request, shard, "checkpoint")
    with runtime.reading() as session:
        head = shown_head(query_of(session), shard, policy_in_force(runtime.settings.witness_policy))
    return Response(head.note, media_type=NOTE, headers=FOR_A_MOMENT)


@get(
    "/log/{shard:str}/checkpoint/integrated",
    sync_to_thread=True,
    tags=["Log"],
    summary="The newest checkpoint, whoever has seen it",
    response_description="A signed note.",
    media_type=NOTE,
    responses=problems(404),
)
def read_integrated_checkpoint(
    request: "Request[Any, Any, Any]", runtime: NamedDependency[Runtime], shard: FromPath[str]
) -> Response[bytes]:
    """On the log's word alone: it carries no witness's signature."""
    _in_its_one_spelling(request, shard, "checkpoint/integrated")
    with runtime.reading() as session:
        head = tiles.integrated_head(query_of(session), shard)
    return Response(head.note, media_type=NOTE, headers=FOR_A_MOMENT)


@get(
    "/log/{shard:str}/tile/{path:path}",
    sync_to_thread=True,
    tags=["Log"],
    summary="A tile of hashes, or a bundle of entries",
    response_description="Hashes of 32 bytes; or entries, each after its length in two bytes.",
    media_type=TILE,
    responses=problems(404),
)
def read_tile(
    request: "Request[Any, Any, Any]", runtime: NamedDependency[Runtime], shard: FromPath[str], path: FromPath[str]
) -> Response[bytes]:
    """C2SP tlog-tiles: tile/L/N, tile/entries/N, and with .p/W their first W; never beyond what is published."""
    tile = tiles.TilePath.parse(path.removeprefix("/"))
    _in_its_one_spelling(request, shard, str(tile))
    with runtime.reading() as session:
        body = tiles.read(query_of(session), shard, tile)
    if not tile.entries:
        return Response(body, media_type=TILE, headers=FOR_EVER)
    headers = FOR_EVER | {"Vary": "Accept-Encoding"}
    if _takes_gzip(request):
        body, headers = gzip.compress(body, 4, mtime=0), headers | {"Content-Encoding": "gzip"}
    return Response(body, media_type=TILE, headers=headers)


@get(
    "/log/{shard:str}/timestamp",
    sync_to_thread=True,
    tags=["Log"],
    summary="An outsider's word on the time of a checkpoint",
    response_description="The timestamp.",
    media_type=TIMESTAMP,
    responses=problems(404),
)
def read_timestamp(
    request: "Request[Any, Any, Any]", runtime: NamedDependency[Runtime], shard: FromPath[str]
) -> Response[bytes]:
    """An RFC 3161 response over SHA-256 of a checkpoint's text. Its Link header leads to that checkpoint in a proof."""
    _in_its_one_spelling(request, shard, "timestamp")
    with runtime.reading() as session:
        found = newest_timestamp(query_of(session), shard)
    if found is None:
        raise NotFound(
            f"no checkpoint of the log {shard!r} was stamped",
            code="timestamp_missing",
            next_step="an operator who wants them sets LAWFUL_TSA_URL; the log is as good without",
        )
    size, token = found
    link = f'</v1/log/proofs/0?size={size}>; rel="describes"; type="text/plain"'
    return Response(token, media_type=TIMESTAMP, headers=FOR_A_MOMENT | {"Link": link})


@get(
    "/log/policy",
    sync_to_thread=True,
    tags=["Log"],
    summary="Whom this log asks to watch it",
    response_description="The policy, as text.",
    media_type=NOTE,
    responses=problems(),
)
def read_policy(runtime: NamedDependency[Runtime]) -> Response[str]:
    """C2SP tlog-policy: the log's key and address, its witnesses and how many count. Trust keys you chose yourself."""
    text = policy_text(runtime.settings.witness_policy, runtime.keys.log.vkey, log_url(runtime))
    return Response(text, media_type=NOTE, headers=FOR_A_MOMENT)


@get(
    "/v1/log",
    sync_to_thread=True,
    tags=["Log"],
    summary="How the log stands",
    response_description="Origin, keys and sizes.",
    responses=problems(404),
)
def read_log(runtime: NamedDependency[Runtime]) -> Response[LogView]:
    """What is integrated and what is witnessed are two facts. Keys are announced by entries, which prove them."""
    with runtime.reading() as session:
        policy = policy_in_force(runtime.settings.witness_policy)
        return Response(log_view(query_of(session), runtime.shard, log_url(runtime), policy), headers=FOR_A_MOMENT)


@get(
    "/v1/log/proofs/{index:int}",
    sync_to_thread=True,
    tags=["Log"],
    summary="The proof of one entry by its index",
    response_description="The proof, as text.",
    media_type=NOTE,
    responses=problems(404, 422),
)
def read_proof_by_index(runtime: NamedDependency[Runtime], index: FromPath[int], size: Size = None) -> Response[bytes]:
    """A C2SP tlog-proof under the newest published checkpoint, or the one of `size`."""
    with runtime.reading() as session:
        proof = entries.proof_by_index(session, runtime.shard, index, size)
    return Response(proof, media_type=NOTE, headers=ANYWHERE)


@get(
    "/v1/statements/{leaf_hash:str}/proof",
    sync_to_thread=True,
    tags=["Log"],
    summary="The proof of one entry by its leaf hash",
    response_description="The proof, as text.",
    media_type=NOTE,
    responses=problems(404, 422),
)
def read_statement_proof(
    runtime: NamedDependency[Runtime], leaf_hash: FromPath[str], until: Until = "integrated"
) -> Response[bytes]:
    """A C2SP tlog-proof of the entry with this leaf hash, SHA-256(0x00 ‖ entry) in hex."""
    with runtime.reading() as session:
        return proof_answer(session, runtime.shard, _leaf(leaf_hash), until)


@get(
    "/v1/statements/{leaf_hash:str}/receipt",
    sync_to_thread=True,
    tags=["Log"],
    summary="The COSE receipt of one entry by its leaf hash",
    response_description="The receipt.",
    media_type=RECEIPT,
    responses=problems(404),
)
def read_statement_receipt(runtime: NamedDependency[Runtime], leaf_hash: FromPath[str]) -> Response[bytes]:
    """A receipt of RFC 9942 from the same tree. Its Link header names the tlog-proof under the same checkpoint."""
    with runtime.reading() as session:
        return receipt_answer(session, runtime, runtime.shard, _leaf(leaf_hash))


def proof_answer(session: Session, shard: str, leaf: bytes, until: str) -> Response[bytes]:
    """A tlog-proof of the entry with this leaf hash. Raises NotFound."""
    proof = entries.proof(session, shard, leaf, witnessed=until == "witnessed")
    return Response(proof, media_type=NOTE, headers=ANYWHERE)


def receipt_answer(session: Session, runtime: Runtime, shard: str, leaf: bytes) -> Response[bytes]:
    """A receipt of the entry with this leaf hash. It speaks for the root alone, so it comes with the address of a proof
    under the same checkpoint, which others may have seen. Raises NotFound."""
    found = entries.inclusion(session, shard, leaf)
    size, root = found.head.size, found.head.root
    receipt = sign_receipt(found.index, size, found.path, root, runtime.keys.receipts, runtime.settings.origin)
    link = f'</v1/log/proofs/{found.index}?size={size}>; rel="alternate"; type="text/plain"'
    return Response(receipt, media_type=RECEIPT, headers=ANYWHERE | {"Link": link})


def log_url(runtime: Runtime) -> str:
    """The log's prefix, as tlog-tiles calls it."""
    return f"{runtime.settings.public_url.rstrip('/')}/log/{quote(runtime.shard, safe='')}"


def _leaf(text: str) -> bytes:
    try:
        leaf = bytes.fromhex(text)
    except ValueError:
        leaf = b""
    if len(leaf) != 32 or leaf.hex() != text:
        raise BadRequest(
            f"leaf hash: {len(text)} characters; 64 lower-case hex digits are wanted",
            code="leaf_hash_malformed",
            next_step="send SHA-256(0x00 ‖ entry) in hex",
        )
    return leaf


def _in_its_one_spelling(request: "Request[Any, Any, Any]", shard: str, path: str) -> None:
    """The router forgives %2f for a slash, doubled slashes and one at the end; caches would keep each apart."""
    raw = request.scope["raw_path"].partition(b"?")[0].decode("latin-1")
    if raw != f"{request.scope['root_path']}/log/{quote(shard, safe='')}/{path}":
        raise NotFound(
            "this address is written in another way", code="tile_unknown", next_step="write it as tlog-tiles does"
        )
    if "\0" in shard:  # which Postgres takes for no text at all
        raise tiles.no_log(shard)


def _takes_gzip(request: "Request[Any, Any, Any]") -> bool:
    for part in request.headers.get("accept-encoding", "").lower().split(","):
        name, _, quality = part.replace(" ", "").partition(";")
        if name == "gzip":
            return quality.rstrip("0.") != "q="
    return False
