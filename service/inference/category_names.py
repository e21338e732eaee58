"""Answers in the words of the data: beside the number of a category stands its name."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from models.config import ModalityConfig
from models.config.modality import CategoryNames
from service.inference.payload import Config
from service.inference.values import Array

NAME = "category_name"
_VALUE = "value"
"""What was drawn from the prior, in an answer about samples."""


def named(tree: Mapping[str, Mapping[str, Array]], config: Config) -> dict[str, dict[str, Any]]:
    """Predictions with the names of categories. Where the names are numbers they replace the categories' numbers."""
    modalities = {modality.name: modality for modality in config.modalities}
    return {name: _named(described, modalities[name]) for name, described in tree.items()}


def name_length(modality: ModalityConfig) -> int:
    """Characters of the longest name, 0 without names."""
    return _longest(modality.category_names) if modality.category_names else 0


def _named(described: Mapping[str, Array], modality: ModalityConfig) -> dict[str, Any]:
    found = dict(described)
    if modality.category_names is None or modality.categories is None:
        return found
    names = _array(modality.category_names, modality.categories)
    categories = [output.name for output in modality.facts.outputs if output.holds == "category"]
    for part in (*categories, _VALUE):
        if part in described:
            name = f"{part}_name"
            found[name] = names[described[part]]
            if names.dtype != object:
                found[part] = found[name]
    return found


@lru_cache(maxsize=256)
def _array(names: CategoryNames, categories: int) -> Array:
    """By the category's number: int64 (K,) for names that are numbers, else texts, None where there is no name."""
    if len(names) == categories and isinstance(names[0], int):
        return np.array(names, np.int64)
    found = np.full(categories, None, dtype=object)
    found[: len(names)] = names
    return found


@lru_cache(maxsize=256)
def _longest(names: CategoryNames) -> int:
    return max(len(str(name)) for name in names)
