import sqlalchemy as sa

from ledger.database.session import Database


def test_a_clean_database_is_migrated_and_empty(database: Database) -> None:
    with database.sessions() as session:
        assert session.execute(sa.text("SELECT count(*) FROM records")).scalar() == 0
