"""One frozen tree of settings, read once from `HEADRACE_*` variables, reporting every error at once.

Each value has a sentence, a unit and a default. `load()` is called by the composition roots (wsgi,
celery_app, the scheduler, the CLIs); everything below them takes settings as an argument.
"""

import base64
import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretBytes,
    SecretStr,
    ValidationError,
    model_validator,
)

from app.errors import SettingsError

PREFIX = "HEADRACE_"

Seconds = Annotated[float, Field(gt=0)]
Bytes = Annotated[int, Field(gt=0)]

ENCRYPTION_KEY_BYTES = 32

SPOT_MICRO_BATCH_S = 10.0
"""What is lost at most with a machine that vanishes, and less than any cloud's notice."""

_MAPPED_IPV4 = IPv6Network("::ffff:0:0/96")


def parse_networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """The networks of a list like "10.0.0.0/8, fd00::/8". Raises ValueError that says what would be right."""
    return tuple(_network(part.strip()) for part in text.split(",") if part.strip())


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is not a network: write it like 10.0.0.0/8 or fd00::/8") from None
    if "/" in text and network.network_address != ip_network(text.partition("/")[0]).network_address:
        raise ValueError(f"{text!r} has an address beyond its prefix: write {network}")
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED_IPV4):
        raise ValueError(f"{text!r} holds IPv4 addresses: write the IPv4 network itself")
    return network


def _networks(value: object) -> object:
    return parse_networks(value) if isinstance(value, str) else value


def _named_keys(value: object) -> object:
    """Read `ID:BASE64,…`. An error names the wrong part, and never shows a key."""
    if not isinstance(value, str):
        return value
    keys: dict[str, bytes] = {}
    for number, item in enumerate(value.split(",") if value else (), start=1):
        name, _, encoded = item.strip().partition(":")
        if not re.fullmatch(r"[a-z0-9-]{1,32}", name) or name in keys:
            raise ValueError(f"key {number} needs an id of its own: lower case letters, digits and dashes")
        try:
            keys[name] = base64.b64decode(encoded, validate=True)
        except ValueError:
            keys[name] = b""
        if len(keys[name]) != ENCRYPTION_KEY_BYTES:
            raise ValueError(f"key {number} must be 32 bytes in base64, as `openssl rand -base64 32` makes")
    return keys


def _names(value: object) -> object:
    return (
        tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
    )


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Api(_Group):
    """The HTTP edge."""

    bind: str = Field("127.0.0.1:8000", description="Address and port that gunicorn listens on.")
    processes: int = Field(
        0, ge=0, le=256, description="API processes; 0 is one per core, two at most: Postgres is the limit."
    )
    database_url: SecretStr | None = Field(
        None,
        description="How the API reaches the same database as a role of its own, which row-level security "
        "holds to the tenants that it works for; `headracectl migrate` makes it. `HEADRACE_DATABASE_URL`, "
        "without that net, if absent.",
    )
    public_url: str | None = Field(
        None,
        pattern=r"^https?://[^/?#\s]+$",
        description="How clients reach this server, for the URLs in answers; the request's Host if absent.",
    )
    tls_certificate: Path | None = Field(
        None,
        description="The certificate, and those between it and its root, in PEM: the API then speaks TLS.",
    )
    tls_key: Path | None = Field(None, description="The certificate's private key, in PEM.")
    max_body_bytes: Bytes = Field(
        4 * 1024 * 1024, description="Largest accepted body, before and after decompression."
    )
    max_json_depth: int = Field(64, gt=0, le=200, description="Deepest accepted JSON nesting.")
    max_wait_s: int = Field(60, gt=0, le=600, description="Longest `Prefer: wait`, in seconds.")
    max_waiters: int = Field(
        2000, gt=0, description="Long-polls and streams one API process holds open at a time."
    )
    cache_ttl_s: Seconds = Field(
        2.0, description="How long a key or a model version may be remembered: revocation is seen within it."
    )

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("HEADRACE_API_TLS_CERTIFICATE and HEADRACE_API_TLS_KEY are set together")
        return self


class Worker(_Group):
    """One Celery worker and its children (a child is one device slot)."""

    pool: str = Field("default", description="The pool this worker belongs to, as /v1/workers shows it.")
    purchase: Literal["on_demand", "spot"] = Field(
        "on_demand", description="How the machine is bought. Spot machines may vanish."
    )
    machine: str = Field(
        "",
        description="What the pool's executor calls the machine it runs on: instance, task or pod. "
        "The host's name if absent.",
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="Where models run: auto picks cuda, then mps, then cpu.",
    )
    torch_threads: int = Field(
        0,
        ge=0,
        description="Torch threads per child; 0 divides the cores among the children, and lends a lone job"
        " those of idle ones.",
    )
    preload: Annotated[tuple[str, ...], BeforeValidator(_names)] = Field(
        (),
        description="What each child loads and warms up before its first job, as `minilm,other@2-bf16`. "
        "`all` is every current version that its queues serve and its memory budget holds.",
    )
    slice_s: Seconds = Field(5.0, description="How long one drain task works before it ends, in seconds.")
    linger_s: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="How long an idle child waits for the next job of the same model before it goes back to "
        "Celery, in seconds. It leaves at once when another model needs its slot.",
    )
    heartbeat_s: Seconds = Field(5.0, description="Seconds between two heartbeats of a child.")
    micro_batch_s: Seconds | None = Field(
        None,
        description="Seconds that a micro-batch may take, 99 times in 100: that much is lost with a machine. "
        "10 on spot machines if absent, and else only the job's own time limit counts.",
    )
    drain_s: Seconds = Field(
        25.0,
        description="Seconds from a SIGTERM until whoever sent it kills the worker, as "
        "`terminationGracePeriodSeconds`: what can't end in time is given back before.",
    )
    lease_ttl_s: Seconds = Field(
        30.0, description="Seconds without a heartbeat after which a child's leases may be taken back."
    )
    max_crashes: int = Field(
        3, gt=0, description="Worker deaths a job may be part of before it fails with worker_crashed."
    )
    memory_budget_mb: int = Field(
        4096, gt=0, description="Models kept loaded per child, least recently used out first, in MiB."
    )
    memory_limit_mb: int = Field(
        0,
        ge=0,
        description="Most memory of its own that a child may hold, in MiB, by the kernel's count: an input "
        "that needs more fails alone. 0 is 80 % of what the machine, or the container, has. Linux only.",
    )
    exports_dir: Path | None = Field(
        None,
        description="Where children keep the ONNX files that `onnx` variants are computed from, made once "
        "and shared. Unset: the user's cache. Whoever can write there decides what models answer.",
    )
    inline_output_bytes: Bytes = Field(
        262_144,
        description="Largest output, as JSON, that stays in Postgres. A larger one is stored as a file, if "
        "there is a storage.",
    )

    @property
    def longest_s(self) -> float | None:
        """What a micro-batch may take, if anything says so."""
        if self.micro_batch_s is None and self.purchase == "spot":
            return SPOT_MICRO_BATCH_S
        return self.micro_batch_s


class Spot(_Group):
    """The spot agent: how a worker hears that its machine will be taken away."""

    provider: Literal["none", "aws", "gcp", "azure", "kubernetes", "local"] = Field(
        "none",
        description="Whose notices are listened for. `kubernetes` sends a SIGTERM and needs no listening; "
        "`local` reads a file, for development.",
    )
    metadata_url: str = Field(
        "http://169.254.169.254",
        pattern=r"^https?://[^/?#\s]+$",
        description="The cloud's metadata server, as seen from the machine.",
    )
    poll_s: Seconds = Field(2.0, le=30, description="Seconds between two looks for a notice.")
    timeout_s: Seconds = Field(1.0, le=10, description="Seconds that the metadata server has for an answer.")
    rebalance: Literal["ignore", "cordon"] = Field(
        "ignore",
        description="What AWS's rebalance recommendation does. `cordon`: the worker claims nothing more, and "
        "stays until the machine goes.",
    )
    acknowledge: bool = Field(
        False,
        description="Whether Azure is told, once this worker has left, that it need not wait any longer. For "
        "machines with one worker only.",
    )
    local_file: Path | None = Field(
        None,
        description="With `local`: as long as this file exists, there is a notice. It may hold "
        '`{"left_s": 20, "pools": ["batch"]}`.',
    )

    @model_validator(mode="after")
    def _local_has_a_file(self) -> Self:
        if self.provider == "local" and self.local_file is None:
            raise ValueError("HEADRACE_SPOT_PROVIDER=local needs HEADRACE_SPOT_LOCAL_FILE")
        return self


class Sender(_Group):
    """The process that delivers webhooks."""

    in_flight: int = Field(
        512, gt=0, le=10_000, description="Deliveries one sender process has under way at a time."
    )
    per_receiver: int = Field(
        64,
        gt=0,
        le=10_000,
        description="Deliveries under way to one endpoint; also to one origin of a tenant's per-job URLs.",
    )
    deadline_s: Seconds = Field(
        15.0, le=60, description="Seconds for one try in total, from the name's look-up to the answer's end."
    )
    max_answer_bytes: Bytes = Field(65_536, description="Bytes of an answer that are read. None is kept.")
    nice: int = Field(
        0,
        ge=0,
        le=19,
        description="How far the sender stands back further for others on the same cores, as the command "
        "`nice` does it. Webhooks come later for it.",
    )


class Files(_Group):
    """Files that tenants keep."""

    max_bytes: Bytes = Field(200 * 1000 * 1000, description="Largest accepted file.")
    quota_bytes: Bytes = Field(
        10 * 1024**3,
        description="Bytes that a tenant's files may have in all, each counted as 4 KiB or more.",
    )


class Limits(_Group):
    """What every tenant may, unless it has limits of its own (`headracectl tenants set`)."""

    requests_per_minute: int = Field(
        0, ge=0, le=1_000_000, description="Requests of one tenant in any 60 seconds; 0 is no limit."
    )
    key_requests_per_minute: int = Field(
        0, ge=0, le=1_000_000, description="Requests with one key in any 60 seconds; 0 is no limit."
    )
    queued_jobs: int = Field(
        1_000_000, ge=0, description="Jobs of one tenant that wait; over it, no more are taken. 0: no limit."
    )
    in_flight_jobs: int = Field(
        0, ge=0, description="Jobs of one tenant that have not ended, waiting or running. 0: no limit."
    )
    wait_s: float = Field(
        0,
        ge=0,
        description="Seconds that new jobs may have to wait; over it, more are refused with 503, and batches "
        "from half of it on. 0: never.",
    )


class Batches(_Group):
    """Bulk submissions, and the clerk that keeps their books."""

    max_lines: int = Field(
        1_000_000,
        gt=0,
        le=100_000_000,
        description="Most jobs of one batch: a line each, and each text of an embeddings line.",
    )
    chunk: int = Field(
        2000, gt=0, le=50_000, description="Jobs that are put into the queue in one transaction."
    )


class Media(_Group):
    """Images, sounds and other files in jobs' inputs, which workers fetch."""

    urls: bool = Field(
        True,
        description="Whether inputs may hold URLs. If not, workers need no way out of the network. The same "
        "for API and workers.",
    )
    max_bytes: Bytes = Field(25 * 1000 * 1000, description="Most bytes that one job's media may have in all.")
    window_bytes: Bytes = Field(
        256 * 1024**2,
        description="Most bytes of media that a child holds at a time. What does not fit waits for the next "
        "claim. At least `HEADRACE_MEDIA_MAX_BYTES`.",
    )
    deadline_s: Seconds = Field(30.0, le=600, description="Seconds for fetching one job's media, in total.")
    in_flight: int = Field(
        32, gt=0, le=1000, description="Media that a child fetches at a time, files and URLs together."
    )

    @model_validator(mode="after")
    def _one_job_fits(self) -> Self:
        if self.window_bytes < self.max_bytes:
            raise ValueError("HEADRACE_MEDIA_WINDOW_BYTES must be at least HEADRACE_MEDIA_MAX_BYTES")
        return self


class Scheduler(_Group):
    """Periodic work. Any number of schedulers may run: an advisory lock lets one work at a time."""

    tick_s: Seconds = Field(1.0, description="Seconds between two rounds of rescue, promote, expire, sweep.")
    ageing_s: Seconds = Field(
        300.0, description="Seconds that a job waits behind a higher priority until it moves up to it."
    )
    measure_s: Seconds = Field(5.0, description="Seconds between two counts of the queue for the metrics.")
    prune_s: Seconds = Field(3600.0, description="Seconds between two rounds of pruning.")
    prune_files_s: Seconds = Field(5.0, description="Seconds between two rounds of removing expired files.")
    retention_days: int = Field(
        30, gt=0, description="Days a finished job stays. Its partition is dropped after: no way back."
    )
    idempotency_hours: int = Field(24, ge=24, description="Hours an Idempotency-Key is remembered.")


class Tracing(_Group):
    """OpenTelemetry traces; more is set by OpenTelemetry's own `OTEL_EXPORTER_OTLP_*` variables."""

    endpoint: str | None = Field(
        None,
        pattern=r"^https?://\S+$",
        description="OTLP/HTTP URL that traces are sent to, as in `http://collector:4318/v1/traces`. None "
        "are made without it. Needs the extra `tracing`.",
    )
    ratio: float = Field(1.0, ge=0, le=1, description="Share of jobs and of requests that are traced.")


class Sentry(_Group):
    """Reports of bugs: errors that are logged with an exception, without values or requests."""

    dsn: SecretStr | None = Field(
        None, description="DSN of a Sentry project that bugs are reported to. Needs the extra `sentry`."
    )
    environment: str = Field("production", description="What reports call this installation.")


class Scaling(_Group):
    """The scaler, which gives pools more and fewer machines. Any number may run: an advisory lock lets one
    work at a time.
    """

    tick_s: Seconds = Field(5.0, description="Seconds between two decisions.")
    state_dir: Path | None = Field(
        None, description="The state dir of the embedded stack, for pools that run in it; `up` sets it."
    )


class Settings(_Group):
    """Everything a Headrace process may be told. Unknown `HEADRACE_*` names are errors."""

    database_url: SecretStr = Field(
        description="postgresql://user:password@host:port/database, with libpq's parameters (`sslmode=…`) "
        "and `pooler=transaction` behind PgBouncer."
    )
    redis_url: SecretStr = Field(description="redis:// or rediss:// URL of a Redis or Valkey server.")
    secret_key: SecretStr = Field(
        min_length=32,
        description="Pepper of the API key hashes, 32 characters or more. Changing it revokes every key, "
        "and what was sealed without `HEADRACE_ENCRYPTION_KEYS` can't be opened any more.",
    )
    database_pool: int = Field(10, gt=0, description="Connections one API process may open.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least severe event that is logged."
    )
    log_format: Literal["json", "console"] = Field(
        "json", description="One JSON object a line, or coloured lines for a person."
    )
    metrics_dir: Path | None = Field(
        None, description="Folder that the processes of one machine share for their metrics."
    )
    metrics_bind: str | None = Field(
        None,
        pattern=r"^[^:\s]+:\d{1,5}$",
        description="Address and port where worker, sender, clerk and scheduler show the metrics of their "
        "machine, as in `0.0.0.0:9464`. The API shows them at /metrics in any case.",
    )
    allow_local_webhooks: bool = Field(
        False,
        description="Development only: webhooks may go to, and media come from, http and loopback addresses.",
    )
    allow_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], BeforeValidator(_networks)] = Field(
        (),
        description="Networks that webhooks may go to, and media come from, although they are not public, as "
        "in `10.0.0.0/8, fd00::/8`. Open no more than you must: any tenant can then reach them.",
    )
    storage_url: str | None = Field(
        None,
        pattern=r"^(file:///[^?#]+|s3://[a-z0-9][a-z0-9.-]+(/[^?#\s]*)?)$",
        description="Where files are kept: `file:///a/folder` that API, workers, clerk and scheduler share, "
        "or `s3://bucket/prefix` with the AWS SDK's own variables. Without it there are no files.",
    )
    encryption_keys: Annotated[dict[str, SecretBytes], BeforeValidator(_named_keys)] = Field(
        {},
        description="What seals webhook secrets at rest: `ID:BASE64,…`, 32 bytes each, the first one seals. "
        "Derived from the secret key if absent. See `headracectl webhooks rekey`.",
    )
    pools_file: Path | None = Field(
        None, description="The TOML file that declares the pools. See docs/guides/scaling.md."
    )
    api: Api = Api()
    worker: Worker = Worker()
    spot: Spot = Spot()
    sender: Sender = Sender()
    files: Files = Files()
    limits: Limits = Limits()
    batches: Batches = Batches()
    media: Media = Media()
    scheduler: Scheduler = Scheduler()
    tracing: Tracing = Tracing()
    sentry: Sentry = Sentry()
    scaling: Scaling = Scaling()

    @model_validator(mode="after")
    def _urls_have_the_right_scheme(self) -> Self:
        wrong = []
        if not self.database_url.get_secret_value().startswith(("postgresql://", "postgres://")):
            wrong.append("HEADRACE_DATABASE_URL must start with postgresql://")
        own = self.api.database_url
        if own and not own.get_secret_value().startswith(("postgresql://", "postgres://")):
            wrong.append("HEADRACE_API_DATABASE_URL must start with postgresql://")
        if not self.redis_url.get_secret_value().startswith(("redis://", "rediss://")):
            wrong.append("HEADRACE_REDIS_URL must start with redis:// or rediss://")
        if wrong:
            raise ValueError("; ".join(wrong))
        return self


# Written by `headracectl up` for clients and tools; not settings of a server process.
_NOT_SETTINGS = {"URL", "API_KEY", "FLOWER_URL", "STATE_DIR"}
# `HEADRACE_WORKER_POOL` is the field `pool` of the group `worker`.
_GROUPS = {
    name.upper()
    for name, field in Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, _Group)
}


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read `HEADRACE_*` once. Raises `SettingsError` that lists every wrong value and what would be right."""
    tree: dict[str, object] = {}
    for name, value in (os.environ if environ is None else environ).items():
        if not name.startswith(PREFIX) or name.removeprefix(PREFIX) in _NOT_SETTINGS:
            continue
        key = name.removeprefix(PREFIX)
        group, _, field = key.partition("_")
        if group in _GROUPS and field:
            branch = tree.setdefault(group.lower(), {})
            assert isinstance(branch, dict)
            branch[field.lower()] = value
        else:
            tree[key.lower()] = value
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        raise SettingsError(_report(error)) from None


def _report(error: ValidationError) -> list[str]:
    lines = []
    for item in error.errors(include_url=False, include_input=False):
        name = PREFIX + "_".join(str(part) for part in item["loc"]).upper()
        if item["type"] == "extra_forbidden":
            lines.append(f"{name}: no such setting{_nearest(name)}")
        elif item["type"] == "missing":
            lines.append(f"{name}: is required")
        else:
            said = _in_plain_words(item)
            lines.append(f"{name}: {said}" if item["loc"] else said)
    return lines


def _nearest(name: str) -> str:
    known = [PREFIX + field.upper() for field in Settings.model_fields if field.upper() not in _GROUPS]
    for group in _GROUPS:
        fields = Settings.model_fields[group.lower()].annotation.model_fields  # type: ignore[union-attr]
        known += [f"{PREFIX}{group}_{field}".upper() for field in fields]
    near = get_close_matches(name, known, n=1, cutoff=0.8)
    return f"; did you mean {near[0]}?" if near else ""


_LOOKS = {"storage_url": "file:///a/folder or s3://bucket/prefix", "public_url": "https://host[:port]"}


def _in_plain_words(item: Any) -> str:
    """What pydantic says, without its own words for types and lengths."""
    kind, limits = item["type"], item.get("ctx", {})
    if kind.startswith("int_"):
        return "must be a whole number"
    if kind.startswith("float_"):
        return "must be a number"
    if kind.startswith("bool_"):
        return "must be true or false"
    if kind == "too_short":
        return f"must have {limits['min_length']} characters or more"
    if kind == "string_pattern_mismatch" and item["loc"][-1] in _LOOKS:
        return f"must look like {_LOOKS[item['loc'][-1]]}"
    text = str(item["msg"]).removeprefix("Value error, ")
    return re.sub("^(Input|String|Value) should ", "must ", text)
