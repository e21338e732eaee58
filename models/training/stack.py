"""Fits `Stacking`: a regression on the training rows, and weights of three predictions on held-out rows."""

import torch
from torch import Tensor

from models import conditional_draws
from models.config.conditional import MIN_CODES
from models.draw_calibration import MIN_ERRORS
from models.joint_regression import JointRegression
from models.likelihoods.continuous import Continuous
from models.linear_start import SHRINKAGES, Given, likeliest_shrinkage
from models.mmvae import MMVAE
from models.stacking import PREDICTIONS, Products, Stacking
from models.training import data, hidden_rows
from models.training.conditional_losses import MIN_REGRESSED
from models.training.data import Rows
from models.training.dataset import Dataset

# Held-out rows that choose, and numbers of the training rows that are regressed.
MAX_ROWS = 1000
MAX_NUMBERS = 2**23
BATCH_ROWS = 1024


@torch.no_grad()
def fit(model: MMVAE, dataset: Dataset, rows: Rows, held_out: Rows, seed: int) -> None:
    """Fit `model.conditional.stacking`. Where too few rows are held out to choose, the regression counts alone."""
    stacking = _stacking(model)
    names = [name for name in model.index if isinstance(model.likelihood(name), Continuous)]
    if stacking is None or not names:
        return
    held_out = held_out[:: max(1, -(-len(held_out) // MAX_ROWS))]
    is_regressed = _regress(model, stacking, dataset, rows, held_out)
    if len(held_out) >= MIN_ERRORS:
        _set_weights(model, stacking, dataset, held_out, names, seed)
    elif is_regressed:
        for name in names:
            if name in stacking.places:
                stacking.trust_regression(name)


@torch.no_grad()
def refit(model: MMVAE, dataset: Dataset, rows: Rows) -> None:
    """Fit the regression to these rows as well, with the shrinkage that held-out rows chose."""
    stacking = _stacking(model)
    if stacking is None or not len(stacking.places):
        return
    complete = _complete(model, stacking, dataset, rows)
    if len(complete) < MIN_REGRESSED:
        return
    has_chosen = bool((stacking.rows > 0).any())
    stacking.regression.fit(complete, stacking.regression.shrinkage.item() if has_chosen else _likeliest(complete))


def _stacking(model: MMVAE) -> Stacking | None:
    return None if model.conditional is None else model.conditional.stacking


def _regress(model: MMVAE, stacking: Stacking, dataset: Dataset, rows: Rows, held_out: Rows) -> bool:
    """Fit the regression, if enough rows are complete."""
    if not stacking.places:
        return False
    complete = _complete(model, stacking, dataset, rows)
    if len(complete) < MIN_REGRESSED:
        return False
    left_out = _complete(model, stacking, dataset, held_out)
    if len(left_out) < MIN_ERRORS:
        stacking.regression.fit(complete, _likeliest(complete))
        return True
    errors = {part: _error(stacking, complete, left_out, part) for part in SHRINKAGES}
    stacking.regression.fit(complete, min(errors, key=lambda part: errors[part]))
    return True


def _error(stacking: Stacking, complete: Tensor, left_out: Tensor, shrinkage: float) -> float:
    """The sum over modalities of the squared error of predictions from all others, in parts of the variance."""
    regression = JointRegression(complete.shape[1]).to(complete)
    regression.fit(complete, shrinkage)
    total = 0.0
    for place in stacking.places.values():
        known = torch.ones_like(left_out, dtype=torch.bool)
        known[:, place] = False
        apart = regression(Given(left_out, known))[:, place] - left_out[:, place]
        total += float((apart / regression.deviation[place]).square().mean())
    return total


def _likeliest(complete: Tensor) -> float:
    centred = complete.double() - complete.double().mean(dim=0)
    deviation = centred.square().mean(dim=0).sqrt()
    return likeliest_shrinkage(centred / torch.where(deviation > 0, deviation, 1))


def _complete(model: MMVAE, stacking: Stacking, dataset: Dataset, rows: Rows) -> Tensor:
    """The numbers of rows that have all of them: (N, U)."""
    size = sum(place.stop - place.start for place in stacking.places.values())
    rows = rows[data.rows_with_all(dataset, list(stacking.places))[rows]]
    rows = rows[:: max(1, -(-len(rows) * size // MAX_NUMBERS))]
    device = next(model.parameters()).device
    found = [torch.empty(0, size, device=device)]
    for start in range(0, len(rows), BATCH_ROWS):
        numbers, known = model.stacked_numbers(data.batch_of(dataset, rows[start : start + BATCH_ROWS]).to(device))
        found.append(numbers[known.all(dim=1)])
    return torch.cat(found)


def _set_weights(
    model: MMVAE, stacking: Stacking, dataset: Dataset, held_out: Rows, names: list[str], seed: int
) -> None:
    """Choose the weights of the modalities under each pattern of what is given."""
    products: dict[str, dict[int, Products]] = {name: {} for name in names}
    rows: dict[str, set[int]] = {name: set() for name in names}
    for each in hidden_rows.patterns(model, dataset, held_out, names):
        codes = conditional_draws.codes(model, each.inputs, MIN_CODES, seed, each.rows)
        for name in each.names:
            likelihood, known = model.likelihood(name), each.known(name)
            predicted = conditional_draws.predictions(
                model, name, each.inputs, conditional_draws.decoded(model, name, codes)
            )
            apart = (predicted - likelihood.standardise(each.targets.values[name]))[:, known].double()
            counted = each.rows[known.reshape(len(known), -1).any(dim=1).cpu().numpy()]
            rows[name].update(counted.tolist())
            before = products[name].get(each.pattern, Products(apart.new_zeros(PREDICTIONS, PREDICTIONS), 0))
            products[name][each.pattern] = Products(before.errors + apart @ apart.T, before.rows + len(counted))
    for name in names:
        if len(rows[name]) >= MIN_ERRORS:
            stacking.set_weights(name, products[name], len(rows[name]))
