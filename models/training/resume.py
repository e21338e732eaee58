"""From a training in progress to its state, and back."""

from typing import Any

from models.io import checkpoint
from models.training.distributed import Group
from models.training.selection import Selection
from models.training.state import TrainingState, UnusableState
from models.training.step import Trainer, copied


def capture(trainer: Trainer, selection: Selection, identity: dict[str, Any], group: Group) -> TrainingState:
    """The state between two steps. All processes call this, and all get the same."""
    totals = copied(trainer.totals.sums)
    group.all_reduce(list(totals.values()))
    with trainer.averaged():
        weights = copied(trainer.model.state_dict())
        live = copied(trainer.average.swapped_out()) if trainer.average is not None else {}
    return TrainingState(
        header=checkpoint.header(trainer.model, {}),
        identity=identity,
        step=trainer.step_count,
        weights=weights,
        live=live,
        optimiser=trainer.optimiser.state(),
        totals=totals,
        rows=trainer.totals.rows,
        best=selection.best,
        waited=selection.waited,
        lowest=selection.lowest,
        metrics=selection.metrics,
    )


def restore(
    state: TrainingState, trainer: Trainer, selection: Selection, identity: dict[str, Any], group: Group
) -> None:
    """Continue from a state. Raises UnusableState for the state of another training."""
    if different := [key for key, value in identity.items() if state.identity.get(key) != value]:
        raise UnusableState(f"the checkpoint is of a training with another {', '.join(different)}")
    trainer.model.load_state_dict(state.weights)
    if trainer.average is not None:
        trainer.average.restore(state.live)
    trainer.optimiser.restore(state.optimiser)
    # The sums are over all processes: one of them takes them, so that they count once.
    share = 1.0 if group.rank == 0 else 0.0
    device = next(trainer.model.parameters()).device
    trainer.totals.restore({name: share * total.to(device) for name, total in state.totals.items()}, state.rows)
    trainer.step_count = state.step
    selection.restore(state)
