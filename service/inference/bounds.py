"""How many lists, values, objects and texts a large body may have, counted before it is parsed."""

import math

from models.config import ModalityConfig
from service.inference.payload import Config
from service.shared.errors import BadInput, Fault

# Fields, tensors and their parameters have some keys and texts for each modality, values have none.
FEW = 10_000
FEW_PER_MODALITY = 200


def check_counts(raw: bytes, config: Config, rows: int, steps: int) -> None:
    """Refuse JSON that is more than as many rows and steps of every modality can be. Raises BadInput."""
    few = FEW + FEW_PER_MODALITY * len(config.modalities)
    lists = few + sum(rows + steps * _lists(modality.shape) for modality in config.modalities)
    # A value, or a null in its place, and a mask of the open protocol.
    values = lists + sum(steps * (2 + math.prod(modality.shape)) for modality in config.modalities)
    for mark, allowed in {"[": lists, ",": values, "{": few, ":": few, '"': 4 * few}.items():
        most = allowed + sum(steps * _in_names(modality, mark) for modality in config.modalities)
        if (count := raw.count(mark.encode())) > most:
            detail = (
                f"the body has {mark} {count} times, expected at most {most} for as many rows as a request may have"
            )
            raise BadInput([Fault("", "too_many_values", detail)])


def _in_names(modality: ModalityConfig, mark: str) -> int:
    """How often a mark may stand in a value that is the name of a category."""
    own = 2 if mark == '"' else 0
    return max((own + str(name).count(mark) for name in modality.category_names or ()), default=0)


def _lists(shape: tuple[int, ...]) -> int:
    """The lists of a value: of shape (3, 64, 64) one, in it 3, and in each of those 64."""
    return sum(math.prod(shape[:axis]) for axis in range(len(shape)))
