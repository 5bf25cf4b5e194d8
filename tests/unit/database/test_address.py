import pytest
from psycopg.conninfo import conninfo_to_dict

from ledger.database.address import Address
from ledger.errors import Unavailable

URL = "postgresql://lawful_app:s3cret@db.example:6432/ledger?sslmode=require"


def test_an_address_shows_everything_but_its_password() -> None:
    address = Address.parse(URL, setting="LAWFUL_DATABASE_URL")
    assert address.name == "ledger at db.example:6432 as lawful_app"
    assert "s3cret" not in f"{address}{address!r}"
    assert conninfo_to_dict(address.conninfo)["password"] == "s3cret"


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_the_usual_schemes_mean_the_same(scheme: str) -> None:
    address = Address.parse(URL.replace("postgresql", scheme), setting="LAWFUL_DATABASE_URL")
    assert address == Address.parse(URL, setting="LAWFUL_DATABASE_URL")


def test_the_service_has_timeouts_and_keeps_the_operators_options() -> None:
    address = Address.parse(f"{URL}&options=-c%20work_mem%3D64MB&connect_timeout=3", setting="LAWFUL_DATABASE_URL")
    parameters = conninfo_to_dict(address.conninfo)
    assert "statement_timeout=" in str(parameters["options"])
    assert str(parameters["options"]).endswith("-c work_mem=64MB")
    assert parameters["connect_timeout"] == "3"
    assert parameters["application_name"] == "lawful-ledger"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://lawful_app:pa/s3cret@host/db",
        "postgresql://lawful_app:pa@s3cret@host/db",
        "postgresql://lawful_app:pa%s3cret@host/db",
        "postgresql://lawful_app:s3cret@host:port/db",
        "postgresql://:s3cret@host/db",
        "postgresql://host/s3cret",
        "postgresql://lawful_app:s3cret@host/db?nonsense=1",
        "mysql://lawful_app:s3cret@host/db",
        "host=x password=s3cret",
        "s3cret",
        "",
    ],
)
def test_a_malformed_url_is_refused_without_being_quoted(url: str) -> None:
    with pytest.raises(Unavailable) as caught:
        Address.parse(url, setting="LAWFUL_DATABASE_URL")
    assert caught.value.code == "database_url_invalid"
    assert "LAWFUL_DATABASE_URL" in caught.value.detail
    assert "s3cret" not in f"{caught.value.detail}{caught.value.next_step}"
    assert caught.value.__suppress_context__


def test_nobody_listening_is_a_database_that_is_down() -> None:
    with pytest.raises(Unavailable) as caught:
        Address.parse("postgresql://lawful_app:s3cret@127.0.0.1:1/db", setting="LAWFUL_DATABASE_URL").connect()
    assert caught.value.code == "database_down"
    assert "refused" in caught.value.detail
    assert "s3cret" not in caught.value.detail
