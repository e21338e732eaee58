"""The kernel of the posterior gives the moments of the model, for all networks and subsets."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models import ops
from models.architectures import build
from models.batch import Batch, BatchError
from models.config import CNNConfig, EmbeddingConfig, MLPConfig, MMVAEConfig, MMVRNNConfig, ModalityConfig
from models.likelihoods.base import InputTransform
from models.mmvae import MMVAE
from models.multimodal import Parts
from models.ops import library, posterior
from models.predictor import Predictor

built = pytest.mark.usefixtures("kernels")

NUMBERS = ModalityConfig(name="a", shape=(4,), likelihood="gaussian")
IMAGE = ModalityConfig(name="b", shape=(1, 8, 8), likelihood="gaussian")
KIND = ModalityConfig(name="c", categories=3, likelihood="categorical", network=EmbeddingConfig())
COUNTS = ModalityConfig(name="d", shape=(2,), likelihood="poisson")
FLAG = ModalityConfig(name="e", categories=2, likelihood="categorical")
BITS = ModalityConfig(name="f", shape=(5,), likelihood="bernoulli")
SCALAR = ModalityConfig(name="g", shape=(), likelihood="laplace")
ALL = (NUMBERS, IMAGE, KIND, COUNTS, FLAG, BITS, SCALAR)
NETWORKS = (
    MLPConfig(hidden_features=(7, 5)),
    MLPConfig(hidden_features=()),
    MLPConfig(hidden_features=(8,), activation="relu"),
    MLPConfig(hidden_features=(8,), activation="tanh"),
    MLPConfig(hidden_features=(8,), activation="leaky_relu"),
    MLPConfig(hidden_features=(6,), normalisation="layer", activation="elu", dropout=0.3),
    MLPConfig(hidden_features=(300, 70), normalisation="layer"),
)


def rows(count: int, names: str) -> tuple[dict[str, Any], dict[str, Any]]:
    generator = np.random.default_rng(0)
    values = {
        "a": generator.normal(size=(count, 4)).astype(np.float32),
        "b": generator.normal(size=(count, 1, 8, 8)).astype(np.float32),
        "c": generator.integers(0, 3, count),
        "d": generator.poisson(3, (count, 2)).astype(np.float32),
        "e": generator.integers(0, 2, count),
        "f": generator.integers(0, 2, (count, 5)).astype(np.float32),
        "g": generator.normal(size=count).astype(np.float32),
    }
    return {name: values[name] for name in names}, {name: generator.random(count) < 0.7 for name in names}


def model_of(network: MLPConfig, modalities: tuple[ModalityConfig, ...] = ALL) -> MMVAE:
    torch.manual_seed(0)
    model = build(MMVAEConfig(modalities=modalities, latent_features=3, network=network)).eval()
    statistics = {name: (torch.full(shape, 0.5), torch.full(shape, 2.0)) for name, shape in (("a", (4,)), ("d", (2,)))}
    model.set_statistics({name: statistics[name] for name in statistics.keys() & model.index.keys()})
    for parameter in model.parameters():  # also those of layer normalisation, which begin at 1 and 0
        parameter.data += 0.1 * torch.randn(parameter.shape)
    assert isinstance(model, MMVAE)
    return model


def encoded(model: MMVAE, values: dict[str, Any], present: dict[str, Any]) -> tuple[Any, Any]:
    inputs = Batch(
        {name: torch.from_numpy(value) for name, value in values.items()},
        {name: torch.from_numpy(mask) for name, mask in present.items()},
    )
    with torch.inference_mode():
        mean, deviation = model.encode(inputs)
    return mean.numpy(), deviation.numpy()


@built
@pytest.mark.usefixtures("processor")
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("names", ["abcdefg", "a", "ce", "bd", "gfedcba"])
@pytest.mark.parametrize("count", [1, 9, 300])
def test_it_gives_the_moments_of_the_model(network: MLPConfig, names: str, count: int) -> None:
    model = model_of(network)
    values, present = rows(count, names)
    given = {name: value.copy() for name, value in values.items()}
    kernel = posterior.Kernel(model)
    assert kernel.declines(values, present) is None
    for own, expected in zip(kernel(values, present), encoded(model, values, present), strict=True):
        assert own.dtype == np.float32
        np.testing.assert_allclose(own, expected, rtol=1e-5, atol=2e-6)
    for name, value in given.items():
        np.testing.assert_array_equal(values[name], value)  # nothing is written to the caller's arrays


@built
@pytest.mark.usefixtures("processor")
@pytest.mark.parametrize("network", [NETWORKS[0], NETWORKS[6]])
def test_a_row_s_answer_does_not_depend_on_the_other_rows(network: MLPConfig) -> None:
    kernel = posterior.Kernel(model_of(network))
    values, present = rows(300, "abcdefg")
    together = kernel(values, present)
    for row in (0, 127, 128, 299):
        for last in (row + 1, row + 2):
            part = slice(row, last)
            some = kernel(*({name: array[part] for name, array in parts.items()} for parts in (values, present)))
            for one, every in zip(some, together, strict=True):
                np.testing.assert_array_equal(one[0], every[row])


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_the_predictor_gives_the_moments_of_the_model(backend: ops.Backend) -> None:
    model = model_of(NETWORKS[0])
    values, present = rows(9, "abcdefg")
    model.backend = backend
    found = Predictor(model).encode(values, present)
    mean, deviation = encoded(model, values, present)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(found.standard_deviation, deviation, rtol=1e-5, atol=2e-6)


class Residual(nn.Sequential):
    def forward(self, value: Tensor) -> Tensor:
        added: Tensor = value.repeat(1, 4) + super().forward(value)
        return added


def test_custom_modules_are_left_to_torch() -> None:
    config = MMVAEConfig(modalities=(NUMBERS,), latent_features=8)
    model = build(config, Parts(encoders={"a": Residual(nn.Linear(4, 16, bias=False), nn.ELU(alpha=0.3))})).eval()
    assert "Residual" in (posterior.supports(model) or "")
    values, present = rows(3, "a")
    assert isinstance(model, MMVAE)
    np.testing.assert_allclose(Predictor(model).encode(values, present).mean, encoded(model, values, present)[0])


@built
def test_custom_modules_are_served_where_they_are_alike() -> None:
    config = MMVAEConfig(modalities=(NUMBERS,), latent_features=8)
    own = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Tanh(), nn.Linear(3, 16))
    assert posterior.supports(build(config, Parts(encoders={"a": own})).eval()) is None
    own[1] = nn.LayerNorm(3, eps=1e-3)
    assert "eps" in (posterior.supports(build(config, Parts(encoders={"a": own})).eval()) or "")


@built
@pytest.mark.parametrize("network", [CNNConfig(), MLPConfig(activation="gelu")])
def test_networks_that_the_kernel_does_not_have_are_named(network: Any) -> None:
    modality = ModalityConfig(name="b", shape=(1, 8, 8), likelihood="gaussian", network=network)
    model = build(MMVAEConfig(modalities=(modality,)))
    assert "the encoder of 'b'" in (posterior.supports(model) or "")
    values, present = rows(2, "b")
    predictor = Predictor(model)
    predictor.encode(values, present)
    model.backend = "kernel"
    with pytest.raises(ops.KernelUnavailable, match="the encoder of 'b'"):
        predictor.encode(values, present)


@built
@pytest.mark.parametrize("expert", ["weighted_product", "mixture", "mixture_of_products", "hellinger"])
def test_other_experts_are_left_to_torch(expert: Any) -> None:
    model = build(MMVAEConfig(modalities=(NUMBERS, FLAG), expert=expert))
    assert "products of experts" in (posterior.supports(model) or "")


@built
def test_sequences_are_left_to_torch() -> None:
    assert "MM-VAEs" in (posterior.supports(build(MMVRNNConfig(modalities=(NUMBERS, FLAG)))) or "")


@built
def test_input_transforms_of_another_form_are_left_to_torch() -> None:
    model = model_of(NETWORKS[0], (NUMBERS,))
    own = type("Own", (type(model.likelihood("a")),), {"input_transform": lambda self: None})
    model.likelihoods[0] = own(NUMBERS)
    assert "transforms inputs" in (posterior.supports(model) or "")
    halved = type("Halved", (own,), {"input_transform": lambda self: InputTransform(False, *torch.ones(2, 2))})
    model.likelihoods[0] = halved(NUMBERS)
    assert "one per feature" in (posterior.supports(model) or "")


def test_without_the_library_that_is_the_reason() -> None:
    with library.using(None):
        assert posterior.kernel(model_of(NETWORKS[0])) == library.NOT_BUILT


@built
def test_many_categories_need_no_additional_memory() -> None:
    many = ModalityConfig(name="e", categories=200_000, likelihood="categorical")
    network = MLPConfig(hidden_features=(1,))
    kernel = posterior.Kernel(build(MMVAEConfig(modalities=(many,), latent_features=1, network=network)).eval())
    for count in (2, 3000):  # as one-hot vectors 2.4 GB
        mean, _ = kernel({"e": np.full(count, 199_999)}, {"e": np.ones(count, bool)})
        assert np.isfinite(mean).all()


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
def test_values_that_do_not_fit_are_refused(values: dict[str, Any], present: dict[str, Any]) -> None:
    predictor = Predictor(build(MMVAEConfig(modalities=(NUMBERS, FLAG), latent_features=3)))
    with pytest.raises(BatchError):
        predictor.encode(values, present)


def test_values_of_absent_modalities_do_not_matter() -> None:
    predictor = Predictor(build(MMVAEConfig(modalities=(NUMBERS, FLAG), latent_features=3)))
    values, present = rows(4, "ae")
    expected = predictor.encode(values, present).mean
    values["a"] = np.where(present["a"][:, None], values["a"], np.nan).astype(np.float32)
    np.testing.assert_array_equal(predictor.encode(values, present).mean, expected)


@built
def test_a_mask_per_element_is_left_to_torch() -> None:
    model = model_of(NETWORKS[0])
    predictor = Predictor(model)
    values, present = rows(4, "ae")
    mask = np.repeat(present["a"][:, None], 4, axis=1)
    expected = predictor.encode(values, present).mean
    np.testing.assert_allclose(predictor.encode(values, {**present, "a": mask}).mean, expected, rtol=1e-5, atol=1e-6)
    model.backend = "kernel"
    with pytest.raises(ops.KernelUnavailable, match="'a' has a mask per element"):
        predictor.encode(values, {**present, "a": mask})


def test_weights_that_change_later_are_seen() -> None:
    model = build(MMVAEConfig(modalities=(NUMBERS,), latent_features=3))
    predictor = Predictor(model)
    values, present = rows(2, "a")
    before = predictor.encode(values, present).mean
    torch.manual_seed(5)
    model.load_state_dict(build(model.config).state_dict())
    assert (predictor.encode(values, present).mean != before).any()
