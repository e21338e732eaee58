"""The linear baseline: exact where the data are linear, and none where it cannot be fitted."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, RidgeCV

from models.architectures import Model, build
from models.config import MLPConfig, MMVAEConfig, MMVRNNConfig, ModalityConfig
from models.training.dataset import Dataset
from models.training.evaluation import linear
from models.training.evaluation.baseline import baselines
from models.training.evaluation.matrix import matrix

SMALL = MLPConfig(hidden_features=(4,))
A = ModalityConfig(name="a", shape=(3,), likelihood="gaussian")
B = ModalityConfig(name="b", shape=(2,), likelihood="gaussian")
WORD = ModalityConfig(name="word", categories=3, likelihood="categorical")


def _entry(model: Model, dataset: Dataset, rows: int, observed: list[str], target: str) -> dict[str, float]:
    train_rows = np.arange(rows, dataset.rows)
    found = matrix(model, dataset, np.arange(rows), train_rows, baselines(dataset, model, train_rows), seed=0)
    return next(one for one in found if (one["observed"], one["target"]) == (observed, target))


def test_numbers_that_follow_linearly_are_predicted_exactly_also_from_categories() -> None:
    random = np.random.default_rng(0)
    a, word = random.standard_normal((200, 3)), random.integers(0, 3, 200)
    b = 5 + a @ random.standard_normal((3, 2)) + np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])[word]
    present = {name: np.arange(200) != number for number, name in enumerate(("a", "b", "word"))}
    dataset = Dataset.from_arrays({"a": a, "b": b, "word": word}, present=present)
    model = build(MMVAEConfig(modalities=(A, B, WORD), latent_features=2, network=SMALL)).eval()
    assert _entry(model, dataset, 50, ["a", "word"], "b")["linear_error"] < 1e-2
    assert 0.5 < _entry(model, dataset, 50, ["a"], "b")["linear_error"] < 2
    assert _entry(model, dataset, 50, ["a", "b"], "b")["linear_error"] is None


def test_categories_are_predicted_by_a_logistic_regression() -> None:
    random = np.random.default_rng(0)
    word = random.integers(0, 3, 300)
    a = 3 * np.eye(3)[word] + random.standard_normal((300, 3))
    dataset = Dataset.from_arrays({"a": a, "word": word})
    model = build(MMVAEConfig(modalities=(A, WORD), latent_features=2, network=SMALL)).eval()
    # the best possible error: each of two other means is 3 sqrt 2 away
    assert _entry(model, dataset, 100, ["a"], "word")["linear_error"] < 0.08


def test_a_step_is_predicted_from_its_neighbours_also_where_they_are_missing() -> None:
    random = np.random.default_rng(0)
    a = random.standard_normal((60, 12, 3))
    b = np.zeros((60, 12, 2))
    b[:, 1:] = a[:, :-1, :2]
    there = random.random((60, 12)) < 0.9
    dataset = Dataset.from_arrays({"a": a, "b": b}, "sequence", present={"a": there, "b": np.ones_like(there)})
    model = build(MMVRNNConfig(modalities=(A, B), latent_features=2, network=SMALL)).eval()
    # an eighth of the steps lack their neighbour, or have none
    assert _entry(model, dataset, 20, ["a"], "b")["linear_error"] < 0.45


@pytest.mark.parametrize("complete", [9, 10])
def test_a_few_rows_are_too_few(complete: int) -> None:
    random = np.random.default_rng(0)
    values = {"a": random.standard_normal((40, 3)), "b": random.standard_normal((40, 2))}
    dataset = Dataset.from_arrays(values, present={"a": np.ones(40, bool), "b": np.arange(40) < complete})
    model = build(MMVAEConfig(modalities=(A, B), latent_features=2, network=SMALL)).eval()
    assert (linear.fit(model, dataset, np.arange(40), ["a"], "b") is None) == (complete < 10)


def test_both_regressions_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    x, word = random.standard_normal((120, 8)), random.integers(0, 3, 120)
    x[:, :3] += np.eye(3)[word]
    y = x @ random.standard_normal((8, 1)) + random.standard_normal((120, 1))
    ridge = RidgeCV([penalty * len(x) for penalty in linear.PENALTIES]).fit(x, y)
    found = linear._ridge(torch.from_numpy(x), torch.from_numpy(y))
    np.testing.assert_allclose(found(torch.from_numpy(x)), ridge.predict(x).reshape(-1, 1), rtol=1e-6)
    penalty = 0.1
    logistic = LogisticRegression(C=1 / (penalty * len(x)), tol=1e-10, max_iter=1000).fit(x, word)
    fitted = linear._fitted(torch.from_numpy(x), torch.from_numpy(word), 3, penalty)
    chances = (torch.from_numpy(x) @ fitted.weight + fitted.offset).softmax(dim=1)
    np.testing.assert_allclose(chances, logistic.predict_proba(x), atol=1e-4)
