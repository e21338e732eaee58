"""The one place that checks shapes says where, what came and what was expected."""

import pytest
import torch

from models.batch import Batch, BatchError, check
from tests.models.small import MODALITIES, sequence_batch, static_batch


def test_whole_batches_pass() -> None:
    check(static_batch(), MODALITIES, "static")
    check(sequence_batch(), MODALITIES, "sequence")
    assert sequence_batch((2, 3)).valid.tolist() == [[True, True, False], [True, True, True]]


def test_a_batch_without_values_is_refused() -> None:
    with pytest.raises(BatchError, match="expected at least one of audio, face, word"):
        check(Batch({}, {}), MODALITIES, "static")


def test_every_fault_is_named_with_its_place() -> None:
    batch = static_batch()
    values = {**batch.values, "audio": torch.zeros(6, 39), "word": torch.full((6,), 9)}
    with pytest.raises(BatchError) as caught:
        check(Batch(values, batch.present), MODALITIES, "static")
    assert "values['audio'] has shape (6, 39), expected (6, 3)" in str(caught.value)
    assert "values['word'] has values 9 to 9, expected 0 to 3" in str(caught.value)


def test_an_unknown_modality_is_refused() -> None:
    batch = static_batch()
    with pytest.raises(BatchError, match=r"values\['smell'\] is not a modality"):
        check(
            Batch({**batch.values, "smell": torch.zeros(6)}, {**batch.present, "smell": torch.ones(6).bool()}),
            MODALITIES,
            "static",
        )


def test_steps_behind_a_sequence_s_end_cannot_be_present() -> None:
    batch = sequence_batch((3, 2))
    present = {**batch.present, "audio": torch.ones(2, 3, dtype=torch.bool)}
    with pytest.raises(BatchError, match="audio is true after the end"):
        check(Batch(batch.values, present, batch.lengths), MODALITIES, "sequence")


@pytest.mark.parametrize("lengths", [[0, 3], [4, 3]])
def test_lengths_outside_the_steps_are_refused(lengths: list[int]) -> None:
    batch = sequence_batch((3, 3))
    with pytest.raises(BatchError, match="expected 1 to 3"):
        check(Batch(batch.values, batch.present, torch.tensor(lengths)), MODALITIES, "sequence")
