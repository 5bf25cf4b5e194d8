-- The tables of ledger/database/tables/; what they are for is told there.

CREATE EXTENSION IF NOT EXISTS vector;

-- Who may write.

CREATE TABLE principals (
    id          uuid PRIMARY KEY,
    name        text NOT NULL UNIQUE,
    role        text NOT NULL
                CONSTRAINT role_known CHECK (role IN ('operator', 'submitter', 'auditor', 'admin')),
    generator   text,
    created_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE api_keys (
    id            uuid PRIMARY KEY,
    principal_id  uuid NOT NULL REFERENCES principals (id),
    key_sha256    bytea NOT NULL UNIQUE,
    label         text NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    revoked_at    timestamptz,
    CONSTRAINT key_sha256_is_32_bytes CHECK (octet_length(key_sha256) = 32)
);

-- Who may read in bulk. No token of these is an API key, so none can write.

CREATE TABLE auditor_tokens (
    id            uuid PRIMARY KEY,
    token_sha256  bytea NOT NULL UNIQUE,
    label         text NOT NULL,
    scopes        text[] NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz NOT NULL,
    revoked_at    timestamptz,
    CONSTRAINT token_sha256_is_32_bytes CHECK (octet_length(token_sha256) = 32),
    CONSTRAINT scopes_known CHECK (scopes <@ ARRAY['entries', 'exports'] AND cardinality(scopes) > 0)
);

-- How often somebody asked in a minute: lost when the server crashes, and in no backup.

CREATE UNLOGGED TABLE request_counts (
    who      bytea PRIMARY KEY,
    taken    integer NOT NULL,
    ends_at  timestamptz NOT NULL,
    CONSTRAINT who_is_32_bytes CHECK (octet_length(who) = 32)
) WITH (fillfactor = 50);

-- What is compared with.

CREATE TABLE collections (
    id          uuid PRIMARY KEY,
    name        text NOT NULL UNIQUE,
    created_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE artists (
    id             uuid PRIMARY KEY,
    collection_id  uuid NOT NULL REFERENCES collections (id),
    name           text NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    UNIQUE (collection_id, name)
);

CREATE TABLE works (
    id             uuid PRIMARY KEY,
    collection_id  uuid NOT NULL REFERENCES collections (id),
    artist_id      uuid NOT NULL REFERENCES artists (id),
    title          text NOT NULL,
    source         text NOT NULL,
    licence        text NOT NULL,
    file_sha256    bytea NOT NULL,
    pixel_sha256   bytea NOT NULL,
    iscc           text NOT NULL,
    pdq            bit(256) NOT NULL,
    width          integer NOT NULL,
    height         integer NOT NULL,
    grant_train    boolean NOT NULL,
    grant_compare  boolean NOT NULL,
    grant_name     boolean NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    UNIQUE (collection_id, artist_id, file_sha256),
    CONSTRAINT file_sha256_is_32_bytes CHECK (octet_length(file_sha256) = 32),
    CONSTRAINT pixel_sha256_is_32_bytes CHECK (octet_length(pixel_sha256) = 32)
);
CREATE INDEX works_file_sha256 ON works (file_sha256);
CREATE INDEX works_pixel_sha256 ON works (pixel_sha256);

CREATE TABLE grant_changes (
    id          uuid PRIMARY KEY,
    work_id     uuid NOT NULL REFERENCES works (id),
    "grant"     text NOT NULL CONSTRAINT grant_known CHECK ("grant" IN ('train', 'compare', 'name')),
    allowed     boolean NOT NULL,
    by_role     text NOT NULL,
    leaf_hash   bytea NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ix_grant_changes_work_id ON grant_changes (work_id);

CREATE TABLE embeddings (
    work_id  uuid NOT NULL REFERENCES works (id) ON DELETE CASCADE,
    encoder  text NOT NULL,
    vector   halfvec NOT NULL,
    PRIMARY KEY (work_id, encoder)
);

CREATE TABLE local_features (
    work_id   uuid NOT NULL REFERENCES works (id) ON DELETE CASCADE,
    method    text NOT NULL,
    features  bytea NOT NULL,
    PRIMARY KEY (work_id, method)
);
ALTER TABLE local_features ALTER COLUMN features SET STORAGE EXTERNAL;  -- descriptors do not compress

CREATE TABLE previews (
    work_id  uuid PRIMARY KEY REFERENCES works (id) ON DELETE CASCADE,
    webp     bytea NOT NULL
);
ALTER TABLE previews ALTER COLUMN webp SET STORAGE EXTERNAL;

CREATE TABLE calibrations (
    inputs      bytea PRIMARY KEY,
    sha256      bytea NOT NULL,
    content     bytea NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT sha256_is_32_bytes CHECK (octet_length(sha256) = 32),
    CONSTRAINT inputs_is_32_bytes CHECK (octet_length(inputs) = 32)
);
CREATE INDEX ix_calibrations_sha256 ON calibrations (sha256);

CREATE TABLE snapshots (
    id             uuid PRIMARY KEY,
    collection_id  uuid NOT NULL REFERENCES collections (id),
    digest         bytea NOT NULL,
    works          integer NOT NULL,
    artists        integer NOT NULL,
    encoders       jsonb NOT NULL,
    calibration    bytea,
    leaf_hash      bytea NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT digest_is_32_bytes CHECK (octet_length(digest) = 32)
);
CREATE INDEX snapshots_newest ON snapshots (collection_id, created_at);

CREATE TABLE training_statements (
    weights_sha256  bytea NOT NULL,
    snapshot        bytea NOT NULL,
    leaf_hash       bytea NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (weights_sha256, snapshot),
    CONSTRAINT weights_sha256_is_32_bytes CHECK (octet_length(weights_sha256) = 32),
    CONSTRAINT snapshot_is_32_bytes CHECK (octet_length(snapshot) = 32)
);

-- What is recorded.

CREATE TABLE records (
    id                uuid PRIMARY KEY,
    kind              text NOT NULL,
    state             text NOT NULL,
    principal_id      uuid REFERENCES principals (id),
    idempotency_key   text,
    request_sha256    bytea,
    listed            boolean NOT NULL,
    file_sha256       bytea,
    submitted_sha256  bytea,
    pixel_sha256      bytea,
    iscc              text,
    iscc_instance     text,
    iscc_bits         bit(256),
    pdq               bit(256),
    width             integer,
    height            integer,
    media_type        text,
    salt              bytea,
    statement         bytea,
    leaf_hash         bytea,
    issued_statement  bytea,
    issued_leaf       bytea,
    source_key        text,
    file_key          text,
    manifest_urn      text,
    claim_sha256      bytea,
    failure           jsonb,
    created_at        timestamptz NOT NULL DEFAULT now(),
    issued_at         timestamptz,
    erased_at         timestamptz,
    erased_leaf       bytea,
    UNIQUE (principal_id, idempotency_key),
    CONSTRAINT kind_known CHECK (kind IN ('generation', 'stamp', 'verification')),
    CONSTRAINT state_known CHECK (state IN ('accepted', 'signed', 'sealed', 'issued', 'abandoned')),
    CONSTRAINT signed_has_statement CHECK (
        state IN ('accepted', 'abandoned') OR (statement IS NOT NULL AND leaf_hash IS NOT NULL)
    ),
    CONSTRAINT sealed_has_file CHECK (
        state NOT IN ('sealed', 'issued') OR kind = 'verification'
        OR (file_sha256 IS NOT NULL AND file_key IS NOT NULL AND issued_leaf IS NOT NULL) OR erased_at IS NOT NULL
    )
);
CREATE INDEX records_file_sha256 ON records (file_sha256) WHERE file_sha256 IS NOT NULL;
CREATE INDEX records_submitted_sha256 ON records (submitted_sha256) WHERE submitted_sha256 IS NOT NULL;
CREATE INDEX records_pixel_sha256 ON records (pixel_sha256) WHERE pixel_sha256 IS NOT NULL;
CREATE INDEX records_iscc ON records (iscc) WHERE iscc IS NOT NULL;
CREATE UNIQUE INDEX records_manifest_urn ON records (manifest_urn) WHERE manifest_urn IS NOT NULL;
CREATE INDEX records_unfinished ON records (created_at) WHERE state IN ('accepted', 'signed', 'sealed');
CREATE INDEX records_leaf_hash ON records (leaf_hash);
CREATE INDEX records_pdq_hnsw ON records USING hnsw (pdq bit_hamming_ops) WHERE listed AND pdq IS NOT NULL;
CREATE INDEX records_iscc_bits_hnsw ON records USING hnsw (iscc_bits bit_hamming_ops)
    WHERE listed AND iscc_bits IS NOT NULL;
COMMENT ON COLUMN records.listed IS 'Answers look-ups by hash: generations and stamps once issued.';
COMMENT ON COLUMN records.submitted_sha256 IS 'sha256 of the file as it was handed in (stamps).';
COMMENT ON COLUMN records.iscc IS 'ISCC Image-Code, 256 bits, as text.';
COMMENT ON COLUMN records.erased_leaf IS 'The entry that says that the content was deleted.';
COMMENT ON COLUMN records.source_key IS 'Storage key of the image before its credential.';
COMMENT ON COLUMN records.file_key IS 'Storage key of the finished file.';
COMMENT ON COLUMN records.failure IS 'code, detail, next_step, status of what ended it.';

CREATE TABLE generations (
    record_id      uuid PRIMARY KEY REFERENCES records (id),
    prompt         text,
    prompt_salt    bytea,
    seed           bigint NOT NULL,
    parameters     jsonb NOT NULL,
    unknown_words  text[],
    model          jsonb
);
CREATE INDEX generations_model ON generations ((model ->> 'name'));
COMMENT ON COLUMN generations.parameters IS 'steps, width, height, guidance: as asked for, then as used; the number of unknown words';
COMMENT ON COLUMN generations.unknown_words IS 'Of the prompt, and erasable with it: what the generator never learned.';
COMMENT ON COLUMN generations.model IS 'NetworkInfo of the generator that made it';

CREATE TABLE stamps (
    record_id            uuid PRIMARY KEY REFERENCES records (id),
    declared_model       text,
    prompt               text,
    prompt_salt          bytea,
    prompt_commitment    text,
    parent_manifest_urn  text,
    ai_origin            boolean NOT NULL
);
CREATE INDEX stamps_declared_model ON stamps (declared_model);
COMMENT ON COLUMN stamps.prompt_commitment IS 'Hex; made by the submitter when the prompt stays there.';
COMMENT ON COLUMN stamps.ai_origin IS 'May say AI-made: our own generation, or a submitter registered to the generator named.';

CREATE TABLE verifications (
    record_id   uuid PRIMARY KEY REFERENCES records (id),
    upload_key  text,
    result      jsonb
);
COMMENT ON COLUMN verifications.upload_key IS 'Storage key while it waits for the worker; then deleted.';

CREATE TABLE reports (
    record_id  uuid PRIMARY KEY REFERENCES records (id),
    sha256     bytea NOT NULL,
    body       bytea NOT NULL,
    CONSTRAINT sha256_is_32_bytes CHECK (octet_length(sha256) = 32)
);

CREATE TABLE pictures (
    record_id  uuid NOT NULL REFERENCES records (id),
    sha256     bytea NOT NULL,
    png        bytea NOT NULL,
    PRIMARY KEY (record_id, sha256),
    CONSTRAINT sha256_is_32_bytes CHECK (octet_length(sha256) = 32)
);
ALTER TABLE pictures ALTER COLUMN png SET STORAGE EXTERNAL;

CREATE TABLE signed_reports (
    record_id   uuid PRIMARY KEY REFERENCES records (id),
    sha256      bytea NOT NULL,
    pdf         bytea NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT sha256_is_32_bytes CHECK (octet_length(sha256) = 32)
);
ALTER TABLE signed_reports ALTER COLUMN pdf SET STORAGE EXTERNAL;

CREATE TABLE credits (
    id          uuid PRIMARY KEY,
    record_id   uuid NOT NULL REFERENCES records (id),
    axis        text NOT NULL CONSTRAINT axis_known CHECK (axis IN ('identity', 'copy', 'style', 'content')),
    artist_id   uuid NOT NULL REFERENCES artists (id),
    work_id     uuid REFERENCES works (id),
    p_value     double precision,
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT style_has_no_work CHECK ((work_id IS NULL) = (axis = 'style'))
);
CREATE INDEX ix_credits_record_id ON credits (record_id);
CREATE INDEX ix_credits_artist_id ON credits (artist_id);
CREATE INDEX ix_credits_work_id ON credits (work_id);

-- The log.

CREATE TABLE log_shards (
    name        text PRIMARY KEY,
    origin      text NOT NULL UNIQUE,
    vkey        text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE log_outbox (
    id          bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    leaf_hash   bytea NOT NULL UNIQUE,
    entry       bytea NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT leaf_hash_is_32_bytes CHECK (octet_length(leaf_hash) = 32),
    CONSTRAINT entry_fits CHECK (octet_length(entry) BETWEEN 1 AND 65535)
);

-- No foreign key on the shard: its check would be a fifth of what an entry costs, and the checkpoint that each batch
-- writes over its entries has one.
CREATE TABLE log_entries (
    shard       text NOT NULL,
    idx         bigint NOT NULL,
    leaf_hash   bytea NOT NULL,
    entry       bytea NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shard, idx),
    UNIQUE (shard, leaf_hash),
    CONSTRAINT leaf_hash_is_32_bytes CHECK (octet_length(leaf_hash) = 32),
    CONSTRAINT entry_fits CHECK (octet_length(entry) BETWEEN 1 AND 65535),
    CONSTRAINT idx_not_negative CHECK (idx >= 0)
);
CREATE INDEX log_entries_created_at ON log_entries USING brin (created_at);  -- costs an entry next to nothing

CREATE TABLE log_tiles (
    shard  text NOT NULL REFERENCES log_shards (name),
    level  smallint NOT NULL,
    idx    bigint NOT NULL,
    root   bytea NOT NULL,
    middle bytea NOT NULL,
    data   bytea NOT NULL,
    PRIMARY KEY (shard, level, idx),
    CONSTRAINT root_is_32_bytes CHECK (octet_length(root) = 32),
    CONSTRAINT middle_is_512_bytes CHECK (octet_length(middle) = 512),
    CONSTRAINT data_is_8192_bytes CHECK (octet_length(data) = 8192)
);

CREATE TABLE log_checkpoints (
    shard       text NOT NULL REFERENCES log_shards (name),
    size        bigint NOT NULL,
    root        bytea NOT NULL,
    note        bytea NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shard, size),
    CONSTRAINT root_is_32_bytes CHECK (octet_length(root) = 32)
);

CREATE TABLE log_witnessed (
    shard          text NOT NULL REFERENCES log_shards (name),
    size           bigint NOT NULL,
    policy_sha256  bytea NOT NULL,
    note           bytea NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shard, size, policy_sha256),
    CONSTRAINT policy_sha256_is_32_bytes CHECK (octet_length(policy_sha256) = 32)
);

CREATE TABLE log_policies (
    shard       text NOT NULL REFERENCES log_shards (name),
    number      integer NOT NULL,
    sha256      bytea NOT NULL,
    text        text NOT NULL,
    leaf_hash   bytea NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shard, number),
    CONSTRAINT sha256_is_32_bytes CHECK (octet_length(sha256) = 32),
    CONSTRAINT leaf_hash_is_32_bytes CHECK (octet_length(leaf_hash) = 32)
);

CREATE TABLE log_timestamps (
    shard       text NOT NULL REFERENCES log_shards (name),
    size        bigint NOT NULL,
    token       bytea NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shard, size)
);

-- Where the log stands; these two are moved forward and prove nothing.

CREATE TABLE log_published (
    shard         text PRIMARY KEY REFERENCES log_shards (name),
    size          bigint NOT NULL,
    published_at  timestamptz NOT NULL DEFAULT now()
);

-- The witnessed checkpoint that counts, one row a shard at most: the newest published one that any policy's witnesses
-- cosigned, while it met the policy in force, which is the one that the log announced last. After an older policy was
-- put back there is none, rather than an older one: what is shown never goes back.
CREATE VIEW log_witnessed_heads AS
    SELECT witnessed.shard, witnessed.size, head.root, witnessed.note, witnessed.policy_sha256, witnessed.created_at
    FROM log_published published
    JOIN log_witnessed witnessed USING (shard)
    JOIN log_checkpoints head ON head.shard = witnessed.shard AND head.size = witnessed.size
    WHERE witnessed.size = (
        SELECT max(size) FROM log_witnessed WHERE shard = published.shard AND size <= published.size
    ) AND witnessed.policy_sha256 = (
        SELECT sha256 FROM log_policies WHERE shard = published.shard ORDER BY number DESC LIMIT 1
    );

CREATE TABLE log_witnesses (
    shard            text NOT NULL REFERENCES log_shards (name),
    vkey             text NOT NULL,
    size             bigint,
    cosigned_at      timestamptz,
    asked_at         timestamptz NOT NULL,
    failure          text,
    overridden_size  bigint,
    override_leaf    bytea,
    PRIMARY KEY (shard, vkey),
    CONSTRAINT override_leaf_is_32_bytes CHECK (octet_length(override_leaf) = 32)
);

-- Keys that entries of the log announced, and what submitters bring.

CREATE TABLE announced_keys (
    use         text NOT NULL CONSTRAINT use_known
                CHECK (use IN ('statements', 'receipts', 'credentials', 'reports')),
    kid         bytea NOT NULL,
    public_key  bytea NOT NULL,
    entry       bytea NOT NULL,
    leaf_hash   bytea NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    retired_at  timestamptz,
    compromised_leaf bytea,
    PRIMARY KEY (use, kid),
    CONSTRAINT kid_is_32_bytes CHECK (octet_length(kid) = 32),
    CONSTRAINT leaf_hash_is_32_bytes CHECK (octet_length(leaf_hash) = 32),
    CONSTRAINT compromised_leaf_is_32_bytes CHECK (octet_length(compromised_leaf) = 32)
);
CREATE UNIQUE INDEX announced_keys_in_force ON announced_keys (use) WHERE retired_at IS NULL;

CREATE TABLE submitter_keys (
    kid           bytea PRIMARY KEY,
    principal_id  uuid NOT NULL REFERENCES principals (id),
    public_key    bytea NOT NULL,
    leaf_hash     bytea NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    revoked_at    timestamptz,
    CONSTRAINT kid_is_32_bytes CHECK (octet_length(kid) = 32),
    CONSTRAINT public_key_is_32_bytes CHECK (octet_length(public_key) = 32),
    CONSTRAINT leaf_hash_is_32_bytes CHECK (octet_length(leaf_hash) = 32)
);

CREATE TABLE submissions (
    principal_id     uuid NOT NULL REFERENCES principals (id),
    idempotency_key  text NOT NULL,
    body_sha256      bytea NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (principal_id, idempotency_key),
    CONSTRAINT body_sha256_is_32_bytes CHECK (octet_length(body_sha256) = 32)
);

-- The log only grows. lawful_app has no right to anything else; these triggers stop everybody, the owner too. They
-- fire ALWAYS: a session that calls itself a replica is stopped as well. Dropping them is possible and takes intent.

CREATE FUNCTION refuse_change_of_log() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the log only grows: % on % refused', TG_OP, TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;

DO $$
DECLARE
    log_table text;
BEGIN
    FOREACH log_table IN ARRAY ARRAY['log_shards', 'log_entries', 'log_tiles', 'log_checkpoints',
                               'log_witnessed', 'log_policies', 'log_timestamps'] LOOP
        EXECUTE format('CREATE TRIGGER only_grows BEFORE UPDATE OR DELETE ON %I'
                       ' FOR EACH ROW EXECUTE FUNCTION refuse_change_of_log()', log_table);
        EXECUTE format('CREATE TRIGGER never_truncated BEFORE TRUNCATE ON %I'
                       ' FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_log()', log_table);
        EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER only_grows', log_table);
        EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER never_truncated', log_table);
    END LOOP;
END
$$;
