"""How good a trained model is on rows it has not seen: every observed subset of the modalities against every target."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.architectures import Model
from models.batch import Batch
from models.config import MMVAEConfig
from models.likelihoods import Likelihood
from models.ops import elbo
from models.ops.philox import Draws
from models.training import data
from models.training.baseline import baselines
from models.training.data import Rows
from models.training.dataset import SPLITS, Dataset
from models.training.objective import negative_iwae

# Up to this many modalities every subset is looked at; beyond, each alone, all but one, and all.
MOST_FOR_ALL_SUBSETS = 4
# More rows change the figures' third digit and take minutes: a subset is one pass over them. Of rows with many numbers
# fewer are looked at, so that an evaluation takes seconds.
MOST_ROWS = 2000
MOST_BOUND_ROWS = 500
LEAST_ROWS = 50
MOST_WORK = 2**27
# Numbers of one layer that are computed at once: samples, or steps, times draws times features.
MOST_ELEMENTS = 2**23
LEAST_WIDTH = 128
DRAWS = 16
PARTICLES = 64
# A latent feature is active when its posterior mean varies so much over the data (arXiv:1509.00519, section 5.2).
ACTIVE_VARIANCE = 0.01
# Nats for each latent feature (and step) under which the posterior has become the prior.
COLLAPSED_KL = 0.01
DOMINANT_SHARE = 0.9
# Of fewer rows an error says little about others.
FEW_ROWS = 30
# Nats a number by which held-out rows may cost more than those that were learned from.
OVERFITTED = 1.0

NOISE, PARTICLE_NOISE = 16, 17


def evaluate(
    model: Model,
    dataset: Dataset,
    train_rows: Rows,
    validation_rows: Rows,
    seed: int,
    device: str = "cpu",
    metrics: Mapping[str, float] = MappingProxyType({}),
) -> dict[str, Any]:
    """Everything as JSON: the matrix, the bounds, the latent features, and warnings in words.

    On the dataset's test rows if it has some, else on the validation rows, else on training rows: `rows` says which.
    metrics: of the epoch whose weights the model has, for a warning where it has learned its rows by heart.
    """
    dataset = data.select(dataset, model.config)
    test_rows = np.flatnonzero(data.splits_of(dataset) == SPLITS.index("test"))
    kinds = {"test": test_rows, "validation": validation_rows, "training": train_rows}
    split = next(name for name, rows in kinds.items() if len(rows))
    elements = row_elements(model, dataset)
    most = min(MOST_ROWS, max(LEAST_ROWS, MOST_WORK // (DRAWS * elements)))
    rows = _some(kinds[split], most, seed)
    with torch.no_grad():
        model = model.eval().to(device)
        blank = baselines(dataset, model, train_rows)
        reference = {name: prediction.to(device) for name, prediction in blank.items()}
        matrix = [
            entry
            for observed in observed_subsets(list(model.index))
            for entry in _entries(model, dataset, rows, observed, reference, seed, device)
        ]
        most = min(MOST_BOUND_ROWS, max(LEAST_ROWS, MOST_WORK // (PARTICLES * elements)))
        bounds = _bounds(model, dataset, _some(rows, most, seed), seed, device)
        latent, shares = _latent(model, dataset, rows, device)
    return {
        "rows": {"split": split, "count": len(rows)},
        "matrix": matrix,
        **bounds,
        "latent": latent,
        "active_units": sum(feature["active"] for feature in latent),
        "expert_shares": shares,
        "warnings": [
            *_warnings(latent, shares),
            *_doubts(matrix, split, len(rows)),
            *_overfitting(metrics, data.observed_values_per_row(dataset)),
        ],
    }


def observed_subsets(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Which modalities are shown to the model, one subset after the other."""
    sizes = (
        range(1, len(names) + 1)
        if len(names) <= MOST_FOR_ALL_SUBSETS
        else dict.fromkeys((1, len(names) - 1, len(names)))
    )
    return [subset for size in sizes for subset in combinations(names, size)]


def _entries(
    model: Model,
    dataset: Dataset,
    rows: Rows,
    observed: tuple[str, ...],
    reference: dict[str, Tensor],
    seed: int,
    device: str,
) -> Iterator[dict[str, Any]]:
    """One line of the matrix for each target: from rows that have all that is to be observed."""
    having = data.rows_with_all(dataset, list(observed))
    rows = rows[having[rows]]
    sums = {name: _Sums(model.likelihood(name), reference[name], name not in observed) for name in model.index}
    for targets, chunk in _chunks(model, dataset, rows, DRAWS, device):
        inputs = Batch(
            {name: targets.values[name] for name in observed},
            {name: targets.present[name] for name in observed},
            targets.lengths,
        )
        mean = model.decode(inputs, list(model.index), None)
        latent = model.latent_shape(targets)
        noise = Draws(seed, 0, NOISE).normal(chunk, *latent[:-1], DRAWS, latent[-1]).movedim(-2, 0).to(device)
        drawn = model.decode(inputs, list(model.index), noise)
        for name, found in sums.items():
            found.add(mean[name], drawn[name], targets.values[name], targets.present[name])
    for name, found in sums.items():
        yield {"observed": list(observed), "target": name, **found.figures()}


class _Sums:
    """Errors of one target, added up over batches."""

    def __init__(self, likelihood: Likelihood, reference: Tensor, missing: bool) -> None:
        self._likelihood = likelihood
        self._reference = reference
        self._missing = missing
        self.values = 0
        self.elements = 0
        self.error = 0.0
        self.reference_error = 0.0
        self.log_likelihood = 0.0
        self.covered = 0

    def add(self, mean: Tensor, drawn: Tensor, value: Tensor, present: Tensor) -> None:
        """mean: (1, B, ...) parameters of the posterior mean. drawn: (S, B, ...) of draws."""
        likelihood, metric = self._likelihood, self._likelihood.metric
        value = value.flatten(0, present.ndim - 1)[present.flatten()]
        if not len(value):
            return
        of_mean, of_draws = (
            raw.flatten(1, present.ndim)[:, present.flatten()] for raw in (mean, drawn)
        )  # (1 or S, N, ...)
        self.values += len(value)
        self.elements += value.numel()
        self.error += metric.of_elements(likelihood.point(likelihood.describe(of_mean)), value).sum().item()
        self.reference_error += metric.of_elements(self._reference, value.double()).sum().item()
        each = torch.stack([likelihood.log_prob(raw, value) for raw in of_draws])
        self.log_likelihood += (each.logsumexp(dim=0) - math.log(len(each))).double().sum().item()
        if likelihood.has_intervals:
            absence = torch.full((len(value),), int(self._missing), device=value.device)  # others are given
            spread = likelihood.widen(likelihood.describe(of_draws), absence, len(of_draws))
            self.covered += int(likelihood.covers(spread, value).sum())

    def figures(self) -> dict[str, Any]:
        """The error in the user's units, beside predicting the mean; null where no row had observed and target."""
        metric = self._likelihood.metric
        figures: dict[str, Any] = {"metric": metric.name, "values": self.values}
        if not self.values:
            return figures | dict.fromkeys(("error", "baseline_error", "log_likelihood", "coverage_90"))
        error, reference = self.error / self.elements, self.reference_error / self.elements
        return figures | {
            "error": metric.of_mean(error),
            "baseline_error": metric.of_mean(reference),
            "log_likelihood": self.log_likelihood / self.values,
            "coverage_90": self.covered / self.elements if self._likelihood.has_intervals else None,
        }


def _bounds(model: Model, dataset: Dataset, rows: Rows, seed: int, device: str) -> dict[str, float]:
    """The evidence bound and its importance weighted form, in nats a row, with all that a row has observed."""
    bound, iwae = 0.0, 0.0
    components = _components(model)
    for targets, chunk in _chunks(model, dataset, rows, PARTICLES * components, device):
        latent = model.latent_shape(targets)
        noise = Draws(seed, 0, PARTICLE_NOISE).normal(chunk, *latent[:-1], PARTICLES, latent[-1])
        noise = noise.movedim(-2, 0).to(device)
        bound -= elbo.elbo(model, targets, targets, noise[0]).loss.double().sum().item()
        iwae -= negative_iwae(model.particles(targets, targets, noise)).loss.double().sum().item()
    return {"elbo": bound / len(rows), f"iwae_{PARTICLES}": iwae / len(rows)}


def _latent(
    model: Model, dataset: Dataset, rows: Rows, device: str
) -> tuple[list[dict[str, Any]], dict[str, float] | None]:
    """KL divergence and activity of every latent feature, and what each expert contributes, all observed."""
    count = 0
    kl, total, squares = torch.zeros(3, model.latent_features, dtype=torch.float64, device=device)
    shares: dict[str, float] = {}
    for targets, _ in _chunks(model, dataset, rows, 1, device):
        found = elbo.terms(model, targets, targets, None).kl.flatten(0, -2)
        mean = model.encode(targets).mean.flatten(0, -2)
        if targets.lengths is not None:
            found, mean = found[targets.valid.flatten()], mean[targets.valid.flatten()]
        count += len(found)
        kl += found.double().sum(dim=0)
        total += mean.double().sum(dim=0)
        squares += mean.double().square().sum(dim=0)
        for name, share in (model.expert_shares(targets) or {}).items():
            shares[name] = shares.get(name, 0.0) + share.double().sum().item() / len(rows)
    variance = squares / count - (total / count) ** 2
    features = [
        {"kl": float(divergence), "active": bool(varies > ACTIVE_VARIANCE)}
        for divergence, varies in zip(kl / count, variance, strict=True)
    ]
    return features, shares or None


def _warnings(latent: list[dict[str, Any]], shares: dict[str, float] | None) -> list[dict[str, str]]:
    """What is wrong with the latent code."""
    found = []
    active = sum(feature["active"] for feature in latent)
    if not active or all(feature["kl"] < COLLAPSED_KL for feature in latent):
        message = (
            f"the posterior has collapsed to the prior: {active} of {len(latent)} latent features are active, and the "
            f"largest KL divergence is {max(feature['kl'] for feature in latent):.2g} nats; try a smaller beta, a "
            "longer ramp or free_bits"
        )
        found.append({"type": "posterior_collapse", "message": message})
    for name, share in (shares or {}).items():
        if len(shares or {}) > 1 and share > DOMINANT_SHARE:
            message = (
                f"the expert of modality {name!r} has {share:.0%} of the joint precision, so the others hardly count; "
                "try modality_weights auto, more modality_dropout or expert weighted_product"
            )
            found.append({"type": "dominant_modality", "message": message})
    return found


def _doubts(matrix: list[dict[str, Any]], split: str, count: int) -> list[dict[str, str]]:
    """Why the figures, or the model, may be of little use."""
    found = []
    if split == "training":
        message = "no rows were held out, so the evaluation is on training rows and says little about new ones"
        found.append({"type": "no_validation", "message": message})
    elif count < FEW_ROWS:
        message = f"the evaluation is on {count} {split} rows, too few to tell how good the model is"
        found.append({"type": "few_rows", "message": message})
    never = sorted({entry["target"] for entry in matrix} - {entry["target"] for entry in matrix if entry["values"]})
    if never:
        message = (
            f"none of the {count} {split} rows looked at has {', '.join(map(repr, never))}, so it is not known "
            "how well the model predicts that; hold out rows that have it, by the dataset's splits or validation_rows"
        )
        found.append({"type": "not_evaluated", "message": message})
    useless = [
        f"{entry['target']!r} from {', '.join(map(repr, entry['observed']))}"
        for entry in matrix
        if entry["target"] not in entry["observed"]
        and entry["error"] is not None
        and entry["error"] >= entry["baseline_error"]
    ]
    if useless:
        message = (
            f"the model predicts {'; '.join(useless[:5])} no better than the training rows' mean or most frequent "
            "category; the modalities may have nothing to do with each other, or the rows are too few"
        )
        found.append({"type": "no_better_than_baseline", "message": message})
    return found


def _overfitting(metrics: Mapping[str, float], values: float) -> list[dict[str, str]]:
    if "validation_loss" not in metrics:
        return []
    more = (metrics["validation_loss"] - metrics["loss"]) / values
    if more <= OVERFITTED:
        return []
    message = (
        f"held-out rows cost {more:.2g} nats a number more than those that were learned from: the model knows its rows "
        "by heart; more rows, a smaller network, more weight_decay or a larger beta may help"
    )
    return [{"type": "overfitting", "message": message}]


def _chunks(model: Model, dataset: Dataset, rows: Rows, draws: int, device: str) -> Iterator[tuple[Batch, Rows]]:
    """The rows in batches of which `draws` copies fit."""
    size = max(1, MOST_ELEMENTS // (draws * row_elements(model, dataset)))
    for start in range(0, len(rows), size):
        chunk = rows[start : start + size]
        yield data.batch_of(dataset, chunk).to(device), chunk


def row_elements(model: Model, dataset: Dataset) -> int:
    """Numbers in one layer for the longest row."""
    longest = 1 if dataset.offsets is None else int(np.diff(dataset.offsets).max())
    width = sum(math.prod(model.likelihood(name).parameter_shape) for name in model.index)
    return longest * max(LEAST_WIDTH, width)


def _components(model: Model) -> int:
    """How many Gaussians the posterior mixes at most."""
    if isinstance(model.config, MMVAEConfig) and model.config.expert == "mixture":
        return 1 + len(model.index)
    if isinstance(model.config, MMVAEConfig) and model.config.expert == "mixture_of_products":
        return 1 << len(model.index)
    return 1


def _some(rows: Rows, most: int, seed: int) -> Rows:
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
