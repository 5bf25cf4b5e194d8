"""HTTP bodies, forms and JSON, through the whole application over a founded ledger; any answer but a 500 will do."""

import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from litestar.testing import TestClient

from benchmarks.fuzz.files import drawn
from benchmarks.fuzz.mutation import value
from benchmarks.fuzz.parsers import ENTRY
from benchmarks.fuzz.target import Target
from benchmarks.measuring import throwaway_ledger
from ledger import jobs
from ledger.api_keys import new_key
from ledger.database.tables.principals import Principal
from ledger.web.app import create_app

FORM = {"content-type": "multipart/form-data; boundary=x"}
WISH = b'{"prompt": "a boat", "seed": 3, "steps": 2, "width": 64, "height": 64, "guidance": 7.5}'
BINDING = b'{"alg": "io.iscc.v0", "value": "SVNDQzpFRURXWFJLVlpTSEFYT1NR"}'


class Broken(Exception):
    """An answer that the application does not mean to give."""


@contextmanager
def http_targets() -> Iterator[dict[str, Target]]:
    jobs.MOST_WAITING = 10**9  # nobody does them here
    with throwaway_ledger(looks_per_minute=10**9) as runtime:
        with runtime.sessions.begin() as session:
            _, key = new_key(session, session.scalars(sa.select(Principal.id)).one(), "fuzz")
        app = create_app(runtime.settings, runtime)
        with TestClient(app, raise_server_exceptions=False) as client:
            client.headers["authorization"] = f"Bearer {key}"

            def send(path: str, **headers: str) -> Callable[[bytes], None]:
                headers = {name.replace("_", "-"): text for name, text in headers.items()}

                def post(body: bytes) -> None:
                    answer = client.post(path, content=body, headers=headers, follow_redirects=False)
                    if answer.status_code >= 500:
                        raise Broken(f"{answer.status_code}: {answer.text[:200]}")
                    if answer.status_code >= 400 and not answer.json()["next_step"]:
                        raise Broken(f"{answer.status_code} without a next step")

                return post

            picture, stamp = form(drawn(random.Random(0))), form(drawn(random.Random(1)), model="m", prompt="p")
            bare = drawn(random.Random(2))
            as_json = {"content_type": "application/json"}
            multipart = {"content_type": FORM["content-type"], "accept": "application/json"}
            yield {
                "generation": Target(send("/v1/generations", **as_json), (), [WISH], _json),
                "soft binding query": Target(send("/v1/matches/byBinding", **as_json), (), [BINDING], _json),
                "stamp": Target(send("/v1/stamps", **multipart), (), [stamp], _form),
                "look": Target(send("/v1/verifications", **multipart), (), [picture], _form),
                "bare look": Target(send("/v1/verifications", content_type="image/png"), (), [bare], drawn),
                "query by content": Target(send("/v1/matches/byContent", **multipart), (), [picture], _form),
                "statements": Target(send("/v1/statements", content_type="application/cose"), (), [ENTRY]),
            }


def form(image: bytes, **fields: str) -> bytes:
    parts = [(f'name="{name}"', text.encode()) for name, text in fields.items()]
    parts.append(('name="file"; filename="a.png"\r\nContent-Type: image/png', image))
    body = b"".join(b"--x\r\nContent-Disposition: form-data; %s\r\n\r\n%s\r\n" % (a.encode(), b) for a, b in parts)
    return body + b"--x--\r\n"


def _form(draw: random.Random) -> bytes:
    return form(drawn(draw), **{draw.choice(("model", "prompt", "x")): "a" for _ in range(draw.randrange(3))})


def _json(draw: random.Random) -> bytes:
    return json.dumps(value(draw)).encode()
