"""The evidence lower bound (ELBO) of every row: the PyTorch reference, and a CPU kernel for small MM-VAEs.

The operator `sensorium::elbo` is one node of automatic differentiation, from the vector of parameters to the loss. For
small networks PyTorch takes longer to start an operation than to compute it. The kernel serves products of experts
with fully connected networks and Gaussian likelihoods, in float32 on the CPU.
"""

import math
from collections.abc import Mapping
from itertools import accumulate
from typing import NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from models import ops
from models.batch import Batch
from models.experts.product import ProductOfExperts
from models.likelihoods.gaussian import GaussianLikelihood
from models.mmvae import MMVAE
from models.multimodal import Multimodal, Terms
from models.ops import dense, elbo_kernel, library
from models.ops.dense import Unsupported

# PyTorch is as fast above this width, and with several threads above this number of rows.
MAX_WIDTH, MAX_ROWS = 64, 1024


class Objective(NamedTuple):
    """Of every sample, in nats: (B,) each. errors: what the likelihoods adapt to, sums over the samples."""

    loss: Tensor
    log_likelihood: dict[str, Tensor]
    kl: Tensor
    errors: dict[str, Tensor]


def elbo(
    model: Multimodal,
    inputs: Batch,
    targets: Batch,
    noise: Tensor | None,
    beta: float = 1.0,
    weight: Mapping[str, float] | None = None,
    free_bits: float = 0.0,
) -> Objective:
    """The negative ELBO of every row, as `negative_elbo` of `model.terms`. Only the loss has a gradient.

    noise: (B, Z) or (B, T, Z) from N(0, I), or None for the posterior mean.
    """
    call = _call(model, inputs, targets, noise)
    if call is None:
        return negative_elbo(model.terms(inputs, targets, noise), beta, weight, free_bits)
    given = weight or {}
    found = call([beta, free_bits, *(given.get(name, 1.0) for name in model.index)])
    return Objective(found.loss, call.log_likelihood(found), found.kl, call.errors(found, model.training))


def terms(model: Multimodal, inputs: Batch, targets: Batch, noise: Tensor | None) -> Terms:
    """`model.terms` without gradients, by the kernel where it serves."""
    with torch.no_grad():
        call = _call(model, inputs, targets, noise)
        if call is None:
            return model.terms(inputs, targets, noise)
        found = call([1.0] * (2 + len(model.modalities)))
    return Terms(call.log_likelihood(found), found.kl_of_features, None, call.errors(found, model.training))


def negative_elbo(
    terms: Terms, beta: float, weight: Mapping[str, float] | None = None, free_bits: float = 0.0
) -> Objective:
    """-sum_m weight_m E_q[log p(x_m | z)] + beta KL(q(z | x) || p(z)) (arXiv:1312.6114, eq. 3; Higgins et al., 2017).

    A sample that lacks a target adds 0 for it. free_bits: nats that each latent feature (of each step) may spend before
    its KL counts, max(free_bits, KL) (arXiv:1606.04934, eq. 15; there of the batch's mean, here of every sample, so
    that a sample's loss does not depend on the others).
    """
    log_likelihood = {
        name: value if value.ndim == 1 else value.sum(dim=1) for name, value in terms.log_likelihood.items()
    }
    counted = terms.kl.clamp(min=free_bits) if free_bits else terms.kl
    if free_bits and terms.valid is not None:
        counted = torch.where(terms.valid.unsqueeze(-1), counted, 0.0)
    kl = terms.kl.flatten(1).sum(dim=1)
    spent = counted.flatten(1).sum(dim=1) if free_bits else kl
    loss = beta * spent - weighted(log_likelihood, weight)
    return Objective(loss, log_likelihood, kl, terms.errors)


def weighted(log_likelihood: Mapping[str, Tensor], weight: Mapping[str, float] | None) -> Tensor:
    """sum_m weight_m log p(x_m | z); a modality without a weight has weight 1."""
    given = weight or {}
    each = [value if given.get(name, 1.0) == 1.0 else given[name] * value for name, value in log_likelihood.items()]
    return torch.stack(each).sum(dim=0)


def supports(model: nn.Module) -> str | None:
    """Why the kernel cannot compute this model's bound, or None where it can."""
    try:
        _read(model)
    except Unsupported as reason:
        return str(reason)
    return None


class _Modality(NamedTuple):
    """A modality as the kernel reads it.

    predicted: its decoder gives the spread. errors: the length of `Likelihood.errors`. buffers: offset, scale, moment.
    """

    name: str
    features: int
    predicted: bool
    errors: int
    buffers: list[Tensor]
    encoder: dense.Dense
    decoder: dense.Dense


_Plan: TypeAlias = tuple[Tensor, int]


class _Layout(NamedTuple):
    """A model as the kernel reads it, valid as long as its modules stay the same.

    plans: by the addresses of the vector of parameters, if there is one, and of the weights. No field refers to the
    model itself, so that it can be freed.
    """

    training: bool
    latent_features: int
    modalities: list[_Modality]
    weights: list[Tensor]
    snapshot: dense.Snapshot
    plans: dict[tuple[int, ...], _Plan]

    def parameters(self, vector: Tensor | None) -> tuple[Tensor, _Plan]:
        """One vector with all weights, and the plan with their places in it. Raises Unsupported.

        It is the model's own vector, whose gradient holds the gradients of the weights; or else a concatenation,
        through which automatic differentiation reaches each weight.
        """
        if vector is not None and dense.readable(vector) and all(weight.requires_grad for weight in self.weights):
            start = vector.data_ptr()
            addresses = (start, *map(Tensor.data_ptr, self.weights))
            if (plan := self.plans.get(addresses)) is not None:
                return vector, plan
            places = [(address - start) // 4 for address in addresses[1:]]
            ends = [place + weight.numel() for place, weight in zip(places, self.weights, strict=True)]
            if min(places) >= 0 and max(ends) <= vector.numel():
                self.plans[addresses] = plan = self._plan(places)
                return vector, plan
        if not all(map(dense.readable, self.weights)):
            raise Unsupported(dense.FLOAT32)
        if () not in self.plans:
            self.plans[()] = self._plan([0, *accumulate(weight.numel() for weight in self.weights)])
        return torch.cat([weight.flatten() for weight in self.weights]), self.plans[()]

    def _plan(self, places: list[int]) -> _Plan:
        """The model's numbers as `Model` in elbo.h reads them."""
        numbers, start = [self.latent_features, len(self.modalities)], 0
        for one in self.modalities:
            numbers += [one.features, one.buffers[1].numel(), one.predicted, one.errors > 0]
            for half in (one.encoder, one.decoder):
                end = start + 2 * len(half.linears)
                numbers += [half.activation, len(half.linears), *half.widths, *places[start:end]]
                start = end
        return elbo_kernel.plan(numbers)


class _Call(NamedTuple):
    """The operator's arguments but for its scalars, and the modalities with targets."""

    parameters: Tensor
    noise: Tensor | None
    data: list[Tensor | None]
    plan: Tensor
    sizes: list[int]
    wanted: list[_Modality]

    def __call__(self, scalars: list[float]) -> elbo_kernel.Outputs:
        return elbo_kernel.run(self.parameters, self.noise, self.data, self.plan, self.sizes, scalars)

    def log_likelihood(self, found: elbo_kernel.Outputs) -> dict[str, Tensor]:
        return {one.name: row for one, row in zip(self.wanted, found.log_likelihood.unbind(), strict=True)}

    def errors(self, found: elbo_kernel.Outputs, training: bool) -> dict[str, Tensor]:
        if not training:
            return {}
        parts = found.errors.split_with_sizes([one.errors for one in self.wanted])
        return {one.name: part for one, part in zip(self.wanted, parts, strict=True)}


_layouts: WeakKeyDictionary[nn.Module, _Layout] = WeakKeyDictionary()


def _layout(model: nn.Module) -> _Layout:
    """The model's layout. It is read again if modules have changed. Raises Unsupported."""
    found = _layouts.get(model)
    if found is None or found.training is not model.training or not found.snapshot.holds():
        _layouts[model] = found = _read(model)
    return found


def _read(model: nn.Module) -> _Layout:
    """Raises Unsupported."""
    if not library.available():
        raise Unsupported(library.NOT_BUILT)
    if type(model) is not MMVAE:
        raise Unsupported(f"it computes MM-VAEs, this is {type(model).__name__}")
    if type(model.expert) is not ProductOfExperts:
        raise Unsupported(f"it computes products of experts, this is {type(model.expert).__name__}")
    latent = model.latent_features
    modalities: list[_Modality] = []
    weights: list[Tensor] = []
    visited: list[nn.Module] = [model, model.encoders, model.decoders, model.likelihoods]
    for modality, own, encode, decode in zip(
        model.modalities, model.likelihoods, model.encoders, model.decoders, strict=True
    ):
        name, features = modality.name, math.prod(modality.shape)
        if type(own) is not GaussianLikelihood:
            raise Unsupported(f"it computes Gaussian likelihoods, {name!r} has {type(own).__name__}")
        visited.append(own)
        buffers = [own.offset, own.scale, own.moment]
        if not all(map(dense.readable, buffers)):
            raise Unsupported(dense.FLOAT32)
        encoder = _network(f"the encoder of {name!r}", encode, features, 2 * latent, visited)
        decoder = _network(f"the decoder of {name!r}", decode, latent, features * own.parameters_per_element, visited)
        errors = 1 + own.scale.numel() if model.training and modality.scale == "learned" else 0
        predicted = modality.scale == "predicted"
        modalities.append(_Modality(name, features, predicted, errors, buffers, encoder, decoder))
        weights += [*encoder.weights, *decoder.weights]
    return _Layout(model.training, latent, modalities, weights, dense.Snapshot(visited), {})


def _network(
    what: str, module: nn.Module, in_features: int, out_features: int, visited: list[nn.Module]
) -> dense.Dense:
    """Raises Unsupported."""
    try:
        found = dense.read(list(dense.leaves(module, visited)))
    except Unsupported as reason:
        raise Unsupported(f"{what}: {reason}") from reason
    if found.norms:
        raise Unsupported(f"{what} has layer normalisation")
    if max(found.widths) > MAX_WIDTH:
        raise Unsupported(f"{what} is {max(found.widths)} wide, the kernel takes up to {MAX_WIDTH}")
    if (found.widths[0], found.widths[-1]) != (in_features, out_features):
        raise Unsupported(f"{what} does not map {in_features} to {out_features} features")
    return found


def _call(model: Multimodal, inputs: Batch, targets: Batch, noise: Tensor | None) -> _Call | None:
    """The kernel's call, or None where the reference is to serve."""
    if not isinstance(model, MMVAE) or model.backend == "reference":  # the kernel of an MM-VRNN is that of its loop
        return None
    call, reason = None, None
    try:
        call = _prepare(model, inputs, targets, noise)
    except Unsupported as error:
        reason = str(error)
    return call if ops.serves("the evidence lower bound", reason, model.backend) else None


def _prepare(model: Multimodal, inputs: Batch, targets: Batch, noise: Tensor | None) -> _Call:
    """Raises Unsupported."""
    layout = _layout(model)
    rows, latent = inputs.rows, model.latent_features
    if not rows:
        raise Unsupported("there are no rows")
    if rows > MAX_ROWS and torch.get_num_threads() > 1:
        raise Unsupported(f"{rows} rows are more than {MAX_ROWS}, where PyTorch has several threads")
    if torch.is_autocast_enabled("cpu"):
        raise Unsupported("it computes in float32, and autocast is on")
    data: list[Tensor | None] = []
    wanted = []
    for one in layout.modalities:
        for batch in (inputs, targets):
            value = batch.values.get(one.name)
            if value is None:
                data += [None, None]
            else:
                present = batch.present[one.name]
                if present.ndim > 1:
                    raise Unsupported(f"{one.name!r} has a mask per element")
                present = dense.constant(present, rows, torch.bool)
                data += [dense.constant(value, rows * one.features), present]
        if one.name in targets.values:
            wanted.append(one)
        data += one.buffers
    parameters, (plan, workspace_rows) = layout.parameters(model.parameter_vector)
    sizes = [rows, latent, len(wanted), sum([one.errors for one in wanted]), workspace_rows]
    drawn = None if noise is None else dense.constant(noise, rows * latent)
    return _Call(parameters, drawn, data, plan, sizes, wanted)
