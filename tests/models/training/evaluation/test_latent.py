"""KL divergence, activity and shares, of a model for which they have closed forms."""

import math

import numpy as np
import pytest

from models.architectures import build
from models.training.evaluation.latent import ACTIVE_VARIANCE, latent_features
from tests.models.training.evaluation import exact
from tests.models.training.small import sequences, static, two


def test_divergence_activity_and_share_have_their_closed_forms() -> None:
    """KL(q || N(0, 1)) = (1 / P + mean^2 - 1 + log P) / 2 with P the posterior's precision."""
    dataset, rows = exact.dataset(), np.arange(200)
    features, shares = latent_features(exact.model(silent_features=1), dataset, rows)
    mean = exact.posterior_mean(dataset.values["x"][rows])
    divergence = 0.5 * (1 / exact.PRECISION + np.square(mean) - 1 + math.log(exact.PRECISION)).mean()
    used, silent = features
    assert used == {"kl": pytest.approx(divergence, rel=1e-5), "active": True}
    assert silent == {"kl": pytest.approx(0.0, abs=1e-5), "active": False}
    # averaged over both latent features
    expected = (exact.EXPERT_PRECISION / exact.PRECISION + exact.SILENT**-2 / (1 + exact.SILENT**-2)) / 2
    assert shares == {"x": pytest.approx(expected, rel=1e-5)}


@pytest.mark.parametrize(("factor", "active"), [(0.99, False), (1.01, True)])
def test_a_feature_is_active_above_a_variance_of_its_mean(factor: float, active: bool) -> None:
    dataset, rows = exact.dataset(), np.arange(400)
    varies = exact.posterior_mean(dataset.values["x"]).var()
    scale = math.sqrt(factor * ACTIVE_VARIANCE / varies)
    dataset.values["x"][:] = exact.OFFSET + scale * (dataset.values["x"] - exact.OFFSET)
    ((feature,), _) = latent_features(exact.model(), dataset, rows)
    assert feature["active"] == active


def test_only_products_of_experts_have_shares() -> None:
    for options in ({"expert": "mixture"}, {"expert": "mixture_of_products"}, {"expert": "hellinger"}):
        assert latent_features(build(two(**options)).eval(), static(), np.arange(10))[1] is None


@pytest.mark.parametrize("posterior", ["concatenation", "product_of_experts"])
def test_a_sequence_counts_by_its_steps_and_not_by_its_padding(posterior: str) -> None:
    """One sequence is cut after two steps; alone it has the divergence that it has beside a longer one."""
    model, whole = build(two("sequence", posterior=posterior)).eval(), sequences()
    assert whole.offsets is not None
    rows = np.arange(2)
    offsets = whole.offsets.copy()
    kept = np.ones(len(whole.values["m1"]), bool)
    kept[offsets[0] + 2 : offsets[1]] = False
    offsets[1:] -= (~kept).sum()
    cut = type(whole)(
        whole.kind,
        whole.modalities,
        whole.rows,
        {name: value[kept] for name, value in whole.values.items()},
        {name: mask[kept] for name, mask in whole.present.items()},
        offsets,
    )
    together, _ = latent_features(model, cut, rows)
    (short, _), (long, _) = (latent_features(model, cut, rows[[row]]) for row in (0, 1))
    steps = np.diff(offsets)[:2]
    for both, one, other in zip(together, short, long, strict=True):
        assert both["kl"] == pytest.approx(np.average([one["kl"], other["kl"]], weights=steps), rel=1e-4)
