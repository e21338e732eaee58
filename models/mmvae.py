"""The multimodal variational autoencoder: one joint latent code for a sample."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models import experts, gaussian, networks
from models.batch import Batch
from models.config import MMVAEConfig
from models.experts import Posterior
from models.gaussian import Gaussian
from models.multimodal import Multimodal, Terms


class MMVAE(Multimodal):
    """p(x, z) = N(z; 0, I) prod_m p(x_m | z), and q(z | x) joins one q(z | x_m) for each present modality.

    After arXiv:1802.05335. Our difference: inputs and targets are separate, so that a hidden modality is still
    something to predict, and every row of a batch may lack other modalities.
    """

    def __init__(self, config: MMVAEConfig) -> None:
        super().__init__(config.modalities, config.latent_features)
        self.config = config
        self.encoders = nn.ModuleList(
            networks.encoder(config.network, modality, 2 * config.latent_features) for modality in self.modalities
        )
        self.decoders = nn.ModuleList(
            networks.decoder(config.network, config.latent_features, self.likelihood(name).parameter_shape)
            for name in self.index
        )
        self.expert = experts.build(config.expert, len(self.modalities), config.latent_features)

    def noise_shape(self, batch: Batch) -> tuple[int, ...]:
        """(B, Z)."""
        return (batch.rows, self.latent_features)

    def posterior(self, inputs: Batch) -> Posterior:
        """q(z | inputs). The encoder of a modality without values does not run: its expert is absent."""
        anywhere = next(iter(inputs.present.values()))
        prior = gaussian.standard(torch.empty(inputs.rows, self.latent_features, device=anywhere.device))
        members, presence = [prior], [torch.ones_like(anywhere)]
        for name, index in self.index.items():
            if name in inputs.values:
                value = self.likelihood(name).standardise(inputs.values[name])
                members.append(gaussian.from_raw(self.encoders[index](value)))
                presence.append(inputs.present[name])
            else:
                members.append(prior)
                presence.append(torch.zeros_like(anywhere))
        mean, deviation = (torch.stack(parts) for parts in zip(*members, strict=True))  # (1 + M, B, Z)
        joint: Posterior = self.expert(Gaussian(mean, deviation), torch.stack(presence))
        return joint

    def encode(self, inputs: Batch) -> Gaussian:
        """(B, Z) twice: the moments of q(z | inputs)."""
        return self.posterior(inputs).moments()

    def terms(self, inputs: Batch, targets: Batch, noise: Tensor) -> Terms:
        """E_q[log p(x_m | z)] of every target with one draw per component, and sum over c of weight_c KL(q_c || p).

        noise: (B, Z). For a product that is the evidence bound's KL; for a mixture it bounds it from above.
        """
        posterior = self.posterior(inputs)
        codes = gaussian.draw(posterior.components, noise)  # (C, B, Z)
        kl = gaussian.kl_divergence(posterior.components, gaussian.standard(codes))
        log_likelihood = {}
        for name in self.given(targets):
            likelihood, value, present = self.likelihood(name), targets.values[name], targets.present[name]
            density = []
            for code, weight in zip(codes, posterior.weight, strict=True):
                raw = self.decoders[self.index[name]](code)
                density.append(torch.where(present, likelihood.log_prob(raw, value), 0.0))
                if self.training:  # a component that weighs nothing says nothing about the error
                    likelihood.adapt(raw, value, present & (weight > 0))
            log_likelihood[name] = (posterior.weight * torch.stack(density)).sum(dim=0)
        return Terms(log_likelihood, (posterior.weight * kl).sum(dim=0))

    def reconstruct(self, inputs: Batch, targets: Sequence[str], noise: Tensor | None) -> dict[str, dict[str, Tensor]]:
        """Predictive distribution of every target; noise: (S, B or 1, Z), or None for the posterior mean."""
        posterior = self.posterior(inputs)
        codes = posterior.moments().mean.unsqueeze(0) if noise is None else posterior.draw(noise)  # (S, B, Z)
        predictions = {}
        for name in targets:
            raw = self.decoders[self.index[name]](codes.flatten(0, 1)).unflatten(0, codes.shape[:2])
            predictions[name] = self.likelihood(name).describe(raw)
        return predictions
