"""What a record that is read from outside is held to."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class StrictModel(BaseModel):
    """Fields that never change; a field that it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)
