"""Spirals: two sequences that determine each other, the second asked for from the first."""

from pathlib import Path

import numpy as np

from examples.demo import pictures
from examples.demo.client import Client, DemoFailed, seconds_of
from models.synthetic import spirals

TRAINED = 1000
TESTED = 200
STEPS = 50


def run(client: Client, out: Path) -> list[tuple[str, str, str, str, str]]:
    """Train and ask. Returns rows of the summary table; raises DemoFailed when the mean would have done as well."""
    data = spirals(TRAINED, STEPS, seed=1)
    test = spirals(TESTED, STEPS, seed=2)
    client.dataset("spirals", client.upload(data), "sequence")
    model = client.train("spirals", "spirals", seed=1, training={"epochs": 30})

    predicted = client.reconstruct(model, {"m1": test["m1"].tolist()}, "m2")
    error = float(np.square(predicted["mean"] - test["m2"]).mean())
    baseline = float(np.square(test["m2"] - data["m2"].mean(axis=(0, 1))).mean())
    pictures.spirals(out / "spirals.png", test["m1"], test["m2"], predicted)
    if error >= baseline:
        raise DemoFailed(f"m2 from m1 has a mean squared error of {error:.3f}, predicting the mean {baseline:.3f}")
    took = f"{seconds_of(model):.0f} s"
    return [("spirals · MM-VRNN", "m2 from m1, test MSE", f"{error:.3f}", f"{baseline:.2f} (mean)", took)]
