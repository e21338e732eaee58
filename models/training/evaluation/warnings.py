"""Warnings of an evaluation: faults of the model, and figures of too few rows."""

from collections.abc import Mapping
from typing import Any

# Nats per latent feature (and step) below which the posterior equals the prior.
COLLAPSED_KL = 0.01
DOMINANT_SHARE = 0.9
# The errors of fewer rows are a poor estimate of those of new rows.
FEW_ROWS = 30
# Nats per value by which held-out rows may cost more than training rows.
OVERFITTED = 1.0
# Variance of draws over the squared error of their mean; 1 is right.
NARROW_DRAWS, WIDE_DRAWS = 0.6, 1.6
BASELINES = {
    "baseline_error": "the training rows' mean or most frequent category",
    "linear_error": "a linear prediction",
    "last_value_error": "the last value",
    "interpolation_error": "a straight line over the gap",
}

Warnings = list[dict[str, str]]


def of_latent(features: list[dict[str, Any]], shares: Mapping[str, float] | None) -> Warnings:
    """Warnings of a posterior that equals the prior, and of experts that dominate the others."""
    found = []
    active = sum(feature["active"] for feature in features)
    if not active or all(feature["kl"] < COLLAPSED_KL for feature in features):
        message = (
            f"the posterior has collapsed to the prior: {active} of {len(features)} latent features are active, and "
            f"the largest KL divergence is {max(feature['kl'] for feature in features):.2g} nats; try a smaller beta, "
            "a longer ramp or free_bits"
        )
        found.append({"type": "posterior_collapse", "message": message})
    for name, share in (shares or {}).items():
        if len(shares or {}) > 1 and share > DOMINANT_SHARE:
            message = (
                f"the expert of modality {name!r} has {share:.0%} of the joint precision, so the others hardly count; "
                "try modality_weights auto, more modality_dropout or expert weighted_product"
            )
            found.append({"type": "dominant_modality", "message": message})
    return found


def of_rows(matrix: list[dict[str, Any]], split: str, count: int) -> Warnings:
    """Warnings of few rows, rows not held out, and targets that no row has."""
    found = []
    if split == "training":
        message = "no rows were held out, so the evaluation is on training rows and says little about new ones"
        found.append({"type": "no_validation", "message": message})
    elif count < FEW_ROWS:
        message = f"the evaluation is on {count} {split} rows, too few to tell how good the model is"
        found.append({"type": "few_rows", "message": message})
    targets = {entry["target"] for entry in matrix}
    if never := sorted(targets - {entry["target"] for entry in matrix if entry["values"]}):
        message = (
            f"none of the {count} {split} rows looked at has {', '.join(map(repr, never))}, so it is not known "
            "how well the model predicts that; hold out rows that have it, by the dataset's splits or validation_rows"
        )
        found.append({"type": "not_evaluated", "message": message})
    return found


def of_baselines(matrix: list[dict[str, Any]], gaps: list[dict[str, Any]]) -> Warnings:
    """A warning of predictions of what is missing that are no better than the best one without a model."""
    cells = [(_cell(entry), entry) for entry in matrix if entry["target"] not in entry["observed"]]
    cells += [(_gap(entry), entry) for entry in gaps]
    useless = [
        f"{words} with an error of {entry['error']:.3g}, {other} with {best:.3g}"
        for words, entry in cells
        if entry["error"] is not None
        for best, other in [_best_baseline(entry)]
        if entry["error"] >= best
    ]
    if not useless:
        return []
    message = (
        f"no model is needed for answers as good as these: {'; '.join(useless[:5])}; the modalities may have "
        "nothing to do with each other, or the rows are too few; else try more epochs, more latent_features or a "
        "smaller beta"
    )
    return [{"type": "no_better_than_baseline", "message": message}]


def of_draws(matrix: list[dict[str, Any]]) -> Warnings:
    """Warnings of draws that vary much less, or much more, than the values that they stand for."""
    found = []
    ratios = {
        _cell(entry): entry["draws"]["variance_ratio"]
        for entry in matrix
        if (entry.get("draws") or {}).get("variance_ratio") is not None and entry["values"] >= FEW_ROWS
    }
    narrow = [name for name, ratio in ratios.items() if ratio < NARROW_DRAWS]
    wide = [name for name, ratio in ratios.items() if ratio > WIDE_DRAWS]
    if narrow:
        message = (
            f"draws of {'; '.join(narrow[:5])} vary less than {NARROW_DRAWS:.0%} of the values' squared error, so that "
            "they seem surer than they are; try more conditional_steps, more rows or more latent_features"
        )
        found.append({"type": "narrow_draws", "message": message})
    if wide:
        message = (
            f"draws of {'; '.join(wide[:5])} vary more than {WIDE_DRAWS:.0%} of the values' squared error, so that "
            "they seem less sure than they are; try more conditional_steps"
        )
        found.append({"type": "wide_draws", "message": message})
    return found


def of_metrics(metrics: Mapping[str, float], values_per_row: float) -> Warnings:
    """A warning of a loss on held-out rows far above that on training rows.

    metrics: of the epoch whose weights the model has.
    """
    if "validation_loss" not in metrics:
        return []
    more = (metrics["validation_loss"] - metrics["loss"]) / values_per_row
    if more <= OVERFITTED:
        return []
    message = (
        f"held-out rows cost {more:.2g} nats per value more than training rows: the model overfits; more rows, a "
        "smaller network, more weight_decay or a larger beta may help"
    )
    return [{"type": "overfitting", "message": message}]


def _best_baseline(entry: Mapping[str, Any]) -> tuple[float, str]:
    """The smallest error without a model, and what makes it."""
    return min((entry[name], words) for name, words in BASELINES.items() if entry.get(name) is not None)


def _cell(entry: Mapping[str, Any]) -> str:
    """An entry of the matrix in words."""
    return f"{entry['target']!r} from {', '.join(map(repr, entry['observed']))}"


def _gap(entry: Mapping[str, Any]) -> str:
    """A gap of a sequence in words."""
    return f"{entry['target']!r} at {'scattered steps' if entry['pattern'] == 'scattered' else 'a stretch of steps'}"
