"""LitServe with its fast queue (ZeroMQ) and batches of up to 64: `python -m ... PORT WEIGHTS WAIT`.

WAIT is how many seconds a batch waits for others. With 0, LitServe's default, its worker never sleeps.
"""

import sys
from typing import Any

import litserve  # type: ignore[import-not-found]
import numpy as np

from benchmarks.peers.encoder import Encoder, arrays, joined

Arrays = tuple[np.ndarray, np.ndarray]


class Served(litserve.LitAPI):  # type: ignore[misc]
    """A request has one row or more; a batch has up to 64 requests."""

    def setup(self, device: str) -> None:
        """Load the weights."""
        self.encoder = Encoder(sys.argv[2])

    def decode_request(self, request: dict[str, Any]) -> Arrays:
        """Lists to arrays."""
        return arrays(request["inputs"])

    def batch(self, inputs: list[Arrays]) -> tuple[Arrays, list[int]]:
        """Rows behind one another, and where each request's end."""
        ends = np.cumsum([values.shape[1] for values, _ in inputs])
        return joined(inputs), ends.tolist()

    def predict(self, batch: tuple[Arrays, list[int]]) -> tuple[Arrays, list[int]]:
        """Encode all of them at once."""
        (values, present), ends = batch
        return self.encoder(values, present), ends

    def unbatch(self, output: tuple[Arrays, list[int]]) -> list[Arrays]:
        """To every request its own."""
        (mean, deviation), ends = output
        return list(zip(np.split(mean, ends[:-1]), np.split(deviation, ends[:-1]), strict=True))

    def encode_response(self, output: Arrays) -> dict[str, Any]:
        """Arrays to lists."""
        mean, deviation = output
        return {"mean": mean.tolist(), "standard_deviation": deviation.tolist()}


if __name__ == "__main__":
    api = Served(max_batch_size=64, batch_timeout=float(sys.argv[3]))
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, log_level="warning", generate_client_file=False
    )
