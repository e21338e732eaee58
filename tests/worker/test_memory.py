"""A dataset is read as it is needed: what a trainer holds in memory of its own does not grow with it."""

from pathlib import Path

from benchmarks.memory import ROW_BYTES, peak_anonymous_bytes, write_sparse


def test_eight_times_the_data_take_no_more_memory(tmp_path: Path) -> None:
    peaks = []
    for rows in (500, 4000):
        write_sparse(tmp_path / "samples", rows)
        peaks.append(peak_anonymous_bytes(tmp_path / "samples", 32))
    assert 4000 * ROW_BYTES > 1_000_000_000
    assert peaks[1] < peaks[0] + 100_000_000
