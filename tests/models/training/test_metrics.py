"""Sums of the objective over an epoch."""

import pytest
import torch

from models.training.distributed import Group
from models.training.metrics import Totals
from models.training.objective import Objective


def _objective(*losses: float) -> Objective:
    """Rows whose kl is half of the loss, and whose log-likelihood of m1 is minus a quarter."""
    loss = torch.tensor(losses, requires_grad=True)
    return Objective(loss, {"m1": -loss / 4}, loss / 2, {})


def test_means_are_over_the_rows_of_all_batches() -> None:
    totals = Totals()
    totals.add(_objective(1.0, 2.0, 3.0), 3)
    totals.add(_objective(6.0), 1)
    assert totals.means(Group()) == pytest.approx({"loss": 3.0, "kl": 1.5, "reconstruction/m1": 0.75})
    assert totals.means(Group(), "validation_", profile=torch.tensor(8.0))["validation_profile"] == 2.0
    assert not any(value.requires_grad for value in totals.sums.values())


def test_restored_sums_continue_in_whatever_order_they_were_stored() -> None:
    totals = Totals()
    totals.add(_objective(1.0, 2.0), 2)
    again = Totals()
    again.restore(dict(reversed(totals.sums.items())), totals.rows)
    for one in (totals, again):
        one.add(_objective(3.0), 1)
    assert again.means(Group()) == totals.means(Group())
    assert again.rows == 3
