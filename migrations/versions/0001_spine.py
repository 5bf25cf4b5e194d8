"""The spine: every table of the first release, the queue's tables, and what the service may do with them."""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None

ORDINARY = (
    "principals, api_keys, auditor_tokens, request_counts, collections, artists, works, grant_changes, embeddings,"
    " local_features,"
    " previews, calibrations, snapshots,"
    " records, generations, stamps, verifications, reports, pictures, signed_reports, credits,"
    " log_published, log_witnesses, announced_keys, submitter_keys, submissions,"
    " identities, sign_in_links, web_sessions, artist_pages, control_proofs, claims, claim_documents,"
    " claim_pictures, signed_claim_reports,"
    " artist_links, artist_webhooks, enrolments,"
    " procrastinate_jobs, procrastinate_events, procrastinate_periodic_defers, procrastinate_workers"
)
LOG = "log_shards, log_entries, log_tiles, log_checkpoints, log_witnessed, log_policies, log_timestamps"

GRANTS = f"""
GRANT USAGE ON SCHEMA public TO lawful_app;
GRANT SELECT ON alembic_version TO lawful_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON {ORDINARY} TO lawful_app;
GRANT USAGE, SELECT ON SEQUENCE procrastinate_jobs_id_seq, procrastinate_events_id_seq,
    procrastinate_periodic_defers_id_seq, procrastinate_workers_id_seq TO lawful_app;
GRANT SELECT, INSERT, DELETE ON log_outbox TO lawful_app;
GRANT SELECT, INSERT ON {LOG}, claim_steps, training_statements TO lawful_app;
GRANT SELECT ON log_witnessed_heads TO lawful_app;
"""


def upgrade() -> None:
    here = Path(__file__).parent
    run((here / "0001_spine.sql").read_text(encoding="utf-8"))
    run((here / "0001_claims.sql").read_text(encoding="utf-8"))
    run((here / "0001_artists.sql").read_text(encoding="utf-8"))
    run((here / "0001_procrastinate.sql").read_text(encoding="utf-8"))
    run(GRANTS)


def downgrade() -> None:
    raise NotImplementedError("there is nothing before the first revision; a log is not taken back")


def run(script: str) -> None:
    # The driver's own cursor: SQLAlchemy would pass parameters along, and with them several statements are refused.
    cursor = op.get_bind().connection.cursor()
    cursor.execute(script)
    cursor.close()
