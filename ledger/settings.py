"""Every setting, and the only place that reads the environment (prefix `LAWFUL_`)."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, AliasChoices, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


def _http_url(value: str | None) -> str | None:
    if value and not value.startswith(("http://", "https://")):
        raise ValueError("an http:// or https:// URL is wanted")
    return value or None


class Settings(BaseSettings):
    """What an operator may set. The defaults run the whole ledger on one machine, with no account and no server."""

    model_config = SettingsConfigDict(env_prefix="LAWFUL_", env_file=".env", extra="ignore", validate_by_name=True)

    home: Path = Field(Path.home() / ".lawful", description="Folder of keys, database, files and lock of this ledger.")
    database_url: SecretStr | None = Field(
        None,
        description="postgresql://lawful_app:…@host/db of a Postgres ≥ 15 with pgvector ≥ 0.8; else embedded.",
    )
    database_owner_url: SecretStr | None = Field(
        None, description="The same database as role lawful_owner; only migrations use it. Needed with database_url."
    )
    storage_url: str | None = Field(
        None, description="Where files lie: file:///…, s3://bucket/prefix, gs://…, az://…. Unset: <home>/files."
    )
    origin: str = Field("localhost/ledger/2026", description="Origin line of the log's shard: host/ledger/<year>.")
    public_url: str = Field(
        "http://127.0.0.1:8000", description="Where others reach this ledger; written into credentials."
    )
    host: str = Field("127.0.0.1", description="Address the web process binds to.")
    port: int = Field(8000, ge=1, le=65535, description="Port the web process binds to.")
    proxies: list[str] = Field(
        default_factory=list,
        description="Addresses or networks of proxies in front of the web process, whose X-Forwarded-For is believed.",
    )
    metrics_port: int | None = Field(
        None,
        ge=1,
        le=65534,
        description="Port of the process's Prometheus metrics; unset: none. `lawful up` gives its worker the next one.",
    )
    metrics_host: str = Field(
        "127.0.0.1", description="Address the metrics bind to. They are for the operator: keep them off the internet."
    )
    otel_endpoint: Annotated[str | None, AfterValidator(_http_url)] = Field(
        None,
        validation_alias=AliasChoices("LAWFUL_OTEL_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        description="http(s)://host:4318 of an OpenTelemetry collector that traces go to (OTLP over HTTP); unset: none."
        " OTEL_EXPORTER_OTLP_ENDPOINT is read too. Wants the extra `otel`.",
    )
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="How processes write their log to stderr; auto is text on a terminal, JSON elsewhere."
    )

    profile: Literal["atelier", "open", "flux"] = Field("atelier", description="Which generator and encoders run.")
    device: str = Field("auto", description="cpu, cuda, cuda:0 … or auto (a GPU when there is one).")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field("auto", description="Precision of the generator.")
    offload: bool = Field(False, description="Keep the generator's parts in main memory until they are needed.")
    generator: str | None = Field(
        None, description="Folder or hub id of a diffusers text-to-image pipeline; overrides the profile's."
    )
    clip: str | None = Field(None, description="Folder or hub id of CLIP ViT-L/14; unset: the profile's.")
    internvit: str | None = Field(None, description="Folder or hub id of InternViT; unset: the profile's.")
    dinov2: str | None = Field(None, description="Folder or hub id of DINOv2; unset: the profile's.")
    csd: str | None = Field(None, description="File, folder or hub id of CSD's weights; unset: the profile's.")
    sscd: str | None = Field(
        None, description="File or folder of SSCD's weights (sscd_disc_mixup.torchvision.pt); unset: it does not run."
    )
    collection: str | None = Field(
        None, description="Name of the collection to compare with; unset: the newest snapshot."
    )
    background: str | None = Field(
        None,
        description="Name of a collection by artists who are not compared: error rates are measured on its works.",
    )
    head: Path | None = Field(None, description="Folder of an artist classifier that `lawful train-head` wrote.")

    gate_identity: Literal["allow", "warn", "block"] = Field(
        "warn", description="What follows when an image made or stamped here is, pixel for pixel, a compared work."
    )
    gate_copy: Literal["allow", "warn", "block"] = Field(
        "warn", description="What follows when it, or a part of it, is a copy of a compared work."
    )
    gate_refused: Literal["allow", "warn", "block"] = Field(
        "warn",
        description="What follows when such a work's artist has not granted *train*; the strictest of the three wins.",
    )
    gate_alpha: float = Field(
        0.001,
        gt=0,
        le=0.05,
        description="Largest error rate of a copy that counts: how often what copies nothing is taken for one.",
    )

    issue_wait: Literal["integrated", "witnessed"] = Field(
        "integrated",
        description="What issuing waits for before it seals a file: the log's own word, or its witnesses' as well.",
    )
    issue_timeout: float = Field(30.0, gt=0, description="Seconds to wait for the log before a job is retried.")
    sequencer_tick: float = Field(0.025, gt=0, description="Seconds between two batches of the log.")
    witness_policy: Path | None = Field(
        None, description="File in the C2SP tlog-policy format: the witnesses to ask, and how many of them count."
    )
    witness_interval: float = Field(1.0, ge=0.1, description="Seconds between two checkpoints sent to the witnesses.")
    timestamp_interval: float = Field(
        3600.0, gt=0, description="Seconds between two checkpoints sent to the timestamp authority, where one is set."
    )
    key_provider: str | None = Field(
        None, description="package.module:function that gives the signing keys (a KMS, an HSM); unset: files in keys/."
    )
    job_attempts: int = Field(5, ge=1, description="How often a job is tried before its record is abandoned.")

    max_upload_bytes: int = Field(64 * 2**20, gt=0, description="Largest file accepted, in bytes.")
    decoders: int = Field(
        2, ge=1, description="Images that each web process and worker opens at once, each in a process of its own."
    )
    looks_per_minute: int = Field(
        120, gt=0, description="Verifications taken from one address in a minute, by all web processes together."
    )
    claims_per_day: int = Field(10, gt=0, description="Claims taken from one signed-in person in a day.")
    claims_per_address: int = Field(
        30, gt=0, description="Claims taken from one network address in a day, by all web processes together."
    )
    claims_per_record: int = Field(
        20,
        gt=0,
        description="Claims taken on one record in a day, whoever opens them. Who acts for the artist of the work named"
        " may open one beyond it.",
    )
    smtp_url: SecretStr | None = Field(
        None,
        description="smtps://user:password@host (TLS from the start) or smtp://… (always STARTTLS): sends the links to"
        " sign in. Unset: they are printed to the log, for development.",
    )
    mail_from: str | None = Field(None, description="Sender of those messages, name@host. Needed with smtp_url.")
    audit_pages_per_minute: int = Field(
        240,
        gt=0,
        description="Pages of 200 entries that one auditor's token may read in a minute, by all web processes.",
    )
    max_prompt_chars: int = Field(4000, gt=0, description="Longest prompt accepted, in characters.")
    tsa_url: str | None = Field(None, description="RFC 3161 timestamp authority for credentials; unset: none.")
    trust_anchors: Path | None = Field(
        None, description="PEM file of further C2PA roots to trust; this ledger's own root is always among them."
    )
    log_keys: list[str] = Field(
        default_factory=list, description="Verifier keys (vkey) of other logs whose proofs count as recorded."
    )
    api_key: SecretStr | None = Field(
        None, description="Key the client and CLI send when they write to a ledger over HTTP."
    )

    @property
    def keys_folder(self) -> Path:
        return self.home / "keys"

    @property
    def files_folder(self) -> Path:
        return self.home / "files"

    @property
    def postgres_folder(self) -> Path:
        return self.home / "postgres"
