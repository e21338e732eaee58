"""Proper scores of the draws of what is missing, for every observed subset and target."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from models import conditional_draws
from models.architectures import Model
from models.batch import Batch
from models.config.conditional import MIN_CODES
from models.training import data
from models.training.data import Rows
from models.training.dataset import Dataset
from models.training.evaluation.matrix import observed_subsets
from models.training.evaluation.rows import batches

LEVEL = 0.9
# Pairs of draws whose distance is taken, for the spread of draws among themselves.
SHIFTS = (1, 2, 3, 5, 8)


def scores(model: Model, dataset: Dataset, rows: Rows, seed: int) -> dict[tuple[tuple[str, ...], str], dict[str, Any]]:
    """(observed, target) -> the scores of a target that is not observed, as `_Sums.figures` names them."""
    found = {}
    for observed in observed_subsets(list(model.index)):
        chosen = rows[data.rows_with_all(dataset, list(observed))[rows]]
        sums = {name: _Sums() for name in model.index if name not in observed}
        for targets, chunk in batches(model, dataset, chosen, MIN_CODES):
            inputs = Batch(
                {name: targets.values[name] for name in observed},
                {name: targets.present[name] for name in observed},
                targets.lengths,
            )
            codes = conditional_draws.codes(model, inputs, MIN_CODES, seed, chunk)
            others = conditional_draws.other_predictions(model, inputs, list(sums))
            for name, one in sums.items():
                one.add(model, name, targets, inputs, codes, others, seed, chunk)
        found.update({(observed, name): one.figures() for name, one in sums.items()})
    return found


class _Sums:
    """Sums over rows and elements of one target."""

    def __init__(self) -> None:
        self.rows = self.elements = 0
        self.crps = self.energy = self.covered = self.squares = self.variance = 0.0
        self.has_intervals = self.is_number = False

    def add(
        self,
        model: Model,
        name: str,
        targets: Batch,
        inputs: Batch,
        codes: Tensor,
        others: Mapping[str, Tensor],
        seed: int,
        rows: Rows,
    ) -> None:
        """Add the rows of a batch that have the target."""
        likelihood, present = model.likelihood(name), targets.observed(name)
        if likelihood.modality.categories is not None or not bool(present.any()):
            return
        self.is_number = True
        drawn = conditional_draws.draw(model, name, inputs, codes, others, seed, rows)
        values = conditional_draws.widened(likelihood, drawn, conditional_draws.width(model, name, inputs))
        answer = conditional_draws.described(likelihood, drawn, values, LEVEL)
        known = _rows(targets.known(name).double())  # (B, D)
        value = _rows(targets.values[name])
        draws = values[0].reshape(len(values[0]), *value.shape)  # (S, B, D)
        to_value, among = (draws - value).abs(), [(draws - draws.roll(shift, 0)).abs() for shift in SHIFTS]
        spread = torch.stack([each.mean(dim=0) for each in among]).mean(dim=0)
        self.crps += float(((to_value.mean(dim=0) - spread / 2) * known).sum())
        length = [(each.square() * known).sum(dim=-1).sqrt().mean(dim=0) for each in [to_value, *among]]
        self.energy += float((length[0] - torch.stack(length[1:]).mean(dim=0) / 2).sum())
        self.squares += float(((draws.mean(dim=0) - value).square() * known).sum())
        self.variance += float((draws.var(dim=0) * known).sum())
        if "lower" in answer:
            self.has_intervals = True
            inside = (_rows(answer["lower"]) <= value) & (value <= _rows(answer["upper"]))
            self.covered += float((inside * known).sum())
        self.rows += int(known.any(dim=1).sum())
        self.elements += int(known.sum())

    def figures(self) -> dict[str, Any]:
        """crps: the continuous ranked probability score of an element, in its units. energy_score: the same for a whole
        value (Gneiting and Raftery, 2007, doi:10.1198/016214506000001437, sections 4.2 and 4.3). coverage_90: the part
        of elements inside their 90 % interval. variance_ratio: variance of the draws over the squared error of their
        mean, 1 where draws vary as much as the data. None for categories, and where no row has target and inputs.
        """
        if not self.is_number or not self.elements:
            return dict.fromkeys(("crps", "energy_score", "coverage_90", "variance_ratio"))
        return {
            "crps": self.crps / self.elements,
            "energy_score": self.energy / self.rows,
            "coverage_90": self.covered / self.elements if self.has_intervals else None,
            "variance_ratio": self.variance / self.squares if self.squares else None,
        }


def _rows(values: Tensor) -> Tensor:
    """One row of numbers for each sample or sequence: (B, ...) -> (B, D); a single number is a row of one."""
    return values.reshape(len(values), -1)
