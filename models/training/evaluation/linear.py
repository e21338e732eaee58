"""The best linear prediction of one modality from others: what a model has to beat.

Ridge regression for numbers, multinomial logistic regression for categories, on the training rows.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from models.architectures import Model
from models.batch import Batch
from models.likelihoods.metric import ErrorRate, RootMeanSquaredError
from models.stacking import elements_of
from models.training import data
from models.training.data import Rows
from models.training.dataset import Dataset

MAX_ROWS = 1000
# Time steps of all sequences together.
MAX_STEPS = 4000
MIN_ROWS = 10
# With more numbers a prediction would take longer, and more memory, than the rest of an evaluation.
MAX_FEATURES = 1024
MAX_TARGETS = 4096
# A step is predicted from so many steps before it, and as many after it.
NEIGHBOURS = 2
# Ridge penalties for each row, of standardised numbers.
PENALTIES = tuple(10.0**power for power in range(-5, 3))
# One row of so many chooses the penalty of a logistic regression.
FOLDS = 5
ITERATIONS = 50
BATCH_ROWS = 256


class Linear(NamedTuple):
    """x -> x W + b for features x of what is given: K numbers, or the logits of K categories.

    weight: (D, K), offset: (K,).
    """

    weight: Tensor
    offset: Tensor
    is_category: bool

    def __call__(self, features: Tensor) -> Tensor:
        """(..., D) -> (..., K) numbers, or the most likely category, (...)."""
        found = features @ self.weight + self.offset
        return found.argmax(dim=-1) if self.is_category else found


def features(model: Model, inputs: Batch, observed: Sequence[str]) -> Tensor:
    """What a linear prediction takes of each sample or step, missing elements as means: (B, D) or (B, T, D)."""
    parts = []
    for name in observed:
        modality, value = model.likelihood(name).modality, inputs.values[name]
        there = inputs.observed(name)
        if modality.categories is not None:
            own = functional.one_hot(value, modality.categories).double().reshape(*there.shape, -1)
        else:
            elements = inputs.elements(name)
            flat = None if elements is None else elements.flatten(0, there.ndim - 1)
            own = model.encoder_input(name, value.flatten(0, there.ndim - 1), flat).double().reshape(*there.shape, -1)
        parts.append(torch.where(there.unsqueeze(-1), own, 0))
        if inputs.lengths is not None:
            parts.append(there.unsqueeze(-1).double())
    found = torch.cat(parts, dim=-1)
    if inputs.lengths is None:
        return found
    padded = functional.pad(found, (0, 0, NEIGHBOURS, NEIGHBOURS))
    return padded.unfold(1, 2 * NEIGHBOURS + 1, 1).flatten(2)


def fit(model: Model, dataset: Dataset, rows: Rows, observed: Sequence[str], target: str) -> Linear | None:
    """The prediction of a target; None where rows are too few, numbers too many, or the metric is of another kind."""
    likelihood = model.likelihood(target)
    if not isinstance(likelihood.metric, (RootMeanSquaredError, ErrorRate)):
        return None
    if (
        _features(model, observed, dataset.offsets is not None) > MAX_FEATURES
        or elements_of(likelihood.modality) > MAX_TARGETS
    ):
        return None
    rows = rows[data.rows_with_all(dataset, [*observed, target])[rows]]
    most = MAX_ROWS
    if dataset.offsets is not None and len(rows):
        most = max(1, round(MAX_STEPS / np.diff(dataset.offsets)[rows].mean()))
    rows = rows[:: max(1, -(-len(rows) // most))]
    device = next(model.parameters()).device
    given, wanted = [], []
    for start in range(0, len(rows), BATCH_ROWS):
        batch = data.batch_of(dataset, rows[start : start + BATCH_ROWS]).to(device)
        there = batch.observed(target)
        known = batch.known(target)
        whole = there & known.flatten(there.ndim).all(dim=-1) if known.ndim > there.ndim else there
        given.append(features(model, batch, observed)[whole])
        wanted.append(
            batch.values[target][whole].flatten(1) if known.ndim > there.ndim else batch.values[target][whole]
        )
    if not given or sum(map(len, wanted)) < MIN_ROWS:
        return None
    x, y = torch.cat(given), torch.cat(wanted)
    if isinstance(likelihood.metric, ErrorRate):
        return _logistic(x, y, likelihood.modality.categories or 0)
    return _ridge(x, y.double().reshape(len(y), -1))


def _features(model: Model, observed: Sequence[str], is_sequence: bool) -> int:
    """D of `features`."""
    each = sum(elements_of(model.likelihood(name).modality) + is_sequence for name in observed)
    return each * (2 * NEIGHBOURS + 1) if is_sequence else each


def _ridge(x: Tensor, y: Tensor) -> Linear:
    """The penalty with the smallest error on left-out rows (Hastie et al., 2009, equation 7.52), each alone."""
    middle, centre, scale = x.mean(dim=0), y.mean(dim=0), y.std(dim=0, correction=0).clamp(min=1e-12)
    left, size, right = torch.linalg.svd(x - middle, full_matrices=False)
    targets = (y - centre) / scale
    turned = left.T @ targets
    errors = []
    for penalty in PENALTIES:
        kept = size.square() / (size.square() + penalty * len(x))
        leverage = left.square() @ kept + 1 / len(x)
        apart = (targets - left @ (kept.unsqueeze(1) * turned)) / (1 - leverage).clamp(min=1e-6).unsqueeze(1)
        errors.append(apart.square().sum().item())
    penalty = PENALTIES[int(np.argmin(errors))]
    weight = right.T @ ((size / (size.square() + penalty * len(x))).unsqueeze(1) * turned) * scale
    return Linear(weight, centre - middle @ weight, False)


def _logistic(x: Tensor, y: Tensor, categories: int) -> Linear:
    """The penalty under which a fifth of the rows is most likely, fitted to the others."""
    left_out = torch.arange(len(x), device=x.device) % FOLDS == 0
    losses = []
    for penalty in PENALTIES:
        found = _fitted(x[~left_out], y[~left_out], categories, penalty)
        losses.append(functional.cross_entropy(x[left_out] @ found.weight + found.offset, y[left_out]).item())
    return _fitted(x, y, categories, PENALTIES[int(np.argmin(losses))])


def _fitted(x: Tensor, y: Tensor, categories: int, penalty: float) -> Linear:
    weight = x.new_zeros(x.shape[1], categories, requires_grad=True)
    offset = x.new_zeros(categories, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, offset], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        found = functional.cross_entropy(x @ weight + offset, y) + penalty / 2 * weight.square().sum()
        found.backward()
        return found

    with torch.enable_grad():
        optimiser.step(loss)
    return Linear(weight.detach(), offset.detach(), True)
