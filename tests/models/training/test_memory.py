"""A dataset is read as it is needed: what a trainer holds in memory of its own does not grow with it."""

from pathlib import Path

import pytest

from benchmarks.memory import ROW_BYTES, train, write_sparse

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_a_gigabyte_more_data_takes_hardly_more_memory(tmp_path: Path) -> None:
    peaks = []
    for rows in (250, 4000):
        write_sparse(tmp_path / "samples", rows)
        peaks.append(train(tmp_path / "samples", 32).peak_anonymous_bytes)
    assert peaks[1] - peaks[0] < 0.3 * (4000 - 250) * ROW_BYTES
