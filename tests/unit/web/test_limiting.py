"""For whom a request is counted."""

import pytest
from litestar.testing import RequestFactory

from ledger.web.limiting import visitor


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("::1", "::/64"),
        ("a unix socket", "a unix socket"),
    ],
)
def test_an_address_of_ipv6_counts_as_the_network_that_is_given_out_whole(address: str, counted: str) -> None:
    request = RequestFactory().get("/")
    request.scope["client"] = (address, 1)
    assert visitor(request) == counted


def test_who_has_no_address_counts_as_this_machine() -> None:
    request = RequestFactory().get("/")
    request.scope["client"] = None
    assert visitor(request) == "127.0.0.1"
