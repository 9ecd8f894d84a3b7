"""Settings, read once from the environment (`SERVICE_…`) and frozen. A wrong one stops the start with its name."""

from typing import Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Everything but the credentials of callers, which `app.auth` reads (`SERVICE_AUTH_…`)."""

    model_config = SettingsConfigDict(env_prefix="SERVICE_", frozen=True, extra="ignore")

    database_url: SecretStr = Field(description="postgresql://user:password@host:port/database")
    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"
    pool_size: int = Field(20, ge=1, le=200, description="Connections to the database, at most.")
    pool_timeout_s: float = Field(5, gt=0, description="Waiting for a connection; then 503.")
    statement_timeout_s: float = Field(10, gt=0, description="PostgreSQL ends a statement after so long.")
    request_timeout_s: float = Field(30, gt=0, description="A request that takes longer is answered with 504.")
    drain_s: int = Field(20, ge=0, description="On SIGTERM, open requests may finish for so long.")
    connections_max: int = Field(1000, ge=1, description="Clients at a time; more are answered with 503.")
    keep_alive_s: int = Field(5, ge=1, description="A connection on which nothing comes is closed.")
    head_timeout_s: float = Field(10, gt=0, description="Request line and headers must arrive within; then 408.")
    head_limit_bytes: int = Field(32 * 1024, ge=1024, description="Request line and headers; more: 431.")
    body_limit_bytes: int = Field(1024**2, ge=1, description="More: 413.")
    page_limit_default: int = Field(50, ge=1)
    page_limit_max: int = Field(200, ge=1, description="No list is longer, whatever is asked for.")
    otlp_endpoint: str | None = Field(None, description="http://host:4318; absent: spans are not exported.")

    @field_validator("database_url")
    @classmethod
    def _is_postgresql(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("must start with postgresql://")
        return value
