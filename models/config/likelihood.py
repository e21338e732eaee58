"""The registry of likelihoods: the facts of a likelihood that need no torch.

A likelihood is one file in `models/likelihoods/` and one `Facts`. The `Facts` of built-in likelihoods are here; a
package adds others by an entry point in the group sensorium.likelihoods.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, GetJsonSchemaHandler
from pydantic_core import CoreSchema

LIKELIHOODS_GROUP = "sensorium.likelihoods"

Dtype = Literal["float32", "int64"]
# Variance over mean from which counts are called overdispersed: a Poisson has 1.
OVERDISPERSED = 1.5


@dataclass(frozen=True)
class Support:
    """The numbers to which a likelihood gives a density.

    open: the bounds are outside. whole: whole numbers only.
    """

    minimum: float = -math.inf
    maximum: float = math.inf
    open: bool = False
    whole: bool = False

    def contains(self, values: Any) -> Any:
        """Whether each number is inside: of a number, or elementwise of an array or a tensor. NaN is outside."""
        if self.open:
            inside = (values > self.minimum) & (values < self.maximum)
        else:
            inside = (values >= self.minimum) & (values <= self.maximum)
        return inside & (values % 1 == 0) if self.whole else inside

    @property
    def is_everything(self) -> bool:
        """Whether every finite number is inside."""
        return self == Support() or self == Support(open=True)

    @property
    def takes_booleans(self) -> bool:
        """Whether false and true are values: 0 and 1 are the bounds and inside."""
        return (self.minimum, self.maximum, self.open) == (0, 1, False)

    @property
    def inside(self) -> float:
        """A number inside, 0 if 0 is one: what stands for absent values."""
        if self.contains(0.0):
            return 0.0
        if math.isfinite(self.minimum) and math.isfinite(self.maximum):
            return math.ceil(self.minimum) if self.whole else (self.minimum + self.maximum) / 2
        return self.minimum + 1 if math.isfinite(self.minimum) else self.maximum - 1

    def __str__(self) -> str:
        """In words, after "expected"."""
        numbers = "whole numbers" if self.whole else "numbers"
        low, high = math.isfinite(self.minimum), math.isfinite(self.maximum)
        if low and high:
            ends = (self.minimum, self.maximum)
            return f"{numbers} " + ("between {:g} and {:g}" if self.open else "from {:g} to {:g}").format(*ends)
        if low:
            return f"{numbers} above {self.minimum:g}" if self.open else f"{numbers} from {self.minimum:g} on"
        if high:
            return f"{numbers} below {self.maximum:g}" if self.open else f"{numbers} up to {self.maximum:g}"
        return numbers


@dataclass(frozen=True)
class Output:
    """One array that a prediction answers for each value.

    holds: a number for each element, a category's number, or a number for each category.
    """

    name: str
    holds: Literal["numbers", "category", "categories"] = "numbers"

    def shape(self, shape: tuple[int, ...], categories: int | None) -> tuple[int, ...]:
        """Its shape for one value of this shape."""
        return (*shape, categories or 0) if self.holds == "categories" else shape


@dataclass(frozen=True)
class Facts:
    """The facts that configurations, the API and the converter use of a likelihood, without torch.

    name: as `likelihood` has it. home: "module:Class" of its density, a subclass of `models.likelihoods.Likelihood`;
    imported when a model is built. support: the values it gives a density to; of categories 0 to K - 1 for K of them.
    outputs: what `Likelihood.describe` answers, in this order; the first is the modality's own output in the Open
    Inference Protocol. parameters: how many a decoder gives for each element (K in all for categories).
    scales: which `scale` a modality may choose; "predicted" adds one parameter for each element.
    learned: numbers for each element that gradients train if the scale is learned. quantiles: whether forecasts answer
    quantiles of drawn values. suggests: whether it is the default for values with these statistics of a dataset
    (`minimum`, `maximum`, `mean`, `standard_deviation`, `integral`: whole by type); None: only if it is named.
    """

    name: str
    home: str
    outputs: tuple[Output, ...]
    support: Support = Support()
    categorical: bool = False
    parameters: int = 1
    scales: tuple[Literal["predicted", "fixed"], ...] = ()
    learned: int = 0
    quantiles: bool = True
    suggests: Callable[[Mapping[str, Any]], bool] | None = None

    @property
    def dtype(self) -> Dtype:
        """The type of the values."""
        return "int64" if self.categorical else "float32"


def _always(statistics: Mapping[str, Any]) -> bool:
    return True


def _are_counts(statistics: Mapping[str, Any]) -> bool:
    """Whole numbers by type that start near 0; years and weights do not."""
    if not statistics.get("integral") or statistics.get("minimum", -1) < 0:
        return False
    return bool(statistics["minimum"] <= max(1, statistics["standard_deviation"]))


def _are_bits(statistics: Mapping[str, Any]) -> bool:
    return _are_counts(statistics) and statistics["maximum"] <= 1


def _are_overdispersed_counts(statistics: Mapping[str, Any]) -> bool:
    if not _are_counts(statistics):
        return False
    return bool(statistics["standard_deviation"] ** 2 > OVERDISPERSED * statistics["mean"])


_MOMENTS = (Output("mean"), Output("standard_deviation"))
_RATE = (Output("rate"), Output("standard_deviation"))
_COUNTS = Support(minimum=0, whole=True)

# In this order; the first that `suggests` itself for given values is their default.
BUILT_IN = {
    facts.name: facts
    for facts in (
        Facts(
            name="categorical",
            home="models.likelihoods.categorical:CategoricalLikelihood",
            outputs=(Output("probabilities", "categories"), Output("category", "category")),
            categorical=True,
            quantiles=False,
            suggests=_always,
        ),
        Facts(
            name="bernoulli",
            home="models.likelihoods.bernoulli:BernoulliLikelihood",
            outputs=(Output("probability"),),
            support=Support(0, 1),
            quantiles=False,
            suggests=_are_bits,
        ),
        Facts(
            name="negative_binomial",
            home="models.likelihoods.negative_binomial:NegativeBinomialLikelihood",
            outputs=_RATE,
            support=_COUNTS,
            scales=("predicted",),
            learned=1,
            suggests=_are_overdispersed_counts,
        ),
        Facts(
            name="poisson",
            home="models.likelihoods.poisson:PoissonLikelihood",
            outputs=_RATE,
            support=_COUNTS,
            suggests=_are_counts,
        ),
        Facts(
            name="gaussian",
            home="models.likelihoods.gaussian:GaussianLikelihood",
            outputs=_MOMENTS,
            scales=("predicted", "fixed"),
            suggests=_always,
        ),
        Facts(
            name="laplace",
            home="models.likelihoods.laplace:LaplaceLikelihood",
            outputs=_MOMENTS,
            scales=("predicted", "fixed"),
        ),
    )
}


def names() -> list[str]:
    """The names of all likelihoods: built-in ones, then installed ones."""
    return [*sorted(BUILT_IN), *sorted(_installed())]


def find(name: str) -> Facts:
    """The facts of the likelihood of this name. Raises ValueError, listing the names that exist."""
    facts = BUILT_IN.get(name) or _installed().get(name)
    if facts is None:
        raise ValueError(f"there is no likelihood {name[:100]!r}, only {', '.join(names())}")
    return facts


def default_likelihood(dtype: Dtype, categories: int | None, statistics: Mapping[str, Any] | None = None) -> str:
    """The default likelihood of values of this type: the first one that these statistics suggest.

    Installed likelihoods come before the built-in ones. statistics: of the modality, as a dataset has them; {} or None
    if there are none.
    """
    categorical = categories is not None or dtype == "int64"
    for facts in (*_installed().values(), *BUILT_IN.values()):
        if facts.categorical == categorical and facts.suggests is not None and facts.suggests(statistics or {}):
            return facts.name
    raise AssertionError("a built-in likelihood is suggested for any values")


def _installed() -> Mapping[str, Facts]:
    """The `Facts` of all installed packages, by name."""
    found = {}
    for point in entry_points(group=LIKELIHOODS_GROUP):
        facts = point.load()
        if not isinstance(facts, Facts) or facts.name != point.name:
            raise TypeError(f"entry point {point.name} in {LIKELIHOODS_GROUP} is {point.value}, expected its Facts")
        found[point.name] = facts
    return found


class _Enumerated:
    """Lists the names in JSON schemas. Entry points are read when a schema is made."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(core_schema), "enum": names()}


def _known(name: str) -> str:
    return find(name).name


LikelihoodName = Annotated[str, AfterValidator(_known), _Enumerated]
"""The name of a likelihood that exists."""
