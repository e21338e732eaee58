"""A dataset larger than this machine's memory trains, and how much memory of its own the trainer takes for it.

The file is sparse: mostly holes, which read as zeros, so that it takes no disk. What is measured is the trainer's
peak anonymous memory; pages of the mapped file come and go as the system likes.
"""

import json
import tempfile
from pathlib import Path

from benchmarks import child
from benchmarks.child import Ran
from benchmarks.report import Figure, publish
from models.config import MLPConfig, MMVAEOptions, ModalityConfig, TrainingConfig, complete
from service.shared.samples import FORMAT, METADATA

WIDTH = 65_536
ROW_BYTES = 4 * WIDTH
MAX_ANONYMOUS_GIB = 1.0


def main() -> None:
    """Write the dataset, train an epoch, watch."""
    memory = child.kilobytes(Path("/proc/meminfo"), "MemTotal") * 1024
    rows = int(1.25 * memory) // ROW_BYTES
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "samples"
        write_sparse(path, rows)
        seconds, peak, _ = train(path, rows // 50)
    gib = 2**30
    publish(
        "memory",
        [
            Figure("physical memory", memory / gib, "GiB", None, None),
            Figure("dataset", rows * ROW_BYTES / gib, "GiB", "> memory", rows * ROW_BYTES > memory),
            Figure("statistics, an epoch and the evaluation", seconds, "s", None, None),
            Figure(
                "peak anonymous memory of the trainer",
                peak / gib,
                "GiB",
                f"<= {MAX_ANONYMOUS_GIB:g}",
                peak / gib <= MAX_ANONYMOUS_GIB,
            ),
        ],
    )


def write_sparse(path: Path, rows: int) -> None:
    """A stored dataset of one wide modality, zeros everywhere, all present, and one narrow one."""
    sizes = {
        "values/wide": ("F32", [rows, WIDTH], rows * ROW_BYTES),
        "values/narrow": ("F32", [rows], rows * 4),
        "present/wide": ("U8", [rows], rows),
        "present/narrow": ("U8", [rows], rows),
    }
    modalities = [
        {"name": "wide", "shape": [WIDTH], "dtype": "float32", "categories": None},
        {"name": "narrow", "shape": [], "dtype": "float32", "categories": None},
    ]
    metadata = {"format": FORMAT, "rows": rows, "schema": {"kind": "static", "modalities": modalities}}
    header: dict[str, object] = {"__metadata__": {METADATA: json.dumps(metadata)}}
    end = 0
    for name, (dtype, shape, size) in sizes.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
        file.seek(-2 * rows, 2)
        file.write(b"\1" * 2 * rows)


def train(path: Path, batches_of: int) -> Ran:
    """Train one epoch in a trainer process."""
    modalities = [
        ModalityConfig(name="wide", shape=(WIDTH,), likelihood="gaussian"),
        ModalityConfig(name="narrow", likelihood="gaussian"),
    ]
    config = complete(MMVAEOptions(network=MLPConfig(hidden_features=(16,))), modalities)
    spec = {
        "samples": str(path),
        "config": config.model_dump(mode="json"),
        "training": TrainingConfig(epochs=1, batch_size=min(64, batches_of)).model_dump(mode="json"),
        "seed": 0,
        "threads": 2,
        "result": str(path.with_name("result")),
    }
    return child.run("worker.trainer", spec)


if __name__ == "__main__":
    main()
