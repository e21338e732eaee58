"""Which rows of a dataset are held out, as a caller declares it."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from service.shared.resource_names import ColumnName


class SplitColumn(BaseModel):
    """The rows' split stands in a column: training (or train), validation (or valid, val) or test; or 0, 1, 2."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    column: ColumnName


class SplitFractions(BaseModel):
    """Rows are held out at random."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    validation: float = Field(default=0.1, ge=0, lt=1)
    test: float = Field(default=0.0, ge=0, lt=1)
    seed: int = Field(default=0, ge=0, le=2**53 - 1)

    @model_validator(mode="after")
    def _something_is_left(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError(f"validation and test are {self.validation + self.test} together, expected less than 1")
        return self


def _kind_of_split(split: Any) -> str:
    """Which of the two is meant, so that faults are about that one alone."""
    if isinstance(split, BaseModel):
        return type(split).__name__
    return "SplitColumn" if isinstance(split, dict) and "column" in split else "SplitFractions"


Split = Annotated[
    Annotated[SplitColumn, Tag("SplitColumn")] | Annotated[SplitFractions, Tag("SplitFractions")],
    Discriminator(_kind_of_split),
]
