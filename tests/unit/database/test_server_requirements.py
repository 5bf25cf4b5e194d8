import pytest

from ledger.database.migrate import check_server
from ledger.errors import Unavailable


@pytest.mark.parametrize(
    ("server", "installed", "available"), [(15, "0.8.0", "0.8.0"), (18, None, "0.8.5"), (17, "0.10.1", "0.10.1")]
)
def test_postgres_15_with_pgvector_0_8_and_newer_will_do(server: int, installed: str | None, available: str) -> None:
    check_server(server, installed, available, True, where="there")


@pytest.mark.parametrize(
    ("server", "installed", "available", "has_app", "code"),
    [
        (14, "0.8.0", "0.8.0", True, "database_too_old"),
        (16, None, None, True, "vector_missing"),
        (16, None, "0.7.4", True, "vector_too_old"),
        (16, "0.7.4", "0.8.5", True, "vector_too_old"),  # the old one is the one in use
        (16, "0.8.5", "0.8.5", False, "database_role_missing"),
    ],
)
def test_a_server_that_cannot_hold_a_ledger_is_named_with_what_it_lacks(
    server: int, installed: str | None, available: str | None, has_app: bool, code: str
) -> None:
    with pytest.raises(Unavailable) as caught:
        check_server(server, installed, available, has_app, where="there")
    assert caught.value.code == code
    assert caught.value.detail.startswith("there ")
    assert caught.value.next_step
