"""Limit how many lists, values, objects and texts a large JSON body has, before it is parsed."""

import math

from models.config import ModalityConfig
from service.inference.queries import Config
from service.shared.errors import BadInput, Fault

# Keys and texts: fields, tensors and their parameters have some for each modality, values have none.
KEYS = 10_000
KEYS_PER_MODALITY = 200


def check_counts(raw: bytes, config: Config, rows: int, steps: int) -> None:
    """Raise BadInput for JSON with more marks than `rows` rows and `steps` steps of every modality can have."""
    keys = KEYS + KEYS_PER_MODALITY * len(config.modalities)
    lists = keys + sum(rows + steps * _lists(modality.shape) for modality in config.modalities)
    # A value, or a null in its place, and a mask of the Open Inference Protocol.
    values = lists + sum(steps * (2 + math.prod(modality.shape)) for modality in config.modalities)
    for mark, allowed in {"[": lists, ",": values, "{": keys, ":": keys, '"': 4 * keys}.items():
        limit = allowed + sum(steps * _in_names(modality, mark) for modality in config.modalities)
        if (count := raw.count(mark.encode())) > limit:
            detail = (
                f"the body has {mark} {count} times, expected at most {limit} for as many rows as a request may have"
            )
            raise BadInput([Fault("", "too_many_values", detail)])


def _in_names(modality: ModalityConfig, mark: str) -> int:
    """The maximum count of a mark in a category name as a JSON value."""
    own = 2 if mark == '"' else 0
    return max((own + str(name).count(mark) for name in modality.category_names or ()), default=0)


def _lists(shape: tuple[int, ...]) -> int:
    """The lists of one value. Shape (3, 64, 64): 1 outer list, 3 in it, and 64 in each of those."""
    return sum(math.prod(shape[:axis]) for axis in range(len(shape)))
