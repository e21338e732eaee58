"""Presets: which data they are for, and what they choose for so many rows."""

from typing import Any

import pytest

from models.config import MMVAEOptions, MMVRNNOptions, ModalityConfig, TrainingConfig, complete
from models.config.frozen import Kind
from models.config.presets import PRESETS, Preset, UnfitPreset, choose
from models.config.training import misfits

MODALITIES = [ModalityConfig(name=name, shape=(2,), likelihood="gaussian") for name in "ab"]


@pytest.mark.parametrize(("preset", "kind"), list(PRESETS))
@pytest.mark.parametrize("rows", [1, 2, 7, 20, 199, 200, 5000, 1_000_000])
def test_every_preset_can_be_trained_with_any_number_of_rows(preset: Preset, kind: Kind, rows: int) -> None:
    choices = choose(preset, kind, 2, rows, {}, {})
    options = MMVAEOptions if kind == "static" else MMVRNNOptions
    config = complete(options.model_validate(choices.architecture), MODALITIES)
    assert misfits(TrainingConfig.model_validate(choices.training), config, rows) == []


@pytest.mark.parametrize(
    ("preset", "kind", "modalities", "why"),
    [
        ("forecasting", "static", 2, "is for sequences, and the dataset is static; expected 'joint-embedding' or "),
        ("cross-modal", "static", 1, "the dataset has one; expected 'joint-embedding'"),
        ("cross-modal", "sequence", 1, "the dataset has one; expected 'joint-embedding' or 'sequence-imputation'"),
    ],
)
def test_a_preset_for_other_data_is_refused_with_the_reason_and_the_fitting_presets(
    preset: Preset, kind: Kind, modalities: int, why: str
) -> None:
    with pytest.raises(UnfitPreset, match=why):
        choose(preset, kind, modalities, 100, {}, {})


@pytest.mark.parametrize(
    ("kind", "modalities", "architecture", "preset"),
    [
        ("static", 2, {}, "cross-modal"),
        ("static", 1, {}, "joint-embedding"),
        ("sequence", 1, {}, "sequence-imputation"),
        ("sequence", 2, {"inference": "filter"}, "forecasting"),
        ("sequence", 2, {"posterior": "product_of_experts"}, "forecasting"),
    ],
)
def test_one_is_recommended(kind: Kind, modalities: int, architecture: dict[str, Any], preset: Preset) -> None:
    choices = choose(None, kind, modalities, 500, architecture, {})
    assert choices.preset == preset
    MMVAEOptions.model_validate(choices.architecture) if kind == "static" else MMVRNNOptions.model_validate(
        choices.architecture
    )


def test_named_fields_take_precedence_over_the_preset() -> None:
    given = {"epochs": 3, "batch_size": 7, "modality_dropout": 0.1, "validation_fraction": 0.5}
    assert given.items() <= choose("cross-modal", "static", 2, 5000, {}, given).training.items()


def test_few_rows_have_small_batches_more_held_out_and_a_bounded_length() -> None:
    few, many = (choose(None, "static", 2, rows, {}, {}).training for rows in (20, 1_000_000))
    assert (few["batch_size"], few["validation_fraction"], few["epochs"]) == (8, 0.2, 400)
    assert (many["batch_size"], many["validation_fraction"], many["epochs"]) == (64, 0.1, 20)


def test_a_dataset_s_own_validation_rows_are_those() -> None:
    own = choose(None, "sequence", 2, 600, {}, {}, held_out=100).training
    assert "validation_fraction" not in own
    assert own["epochs"] == 190


def test_without_validation_rows_no_weights_are_selected() -> None:
    chosen = choose(None, "sequence", 2, 600, {}, {"validation_fraction": 0.0}).training
    assert "select_metric" not in chosen
    assert "early_stopping" not in chosen
