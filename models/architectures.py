"""Which class builds which architecture."""

from models.config import MMVAEConfig, MMVRNNConfig
from models.mmvae import MMVAE
from models.mmvrnn import MMVRNN
from models.multimodal import NO_PARTS, Parts

Model = MMVAE | MMVRNN


def build(config: MMVAEConfig | MMVRNNConfig, parts: Parts = NO_PARTS) -> Model:
    """A model with fresh weights, drawn from torch's global generator; `parts` stand in for what the config names."""
    return MMVAE(config, parts) if isinstance(config, MMVAEConfig) else MMVRNN(config, parts)
