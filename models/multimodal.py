"""What both architectures share: modalities in canonical order, their likelihoods, and the calls a model answers."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, cast

from torch import Tensor, nn

from models import likelihood
from models.batch import Batch
from models.config import ModalityConfig
from models.gaussian import Gaussian
from models.likelihood import Likelihood


class Terms(NamedTuple):
    """The parts of the evidence bound of every sample, in nats, summed over dimensions and time.

    log_likelihood: name -> (B,), 0 where the target is absent. kl: (B,).
    """

    log_likelihood: dict[str, Tensor]
    kl: Tensor


class Multimodal(nn.Module, ABC):
    """Base class of the models. B samples, T steps (sequences only), Z latent features, S draws.

    Modalities are kept sorted by name, whatever order the config has: order carries no meaning, and the same seed
    builds the same weights.
    """

    def __init__(self, modalities: Sequence[ModalityConfig], latent_features: int) -> None:
        super().__init__()
        self.modalities = sorted(modalities, key=lambda modality: modality.name)
        self.index = {modality.name: index for index, modality in enumerate(self.modalities)}
        self.latent_features = latent_features
        self.likelihoods = nn.ModuleList(likelihood.build(modality) for modality in self.modalities)

    def likelihood(self, name: str) -> Likelihood:
        """The likelihood of the modality of this name."""
        return cast(Likelihood, self.likelihoods[self.index[name]])

    def given(self, batch: Batch) -> Iterator[str]:
        """The names of the batch's modalities in canonical order."""
        return (name for name in self.index if name in batch.values)

    def set_statistics(self, statistics: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        """Standardise with the training data's elementwise (mean, standard deviation), for every modality named."""
        for name, (mean, standard_deviation) in statistics.items():
            self.likelihood(name).set_statistics(mean, standard_deviation)

    @abstractmethod
    def noise_shape(self, batch: Batch) -> tuple[int, ...]:
        """Shape of the N(0, I) noise that one draw of the latent of this batch takes: (B, Z) or (B, T, Z)."""

    @abstractmethod
    def encode(self, inputs: Batch) -> Gaussian:
        """Mean and standard deviation of q(z | inputs): (B, Z) or (B, T, Z) each."""

    @abstractmethod
    def terms(self, inputs: Batch, targets: Batch, noise: Tensor) -> Terms:
        """Log-likelihood of the targets and KL divergence, with one draw from q(z | inputs) made of `noise`.

        In training mode the likelihoods adapt to the batch, as batch normalisation does.
        """

    @abstractmethod
    def reconstruct(self, inputs: Batch, targets: Sequence[str], noise: Tensor | None) -> dict[str, dict[str, Tensor]]:
        """For every target its predictive distribution given the inputs, in the user's units.

        noise None decodes the posterior mean. noise (S, B, Z) or (S, B, T, Z) averages over S draws; with 1 in place of
        B all rows share their noise, so that a row's answer does not depend on where in the batch it stands.
        """
