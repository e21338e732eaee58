"""Base class of all configurations, and the errors of configurations that do not fit."""

from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal["static", "sequence"]
Width = Annotated[int, Field(ge=1, le=4096)]


class Frozen(BaseModel):
    """Immutable, and refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Misfit(NamedTuple):
    """One thing that does not fit. place: keys from the top of the configuration, such as ('modalities', 'audio')."""

    place: tuple[str | int, ...]
    detail: str


class Misfits(ValueError):
    """Valid configurations that do not fit the dataset or each other. Lists all misfits."""

    def __init__(self, found: list[Misfit]) -> None:
        super().__init__("; ".join(f"{'.'.join(map(str, misfit.place))}: {misfit.detail}" for misfit in found))
        self.found = found
