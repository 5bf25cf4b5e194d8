"""No page of somebody else's makes a signed-in browser do anything here, whichever address it sends its form to."""

import pytest

from ledger.claims import identities
from ledger.runtime import Runtime
from ledger.web.access import ACCESS
from ledger.web.sessions import cookie_name

from ..integration.audited import artist  # noqa: TID252 - tests are no package
from ..integration.claiming import claimed, somebody  # noqa: TID252
from ..integration.desks import link  # noqa: TID252
from ..integration.http_ledger import png, serving, stamped  # noqa: TID252

pytestmark = pytest.mark.postgres

EMAIL = "jane@example.org"
STRANGE = (
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"origin": "https://evil.example.org"},
    {"origin": "null"},
)


def test_every_address_that_a_cookie_opens_refuses_a_form_of_another_site(runtime: Runtime) -> None:
    """As the very person whom it would let in otherwise. What is left takes no cookie: the API, and anybody's look."""
    person = somebody(runtime, EMAIL)
    claim = claimed(runtime, person, about=stamped(runtime, png(2)), work=png(5))
    ada = artist(runtime, "Ada", named=True)
    link(runtime, ada, person)
    writing = [path for method, path in ACCESS if method not in {"GET", "HEAD"} and not path.startswith("/v1/")]
    writing.remove("/")
    assert len(writing) > 12
    cookie = _cookie(runtime)
    with serving(runtime) as client:
        for path in writing:
            address = path.replace("{claim_id}", str(claim)).replace("{artist_id}", str(ada))
            address = address.replace("{work_id}", str(ada)).replace("{token}", "x")
            for strange in STRANGE:
                answer = client.post(address, headers=strange | {"cookie": cookie}, data={"words": "x"})
                assert (answer.status_code, answer.json()["code"]) == (403, "form_refused"), address


def test_the_api_knows_no_cookie(runtime: Runtime) -> None:
    cookie = _cookie(runtime)
    with serving(runtime) as client:
        for method, path in ACCESS:
            if path.startswith("/v1/") and not ACCESS[method, path].public:
                answer = client.request(method, path.replace("{key_id}", "x"), headers={"cookie": cookie})
                assert answer.status_code in {401, 404}, path


def _cookie(runtime: Runtime) -> str:
    with runtime.sessions.begin() as session:
        token = identities.new_link(session, EMAIL, runtime.clock())
        return f"{cookie_name(runtime.settings)}={identities.sign_in(session, token, runtime.clock())}"
