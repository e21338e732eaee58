"""Which class builds which architecture."""

from models.config import MMVAEConfig, MMVRNNConfig
from models.mmvae import MMVAE
from models.mmvrnn import MMVRNN

Model = MMVAE | MMVRNN


def build(config: MMVAEConfig | MMVRNNConfig) -> Model:
    """A model with fresh weights, drawn from torch's global generator."""
    return MMVAE(config) if isinstance(config, MMVAEConfig) else MMVRNN(config)
