"""One modality: its values, the likelihood that models them, and the networks that encode and decode them."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, StrictInt, StrictStr, model_validator

from models.config import network
from models.config.frozen import Frozen
from models.config.likelihood import Dtype, Facts, LikelihoodName, Support, find
from models.config.network import NetworkConfig

CategoryNames = tuple[StrictInt, ...] | tuple[StrictStr, ...]
"""By the category's number: texts, or the whole numbers that the data have."""
Scale = Literal["learned", "predicted"] | PositiveFloat


class _Choices(Frozen):
    scale: Scale = Field(
        default="learned",
        description="Spread of a gaussian or laplace around its centre: learned (one a feature), predicted (by the "
        "decoder, for every value), or a fixed number in the data's units. For a negative_binomial its dispersion: "
        "learned or predicted.",
    )
    network: NetworkConfig | None = Field(
        default=None, description="Encoder and decoder; by default the architecture's."
    )


class ModalityOptions(_Choices):
    """The user's choices for one modality."""

    likelihood: LikelihoodName | None = Field(
        default=None, description="Density of the values; by default what fits their type and statistics."
    )


class ModalityConfig(_Choices):
    """One modality: the form of a value (of a sample or a time step), and how it is modelled."""

    name: str = Field(min_length=1, max_length=100, description="Name of the modality, 1 to 100 characters.")
    shape: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(), max_length=4, description="Shape of one value; () is a scalar."
    )
    categories: int | None = Field(default=None, ge=2, description="Values are 0 to categories - 1.")
    category_names: CategoryNames | None = Field(
        default=None, description="What the first categories are called, as a rule all, in the order of their numbers."
    )
    likelihood: LikelihoodName = Field(description="Density of the values: a built-in likelihood or an installed one.")

    @cached_property
    def facts(self) -> Facts:
        """The facts of its likelihood."""
        return find(self.likelihood)

    @cached_property
    def support(self) -> Support:
        """The values that have a density."""
        return self.facts.support if self.categories is None else Support(0, self.categories - 1, whole=True)

    @property
    def dtype(self) -> Dtype:
        """The type of the values."""
        return self.facts.dtype

    @property
    def parameters_per_element(self) -> int:
        """The number of parameters that a decoder gives for each element of a value, or for each category."""
        return self.facts.parameters + (self.scale == "predicted")

    @cached_property
    def category_numbers(self) -> Mapping[int | str, int]:
        """The number of the category that each name stands for; empty without names."""
        names: Sequence[int | str] = self.category_names or ()
        return {name: number for number, name in enumerate(names)}

    @model_validator(mode="after")
    def _names_are_of_the_categories(self) -> Self:
        names = self.category_names or ()
        if len(self.category_numbers) < len(names) or len(names) > (self.categories or 0):
            raise ValueError(
                f"modality {self.name!r} has {len(names)} category names, {len(self.category_numbers)} of them "
                f"different, expected one for each of at most {self.categories or 0} categories"
            )
        return self

    @model_validator(mode="after")
    def _choices_fit(self) -> Self:
        if self.facts.categorical != (self.categories is not None):
            expected = "the number of categories" if self.facts.categorical else "none, which are for int64 values"
            raise ValueError(
                f"modality {self.name!r} is {self.likelihood} with categories={self.categories}, expected {expected}"
            )
        if self.categories is not None and self.shape:
            raise ValueError(f"modality {self.name!r} has categories and shape {self.shape}, expected shape ()")
        if self.scale != "learned" and ("predicted" if self.scale == "predicted" else "fixed") not in self.facts.scales:
            raise ValueError(f"modality {self.name!r} is {self.likelihood}, which has no scale {self.scale!r}")
        if self.network is not None and (why := network.misfit(self.network, self.shape, self.categories)):
            raise ValueError(f"modality {self.name!r}: {why}")
        return self
