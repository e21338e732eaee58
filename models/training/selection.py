"""Which epoch's weights are the result, and when training stops early."""

from models.config import TrainingConfig
from models.training.state import Best, TrainingState
from models.training.step import Trainer


class Selection:
    """The best epoch so far, and the number of epochs since early stopping's metric improved."""

    def __init__(self, training: TrainingConfig) -> None:
        self._training = training
        self.best: Best | None = None
        self.lowest: float | None = None
        self.waited = 0
        self.metrics: dict[str, float] = {}

    def update(self, epoch: int, metrics: dict[str, float], trainer: Trainer) -> None:
        """Add an epoch; keep its weights if it is the best."""
        self.metrics = metrics
        if self._training.select == "best" and self._training.holds_out:
            value = metrics[self._training.select_metric]
            if self.best is None or value < self.best.value:
                self.best = Best(epoch, value, metrics, trainer.weights())
        if (stopping := self._training.early_stopping) is not None:
            value = metrics[stopping.metric]
            if self.lowest is None or value < self.lowest - stopping.minimum_change:
                self.lowest, self.waited = value, 0
            else:
                self.waited += 1

    @property
    def stops_early(self) -> bool:
        """Whether the metric has not improved for as many epochs as early stopping waits."""
        stopping = self._training.early_stopping
        return stopping is not None and self.waited >= stopping.patience

    def result(self, last_epoch: int, trainer: Trainer) -> Best:
        """The epoch to keep: the best one, or the last where none was selected."""
        return self.best or Best(last_epoch, float("nan"), self.metrics, trainer.weights())

    def restore(self, state: TrainingState) -> None:
        """Continue from a stored state."""
        self.best, self.lowest, self.waited, self.metrics = state.best, state.lowest, state.waited, state.metrics
