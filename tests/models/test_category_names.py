"""Names of categories in a model's configuration."""

from typing import Any

import pytest
from pydantic import ValidationError

from models.config import MMVAEConfig, ModalityConfig, parse


def named(names: Any, categories: int = 3) -> ModalityConfig:
    return ModalityConfig(name="m", categories=categories, category_names=names, likelihood="categorical")


@pytest.mark.parametrize("names", [("a", "b", "c"), (2007, 2009, 2008), ("1", "2", "3"), ("a", "b")])
def test_names_survive_json_with_their_types(names: tuple[Any, ...]) -> None:
    config = MMVAEConfig(modalities=(named(names),))
    again = parse(config.model_dump(mode="json"))
    assert again == config
    assert again.modalities[0].category_names == names
    assert again.modalities[0].category_numbers == {name: number for number, name in enumerate(names)}


def test_a_config_that_was_written_without_names_is_read() -> None:
    written = MMVAEConfig(modalities=(named(None),)).model_dump(mode="json")
    del written["modalities"][0]["category_names"]
    modality = parse(written).modalities[0]
    assert (modality.category_names, modality.category_numbers) == (None, {})


@pytest.mark.parametrize("names", [("a", "a", "b"), ("a", "b", "c", "d"), ("a", 1, 2), (1.5, 2.5, 3.5), (True, False)])
def test_names_are_unique_of_one_type_and_at_most_as_many_as_categories(names: tuple[Any, ...]) -> None:
    with pytest.raises(ValidationError):
        named(names)


def test_numbers_have_no_category_names() -> None:
    with pytest.raises(ValidationError, match="at most 0 categories"):
        ModalityConfig(name="x", category_names=("a",), likelihood="gaussian")
