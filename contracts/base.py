"""What every payload model shares."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Payload(BaseModel):
    """The JSON value of a record. Published schemas are closed; we, as consumers, ignore unknown fields.

    `ALWAYS` names fields that stand in every record although our own code need not give them: a default spares the
    writer, but a reader may rely on them, and the schema requires them.
    """

    ALWAYS: ClassVar[frozenset[str]] = frozenset()

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)
