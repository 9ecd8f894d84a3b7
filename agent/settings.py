"""All settings, read once from the environment (`BACKWRIGHT_SECTION__FIELD`) by `cli`, frozen, passed by section."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict


class Section(BaseModel):
    """A frozen part of the settings; a component sees its own section only."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class KafkaSettings(Section):
    """How to reach the bus."""

    bootstrap_servers: str = Field("127.0.0.1:9092", description="host:port, comma-separated.")
    topic_prefix: str = Field("", pattern=r"^[A-Za-z0-9._-]*$", description="Prepended to every topic name.")
    group_id: str = Field(
        "backwright",
        min_length=1,
        description="Consumer group of the agents that share the tasks; another one reads all tasks again.",
    )
    client_id: str = Field("backwright", description="Name in the broker's logs and quotas.")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="As the broker's listener: SSL encrypts, SASL asks for a password."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="As the broker offers; used with SASL_ protocols."
    )
    sasl_username: str | None = Field(None, description="User of SASL_ protocols.")
    sasl_password: SecretStr | None = Field(None, description="Password of that user.")
    ssl_ca_file: Path | None = Field(
        None, description="PEM file of the authorities to trust; absent: those of the system."
    )
    ssl_cert_file: Path | None = Field(
        None, description="PEM file of a client's certificate, for brokers that ask for one."
    )
    ssl_key_file: Path | None = Field(None, description="PEM file of its key; absent: it is in the certificate's file.")
    session_timeout_ms: int = Field(
        45_000, ge=2_000, description="Without a heartbeat for so long, the broker gives an agent's partitions away."
    )
    heartbeat_interval_ms: int = Field(
        3_000, ge=500, description="Between two heartbeats; a third of session_timeout_ms or less."
    )
    rebalance_timeout_ms: int = Field(60_000, ge=2_000, description="How long a rebalance waits for its members.")
    fetch_max_wait_ms: int = Field(100, ge=1, description="How long the broker may hold a fetch that finds no record.")
    request_timeout_ms: int = Field(
        20_000, ge=1_000, description="How long one request may take; raise it for a slow or distant broker."
    )
    max_request_bytes: int = Field(
        1_000_000, ge=10_000, description="Largest record that we publish; larger ones are parked."
    )
    max_batch_records: int = Field(500, ge=1, description="Records that one poll hands over at most.")
    stall_after_s: float = Field(
        60, gt=0, description="Records wait on the broker and none comes for so long: the consumer is made anew."
    )


class JournalSettings(Section):
    """Where tasks are remembered."""

    url: str | None = Field(
        None, description="sqlite:///path or postgresql://…; absent: journal.sqlite in the workspace."
    )
    statement_timeout_s: float = Field(
        10, gt=0, description="How long a statement on PostgreSQL may take; then the journal counts as unavailable."
    )
    pool_size: int = Field(5, ge=1, description="Connections to PostgreSQL for each agent.")


class ArtifactSettings(Section):
    """Where artefacts lie."""

    url: str | None = Field(
        None,
        description="file:///path or postgresql://…; absent: artifacts/ in the workspace, or the PostgreSQL journal.",
    )


class HttpSettings(Section):
    """Metrics and health."""

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for a Prometheus on another host.")
    port: int = Field(9464, ge=0, le=65535, description="0: any free port.")


class WorkerSettings(Section):
    """How tasks are executed. Renew < self-stop < lease: a worker that could not renew stops before another may claim."""

    concurrency: int = Field(
        1, ge=1, le=64, description="Tasks at a time in one agent; raise it where processors and memory allow."
    )
    lease_s: float = Field(10, gt=0, description="A task is another agent's so long after the last renewal.")
    renew_s: float = Field(3, gt=0, description="Seconds between two renewals of a lease.")
    self_stop_s: float = Field(7, gt=0, description="Not renewed for so long, an agent stops its attempt by itself.")
    max_attempts: int = Field(3, ge=1, description="Failed attempts after which a task is discarded as a dead letter.")
    max_crashes: int = Field(3, ge=1, description="Attempts lost with their agent after which a task is discarded.")
    backoff_base_s: float = Field(
        2, ge=0, description="Longest wait after the first failure; it doubles with each further one."
    )
    backoff_cap_s: float = Field(300, ge=0, description="The longest that this wait grows to.")
    attempt_deadline_s: float = Field(
        3600, gt=0, description="How long one attempt may take, where the request does not say."
    )
    total_deadline_s: float = Field(
        6 * 3600, gt=0, description="How long a task may take from its acceptance, where the request does not say."
    )
    drain_s: float = Field(20, ge=0, description="Soft limit: steps may finish for so long after SIGTERM.")
    pause_above: int = Field(5000, ge=1, description="Waiting tasks above which the tasks topic pauses.")
    resume_below: int = Field(4000, ge=0, description="Waiting tasks below which it flows again; at most pause_above.")

    @model_validator(mode="after")
    def _in_order(self) -> "WorkerSettings":
        """Two processes would work on one task, or the topic would flutter."""
        if not self.renew_s < self.self_stop_s < self.lease_s:
            raise PydanticCustomError("order", "renew_s has to be below self_stop_s, and self_stop_s below lease_s")
        if self.resume_below > self.pause_above:
            raise PydanticCustomError("order", "resume_below has to be at most pause_above")
        return self


class ContextSettings(Section):
    """The question to the context manager."""

    timeout_s: float = Field(5, ge=0, description="Then the work goes on with recorded assumptions.")


class CompilerSettings(Section):
    """Limits on a document; beyond one it is refused with a diagnostic that names the limit."""

    max_bytes: int = Field(5 * 1024**2, ge=1, description="Size of a document.")
    max_depth: int = Field(100, ge=1, description="Levels of nesting.")
    max_nodes: int = Field(500_000, ge=1, description="Values in a document, references resolved.")
    max_aliases: int = Field(1_000, ge=0, description="Aliases of YAML (`*name`).")
    max_operations: int = Field(500, ge=1, description="Operations in a document.")
    max_name_length: int = Field(1_000, ge=1, description="Characters of a name (a key).")
    max_pattern_length: int = Field(1_000, ge=1, description="Characters of a regular expression (`pattern`).")
    cpu_s: float = Field(60, ge=1, description="Processor time of one compilation, in a process of its own.")
    memory_bytes: int = Field(2 * 1024**3, ge=64 * 1024**2, description="Address space of that process.")


class GateSettings(Section):
    """Thresholds of the gates."""

    coverage_min_percent: float = Field(
        80, ge=0, le=100, description="Branches that the tests of a service have to reach."
    )
    fuzz_examples: int = Field(15, ge=1, description="Examples per operation; `verify --deep` uses 100.")
    fuzz_seed: int = Field(
        20260101, description="Of the generated requests and of the load: the same seed asks the same again."
    )
    fuzz_time_s: float = Field(600, gt=0, description="How long the fuzzing may take; raise it with fuzz_examples.")
    load_rate: float = Field(50, gt=0, description="Arrivals per second, open model.")
    load_duration_s: float = Field(10, gt=0, description="How long the load lasts.")
    load_rows: int = Field(10_000, ge=0, description="Rows in the largest table before the load.")
    load_p95_max_ms: float = Field(
        100, gt=0, description="95 of 100 requests have to be answered within so long; raise it on slow machines."
    )
    load_issued_min_percent: float = Field(
        99, ge=0, le=100, description="Share of the planned requests below which the load counts as not made."
    )
    load_quiet_wait_s: float = Field(
        20, ge=0, description="How long the load waits for other work on the machine to end before it measures anyway."
    )
    start_timeout_s: float = Field(30, gt=0, description="How long a service may take from its start to ready.")
    step_timeout_s: float = Field(600, gt=0, description="How long any other command of a gate may take.")


class TelemetrySettings(Section):
    """Logs and traces."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least that is logged; libraries log warnings and errors only."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="json: an object a line; console: for people; auto: console on a terminal, else json."
    )
    otlp_endpoint: str | None = Field(None, description="http://host:4318; absent: spans are not exported.")
    sample_ratio: float = Field(1.0, ge=0, le=1, description="Share of the traces that are recorded, 0 to 1.")


class SandboxSettings(Section):
    """Child processes."""

    user: str = Field("nobody", description="Used when the agent itself runs as root.")
    allow_root: bool = Field(
        False, description="Run children as root when no other user can (recorded in the evidence)."
    )
    memory_bytes: int = Field(
        4 * 1024**3, ge=64 * 1024**2, description="Address space of each child; it caps what a gate asks for."
    )
    processes: int = Field(
        512, ge=16, description="Processes and threads of a child's user, beside those that run already."
    )


class PostgresSettings(Section):
    """Databases for the services under test."""

    dsn: SecretStr | None = Field(
        None, description="A server on which throwaway databases may be made; absent: embedded binaries."
    )
    max_connections: int = Field(100, ge=10, description="Of an embedded server.")


class Settings(BaseSettings):
    """Everything. Unknown variables with our prefix are an error that `check-config` names."""

    model_config = SettingsConfigDict(env_prefix="BACKWRIGHT_", env_nested_delimiter="__", frozen=True, extra="forbid")

    workspace: Path = Field(Path("workspace"), description="Journal, artefacts and services/ lie here.")
    source: str = Field("/backwright/agent", description="CloudEvents `source` of what we publish.")
    kafka: KafkaSettings = KafkaSettings()
    journal: JournalSettings = JournalSettings()
    artifacts: ArtifactSettings = ArtifactSettings()
    http: HttpSettings = HttpSettings()
    worker: WorkerSettings = WorkerSettings()
    context: ContextSettings = ContextSettings()
    compiler: CompilerSettings = CompilerSettings()
    gates: GateSettings = GateSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    sandbox: SandboxSettings = SandboxSettings()
    postgres: PostgresSettings = PostgresSettings()
