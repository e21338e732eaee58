"""The fused posterior is the model's own, whatever networks and subsets."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models import fused
from models.architectures import build
from models.batch import Batch, BatchError
from models.config import CNNConfig, EmbeddingConfig, MLPConfig, MMVAEConfig, MMVRNNConfig, ModalityConfig
from models.multimodal import Parts
from models.ops.posterior import WIDEST, posterior
from models.predictor import Predictor
from tests.models.ops.test_gru_loop import built

NUMBERS = ModalityConfig(name="a", shape=(4,), likelihood="gaussian")
IMAGE = ModalityConfig(name="b", shape=(1, 8, 8), likelihood="gaussian")
KIND = ModalityConfig(name="c", categories=3, likelihood="categorical", network=EmbeddingConfig())
COUNTS = ModalityConfig(name="d", shape=(2,), likelihood="poisson")
FLAG = ModalityConfig(name="e", categories=2, likelihood="categorical")
ALL = (NUMBERS, IMAGE, KIND, COUNTS, FLAG)
NETWORKS = (
    MLPConfig(hidden_features=(7, 5)),
    MLPConfig(hidden_features=()),
    MLPConfig(hidden_features=(8,), activation="relu"),
    MLPConfig(hidden_features=(8,), activation="tanh"),
    MLPConfig(hidden_features=(6,), normalisation="layer", activation="elu", dropout=0.3),
)


def rows(count: int, names: str) -> tuple[dict[str, Any], dict[str, Any]]:
    generator = np.random.default_rng(0)
    values = {
        "a": generator.normal(size=(count, 4)).astype(np.float32),
        "b": generator.normal(size=(count, 1, 8, 8)).astype(np.float32),
        "c": generator.integers(0, 3, count),
        "d": generator.poisson(3, (count, 2)).astype(np.float32),
        "e": generator.integers(0, 2, count),
    }
    return {name: values[name] for name in names}, {name: generator.random(count) < 0.7 for name in names}


@pytest.mark.parametrize("network", NETWORKS)
@built
@pytest.mark.parametrize("names", ["abcde", "a", "ce", "bd", "edcba"])
@pytest.mark.parametrize("count", [1, 9, fused.MOST_ROWS + 1, 2 * fused.PIECE_ROWS + 3])
@pytest.mark.parametrize("fuse", [fused.fuse, fused.FusedProduct], ids=["native", "in Python"])
def test_it_gives_the_moments_of_the_model(fuse: Any, network: MLPConfig, names: str, count: int) -> None:
    torch.manual_seed(0)
    model = build(MMVAEConfig(modalities=ALL, latent_features=3, network=network)).eval()
    statistics = {name: (torch.full(shape, 0.5), torch.full(shape, 2.0)) for name, shape in (("a", (4,)), ("d", (2,)))}
    model.set_statistics(statistics)
    values, present = rows(count, names)
    given = {name: value.copy() for name, value in values.items()}
    inputs = Batch(
        {name: torch.from_numpy(value) for name, value in values.items()},
        {name: torch.from_numpy(mask) for name, mask in present.items()},
    )
    found = fuse(model)
    assert found is not None
    assert (found._native is not None) == (fuse is fused.fuse and network in NETWORKS[:4])
    assert found.fits(values, present)
    with torch.inference_mode():
        for own, expected in zip(found(values, present), model.encode(inputs), strict=True):
            assert own.dtype == np.float32
            np.testing.assert_allclose(own, expected.numpy(), rtol=1e-5, atol=1e-6)
    for name, value in given.items():
        np.testing.assert_array_equal(values[name], value)  # nothing was computed in the caller's place


def test_modules_of_somebody_s_own_are_left_to_torch() -> None:
    class Residual(nn.Sequential):
        def forward(self, value: Tensor) -> Tensor:
            added: Tensor = value.repeat(1, 4) + super().forward(value)
            return added

    config = MMVAEConfig(modalities=(NUMBERS,), latent_features=8)
    own = Residual(nn.Linear(4, 16, bias=False), nn.ELU(alpha=0.3))
    model = build(config, Parts(encoders={"a": own}))
    assert fused.fuse(model) is None
    values, present = rows(3, "a")
    np.testing.assert_array_equal(
        Predictor(model).encode(values, present).mean, Predictor(model)._encode(values, present, None, None).mean
    )


@built
def test_the_library_takes_what_it_has_and_leaves_the_rest() -> None:
    for number, network in enumerate(NETWORKS):
        model = build(MMVAEConfig(modalities=ALL, latent_features=3, network=network)).eval()
        assert (posterior(model) is not None) == (number < 4), network
    wide = MMVAEConfig(modalities=(NUMBERS,), network=MLPConfig(hidden_features=(WIDEST + 1,)))
    assert posterior(build(wide).eval()) is None


@built
def test_a_row_s_answer_does_not_depend_on_the_other_rows() -> None:
    model = build(MMVAEConfig(modalities=ALL, latent_features=3, network=NETWORKS[0])).eval()
    own = posterior(model)
    assert own is not None
    values, present = rows(300, "abcde")
    together = own(values, present)
    for row in (0, 127, 128, 299):
        alone = own(*({name: array[row : row + 1] for name, array in part.items()} for part in (values, present)))
        for one, every in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one[0], every[row])


def test_many_categories_take_no_memory_of_their_own() -> None:
    many = ModalityConfig(name="e", categories=200_000, likelihood="categorical")
    network = MLPConfig(hidden_features=(1,))
    found = fused.fuse(build(MMVAEConfig(modalities=(many,), latent_features=1, network=network)).eval())
    assert found is not None
    for count in (2, 3000):  # as one-hot vectors 2.4 GB
        mean, _ = found({"e": np.full(count, 199_999)}, {"e": np.ones(count, bool)})
        assert np.isfinite(mean).all()


def test_a_model_with_other_layers_is_left_to_torch() -> None:
    for network in (CNNConfig(), MLPConfig(activation="gelu")):
        modality = ModalityConfig(name="b", shape=(1, 8, 8), likelihood="gaussian", network=network)
        assert fused.fuse(build(MMVAEConfig(modalities=(modality,)))) is None


@pytest.mark.parametrize(
    ("values", "present"),
    [
        ({}, {}),
        ({"z": np.zeros((2, 4), np.float32)}, {"z": np.ones(2, bool)}),
        ({"a": np.zeros((2, 3), np.float32)}, {"a": np.ones(2, bool)}),
        ({"a": np.zeros((2, 4), np.float32)}, {"a": np.ones(3, bool)}),
        ({"a": np.zeros((2, 4), np.float32)}, {}),
        ({"e": np.array([0, 2])}, {"e": np.ones(2, bool)}),
        ({"e": np.array([0, -1])}, {"e": np.ones(2, bool)}),
        ({"e": np.array([0.0, 1.0])}, {"e": np.ones(2, bool)}),
    ],
)
def test_what_does_not_fit_is_refused_as_ever(values: dict[str, Any], present: dict[str, Any]) -> None:
    predictor = Predictor(build(MMVAEConfig(modalities=(NUMBERS, FLAG), latent_features=3)))
    with pytest.raises(BatchError):
        predictor.encode(values, present)


def test_what_stands_where_nothing_is_given_does_not_matter() -> None:
    predictor = Predictor(build(MMVAEConfig(modalities=(NUMBERS, FLAG), latent_features=3)))
    values, present = rows(4, "ae")
    expected = predictor.encode(values, present).mean
    values["a"] = np.where(present["a"][:, None], values["a"], np.nan).astype(np.float32)
    np.testing.assert_array_equal(predictor.encode(values, present).mean, expected)


@pytest.mark.parametrize("expert", ["weighted_product", "mixture", "mixture_of_products"])
def test_other_posteriors_stay_as_they_are(expert: Any) -> None:
    assert fused.fuse(build(MMVAEConfig(modalities=(NUMBERS, FLAG), expert=expert))) is None
    assert fused.fuse(build(MMVRNNConfig(modalities=(NUMBERS, FLAG)))) is None


def test_weights_that_change_later_are_seen() -> None:
    model = build(MMVAEConfig(modalities=(NUMBERS,), latent_features=3))
    predictor = Predictor(model)
    values, present = rows(2, "a")
    before = predictor.encode(values, present).mean
    torch.manual_seed(5)
    model.load_state_dict(build(model.config).state_dict())
    assert (predictor.encode(values, present).mean != before).any()
