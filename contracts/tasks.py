"""`task.requested`: what starts work."""

from enum import StrEnum
from hashlib import sha256
from typing import Annotated

from pydantic import Field, model_validator

from contracts.base import Payload

SERVICE_NAME = r"^[a-z][a-z0-9-]{0,39}$"
ServiceName = Annotated[
    str, Field(pattern=SERVICE_NAME, description="Name of the service; also the folder that it is delivered in.")
]


class Kind(StrEnum):
    """What is asked for."""

    BUILD = "build"
    EXTEND = "extend"
    REVIEW = "review"


class Target(StrEnum):
    """A stack that can be delivered."""

    PYTHON_FASTAPI = "python-fastapi"


class Specification(Payload):
    """The API document, as text, byte for byte (JSON string), or by the envelope's `dataref`."""

    media_type: str = Field(
        "application/yaml",
        description="`application/yaml` or `application/json`; a hint, the content decides.",
        max_length=100,
    )
    content: str | None = Field(
        None, description="The OpenAPI 3.0 or 3.1 document itself. Absent only when the envelope carries `dataref`."
    )
    sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="Hex digest of the document's UTF-8 bytes; checked when given."
    )

    @model_validator(mode="after")
    def _is_whole(self) -> "Specification":
        if self.content is not None and self.sha256 and sha256(self.content.encode()).hexdigest() != self.sha256:
            raise ValueError("sha256 is not the digest of content")
        return self


class TaskRequested(Payload):
    """Somebody (a person, a pipeline, another agent) asks for a backend service."""

    kind: Kind = Kind.BUILD
    service: ServiceName | None = Field(None, description="Absent: derived from `info.title` of the document.")
    target: Target = Target.PYTHON_FASTAPI
    specification: Specification
    priority: int = Field(5, ge=0, le=9, description="9 runs first; waiting tasks age upwards.")
    run_after_s: float = Field(0, ge=0, le=30 * 86400, description="Seconds to wait before the task may start.")
    attempt_deadline_s: float | None = Field(
        None, gt=0, le=86400, description="Longest time for one attempt; absent: the agent's setting."
    )
    total_deadline_s: float | None = Field(
        None, gt=0, le=30 * 86400, description="Longest time over all attempts; absent: the agent's setting."
    )
