"""A query about a model version: an operation, its arguments and the rows."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from models.config import MMVAEConfig, MMVRNNConfig
from service.inference.rows import Rows

Config = MMVAEConfig | MMVRNNConfig
Operation = Literal["encode", "reconstruct", "impute", "score", "forecast", "sample"]
Tree = Mapping[str, Any]
"""An answer: arrays (B, ...) by name, or such mappings."""


@dataclass(frozen=True)
class Loadable:
    """A model version as an engine needs it: its artifact, and how to verify that the artifact is whole."""

    id: str
    project_id: str = field(compare=False)
    model: str = field(compare=False)
    number: int = field(compare=False)
    sha256: str = field(compare=False)
    size_bytes: int = field(compare=False)


@dataclass(frozen=True)
class Version(Loadable):
    """A model version as a route needs it: with the configuration, which says how to decode requests."""

    config: Config = field(compare=False)


@dataclass(frozen=True)
class Computation:
    """What the engine computes with rows. Requests with equal computations share a batch, except draws from the prior.

    arguments: of the predictor's method, beside the rows. has_state: whether every row continues from a state.
    """

    version: Loadable
    operation: Operation
    arguments: Mapping[str, Any] = field(default_factory=dict)
    has_state: bool = False

    @property
    def draws(self) -> int:
        """How often every time step is computed."""
        return max(int(self.arguments.get("n_samples", self.arguments.get("draws", 1))), 1)

    def steps(self, rows: Rows) -> int:
        """Time steps of the longest sequence, given or to be generated."""
        return max(rows.steps, int(self.arguments.get("horizon") or self.arguments.get("steps") or 1))


@dataclass(frozen=True, slots=True)
class Pointers:
    """Where a request says what to answer and how many draws to take, for error messages.

    draws: over which an answer averages. completions: draws that `impute` answers.
    """

    targets: str = "/targets"
    draws: str = "/n_samples"
    completions: str = "/draws"


@dataclass(frozen=True, slots=True)
class Query:
    """What one request asks of a version.

    state: the token of the sequences' state, None at their beginning. returns_state: whether the answer has the next
    token.
    """

    operation: Operation
    rows: Rows
    arguments: Mapping[str, Any] = field(default_factory=dict)
    timeout_seconds: float = math.inf
    state: str | None = None
    returns_state: bool = False
    pointers: Pointers = Pointers()
