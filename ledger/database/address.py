"""Where a Postgres is and as whom: parsed once, shown without its password, connected to with clear errors."""

import re
from dataclasses import dataclass, field

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ledger.errors import Unavailable

# Milliseconds. A statement of the service that takes longer is a fault; so is a transaction left open.
TIMEOUTS = "-c statement_timeout=60000 -c idle_in_transaction_session_timeout=600000"


@dataclass(frozen=True)
class Address:
    """A database as one role. `str()` and `repr()` leave the password out."""

    name: str
    parameters: dict[str, str] = field(repr=False)

    @classmethod
    def parse(cls, url: str, *, setting: str) -> "Address":
        """Reads a libpq URL; SQLAlchemy's `postgresql+psycopg://` is taken too.

        Raises Unavailable (`database_url_invalid`). It never quotes the URL: an unescaped password ends up in any part.
        """
        try:
            scheme, _, rest = url.partition("://")
            if scheme not in ("postgresql", "postgres", "postgresql+psycopg"):
                raise ValueError("scheme")
            given = {key: str(value) for key, value in conninfo_to_dict(f"postgresql://{rest}").items()}
            host, port, user = given.get("host", ""), given.get("port", "5432"), given.get("user", "")
            if not user or "@" in host or not re.fullmatch(r"[0-9]{1,5}(,[0-9]{1,5})*", port):
                raise ValueError("part")
        except (ValueError, psycopg.ProgrammingError):
            raise Unavailable(
                f"{setting} is not a Postgres URL with a role in it",
                code="database_url_invalid",
                next_step=f"Write {setting} as postgresql://role:password@host:5432/database, with @ : / ? # % in the"
                " password percent-encoded.",
            ) from None
        return cls(f"{given.get('dbname', user)} at {host or 'the local socket'}:{port} as {user}", given)

    @property
    def conninfo(self) -> str:
        """The connection string, password included, with the service's timeouts."""
        options = f"{TIMEOUTS} {self.parameters.get('options', '')}".strip()
        defaults = {"connect_timeout": "10", "application_name": "lawful-ledger"}
        return make_conninfo(**{**defaults, **self.parameters, "options": options})

    def connect(self) -> psycopg.Connection:
        """Raises Unavailable: `database_down`, `database_password`, `database_role_missing`, `database_missing`."""
        try:
            return psycopg.connect(self.conninfo)
        except psycopg.OperationalError as error:
            raise self._unavailable(str(error)) from None  # libpq's own text may hold more than it should

    def _unavailable(self, told: str) -> Unavailable:
        """Refusals have no SQLSTATE on this side of libpq, only words; in another language they read as down."""
        if re.search(r"password authentication failed|no password supplied", told):
            return Unavailable(
                f"the password for {self.name} was refused",
                code="database_password",
                next_step="Correct the password in LAWFUL_DATABASE_URL or LAWFUL_DATABASE_OWNER_URL.",
            )
        role = self.parameters["user"]
        if re.search(r'role ".*" does not exist|is not permitted to log in', told):
            return Unavailable(
                f"there is no role to log in with for {self.name}",
                code="database_role_missing",
                next_step=f"As a superuser run: CREATE ROLE {role} LOGIN PASSWORD '…'.",
            )
        if re.search(r'database ".*" does not exist', told):
            return Unavailable(
                f"there is no database {self.name}",
                code="database_missing",
                next_step="As a superuser run: CREATE DATABASE … OWNER lawful_owner.",
            )
        return Unavailable(
            f"no connection to {self.name}: {_reason(told, self.parameters.get('password', ''))}",
            code="database_down",
            next_step="See that Postgres runs and that this machine reaches it, then try again.",
        )


def _reason(told: str, password: str) -> str:
    first = told.strip().splitlines()[0] if told.strip() else "no message"
    first = first.rpartition(" failed: ")[2]
    return first.replace(password, "…") if password else first
