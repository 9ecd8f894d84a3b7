"""What every payload model shares."""

from pydantic import BaseModel, ConfigDict


class Payload(BaseModel):
    """The JSON value of a record. Published schemas are closed; we, as consumers, ignore unknown fields."""

    model_config = ConfigDict(frozen=True, extra="ignore")
