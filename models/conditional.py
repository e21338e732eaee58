"""p(z | what is given): draws of the latent code that know as much as the given values say, and no more.

q(z | inputs) of a multimodal VAE is made for point answers: given a label, its deviation is a fifth of the spread of
the codes of that label's images. The flow here is fitted to the codes themselves, after the VAE.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from models import networks, straight_paths
from models.batch import Batch
from models.config import ConditionalFlowConfig, MLPConfig, ModalityConfig, NetworkConfig
from models.draw_calibration import DrawCalibration
from models.gaussian import FLOOR
from models.straight_paths import TIME_FEATURES

# Features of what is given.
GIVEN_FEATURES = 64
HIDDEN_FEATURES = 128
Standardise = Callable[[str, Tensor, Tensor | None], Tensor]
"""(name, values, elements) -> an encoder's input, as `Multimodal.encoder_input`."""


class Context(NamedTuple):
    """What the velocity takes from the given values of B rows.

    hidden: (B, H), added to the first layer. linear: (B, Z), added to the output.
    """

    hidden: Tensor
    linear: Tensor


class ConditionalFlow(nn.Module):
    """A flow along straight paths (`models.straight_paths`) from N(0, I) to the codes of rows.

    Each modality has an encoder of its own here, and a learned vector where it is missing.

    B rows, S draws, Z features of a code, H hidden features. Codes are standardised by `mean` and `deviation`.
    """

    mean: Tensor
    deviation: Tensor
    frequencies: Tensor

    def __init__(
        self,
        config: ConditionalFlowConfig,
        modalities: Sequence[ModalityConfig],
        network: NetworkConfig,
        latent_features: int,
        decoders: nn.ModuleList,
    ) -> None:
        super().__init__()
        hidden = config.hidden_features
        self.config = config
        self.names = [modality.name for modality in modalities]
        self.encoders = nn.ModuleList(_encoder(modality, modality.network or network) for modality in modalities)
        self.missing = nn.Parameter(torch.zeros(len(modalities), GIVEN_FEATURES))
        # which elements of a vector are present; an image's are too many
        self.elements = nn.ModuleList(
            nn.Linear(modality.shape[0], GIVEN_FEATURES, bias=False) if len(modality.shape) == 1 else nn.Identity()
            for modality in modalities
        )
        self.context = nn.Sequential(nn.SiLU(), nn.Linear(GIVEN_FEATURES, hidden))
        self.linear = nn.Linear(GIVEN_FEATURES, latent_features)
        self.code = nn.Linear(latent_features, hidden)
        self.time = nn.Linear(2 * TIME_FEATURES, hidden)
        self.layers = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(config.layers - 1))
        self.output = nn.Linear(hidden, latent_features)
        self.decoders = decoders
        self.calibration = DrawCalibration(modalities)
        self.register_buffer("mean", torch.zeros(latent_features))
        self.register_buffer("deviation", torch.ones(latent_features))
        self.register_buffer("frequencies", straight_paths.frequencies())
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.linear.weight)

    def standardise(self, codes: Tensor) -> None:
        """Set the mean and standard deviation of the codes, (N, Z)."""
        self.mean.copy_(codes.mean(dim=0))
        self.deviation.copy_(codes.std(dim=0, correction=0).clamp(min=FLOOR))

    def given(self, inputs: Batch, standardise: Standardise) -> Context:
        """The context of each row; any modalities, or elements of them, may be missing."""
        rows = inputs.rows
        total = self.missing.new_zeros(rows, self.missing.shape[1])
        for index, name in enumerate(self.names):
            if name not in inputs.values:
                total = total + self.missing[index]
                continue
            elements = inputs.elements(name)
            own = self.encoders[index](standardise(name, inputs.values[name], elements))
            if elements is not None and isinstance(self.elements[index], nn.Linear):
                own = own + self.elements[index]((~elements).to(own.dtype))
            total = total + torch.where(inputs.observed(name).unsqueeze(1), own, self.missing[index])
        return Context(self.context(total), self.linear(total))

    def velocity(self, codes: Tensor, time: Tensor, context: Context) -> Tensor:
        """The mean of z_1 - z_0 at z_t = `codes` (..., Z). time: broadcasts to (..., 1)."""
        clock = self.time(straight_paths.clock(time, self.frequencies))
        hidden = functional.silu(self.code(codes) + clock + context.hidden)
        for layer in self.layers:
            hidden = hidden + functional.silu(layer(hidden))
        velocity: Tensor = straight_paths.alone(codes, time) + self.output(hidden) + context.linear
        return velocity

    def loss(self, codes: Tensor, noise: Tensor, time: Tensor, context: Context) -> Tensor:
        """The mean squared error of the velocity. codes, noise: (B, Z), time: (B, 1)."""
        end = (codes - self.mean) / self.deviation
        found = self.velocity((1 - time) * noise + time * end, time, context)
        return (found - (end - noise)).square().mean()

    def decoded(self, name: str, codes: Tensor) -> Tensor:
        """Likelihood parameters of a modality for codes (N, Z): (N, *parameter_shape)."""
        raw: Tensor = self.decoders[self.names.index(name)](codes)
        return raw

    def draw(self, context: Context, noise: Tensor) -> Tensor:
        """Codes (S, B, Z) for noise (S, B, Z) from N(0, I)."""

        def velocity(codes: Tensor, time: Tensor) -> Tensor:
            return self.velocity(codes, time, context)

        return self.mean + self.deviation * straight_paths.follow(velocity, noise, self.config.steps)


def _encoder(modality: ModalityConfig, network: NetworkConfig) -> nn.Module:
    """The encoder of a modality. In place of the model's MLPs, smaller ones: there are fewer steps to fit them in."""
    if not isinstance(network, MLPConfig):
        return networks.encoder(network, modality, GIVEN_FEATURES)
    if modality.categories is not None:
        return nn.Embedding(modality.categories, GIVEN_FEATURES)
    return networks.encoder(MLPConfig(hidden_features=(HIDDEN_FEATURES,)), modality, GIVEN_FEATURES)
