-- The tables of ledger/database/tables/claims.py; what they are for is told there.

CREATE TABLE identities (
    id          uuid PRIMARY KEY,
    email       text UNIQUE,
    created_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE sign_in_links (
    token_sha256  bytea PRIMARY KEY,
    email         text NOT NULL,
    page          text,
    expires_at    timestamptz NOT NULL,
    used_at       timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT token_sha256_is_32_bytes CHECK (octet_length(token_sha256) = 32)
);
CREATE INDEX sign_in_links_email ON sign_in_links (email, created_at);

CREATE TABLE web_sessions (
    token_sha256  bytea PRIMARY KEY,
    identity_id   uuid NOT NULL REFERENCES identities (id),
    expires_at    timestamptz NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT token_sha256_is_32_bytes CHECK (octet_length(token_sha256) = 32)
);
CREATE INDEX ix_web_sessions_identity_id ON web_sessions (identity_id);

CREATE TABLE artist_pages (
    artist_id   uuid PRIMARY KEY REFERENCES artists (id),
    url         text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE control_proofs (
    identity_id  uuid NOT NULL REFERENCES identities (id),
    artist_id    uuid NOT NULL REFERENCES artists (id),
    token        text NOT NULL,
    page         text,
    verified_at  timestamptz,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (identity_id, artist_id)
);

CREATE TABLE claims (
    id           uuid PRIMARY KEY,
    kind         text NOT NULL,
    identity_id  uuid REFERENCES identities (id),
    about        uuid REFERENCES records (id),
    work_id      uuid REFERENCES works (id),
    image_key    text,
    work_key     text,
    salt         bytea,
    created_at   timestamptz NOT NULL DEFAULT now(),
    erased_at    timestamptz,
    erased_leaf  bytea,
    CONSTRAINT kind_known CHECK (kind IN ('mine', 'copies', 'style', 'unconsented')),
    CONSTRAINT salt_is_32_bytes CHECK (octet_length(salt) = 32)
);
CREATE INDEX ix_claims_identity_id ON claims (identity_id);
CREATE INDEX ix_claims_about ON claims (about);
CREATE INDEX ix_claims_work_id ON claims (work_id);
COMMENT ON COLUMN claims.image_key IS 'Storage key of an image that is no record''s.';
COMMENT ON COLUMN claims.erased_leaf IS 'The entry that says that its opening was deleted.';
COMMENT ON COLUMN claims.work_key IS 'Storage key of a work that is not in the collection.';

-- The state machine of ledger/claims/steps.py, row by row: a step names the one before it, number and state, so of two
-- that are taken at once one finds its place gone.
CREATE TABLE claim_steps (
    claim_id    uuid NOT NULL REFERENCES claims (id),
    number      smallint NOT NULL,
    previous    smallint,
    before      text,
    event       text NOT NULL,
    state       text NOT NULL,
    by_role     text NOT NULL,
    leaf_hash   bytea NOT NULL,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (claim_id, number),
    UNIQUE (claim_id, number, state),
    FOREIGN KEY (claim_id, previous, before) REFERENCES claim_steps (claim_id, number, state),
    CONSTRAINT transition_known CHECK ((coalesce(before, ''), event, state, by_role) IN (
        ('', 'open', 'opened', 'claimant'),
        ('', 'open', 'opened', 'operator'),
        ('opened', 'examine', 'examined', 'ledger'),
        ('examined', 'decide', 'decided', 'ledger'),
        ('decided', 'answer', 'answered', 'submitter'),
        ('decided', 'answer', 'answered', 'operator'),
        ('decided', 'appeal', 'appealed', 'claimant'),
        ('decided', 'appeal', 'appealed', 'submitter'),
        ('decided', 'appeal', 'appealed', 'operator'),
        ('answered', 'appeal', 'appealed', 'claimant'),
        ('answered', 'appeal', 'appealed', 'submitter'),
        ('answered', 'appeal', 'appealed', 'operator'),
        ('appealed', 'examine', 'examined', 'ledger'),
        ('decided', 'close', 'closed', 'operator'),
        ('decided', 'close', 'closed', 'ledger'),
        ('answered', 'close', 'closed', 'operator'),
        ('answered', 'close', 'closed', 'ledger'),
        ('opened', 'withdraw', 'withdrawn', 'claimant'),
        ('examined', 'withdraw', 'withdrawn', 'claimant'),
        ('decided', 'withdraw', 'withdrawn', 'claimant'),
        ('answered', 'withdraw', 'withdrawn', 'claimant'),
        ('appealed', 'withdraw', 'withdrawn', 'claimant')
    )),
    CONSTRAINT follows_the_one_before CHECK (
        (number = 0 AND previous IS NULL AND before IS NULL)
        OR (number > 0 AND previous = number - 1 AND before IS NOT NULL)
    ),
    CONSTRAINT leaf_hash_is_32_bytes CHECK (octet_length(leaf_hash) = 32)
);
CREATE UNIQUE INDEX claim_steps_one_appeal ON claim_steps (claim_id, by_role) WHERE event = 'appeal';

CREATE TABLE claim_documents (
    claim_id  uuid NOT NULL,
    number    smallint NOT NULL,
    body      bytea NOT NULL,
    PRIMARY KEY (claim_id, number),
    FOREIGN KEY (claim_id, number) REFERENCES claim_steps (claim_id, number)
);

CREATE TABLE claim_pictures (
    claim_id  uuid NOT NULL,
    number    smallint NOT NULL,
    sha256    bytea NOT NULL,
    png       bytea NOT NULL,
    PRIMARY KEY (claim_id, number, sha256),
    FOREIGN KEY (claim_id, number) REFERENCES claim_steps (claim_id, number),
    CONSTRAINT sha256_is_32_bytes CHECK (octet_length(sha256) = 32)
);
CREATE INDEX ix_claim_pictures_sha256 ON claim_pictures (sha256);
ALTER TABLE claim_pictures ALTER COLUMN png SET STORAGE EXTERNAL;

CREATE TABLE signed_claim_reports (
    claim_id    uuid NOT NULL,
    number      smallint NOT NULL,
    sha256      bytea NOT NULL,
    pdf         bytea NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (claim_id, number),
    FOREIGN KEY (claim_id, number) REFERENCES claim_steps (claim_id, number),
    CONSTRAINT sha256_is_32_bytes CHECK (octet_length(sha256) = 32)
);
ALTER TABLE signed_claim_reports ALTER COLUMN pdf SET STORAGE EXTERNAL;
