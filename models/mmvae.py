"""The multimodal variational autoencoder: one joint latent code per sample."""

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from models import experts, gaussian
from models.batch import Batch
from models.conditional import ConditionalFlow, Context, numbers_of
from models.config import ConditionalFlowConfig, MMVAEConfig, ModalityConfig
from models.experts import Posterior
from models.gaussian import Gaussian
from models.linear_start import Given
from models.multimodal import NO_PARTS, Multimodal, Particles, Parts, Terms


class MMVAE(Multimodal):
    """p(x, z) = N(z; 0, I) prod_m p(x_m | z), and q(z | x) joins one q(z | x_m) per present modality.

    After arXiv:1802.05335. Our difference: inputs and targets are separate, so that a hidden modality is still a
    target, and each row of a batch may lack other modalities.
    """

    def __init__(self, config: MMVAEConfig, parts: Parts = NO_PARTS) -> None:
        super().__init__(config, 2 * config.latent_features, config.latent_features, parts)
        self.config = config
        self.conditional: ConditionalFlow | None = None
        self.expert = parts.expert or experts.build(config.expert, len(self.modalities), config.latent_features)

    def add_conditional(self, config: ConditionalFlowConfig) -> None:
        """Add an untrained conditional part, with random weights from torch's global generator."""
        self.config = self.config.model_copy(update={"conditional": config})
        self.conditional = ConditionalFlow(
            config,
            self.modalities,
            self.config.network,
            self.latent_features,
            copy.deepcopy(self.decoders),
            {name: self.likelihood(name).parameter_shape for name in self.index if self.likelihood(name).has_intervals},
        )

    def condition(self, inputs: Batch) -> Context:
        """What the conditional part takes from the given values."""
        assert self.conditional is not None  # noqa: S101 the caller has looked
        numbers = self.given_numbers(inputs) if self.conditional.start is not None else None
        return self.conditional.given(inputs, self.encoder_input, numbers)

    @torch.no_grad()
    def given_numbers(self, inputs: Batch) -> Given:
        """What the conditional part's regression takes: (B, F). First the values that are parts of the code.

        Of other modalities a category is one-hot, and all else the mean of its own q(z | x_m).
        """
        assert self.conditional is not None  # noqa: S101 the caller has looked
        values = self.conditional.values
        parts = [self._values(inputs, name) for name in values]
        parts += [self._numbers(inputs, modality) for modality in self.modalities if modality.name not in values]
        return _joined(parts)

    @torch.no_grad()
    def stacked_numbers(self, inputs: Batch) -> Given:
        """What the regression of the conditional part's `stacking` takes: (B, U)."""
        assert self.conditional is not None  # noqa: S101 the caller has looked
        assert self.conditional.stacking is not None  # noqa: S101 the caller has looked
        parts = [self._elements(inputs, name) for name in self.conditional.stacking.places]
        return _joined(parts)

    def full_codes(self, targets: Batch) -> Tensor:
        """The codes that the conditional part learns to draw, of all that the rows have: (B, C).

        Values that a row lacks are predicted ones.
        """
        mean = self.encode(targets).mean
        if self.conditional is None or not self.conditional.values:
            return mean
        parts = [mean] if self.conditional.latent_features else []
        for name in self.conditional.values:
            own = self._values(targets, name)
            if not bool(own.known.all()):
                predicted = self.describe(name, self.decoded(name, mean).unsqueeze(0))["mean"]
                own = own._replace(
                    numbers=torch.where(own.known, own.numbers, self.encoder_input(name, predicted).flatten(1))
                )
            parts.append(own.numbers)
        return torch.cat(parts, dim=1)

    def _values(self, inputs: Batch, name: str) -> Given:
        """The standardised elements of a modality: (B, N)."""
        if name not in inputs.values:
            size = math.prod(self.modalities[self.index[name]].shape)
            return _unknown(inputs, size)
        known = inputs.known(name).reshape(inputs.rows, -1)
        return Given(self.encoder_input(name, inputs.values[name]).reshape(inputs.rows, -1), known)

    def _elements(self, inputs: Batch, name: str) -> Given:
        """The standardised elements of a modality, a category as a one-hot vector: (B, N)."""
        categories = self.modalities[self.index[name]].categories
        if categories is None:
            return self._values(inputs, name)
        if name not in inputs.values:
            return _unknown(inputs, categories * math.prod(self.modalities[self.index[name]].shape))
        known = inputs.known(name).reshape(inputs.rows, -1).repeat_interleave(categories, dim=1)
        return Given(functional.one_hot(inputs.values[name], categories).float().reshape(inputs.rows, -1), known)

    def _numbers(self, inputs: Batch, modality: ModalityConfig) -> Given:
        """The category of a modality, or the mean of its own posterior."""
        size, name = numbers_of(modality, self.latent_features), modality.name
        if name not in inputs.values:
            return _unknown(inputs, size)
        known = inputs.observed(name).unsqueeze(1).expand(-1, size)
        if modality.categories is not None and not modality.shape:
            return Given(functional.one_hot(inputs.values[name], size).float(), known)
        raw = self.encoded(name, inputs.values[name], inputs.elements(name))
        return Given(gaussian.from_raw(raw).mean, known)

    def latent_shape(self, batch: Batch) -> tuple[int, ...]:
        """(Z,)."""
        return (self.latent_features,)

    def members(self, inputs: Batch) -> tuple[Gaussian, Tensor]:
        """The prior and one q(z | x_m) per modality, (1 + M, B, Z) twice, and their presence (1 + M, B).

        A modality without values has an absent expert, and its encoder does not run.
        """
        anywhere = inputs.observed(next(iter(inputs.present)))
        prior = gaussian.standard(torch.empty(inputs.rows, self.latent_features, device=anywhere.device))
        members, presence = [prior], [torch.ones_like(anywhere)]
        for name in self.index:
            if name in inputs.values:
                members.append(gaussian.from_raw(self.encoded(name, inputs.values[name], inputs.elements(name))))
                presence.append(inputs.observed(name))
            else:
                members.append(prior)
                presence.append(torch.zeros_like(anywhere))
        mean, deviation = (torch.stack(part) for part in zip(*members, strict=True))
        return Gaussian(mean, deviation), torch.stack(presence)

    def posterior(self, inputs: Batch) -> Posterior:
        """q(z | inputs)."""
        joint: Posterior = self.expert(*self.members(inputs))
        return joint

    def encode(self, inputs: Batch) -> Gaussian:
        """(B, Z) twice: the moments of q(z | inputs)."""
        return self.posterior(inputs).moments()

    def terms(self, inputs: Batch, targets: Batch, noise: Tensor | None) -> Terms:
        """E_q[log p(x_m | z)] of each target with one draw per component, and sum over c of weight_c KL(q_c || p).

        noise: (B, Z). For one component the sum is KL(q || p), for a mixture an upper bound of it.
        """
        posterior = self.posterior(inputs)
        components, weight = posterior.components, posterior.weight
        codes = components.mean if noise is None else gaussian.draw(components, noise)  # (C, B, Z)
        kl = gaussian.kl_from_standard(components)
        density, errors = self._densities(codes, targets, weight > 0)
        if len(weight) == 1:  # its weight is 1
            return Terms({name: value[0] for name, value in density.items()}, kl[0], None, errors)
        log_likelihood = {name: (weight * value).sum(dim=0) for name, value in density.items()}
        return Terms(log_likelihood, (weight.unsqueeze(-1) * kl).sum(dim=0), None, errors)

    def particles(self, inputs: Batch, targets: Batch, noise: Tensor) -> Particles:
        """K draws from each of the C components: C K particles, component by component."""
        posterior = self.posterior(inputs)
        mean, deviation = (part.unsqueeze(1) for part in posterior.components)
        codes = gaussian.draw(Gaussian(mean, deviation), noise).flatten(0, 1)  # (C K, B, Z)
        log_weight = posterior.weight.log()  # (C, B)
        log_prior = gaussian.log_density(codes, gaussian.standard(codes)).sum(dim=-1)
        each = gaussian.log_density(codes.unsqueeze(1), posterior.components).sum(dim=-1)  # (C K, C, B)
        log_ratio = log_prior - (log_weight + each).logsumexp(dim=1)
        draws = len(noise)
        of_particles = log_weight.repeat_interleave(draws, dim=0)
        density, errors = self._densities(codes, targets, of_particles.isfinite())
        return Particles(density, log_ratio, of_particles - math.log(draws), errors)

    def decode(self, inputs: Batch, targets: Sequence[str], noise: Tensor | None) -> dict[str, Tensor]:
        """Likelihood parameters (S, B, *parameter_shape) of each target."""
        posterior = self.posterior(inputs)
        codes = posterior.moments().mean.unsqueeze(0) if noise is None else posterior.draw(noise)  # (S, B, Z)
        return self.generate(codes, targets)

    def generate(self, codes: Tensor, targets: Sequence[str]) -> dict[str, Tensor]:
        """Likelihood parameters of each target for latent codes (S, B, Z): name -> (S, B, *parameter_shape)."""
        return {name: self.decoded(name, codes.flatten(0, 1)).unflatten(0, codes.shape[:2]) for name in targets}

    def expert_shares(self, inputs: Batch) -> dict[str, Tensor] | None:
        """Each modality's share in the joint precision of its row, averaged over latent features: name -> (B,)."""
        shares = self.expert.shares(*self.members(inputs))
        return None if shares is None else dict(zip(self.index, shares, strict=True))

    def _densities(self, codes: Tensor, targets: Batch, counts: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """log p(x_m | z) of each target, (K, B) for codes (K, B, Z), and errors where `counts` (K, B) is true."""
        density, errors = {}, {}
        draws = len(codes)
        for name, raw in self.generate(codes, list(self.given(targets))).items():
            likelihood, present, elements = self.likelihood(name), targets.observed(name), targets.elements(name)
            raw = raw.flatten(0, 1)
            value = _repeated(targets.values[name], draws)
            elements = None if elements is None else _repeated(elements, draws)
            of_each = likelihood.log_prob(raw, value, elements).unflatten(0, (draws, -1))
            density[name] = torch.where(present, of_each, 0.0)
            if self.training:
                errors[name] = likelihood.errors(raw, value, (present & counts).flatten(), elements)
        return density, errors


def _joined(parts: Sequence[Given]) -> Given:
    return Given(torch.cat([part.numbers for part in parts], dim=1), torch.cat([part.known for part in parts], dim=1))


def _unknown(inputs: Batch, size: int) -> Given:
    """Numbers that no row has."""
    anywhere = next(iter(inputs.present.values()))
    return Given(
        torch.zeros(inputs.rows, size, device=anywhere.device),
        torch.zeros(inputs.rows, size, dtype=torch.bool, device=anywhere.device),
    )


def _repeated(value: Tensor, draws: int) -> Tensor:
    """Draw by draw: (B, ...) -> (draws B, ...)."""
    return value.expand(draws, *value.shape).flatten(0, 1)
