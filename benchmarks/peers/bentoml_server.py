"""BentoML with adaptive batching: `bentoml serve benchmarks.peers.bentoml_server:Served`, in BentoML's venv.

What BentoML can batch is one array or list along an axis, not a dictionary of columns: its body is `{"inputs": rows}`
with the 96 numbers of all three modalities in a row.
"""

import os

import bentoml  # type: ignore[import-not-found]
import numpy as np

from benchmarks.peers.encoder import FEATURES, MODALITIES, Encoder


@bentoml.service(workers=1, threads=1)
class Served:
    """One worker, one thread, as the others have."""

    def __init__(self) -> None:
        self.encoder = Encoder(os.environ["WEIGHTS"])

    @bentoml.api(batchable=True, batch_dim=0, max_batch_size=64, max_latency_ms=1000)  # type: ignore[untyped-decorator]
    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """(B, M D) -> (B, 2 Z), means then standard deviations."""
        rows = np.asarray(inputs, np.float32).reshape(-1, len(MODALITIES), FEATURES)
        values = np.ascontiguousarray(rows.swapaxes(0, 1))
        return np.concatenate(self.encoder(values, np.ones(values.shape[:2], bool)), axis=1)
