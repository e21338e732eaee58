"""Small datasets of two modalities, and models of them, for the tests of training."""

import numpy as np

from models.config import MLPConfig, MMVAEConfig, MMVAEOptions, MMVRNNConfig, MMVRNNOptions, ModalityConfig, complete
from models.synthetic import quadratic_sinusoidal, spirals
from models.training.dataset import Dataset


def static(rows: int = 100, scale: float = 1.0) -> Dataset:
    """Quadratic-sinusoidal data; a tenth of each modality is absent, never both."""
    values = {name: value * scale for name, value in quadratic_sinusoidal(rows, seed=0).items()}
    present = {name: np.random.default_rng(1).random(rows) < 0.9 for name in values}
    present["m2"] |= ~present["m1"]
    return Dataset.from_arrays(values, present=present)


def sequences(rows: int = 40, steps: int = 6) -> Dataset:
    """Spirals, all of one length."""
    return Dataset.from_arrays(spirals(rows, steps, seed=0), "sequence")


def two(kind: str = "static", **options: object) -> MMVAEConfig | MMVRNNConfig:
    """A small model of both modalities."""
    chosen = MMVAEOptions if kind == "static" else MMVRNNOptions
    given = chosen.model_validate({"network": MLPConfig(hidden_features=(8,)), **options})
    return complete(given, [ModalityConfig(name=name, shape=(2,), likelihood="gaussian") for name in ("m1", "m2")])


def unrelated_bound(samples: Dataset) -> float:
    """What a row costs, in nats, under independent Gaussians of the data's own means and variances.

    H = sum over modalities and elements of log(2 pi e variance) / 2, times the steps at which a row has the modality:
    the smallest loss of a model that takes nothing from its inputs.
    """
    cost = 0.0
    for name, values in samples.values.items():
        given = values[samples.present[name]].astype(np.float64)
        entropy = 0.5 * np.log(2 * np.pi * np.e * given.var(axis=0)).sum()
        cost += entropy * len(given) / samples.rows
    return float(cost)
