#!/bin/sh
# Runs once, when the database is made: the two roles of docs/decisions/0004-embedded-postgres.md and pgvector.
set -eu
psql -v ON_ERROR_STOP=1 -v owner="$LAWFUL_OWNER_PASSWORD" -v app="$LAWFUL_APP_PASSWORD" \
  --username "${POSTGRES_USER:-postgres}" --dbname "$POSTGRES_DB" <<'SQL'
CREATE ROLE lawful_owner LOGIN PASSWORD :'owner';
CREATE ROLE lawful_app LOGIN PASSWORD :'app';
SELECT format('ALTER DATABASE %I OWNER TO lawful_owner', current_database()) \gexec
CREATE EXTENSION vector;
SQL
