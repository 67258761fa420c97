"""What all sections of params.yaml share."""

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
Name = Annotated[str, Field(pattern=f"^{SAFE_NAME.pattern}$")]  # it becomes part of paths and of titles


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
