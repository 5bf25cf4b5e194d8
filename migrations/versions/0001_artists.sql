-- The tables of ledger/database/tables/artists.py; what they are for is told there.

CREATE TABLE artist_links (
    identity_id  uuid NOT NULL REFERENCES identities (id),
    artist_id    uuid NOT NULL REFERENCES artists (id),
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (identity_id, artist_id)
);

CREATE TABLE artist_webhooks (
    identity_id  uuid NOT NULL REFERENCES identities (id),
    artist_id    uuid NOT NULL REFERENCES artists (id),
    url          text NOT NULL,
    secret       bytea NOT NULL,
    failures     integer NOT NULL,
    off_at       timestamptz,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (identity_id, artist_id),
    CONSTRAINT secret_is_32_bytes CHECK (octet_length(secret) = 32)
);
CREATE INDEX ix_artist_webhooks_artist_id ON artist_webhooks (artist_id);

CREATE TABLE enrolments (
    id             uuid PRIMARY KEY,
    identity_id    uuid NOT NULL REFERENCES identities (id),
    artist_id      uuid NOT NULL REFERENCES artists (id),
    title          text NOT NULL,
    licence        text NOT NULL,
    grant_train    boolean NOT NULL,
    grant_compare  boolean NOT NULL,
    grant_name     boolean NOT NULL,
    file_key       text,
    state          text NOT NULL,
    refusal        text,
    work_id        uuid REFERENCES works (id),
    created_at     timestamptz NOT NULL,
    CONSTRAINT state_known CHECK (state IN ('waiting', 'enrolled', 'refused'))
);
CREATE INDEX ix_enrolments_identity_id ON enrolments (identity_id);
CREATE INDEX enrolments_of_artist ON enrolments (artist_id, created_at);
COMMENT ON COLUMN enrolments.file_key IS 'Storage key of the picture while it waits.';
COMMENT ON COLUMN enrolments.refusal IS 'Why it was refused, as its sender is told.';
