"""Builds a model from its configuration."""

from models.config import ConditionalFlowConfig, MMVAEConfig, MMVRNNConfig, SequenceFlowConfig
from models.mmvae import MMVAE
from models.mmvrnn import MMVRNN
from models.multimodal import NO_PARTS, Parts
from models.ops import Backend, checked

Model = MMVAE | MMVRNN


def build(config: MMVAEConfig | MMVRNNConfig, parts: Parts = NO_PARTS, backend: Backend = "auto") -> Model:
    """A model with random weights, drawn from torch's global generator.

    parts: modules in place of those that the config names. backend: what computes the model (`models.ops.Backend`).
    """
    model: Model = MMVAE(config, parts) if isinstance(config, MMVAEConfig) else MMVRNN(config, parts)
    if config.conditional is not None:
        add_conditional(model, config.conditional)
    model.backend = checked(backend)
    return model


def add_conditional(model: Model, config: ConditionalFlowConfig | SequenceFlowConfig) -> None:
    """Add an untrained conditional part, with random weights from torch's global generator."""
    match model, config:
        case MMVAE(), ConditionalFlowConfig():
            model.add_conditional(config)
        case MMVRNN(), SequenceFlowConfig():
            model.add_conditional(config)
        case _:
            raise TypeError(f"a {type(config).__name__} is not of a {type(model).__name__}")
