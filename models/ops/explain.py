"""Which kernel serves a model on a device, and why the others do not."""

from itertools import chain
from typing import Literal, NamedTuple

import torch

from models.architectures import build
from models.config import MLPConfig, MMVAEConfig, MMVRNNConfig, ModalityConfig, TrainingConfig
from models.config.training import IWAE
from models.mmvae import MMVAE
from models.mmvrnn import MMVRNN
from models.multimodal import Multimodal
from models.ops import elbo, gru_loop, philox, posterior


class Served(NamedTuple):
    """What computes one operation of a model.

    operation: a file of `models/ops/`. serves: its kernel, its PyTorch reference, or "none" where the model does not
    use it. reason: why it is not the kernel, or None.
    """

    operation: str
    serves: Literal["kernel", "reference", "none"]
    reason: str | None


def explain(
    model: Multimodal,
    device: str | torch.device,
    training: TrainingConfig | None = None,
    element_masks: bool = False,
) -> tuple[Served, ...]:
    """What computes each operation for this model on this device, in a training or, without one, in inference.

    element_masks: whether the data have a mask per element.
    """
    backend = "the model's backend is 'reference'" if model.backend == "reference" else None
    networks = backend or _networks(torch.device(device), training)
    masks = "the kernel takes no mask per element" if element_masks else None
    random = Served("philox", "none", "inference draws with NumPy")
    if training is not None:
        random = _served("philox", backend or philox.supports())
    if isinstance(model, MMVAE):
        return (
            _served("elbo", networks or masks or _other_objective(training) or elbo.supports(model)),
            _served("posterior", networks or masks or posterior.supports(model)),
            Served("gru_loop", "none", "an MM-VAE has no time steps"),
            random,
        )
    if isinstance(model, MMVRNN):
        own = gru_loop.supports(model.inference, model.recurrence, torch.device(device))
        return (
            Served("elbo", "none", "the kernel computes the evidence lower bound of an MM-VAE"),
            Served("posterior", "none", "the kernel computes the posterior of an MM-VAE"),
            _served("gru_loop", networks or own),
            random,
        )
    raise TypeError(f"the model is a {type(model).__name__}, expected an MM-VAE or an MM-VRNN")


def in_words(served: tuple[Served, ...]) -> str:
    """One line for a log: what serves each operation that the model uses, and why it is not the kernel."""
    used = [one for one in served if one.serves != "none"]
    return "; ".join(f"{one.operation}: {one.serves}" + (f" ({one.reason})" if one.reason else "") for one in used)


def explain_examples(device: str | torch.device) -> str:
    """`explain` of the training of a small model of each architecture: what this installation computes with."""
    modality = ModalityConfig(name="x", shape=(2,), likelihood="gaussian")
    configs = (
        MMVAEConfig(modalities=(modality,), latent_features=5, network=MLPConfig(hidden_features=(10,))),
        MMVRNNConfig(modalities=(modality,), latent_features=5),
    )
    served = (explain(build(config), device, TrainingConfig()) for config in configs)
    return in_words(tuple(dict.fromkeys(chain.from_iterable(served))))


def _networks(device: torch.device, training: TrainingConfig | None) -> str | None:
    """Why no kernel computes the networks of any model, or None where one may."""
    if device.type != "cpu":
        return f"the kernels run on the CPU, the model is on {device.type}"
    if training is not None and training.precision != "float32":
        return f"the kernels compute in float32, the networks in {training.precision}"
    return None


def _other_objective(training: TrainingConfig | None) -> str | None:
    if training is None or not isinstance(training.objective, IWAE):
        return None
    return "the kernel computes the ELBO, the objective is the importance weighted bound"


def _served(operation: str, reason: str | None) -> Served:
    return Served(operation, "kernel" if reason is None else "reference", reason)
