"""The posterior of a trained MM-VAE in few calls: what serving runs instead of one module after the other."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from models import gaussian
from models.batch import Batch
from models.experts import ProductOfExperts
from models.gaussian import Gaussian
from models.mmvae import MMVAE

Step = Callable[[Tensor], Tensor]
_DO_NOTHING = (nn.Dropout, nn.Identity)


class FusedProduct:
    """The moments of q(z | inputs) of a product of experts (arXiv:1802.05335, eq. 4), as `MMVAE.encode` gives them.

    Of few rows, calling a module takes torch several times as long as what it computes. So the layers stand in one
    list a modality, an absent modality is left out instead of masked, and the prior N(0, I) is the 1 that its precision
    is. The weights are the model's own, not copies. Evaluation mode only: dropout is left out.
    """

    def __init__(self, model: MMVAE) -> None:
        self._encoders = {
            name: [model.likelihood(name).standardise, *_steps(model.encoders[index])]
            for name, index in model.index.items()
        }

    def __call__(self, inputs: Batch) -> Gaussian:
        """(B, Z) twice, for at least one modality."""
        names = [name for name in self._encoders if name in inputs.values]
        raw = torch.stack([_through(self._encoders[name], inputs.values[name]) for name in names])
        present = torch.stack([inputs.present[name] for name in names])
        mean, deviation = gaussian.from_raw(raw)
        precision = torch.where(present.unsqueeze(-1), deviation.square().reciprocal(), 0.0)
        total = 1 + precision.sum(dim=0)
        return Gaussian((mean * precision).sum(dim=0) / total, total.rsqrt())


def fuse(model: nn.Module) -> FusedProduct | None:
    """The fused posterior of a model that has one: of an MM-VAE whose expert is the plain product."""
    if isinstance(model, MMVAE) and type(model.expert) is ProductOfExperts:
        return FusedProduct(model)
    return None


def _through(steps: list[Step], value: Tensor) -> Tensor:
    for step in steps:
        value = step(value)
    return value


def _steps(module: nn.Module) -> list[Step]:
    """The functions that a network is, with nothing around them; of a network of somebody's own itself."""
    if type(module) is nn.Sequential:
        return [step for layer in module for step in _steps(layer)]
    if type(module) is nn.Linear:
        return [_linear(module.weight.detach(), None if module.bias is None else module.bias.detach())]
    if isinstance(module, _DO_NOTHING):
        return []
    if type(module).__module__.startswith(nn.__name__):
        return [module.forward]
    return [module]


def _linear(weight: Tensor, bias: Tensor | None) -> Step:
    def apply(value: Tensor) -> Tensor:
        return functional.linear(value, weight, bias)

    return apply
