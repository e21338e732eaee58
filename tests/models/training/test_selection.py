"""Which epoch's weights are the result, and when training stops early."""

import pytest
import torch

from models.architectures import build
from models.config import EarlyStopping, TrainingConfig
from models.training.distributed import Group
from models.training.selection import Selection
from models.training.step import Trainer
from tests.models.training.small import two


def _trainer(training: TrainingConfig) -> Trainer:
    return Trainer(build(two()), training, Group(), seed=0, observed_values=1.0)


def _epochs(selection: Selection, trainer: Trainer, losses: list[float]) -> None:
    """After epoch n all weights are n."""
    for epoch, loss in enumerate(losses, start=1):
        with torch.no_grad():
            trainer.parameters.vectors[0].fill_(float(epoch))
        selection.update(epoch, {"loss": 0.0, "validation_loss": loss}, trainer)


@pytest.mark.parametrize(("select", "expected"), [("best", 2), ("last", 4)])
def test_the_result_has_the_weights_of_the_best_epoch_or_of_the_last(select: str, expected: int) -> None:
    training = TrainingConfig.model_validate({"select": select})
    trainer, selection = _trainer(training), Selection(training)
    _epochs(selection, trainer, [3.0, 1.0, 2.0, 1.0])
    result = selection.result(4, trainer)
    assert (result.epoch, result.metrics["validation_loss"]) == (expected, 1.0)
    parameters = dict(trainer.model.named_parameters())
    assert all((result.weights[name] == expected).all() for name in parameters)


def test_it_stops_when_the_metric_has_not_improved_enough_for_as_many_epochs() -> None:
    training = TrainingConfig(early_stopping=EarlyStopping(patience=2, minimum_change=0.5))
    trainer, selection = _trainer(training), Selection(training)
    stopped = []
    for loss in (3.0, 2.0, 1.8, 1.0, 0.9, 0.8):
        _epochs(selection, trainer, [loss])
        stopped.append(selection.stops_early)
    assert stopped == [False, False, False, False, False, True]


def test_without_early_stopping_it_never_stops() -> None:
    training = TrainingConfig()
    trainer, selection = _trainer(training), Selection(training)
    _epochs(selection, trainer, [1.0] * 50)
    assert not selection.stops_early
