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
    group_id: str = Field("backwright", min_length=1)
    client_id: str = "backwright"
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    ssl_ca_file: Path | None = None
    ssl_cert_file: Path | None = None
    ssl_key_file: Path | None = None
    session_timeout_ms: int = Field(45_000, ge=2_000)
    heartbeat_interval_ms: int = Field(3_000, ge=500)
    rebalance_timeout_ms: int = Field(60_000, ge=2_000)
    fetch_max_wait_ms: int = Field(
        100, ge=1, description="20 on librdkafka's mock, which does not wake an empty fetch."
    )
    request_timeout_ms: int = Field(20_000, ge=1_000)
    max_request_bytes: int = Field(
        1_000_000, ge=10_000, description="Largest record that we publish; larger ones are parked."
    )
    max_batch_records: int = Field(500, ge=1)
    stall_after_s: float = Field(
        60, gt=0, description="High water above position and no record for so long: a new consumer."
    )


class JournalSettings(Section):
    """Where tasks are remembered."""

    url: str | None = Field(
        None, description="sqlite:///path or postgresql://…; absent: journal.sqlite in the workspace."
    )
    statement_timeout_s: float = Field(10, gt=0)
    pool_size: int = Field(5, ge=1)


class ArtifactSettings(Section):
    """Where artefacts lie."""

    url: str | None = Field(
        None,
        description="file:///path or postgresql://…; absent: artifacts/ in the workspace, or the PostgreSQL journal.",
    )


class HttpSettings(Section):
    """Metrics and health."""

    host: str = "127.0.0.1"
    port: int = Field(9464, ge=0, le=65535, description="0: any free port.")


class WorkerSettings(Section):
    """How tasks are executed. Renew < self-stop < lease: a worker that could not renew stops before another may claim."""

    concurrency: int = Field(1, ge=1, le=64)
    lease_s: float = Field(10, gt=0)
    renew_s: float = Field(3, gt=0)
    self_stop_s: float = Field(7, gt=0)
    max_attempts: int = Field(3, ge=1)
    max_crashes: int = Field(3, ge=1)
    backoff_base_s: float = Field(2, ge=0)
    backoff_cap_s: float = Field(300, ge=0)
    attempt_deadline_s: float = Field(3600, gt=0)
    total_deadline_s: float = Field(6 * 3600, gt=0)
    drain_s: float = Field(20, ge=0, description="Soft limit: steps may finish for so long after SIGTERM.")
    pause_above: int = Field(5000, ge=1, description="Waiting tasks above which the tasks topic pauses.")
    resume_below: int = Field(4000, ge=0)

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

    max_bytes: int = Field(5 * 1024**2, ge=1)
    max_depth: int = Field(100, ge=1)
    max_nodes: int = Field(500_000, ge=1)
    max_aliases: int = Field(1_000, ge=0)
    max_operations: int = Field(500, ge=1)
    max_name_length: int = Field(1_000, ge=1)
    max_pattern_length: int = Field(1_000, ge=1)
    cpu_s: float = Field(60, ge=1, description="Processor time of one compilation, in a process of its own.")
    memory_bytes: int = Field(2 * 1024**3, ge=64 * 1024**2, description="Address space of that process.")


class GateSettings(Section):
    """Thresholds of the gates."""

    coverage_min_percent: float = Field(80, ge=0, le=100)
    fuzz_examples: int = Field(15, ge=1, description="Examples per operation; `verify --deep` uses 100.")
    fuzz_seed: int = 20260101
    fuzz_time_s: float = Field(600, gt=0)
    load_rate: float = Field(50, gt=0, description="Arrivals per second, open model.")
    load_duration_s: float = Field(10, gt=0)
    load_rows: int = Field(10_000, ge=0)
    load_p95_max_ms: float = Field(100, gt=0)
    load_issued_min_percent: float = Field(99, ge=0, le=100)
    load_quiet_wait_s: float = Field(
        20, ge=0, description="How long the load waits for other work on the machine to end before it measures anyway."
    )
    start_timeout_s: float = Field(30, gt=0)
    step_timeout_s: float = Field(600, gt=0)


class TelemetrySettings(Section):
    """Logs and traces."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"
    otlp_endpoint: str | None = Field(None, description="http://host:4318; absent: spans are not exported.")
    sample_ratio: float = Field(1.0, ge=0, le=1)


class SandboxSettings(Section):
    """Child processes."""

    user: str = Field("nobody", description="Used when the agent itself runs as root.")
    allow_root: bool = Field(
        False, description="Run children as root when no other user can (recorded in the evidence)."
    )
    memory_bytes: int = Field(4 * 1024**3, ge=64 * 1024**2)
    processes: int = Field(512, ge=16)


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
