"""The web application, put together: routes by audience, one shape of error, the same headers on everything."""

import gc
import json
import re
import socket
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
from litestar import Litestar, Request, Response, Router
from litestar.concurrency import sync_to_thread
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import HTTPException, NotFoundException
from litestar.file_system import BaseLocalFileSystem
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, License, SecurityScheme
from litestar.plugins.jinja import JinjaTemplateEngine
from litestar.static_files import create_static_files_router
from litestar.template import TemplateConfig
from litestar.types import FileInfo, PathType
from markupsafe import Markup, escape

from ledger import tracing
from ledger.log.declarations import MAX_BATCH_BYTES
from ledger.metrics import exposed
from ledger.runtime import Runtime, open_runtime
from ledger.settings import Settings
from ledger.times import day, moment
from ledger.web import (
    about,
    auditing,
    cards,
    claiming,
    desk,
    health,
    keys,
    log,
    log_page,
    pages,
    pictures,
    reading,
    record_page,
    resolving,
    sessions,
    signing_in,
    submitting,
    wording,
    works_pages,
    writing,
)
from ledger.web.guard import allowed, require_a_row_for_each
from ledger.web.headers import with_headers
from ledger.web.in_turn import Line
from ledger.web.intake import not_too_many
from ledger.web.limiting import DAY, MINUTE, RateLimit, limited, visitor
from ledger.web.observed import observed
from ledger.web.problems import answer_with_problem
from ledger.web.serving import serve_app
from ledger.web.uploads import FORM_OVERHEAD

HERE = Path(__file__).parent
# Nothing that our policy would refuse anyway: no style written by a script, no code in attributes; and no copies kept.
HTMX = json.dumps(
    {"includeIndicatorStyles": False, "allowEval": False, "allowScriptTags": False, "historyCacheSize": 0}
)
HIDDEN = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff"
    r"\ud800-\udfff\U000e0000-\U000e0fff]"
)
WARM_AFTER = 3.0
"""Seconds from the start until `_warm`."""
KEPT_SECONDS = 130
"""How long a connection without a request stays. Longer than proxies keep theirs (Caddy: two minutes), so that it is
they who close: a write sent to a connection that is just being closed is lost without an answer."""
SMALL_BODY = 2**20
"""Largest body in bytes where no file is expected."""

UPLOADING = (writing.make_stamp, writing.make_verification, pages.home, pages.ask)
OTHERS = (
    writing.make_generation,
    reading.read_generation,
    reading.read_stamp,
    reading.read_verification,
    reading.find_records,
    reading.read_record,
    reading.read_file,
    reading.read_report,
    reading.read_report_pdf,
    reading.read_evidence,
    reading.read_report_schema,
    reading.read_proof,
    reading.read_receipt,
    reading.read_log_entry,
    cards.read_card,
    log.read_checkpoint,
    log.read_integrated_checkpoint,
    log.read_tile,
    log.read_timestamp,
    log.read_policy,
    log.read_log,
    log.read_proof_by_index,
    log.read_statement_proof,
    log.read_statement_receipt,
    submitting.submit_statement,
    health.healthz,
    health.readyz,
    health.read_standing,
    keys.read_keys,
    keys.make_key,
    keys.revoke_key,
    pages.verification_page,
    record_page.find_page,
    record_page.record_page,
    pages.documentation_page,
    log_page.log_page,
    about.about_page,
    works_pages.work_page,
    works_pages.work_preview,
    works_pages.work_feed,
    works_pages.artist_page,
    works_pages.artist_feed,
    pictures.read_picture,
    claiming.list_claims,
    claiming.read_rules,
    claiming.read_claim,
    claiming.read_claim_report,
    claiming.read_claim_report_pdf,
    claiming.read_claim_evidence,
    claiming.read_claim_report_schema,
    claiming.answer_claim,
    claiming.appeal_claim,
)
FORMS = (
    signing_in.sign_in_page,
    signing_in.send_link,
    signing_in.link_page,
    signing_in.use_link,
    signing_in.sign_out,
    signing_in.account_page,
    claiming.claims_page,
    claiming.claim_page,
    claiming.withdraw_claim,
    claiming.appeal_by_claimant,
    claiming.ask_for_token,
    claiming.check_token,
    desk.desk_page,
    desk.change_grants,
    desk.change_grants_of_work,
    desk.set_webhook,
    desk.remove_webhook,
    desk.ask_for_token,
    desk.check_token,
)
"""What a signed-in browser sends, from our own pages alone."""


class _OurFiles(BaseLocalFileSystem):
    """A name that no file can have, too long or with a NUL, is that of a file that is not there."""

    async def info(self, path: PathType, **kwargs: Any) -> FileInfo:
        try:
            return await super().info(path, **kwargs)
        except (OSError, ValueError) as error:
            raise FileNotFoundError(path) from error


def create_app(settings: Settings, runtime: Runtime | None = None) -> Litestar:
    """The application of one ledger. It opens its runtime when it starts; one that is given is used and left open."""

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncGenerator[None]:
        if runtime is not None:
            app.state.runtime = runtime
            yield
            return
        opened = open_runtime(settings)
        app.state.runtime = await sync_to_thread(opened.__enter__)
        try:
            yield
        finally:
            await sync_to_thread(opened.__exit__, None, None, None)

    environment = templates()
    app = Litestar(
        route_handlers=[
            *OTHERS,
            Router("/", route_handlers=UPLOADING, request_max_body_size=settings.max_upload_bytes + FORM_OVERHEAD),
            Router("/", route_handlers=FORMS, guards=[sessions.from_our_page]),
            Router(
                "/",
                route_handlers=[claiming.new_claim_page, claiming.open_claim, desk.enrol],
                guards=[sessions.from_our_page],
                request_max_body_size=settings.max_upload_bytes + FORM_OVERHEAD,
            ),
            *resolving.routes(settings.max_upload_bytes + FORM_OVERHEAD),
            *auditing.routes(settings.audit_pages_per_minute),
            Router("/", route_handlers=[submitting.submit_batch], request_max_body_size=MAX_BATCH_BYTES),
            create_static_files_router(
                "/static", directories=[HERE / "static"], file_system=_OurFiles(), include_in_schema=False
            ),
        ],
        lifespan=[lifespan],
        state=State({"line": Line(settings.decoders)}),
        dependencies={"runtime": Provide(_runtime, sync_to_thread=False)},
        guards=[allowed],
        middleware=[limited(_looks(settings.looks_per_minute)), limited(_claims(settings))],
        exception_handlers={HTTPException: answer_with_problem, Exception: answer_with_problem},
        template_config=TemplateConfig(instance=JinjaTemplateEngine.from_environment(environment)),
        openapi_config=_openapi(),
        request_max_body_size=SMALL_BODY,
        multipart_form_part_limit=16,
        logging_config=None,
        debug=False,
    )
    require_a_row_for_each(app.routes)
    # Around the router and the exception handlers: a middleware of the framework's would not see its own 404 and 405.
    app.asgi_handler = observed(with_headers(not_too_many(app.asgi_handler, environment)))
    return app


def _looks(per_minute: int) -> RateLimit:
    """Anybody may ask for a look, and each costs the worker's time and the log an entry. A link to sign in costs a
    mail, a claim or an enrolment the decoding of a picture, a check of control and a webhook somebody else's server a
    request. A key lifts no limit.

    Counted by visitor.
    """
    return RateLimit("looks", per_minute, MINUTE, _is_limited, visitor)


async def _is_limited(request: Request[Any, Any, Any]) -> bool:
    if request.method != "POST":
        return False
    path = request.scope["path"]
    return path in {"/", "/v1/verifications", "/v1/matches/byContent", "/sign-in", "/claims/new"} or path.endswith(
        ("/control/check", "/enrolments", "/webhook")
    )


def _claims(settings: Settings) -> RateLimit:
    """Claims by the day and the address that connects: many addresses of mail are one script's. Only what carries a
    session's cookie counts, which the form of another site does not: nobody uses up what is another's."""
    cookie = sessions.cookie_name(settings)

    async def is_claim(request: Request[Any, Any, Any]) -> bool:
        return request.method == "POST" and request.url.path == "/claims/new" and cookie in request.cookies

    return RateLimit("claims", settings.claims_per_address, DAY, is_claim, visitor)


def _runtime(state: State) -> Runtime:
    return state.runtime  # type: ignore[no-any-return]


def templates() -> jinja2.Environment:
    """Everything is escaped, and a name that a template does not know is an error, not an empty place."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        each.__name__: each for each in (moment, day, probability, percent, sentence, counted, emphasised)
    }
    environment.globals |= {"words": wording, "htmx_config": HTMX}
    return environment


def visible(value: object) -> object:
    """Control characters, and those that turn or hide what stands beside them, by their number; escaping comes after.

    It sees every value that a template writes. Joiners stay: words and emoji are written with them.
    """
    if not isinstance(value, str) or isinstance(value, Markup) or value.isprintable():
        return value
    return HIDDEN.sub(lambda found: f"[U+{ord(found[0]):04X}]", value)


def probability(value: float | None) -> str:
    """A p-value in two digits; a score without one has no known error rate, and then no number is shown."""
    return "unknown" if value is None else f"{value:.2g}"


def sentence(text: str) -> str:
    """With a capital at the beginning and one full stop at the end."""
    return text[:1].upper() + text[1:].rstrip(".") + "."


def counted(number: int, what: str) -> str:
    """A number with what it counts, in the singular or the plural."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def emphasised(text: str) -> Markup:
    """Our own text, with its *emphasis*."""
    return Markup(re.sub(r"\*(\w+)\*", r"<em>\1</em>", str(escape(text))))  # noqa: S704 - escaped first


def percent(value: float) -> str:
    return "under 1 %" if 0 < value < 0.01 else f"{value * 100:.0f} %"


def _openapi() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="Lawful Ledger",
        version=version("lawful-ledger"),
        description="Whose work an image stands closest to, how sure that is, in a public log and in the file.",
        license=License(name="Apache-2.0", identifier="Apache-2.0"),
        openapi_router=Router("/schema", route_handlers=[], after_request=_no_page_of_its_own, include_in_schema=False),
        render_plugins=[JsonRenderPlugin(path="/openapi.json")],
        use_handler_docstrings=True,
        components=Components(
            security_schemes={
                "key": SecurityScheme(type="http", scheme="bearer", description="An API key of this ledger."),
                "auditor": SecurityScheme(
                    type="http", scheme="bearer", description="A token for auditors: reads only."
                ),
            }
        ),
    )


def _no_page_of_its_own(response: "Response[Any]") -> "Response[Any]":
    """The framework answers for unknown addresses below /schema with a page; ours is the same problem as elsewhere."""
    if response.status_code == 404:
        raise NotFoundException
    return response


def _warm() -> None:
    """Load what draws and signs reports, so that nobody waits a second for that; then exempt all that is loaded from
    garbage collection, each of whose full rounds would hold up every request by a tenth of a second."""
    import_module("ledger.reports.document")
    gc.collect()
    gc.freeze()


def serve(settings: Settings, listener: socket.socket, stop: threading.Event) -> None:
    """Serve on `listener` until `stop` is set, then finish what is being answered. Blocks.

    Raises whatever `open_runtime` raises, before anything is served.
    """
    warming = threading.Timer(WARM_AFTER, _warm)
    warming.daemon = True
    with (
        listener,
        tracing.exported(settings, "web"),
        open_runtime(settings) as runtime,
        exposed(settings, runtime),
    ):
        runtime.files.start()
        app = create_app(settings, runtime)
        warming.start()
        try:
            serve_app(
                app,
                listener,
                stop,
                patience=10,
                proxies=settings.proxies,
                lifespan="on",
                timeout_keep_alive=KEPT_SECONDS,
            )
        finally:
            warming.cancel()
