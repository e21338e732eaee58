"""Builds a model from its configuration."""

from models.config import MMVAEConfig, MMVRNNConfig
from models.mmvae import MMVAE
from models.mmvrnn import MMVRNN
from models.multimodal import NO_PARTS, Parts
from models.ops import Backend, checked

Model = MMVAE | MMVRNN


def build(config: MMVAEConfig | MMVRNNConfig, parts: Parts = NO_PARTS, backend: Backend = "auto") -> Model:
    """A model with random weights, drawn from torch's global generator.

    parts: modules in place of those that the config names. backend: what computes the model (`models.ops.Backend`).
    """
    model: Model
    if isinstance(config, MMVAEConfig):
        model = MMVAE(config, parts)
        if config.conditional is not None:
            model.add_conditional(config.conditional)
    else:
        model = MMVRNN(config, parts)
    model.backend = checked(backend)
    return model
