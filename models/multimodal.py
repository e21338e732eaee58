"""The base class of both models: modalities in canonical order, their networks and likelihoods."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from models import likelihoods, networks
from models.batch import Batch
from models.config import MMVAEConfig, MMVRNNConfig
from models.experts import Expert
from models.gaussian import Gaussian
from models.likelihoods import Likelihood
from models.ops import Backend


class Terms(NamedTuple):
    """The parts of the evidence lower bound, in nats, of each sample or of each step of each sequence.

    log_likelihood: name -> (B,) or (B, T), summed over a value's dimensions, 0 where the target is absent. kl: (B, Z)
    or (B, T, Z), 0 at padding. valid: (B, T), None for samples. errors: name -> what `Likelihood.adapt` takes.
    """

    log_likelihood: dict[str, Tensor]
    kl: Tensor
    valid: Tensor | None
    errors: dict[str, Tensor]


class Particles(NamedTuple):
    """K weighted draws of the latent of each sample or sequence, for importance weighted bounds, in nats.

    log_likelihood: name -> (K, B), summed over dimensions and time. log_ratio: (K, B), log p(z) - log q(z | inputs).
    log_weight: (K, B), the logarithms of weights that sum to 1 over K. errors: name -> what `Likelihood.adapt` takes.
    """

    log_likelihood: dict[str, Tensor]
    log_ratio: Tensor
    log_weight: Tensor
    errors: dict[str, Tensor]


@dataclass(frozen=True)
class Parts:
    """Custom modules that replace those of a configuration. The others are built from the configuration.

    An encoder maps standardised values (N, *shape) to (N, out_features): 2 latent_features for an MM-VAE (means, then
    unbounded deviations), modality_features for an MM-VRNN. A decoder maps (N, latent_features), or for an MM-VRNN
    (N, latent_features + recurrent_features), to (N, *likelihood.parameter_shape).
    """

    encoders: Mapping[str, nn.Module] = field(default_factory=dict)
    decoders: Mapping[str, nn.Module] = field(default_factory=dict)
    expert: Expert | None = None

    def names(self) -> list[str]:
        """The names of the given parts, as a checkpoint records them."""
        given = [f"encoders.{name}" for name in self.encoders] + [f"decoders.{name}" for name in self.decoders]
        return sorted(given) + ["expert"] * (self.expert is not None)


NO_PARTS = Parts()


class Multimodal(nn.Module, ABC):
    """Base class of the models. B samples, T steps (sequences only), Z latent features in all, S or K draws.

    Modalities are sorted by name: their order in the configuration has no meaning, and the same seed builds the same
    weights in any order.
    """

    parameter_vector: Tensor | None = None
    """While a model is trained, a leaf tensor that all parameters are views of; all their gradients are views of its
    `grad`. Automatic differentiation may write to either."""
    backend: Backend = "auto"
    """What computes the operations of `models.ops`, in any thread."""

    def __init__(
        self, config: MMVAEConfig | MMVRNNConfig, encoded_features: int, decoded_features: int, parts: Parts
    ) -> None:
        super().__init__()
        self.parts = parts
        self.modalities = sorted(config.modalities, key=lambda modality: modality.name)
        self.index = {modality.name: index for index, modality in enumerate(self.modalities)}
        if unknown := sorted({*parts.encoders, *parts.decoders} - self.index.keys()):
            raise ValueError(f"parts are given for {', '.join(unknown)}, expected some of {', '.join(self.index)}")
        self.latent_features = config.code_features
        self.likelihoods = nn.ModuleList(likelihoods.build(modality) for modality in self.modalities)
        self.encoders = nn.ModuleList(
            parts.encoders[modality.name]
            if modality.name in parts.encoders
            else networks.encoder(modality.network or config.network, modality, encoded_features)
            for modality in self.modalities
        )
        self.decoders = nn.ModuleList(
            parts.decoders[modality.name]
            if modality.name in parts.decoders
            else networks.decoder(
                modality.network or config.network, decoded_features, self.likelihood(modality.name).parameter_shape
            )
            for modality in self.modalities
        )

    def likelihood(self, name: str) -> Likelihood:
        """The likelihood of the modality of this name."""
        return cast(Likelihood, self.likelihoods[self.index[name]])

    def given(self, batch: Batch) -> Iterator[str]:
        """The names of the batch's modalities in canonical order."""
        return (name for name in self.index if name in batch.values)

    def encoder_input(self, name: str, value: Tensor, elements: Tensor | None = None) -> Tensor:
        """Standardised values of a modality, (N, *shape) -> (N, *shape); 0, the mean, where `elements` is false.

        elements: (N, *shape) bool, which elements are present; None if all are.
        """
        standardised = self.likelihood(name).standardise(value)
        return standardised if elements is None else torch.where(elements, standardised, 0)

    def encoded(self, name: str, value: Tensor, elements: Tensor | None = None) -> Tensor:
        """The encoder's output for values in the user's units: (N, *shape) -> (N, encoded_features)."""
        features: Tensor = self.encoders[self.index[name]](self.encoder_input(name, value, elements))
        return features

    def decoded(self, name: str, code: Tensor) -> Tensor:
        """Likelihood parameters of a modality, at least in float32: (N, decoded_features) -> (N, *parameter_shape)."""
        raw: Tensor = self.decoders[self.index[name]](code)
        return raw if raw.dtype == torch.float64 else raw.float()

    def set_statistics(self, statistics: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        """Standardise with the training data's elementwise (mean, standard deviation) of each named modality."""
        for name, (mean, standard_deviation) in statistics.items():
            self.likelihood(name).set_statistics(mean, standard_deviation)

    def adapt(self, errors: Mapping[str, Tensor]) -> None:
        """Adapt the likelihoods to the errors of a training batch, name -> `Terms.errors` or `Particles.errors`."""
        for name, error in errors.items():
            self.likelihood(name).adapt(error)

    @abstractmethod
    def latent_shape(self, batch: Batch) -> tuple[int, ...]:
        """The shape of one row's latent in this batch: (Z,) or (T, Z)."""

    @abstractmethod
    def encode(self, inputs: Batch) -> Gaussian:
        """Mean and standard deviation of q(z | inputs): (B, Z) or (B, T, Z) each."""

    @abstractmethod
    def terms(self, inputs: Batch, targets: Batch, noise: Tensor | None) -> Terms:
        """Log-likelihood of the targets and KL divergence, with one draw from q(z | inputs).

        noise: (B, Z) or (B, T, Z) from N(0, I), or None for the posterior mean.
        """

    @abstractmethod
    def particles(self, inputs: Batch, targets: Batch, noise: Tensor) -> Particles:
        """K draws per row, or per component of a mixture. noise: (K, B, Z) or (K, B, T, Z) from N(0, I)."""

    @abstractmethod
    def decode(self, inputs: Batch, targets: Sequence[str], noise: Tensor | None) -> dict[str, Tensor]:
        """Likelihood parameters of each target for S draws from q(z | inputs).

        noise: (S, B or 1, Z) or (S, B or 1, T, Z) from N(0, I); with 1 in place of B all rows share their noise, so
        that a row's answer does not depend on its place in the batch. None decodes the posterior mean, S = 1. Returns
        name -> (S, B, *parameter_shape) or (S, B, T, *parameter_shape).
        """

    def reconstruct(self, inputs: Batch, targets: Sequence[str], noise: Tensor | None) -> dict[str, dict[str, Tensor]]:
        """The predictive distribution of each target, averaged over the draws, in the user's units."""
        return {
            name: self.describe(name, raw, inputs.absence(name))
            for name, raw in self.decode(inputs, targets, noise).items()
        }

    def describe(self, name: str, raw: Tensor, absence: Tensor | None = None) -> dict[str, Tensor]:
        """The mixture of S equally likely distributions, in the user's units.

        raw: their parameters, (S, B, *parameter_shape) or (S, B, T, *parameter_shape). absence: (B,) or (B, T), of
        `Batch.absence`, by which standard deviations are calibrated; None for uncalibrated ones. Returns what
        `Likelihood.describe` names, (B, ...) or (B, T, ...).
        """
        likelihood = self.likelihood(name)
        leading = raw.shape[1 : raw.ndim - len(likelihood.parameter_shape)]
        described = likelihood.describe(raw.flatten(1, len(leading)))
        if absence is not None:
            described = likelihood.widen(described, absence.flatten(), len(raw))
        return {key: value.unflatten(0, leading) for key, value in described.items()}

    def expert_shares(self, inputs: Batch) -> dict[str, Tensor] | None:
        """Each modality's share in the precision of a product of experts, name -> (B,); None for other posteriors."""
        return None
