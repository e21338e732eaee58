"""MLflow's pyfunc, in MLflow's venv: `python -m ... FOLDER WEIGHTS` saves what `mlflow models serve` then serves."""

import sys
from pathlib import Path
from typing import Any

import mlflow  # type: ignore[import-not-found]

from benchmarks.peers.encoder import Encoder, arrays


class Served(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Answers what stands under `inputs` in a body for /invocations."""

    def load_context(self, context: Any) -> None:
        """Load the weights."""
        self.encoder = Encoder(context.artifacts["weights"])

    def predict(self, context: Any, model_input: Any, params: Any = None) -> dict[str, Any]:
        """Modality -> rows, to means and standard deviations."""
        mean, deviation = self.encoder(*arrays(model_input))
        return {"mean": mean.tolist(), "standard_deviation": deviation.tolist()}


if __name__ == "__main__":
    folder, weights = sys.argv[1:]
    mlflow.pyfunc.save_model(folder, python_model=str(Path(__file__)), artifacts={"weights": weights})
else:
    mlflow.models.set_model(Served())
