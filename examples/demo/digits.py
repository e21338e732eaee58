"""Handwritten digits as two modalities, with a fifth of the labels missing: each asked for from the other."""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from examples.demo import pictures
from examples.demo.client import Client, DemoFailed, seconds_of

HELD_OUT = 360
MISSING = 0.2
MIN_ACCURACY = 0.85
DRAWS = 10


def run(client: Client, out: Path) -> list[tuple[str, str, str, str, str]]:
    """Train and ask. Returns rows of the summary table; raises DemoFailed when labels are not read well enough."""
    digits = load_digits()
    order = np.random.default_rng(7).permutation(len(digits.target))
    images = digits.images[order].astype(np.float32)[:, None]  # (N, 1, 8, 8)
    labels = digits.target[order]
    known, held_out = slice(None, -HELD_OUT), slice(-HELD_OUT, None)
    arrays = {
        "image": images[known],
        "label": labels[known],
        "label.present": np.random.default_rng(8).random(len(labels) - HELD_OUT) >= MISSING,
    }
    client.dataset("digits", client.upload(arrays), "static")
    architecture = {"architecture": "mmvae", "conditional": {}}
    model = client.train("digits", "digits", seed=1, architecture=architecture, training={"epochs": 50})

    guessed = client.reconstruct(model, {"image": images[held_out].tolist()}, "label")
    accuracy = float((guessed["category"] == labels[held_out]).mean())
    codes = client.encode(model, {"image": images[held_out].tolist(), "label": [None] * HELD_OUT})
    every_label = {"label": list(range(10))}
    generated = client.reconstruct(model, every_label, "image")["mean"]
    draws = client.impute(model, every_label, "image", DRAWS)["draws"]
    pictures.generated_digits(out / "generated-digits.png", generated, list(draws.swapaxes(0, 1)))
    pictures.read_digits(out / "read-digits.png", images[held_out], labels[held_out], guessed["category"], codes)
    if accuracy < MIN_ACCURACY:
        raise DemoFailed(f"label from image is right for {accuracy:.3f} of held-out rows, expected {MIN_ACCURACY}")
    most_frequent = np.bincount(labels[known]).argmax()
    baseline = float((labels[held_out] == most_frequent).mean())
    blank = float(np.square(images[held_out] - images[known].mean(axis=0)).mean())
    error = float(np.square(images[held_out] - generated[labels[held_out]]).mean())
    took = f"{seconds_of(model):.0f} s"
    return [
        ("digits · MM-VAE", "label from image, accuracy", f"{accuracy:.3f}", f"{baseline:.3f} (most frequent)", took),
        ("", "image from label, MSE", f"{error:.2f}", f"{blank:.2f} (mean image)", ""),
    ]
