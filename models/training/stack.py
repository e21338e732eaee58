"""Fits `Stacking`: a regression on the training rows, and weights of three predictions on held-out rows."""

from collections.abc import Iterator

import torch
from torch import Tensor

from models import conditional_draws
from models.config.conditional import MIN_CODES
from models.draw_calibration import MIN_ERRORS, MIN_ROWS
from models.likelihoods.continuous import Continuous
from models.linear_start import FOLDS, SHRINKAGES, Given, likeliest_shrinkage
from models.mmvae import MMVAE
from models.stacking import Products, Stacking
from models.training import data, hidden_rows
from models.training.conditional_losses import MIN_REGRESSED
from models.training.data import Rows
from models.training.dataset import Dataset
from models.training.hidden_rows import Hidden

# Held-out rows that choose, and numbers of the training rows that are regressed.
MAX_ROWS = 1000
MAX_REGRESSED_NUMBERS = 2**23
BATCH_ROWS = 1024


@torch.no_grad()
def fit(model: MMVAE, dataset: Dataset, rows: Rows, held_out: Rows, seed: int) -> None:
    """Fit `model.conditional.stacking`. Where too few rows are held out to choose, the regression counts alone."""
    stacking = _stacking(model)
    names = [name for name in model.index if isinstance(model.likelihood(name), Continuous)]
    if stacking is None or not names:
        return
    held_out = held_out[:: max(1, -(-len(held_out) // MAX_ROWS))]
    _regress(model, stacking, dataset, rows, held_out)
    chosen = _set_weights(model, stacking, dataset, held_out, names, seed) if len(held_out) >= MIN_ERRORS else []
    if stacking.regression.rows:
        for name in stacking.places:
            if name in names and name not in chosen:
                stacking.trust_regression(name)


@torch.no_grad()
def refit(model: MMVAE, dataset: Dataset, rows: Rows) -> None:
    """Fit the regression, if there is one, to all these rows. A shrinkage that held-out rows chose stays."""
    stacking = _stacking(model)
    if stacking is None or not stacking.regression.rows:
        return
    complete = _complete(model, stacking, dataset, rows)
    stacking.regression.fit(complete)
    if not bool((stacking.rows > 0).any()):
        stacking.regression.shrinkage.fill_(_likeliest(complete))


def _stacking(model: MMVAE) -> Stacking | None:
    return None if model.conditional is None else model.conditional.stacking


def _regress(model: MMVAE, stacking: Stacking, dataset: Dataset, rows: Rows, held_out: Rows) -> None:
    """Fit the regression, if enough rows are complete."""
    if not stacking.places:
        return
    complete = _complete(model, stacking, dataset, rows)
    if len(complete) < MIN_REGRESSED or not bool(complete.isfinite().all()):
        return
    left_out = _complete(model, stacking, dataset, held_out)
    regression = stacking.regression
    regression.fit(complete)
    if len(left_out) < MIN_ERRORS:
        regression.shrinkage.fill_(_likeliest(complete))
        return
    folds = [left_out]
    if len(left_out) < MIN_ROWS:  # they say little: training rows are left out in turns
        folds = [complete[fold::FOLDS] for fold in range(FOLDS)]
    errors = torch.zeros(len(SHRINKAGES), len(stacking.places), device=complete.device)
    for number, fold in enumerate(folds):
        if len(folds) > 1:
            regression.fit(torch.cat(folds[:number] + folds[number + 1 :]))
        errors += torch.stack([_errors(stacking, fold, part) for part in SHRINKAGES])
    regression.fit(complete)
    for place, best in zip(stacking.places.values(), errors.argmin(dim=0).tolist(), strict=True):
        regression.shrinkage[place] = SHRINKAGES[best]


def _errors(stacking: Stacking, left_out: Tensor, shrinkage: float) -> Tensor:
    """The squared error of each modality given all others, and given half of all numbers, in parts of its variance."""
    regression, every = stacking.regression, slice(0, left_out.shape[1])
    regression.shrinkage.fill_(shrinkage)
    half = (torch.arange(every.stop, device=left_out.device) % 2 == 0).expand_as(left_out)
    given_half = torch.where(half, regression(Given(left_out, ~half), every), regression(Given(left_out, half), every))
    errors = []
    for place in stacking.places.values():
        known = torch.ones_like(half)
        known[:, place] = False
        predicted = torch.stack([regression(Given(left_out, known), place), given_half[:, place]])
        errors.append(((predicted - left_out[:, place]) / regression.deviation[place]).square().mean())
    return torch.stack(errors)


def _likeliest(complete: Tensor) -> float:
    centred = complete.double() - complete.double().mean(dim=0)
    deviation = centred.square().mean(dim=0).sqrt()
    return likeliest_shrinkage(centred / torch.where(deviation > 0, deviation, 1))


def _complete(model: MMVAE, stacking: Stacking, dataset: Dataset, rows: Rows) -> Tensor:
    """The numbers of rows that have all of them: (N, U)."""
    size = len(stacking.regression.mean)
    rows = rows[data.rows_with_all(dataset, list(stacking.places))[rows]]
    rows = rows[:: max(1, -(-len(rows) * size // MAX_REGRESSED_NUMBERS))]
    device = next(model.parameters()).device
    found = [torch.empty(0, size, device=device)]
    for start in range(0, len(rows), BATCH_ROWS):
        numbers, known = model.stacked_numbers(data.batch_of(dataset, rows[start : start + BATCH_ROWS]).to(device))
        found.append(numbers[known.all(dim=1)])
    return torch.cat(found)


def _set_weights(
    model: MMVAE, stacking: Stacking, dataset: Dataset, held_out: Rows, names: list[str], seed: int
) -> list[str]:
    """Choose the weights under each pattern of what is given. Returns the modalities that have enough held-out rows."""
    products: dict[str, dict[int, Products]] = {name: {} for name in names}
    rows: dict[str, set[int]] = {name: set() for name in names}
    for each in hidden_rows.patterns(model, dataset, held_out, names):
        for name, found, counted in _products(model, each, seed):
            rows[name].update(counted.tolist())
            before = products[name].get(each.pattern)
            products[name][each.pattern] = found if before is None else _sum(before, found)
    enough = [name for name in names if len(rows[name]) >= MIN_ERRORS]
    for name in enough:
        stacking.set_weights(name, products[name], len(rows[name]))
    in_part: dict[str, Products] = {}
    for each in hidden_rows.parts(model, dataset, held_out, enough, seed):
        for name, found, _ in _products(model, each, seed):
            in_part[name] = _sum(in_part[name], found) if name in in_part else found
    for name, found in in_part.items():
        if found.rows >= MIN_ERRORS:
            stacking.set_weights_in_part(name, found)
    return enough


def _products(model: MMVAE, hidden: Hidden, seed: int) -> Iterator[tuple[str, Products, Rows]]:
    """Of each hidden modality, and the rows that have an error."""
    codes = conditional_draws.codes(model, hidden.inputs, MIN_CODES, seed, hidden.rows)
    others = conditional_draws.other_predictions(model, hidden.inputs, hidden.names)
    for name in hidden.names:
        likelihood, known = model.likelihood(name), hidden.known(name)
        assert isinstance(likelihood, Continuous)  # noqa: S101 the caller has looked
        raw = conditional_draws.decoded(model, name, codes)
        predicted = conditional_draws.predictions(likelihood, raw, others[name])
        apart = (predicted - likelihood.standardise(hidden.targets.values[name]))[:, known].double()
        counted = hidden.rows[known.reshape(len(known), -1).any(dim=1).cpu().numpy()]
        yield name, Products(apart @ apart.T, len(counted)), counted


def _sum(first: Products, second: Products) -> Products:
    return Products(first.errors + second.errors, first.rows + second.rows)
