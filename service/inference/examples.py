"""Example answers of inference, for the OpenAPI document: two rows of recordings and texts."""

from typing import Any

_ABOUT: dict[str, Any] = {"model": "speech", "version": 3, "request_id": "req_18ebbb8907582756865b389a81fd"}
ENCODED: dict[str, Any] = {
    **_ABOUT,
    "mean": [[-0.154, 0.119], [-0.261, -0.023]],
    "standard_deviation": [[0.556, 0.555], [0.404, 0.429]],
}
RECONSTRUCTED: dict[str, Any] = {
    **_ABOUT,
    "outputs": {
        "audio": {
            "mean": [[0.205, -0.22, -0.114], [0.191, -0.216, -0.075]],
            "standard_deviation": [[0.974, 1.114, 0.96], [0.973, 1.114, 0.956]],
        },
        "text": {"probabilities": [[0.4996, 0.5004], [0.5128, 0.4872]], "category": [1, 0]},
    },
}
IMPUTED: dict[str, Any] = {
    **_ABOUT,
    "level": 0.9,
    "calibration": ["pooled", "pooled"],
    "completed": {
        "audio": {
            "value": [[0.205, -0.22, -0.114], [0.4, -1.3, 0.1]],
            "mean": [[0.205, -0.22, -0.114], [0.191, -0.216, -0.075]],
            "standard_deviation": [[0.974, 1.114, 0.96], [0.973, 1.114, 0.956]],
            "lower": [[-1.397, -2.052, -1.693], [0.4, -1.3, 0.1]],
            "upper": [[1.807, 1.612, 1.465], [0.4, -1.3, 0.1]],
            "draws": [
                [[0.911, -0.43, 0.202], [-1.02, 0.377, -0.95]],
                [[0.4, -1.3, 0.1], [0.4, -1.3, 0.1]],
            ],
        }
    },
}
SCORED: dict[str, Any] = {
    **_ABOUT,
    "bound": [-5.117, -5.13],
    "log_likelihood": {"audio": [-4.416, -3.021], "text": [0.0, -0.67]},
    "kl": [0.701, 1.439],
}
FORECAST: dict[str, Any] = {
    **_ABOUT,
    "model": "movements",
    "outputs": {
        "x": {
            "mean": [[[0.117], [0.284]]],
            "standard_deviation": [[[0.793], [0.895]]],
            "quantiles": [[[[-1.19, 0.12, 1.42]], [[-1.18, 0.29, 1.75]]]],
        }
    },
}
SAMPLED: dict[str, Any] = {
    **_ABOUT,
    "outputs": {
        "audio": {
            "value": [[-0.485, -0.727, 0.895], [-2.449, 0.771, 0.845]],
            "mean": [[0.249, -0.144, -0.193], [0.037, -0.254, 0.054]],
            "standard_deviation": [[0.972, 1.114, 0.952], [0.972, 1.114, 0.952]],
        },
        "text": {"value": [1, 0], "probabilities": [[0.383, 0.617], [0.56, 0.44]], "category": [1, 0]},
    },
}
