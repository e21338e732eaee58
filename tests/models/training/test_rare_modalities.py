"""Modalities that few rows have: whole batches and all held-out rows may lack them, and yet they are learned."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models import Predictor, likelihoods
from models.config import MLPConfig, MMVAEConfig, MMVRNNConfig, ModalityConfig, TrainingConfig, parse
from models.config.modality import LikelihoodName
from models.ops import Backend
from models.training import calibrate, data
from models.training.checks import UnusableData
from models.training.dataset import Dataset
from models.training.evaluate import evaluate
from models.training.events import Epoch, Finished
from models.training.loop import fit
from models.training.split import split

LIKELIHOODS: list[LikelihoodName] = ["gaussian", "laplace", "bernoulli", "categorical", "poisson", "negative_binomial"]
SHAPES: dict[str, tuple[int, ...]] = {"scalar": (), "vector": (2,), "image": (1, 4, 4)}
STEPS = 4


def _samples(kind: str, name: LikelihoodName, shape: tuple[int, ...], has: NDArray[np.bool_], every: bool) -> Dataset:
    """`common`, of every row or of those without `rare`, and `rare`, which follows it, of the rows in `has`."""
    rows = len(has)
    lead = (rows,) if kind == "static" else (rows, STEPS)
    generator = np.random.default_rng(0)
    code = np.broadcast_to(generator.normal(size=rows).reshape(rows, *[1] * (len(lead) - 1)), lead)
    wide = np.broadcast_to(code.reshape(*lead, *[1] * len(shape)), (*lead, *shape))
    noise = 0.1 * generator.normal(size=wide.shape)
    match name:
        case "gaussian" | "laplace":
            rare = 20 + 5 * (wide + noise)
        case "bernoulli":
            rare = wide + noise > 0
        case "categorical":
            rare = (code > -0.5).astype(np.int64) + (code > 0.5)
        case _:
            rare = generator.poisson(np.exp(2 + wide.clip(-2, 2)))
    present = {"common": np.full(rows, True) if every else ~has, "rare": has}
    if kind == "sequence":
        present = {key: np.repeat(mask[:, None], STEPS, axis=1) for key, mask in present.items()}
    values = {"common": (wide - noise).astype(np.float32), "rare": rare if name == "categorical" else rare.astype("f4")}
    return Dataset.from_arrays(values, kind, present=present)


def _config(kind: str, name: LikelihoodName, shape: tuple[int, ...]) -> MMVAEConfig | MMVRNNConfig:
    options = {"categories": 3} if name == "categorical" else {"shape": shape}
    modalities = (
        ModalityConfig(name="common", shape=shape, likelihood="gaussian"),
        ModalityConfig.model_validate({"name": "rare", "likelihood": name, **options}),
    )
    network = MLPConfig(hidden_features=(16,))
    if kind == "static":
        return MMVAEConfig(modalities=modalities, latent_features=4, network=network)
    return MMVRNNConfig(modalities=modalities, latent_features=4, network=network)


def _in_few(rows: int) -> NDArray[np.bool_]:
    return np.isin(np.arange(rows), (3, rows // 2, rows - 2))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", LIKELIHOODS)
@pytest.mark.parametrize("kind", ["static", "sequence"])
def test_batches_and_held_out_rows_without_a_modality_train_calibrate_and_evaluate(
    kind: str, name: LikelihoodName, shape: str
) -> None:
    if name == "categorical" and shape != "scalar":
        pytest.skip("categories are scalars")
    has = _in_few(40)
    held_out = tuple(np.flatnonzero(~has)[:12].tolist())
    config = _config(kind, name, SHAPES[shape])
    # batches of 4 rows: most of them, and all held-out rows, lack it
    training = TrainingConfig(epochs=2, batch_size=4, validation_rows=held_out)
    rows = _samples(kind, name, SHAPES[shape], has, every=True)
    *epochs, finished = fit(config, rows, training, seed=0)
    assert isinstance(finished, Finished)
    metrics = [event.metrics for event in epochs if isinstance(event, Epoch)]
    assert len(metrics) == 2
    for each in metrics:
        assert all(map(math.isfinite, each.values())), each
        assert each["validation_reconstruction/rare"] == 0  # of no value
    found = evaluate(finished.model, rows, finished.train_rows, finished.validation_rows, 0, finished.metrics)
    entries = {(*entry["observed"], "->", entry["target"]): entry for entry in found["matrix"]}
    assert entries["common", "->", "rare"]["values"] == 0
    assert entries["common", "->", "rare"]["error"] is None
    assert math.isfinite(entries["common", "->", "common"]["error"])
    assert math.isfinite(found["elbo"])
    assert math.isfinite(found["iwae_64"])
    assert "not_evaluated" in [warning["type"] for warning in found["warnings"]]


@pytest.mark.parametrize("name", LIKELIHOODS)
@pytest.mark.parametrize("kind", ["static", "sequence"])
def test_batches_without_a_modality_add_nothing_to_its_loss(kind: str, name: LikelihoodName) -> None:
    """Held-out rows of which one has the modality cost the same in one batch as in batches of two."""
    has = _in_few(40)
    held_out = (*np.flatnonzero(~has)[:11].tolist(), 3)
    options = _config(kind, name, ()).model_dump()
    if name in ("gaussian", "laplace"):  # a learned scale would follow the batches
        options["modalities"][1]["scale"] = "predicted"
    rows = _samples(kind, name, (), has, every=True)
    costs = []
    for batch_size in (2, 12):
        frozen = TrainingConfig(epochs=1, batch_size=batch_size, validation_rows=held_out, learning_rate=1e-30)
        epoch = next(event for event in fit(parse(options), rows, frozen, seed=0) if isinstance(event, Epoch))
        costs.append(epoch.metrics["validation_reconstruction/rare"])
    assert costs[0] == pytest.approx(costs[1], rel=1e-5)
    assert abs(costs[0]) > 1e-3


@pytest.mark.parametrize(("kind", "backend"), [("static", "kernel"), ("static", "reference"), ("sequence", "kernel")])
def test_a_modality_of_few_rows_is_learned(kind: str, backend: Backend) -> None:
    has = np.arange(120) % 12 == 0
    rows = _samples(kind, "gaussian", (2,), has, every=True)
    training = TrainingConfig(epochs=25, batch_size=20, validation_fraction=0.1, learning_rate=1e-2)
    *_, finished = fit(_config(kind, "gaussian", (2,)), rows, training, seed=0, backend=backend)
    assert isinstance(finished, Finished)
    unseen = np.setdiff1d(np.flatnonzero(~has), finished.train_rows[has[finished.train_rows]])
    # the same numbers, none of them hidden
    given = data.batch_of(_samples(kind, "gaussian", (2,), np.ones_like(has), every=True), unseen)
    predictor = Predictor(finished.model)
    lengths = None if given.lengths is None else given.lengths.numpy()
    common = {"common": given.values["common"].numpy()}, {"common": given.present["common"].numpy()}
    answer = predictor.reconstruct(*common, lengths, ["rare"])["rare"]["mean"]
    truth = given.values["rare"].numpy()
    error = np.sqrt(np.square(answer - truth).mean())
    baseline = np.sqrt(np.square(truth - truth.mean()).mean())
    assert error < 0.5 * baseline


@pytest.mark.parametrize("name", LIKELIHOODS)
@pytest.mark.parametrize("kind", ["static", "sequence"])
def test_two_cohorts_without_a_common_modality_train(kind: str, name: LikelihoodName) -> None:
    rows = _samples(kind, name, (), np.arange(60) < 30, every=False)
    *_, finished = fit(_config(kind, name, ()), rows, TrainingConfig(epochs=2, batch_size=4), seed=0)
    assert isinstance(finished, Finished)
    assert all(map(math.isfinite, finished.metrics.values()))
    found = evaluate(finished.model, rows, finished.train_rows, finished.validation_rows, 0)
    itself = next(entry for entry in found["matrix"] if entry["observed"] == [entry["target"]] == ["rare"])
    assert itself["values"] > 0
    assert math.isfinite(itself["error"])
    assert all(entry["error"] is None for entry in found["matrix"] if len(entry["observed"]) == 2)


@pytest.mark.parametrize("objective", ["elbo", "subsampled_elbo", "iwae"])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("static", {"expert": "mixture"}),
        ("static", {"expert": "mixture_of_products"}),
        ("sequence", {"inference": "smooth", "static_latent_features": 2}),
        ("sequence", {"posterior": "product_of_experts"}),
        ("sequence", {"fusion": "zero"}),
    ],
)
def test_every_posterior_and_objective_takes_a_batch_without_a_modality(
    kind: str, options: dict[str, object], objective: str
) -> None:
    config = _config(kind, "poisson", (2,))
    config = type(config).model_validate(config.model_dump() | options)
    training = TrainingConfig.model_validate({"epochs": 1, "batch_size": 4, "objective": {"name": objective}})
    *_, finished = fit(config, _samples(kind, "poisson", (2,), _in_few(30), every=True), training, seed=0)
    assert isinstance(finished, Finished)
    assert all(map(math.isfinite, finished.metrics.values()))


@pytest.mark.parametrize("seed", range(8))
def test_the_only_row_that_has_a_modality_is_not_held_out(seed: int) -> None:
    has = np.arange(10) == 4
    rows = _samples("static", "gaussian", (2,), has, every=True)
    train, held_out = split(rows, TrainingConfig(validation_fraction=0.5), seed=seed)
    assert 4 in train
    assert (len(train), len(held_out)) == (5, 5)
    assert np.array_equal(np.union1d(train, held_out), np.arange(10))


def test_the_split_stays_as_it_was_where_every_modality_has_training_rows_anyway() -> None:
    rows = _samples("static", "gaussian", (2,), np.arange(100) < 50, every=True)
    _, held_out = split(rows, TrainingConfig(validation_fraction=0.2), seed=3)
    assert np.array_equal(held_out, np.sort(np.random.default_rng(3).permutation(100)[:20]))


def test_a_modality_that_only_held_out_rows_have_is_refused_with_its_name() -> None:
    rows = _samples("static", "gaussian", (2,), np.arange(20) < 2, every=True)
    training = TrainingConfig(epochs=1, batch_size=4, validation_rows=(0, 1, 2))
    with pytest.raises(UnusableData, match="modality 'rare' is absent from all 17 rows for training"):
        list(fit(_config("static", "gaussian", (2,)), rows, training, seed=0))
    split = replace(rows, splits=np.where(np.arange(20) < 2, 2, 0).astype(np.uint8))
    with pytest.raises(UnusableData, match="modality 'rare' is absent from all"):
        list(fit(_config("static", "gaussian", (2,)), split, TrainingConfig(epochs=1, batch_size=4), seed=0))


@pytest.mark.parametrize("name", ["gaussian", "laplace"])
def test_calibration_leaves_a_modality_alone_that_held_out_rows_do_not_have(name: LikelihoodName) -> None:
    rows = _samples("static", name, (2,), np.arange(400) >= 390, every=True)
    training = TrainingConfig(epochs=1, batch_size=50, validation_rows=tuple(range(200)))
    *_, finished = fit(_config("static", name, (2,)), rows, training, seed=0)
    assert isinstance(finished, Finished)
    assert len(finished.validation_rows) >= calibrate.MIN_ROWS
    assert not finished.model.likelihood("rare").state_dict()["widening.logarithm"].any()


@pytest.mark.parametrize("shape", SHAPES.values())
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_densities_of_no_values_are_no_numbers(name: LikelihoodName, shape: tuple[int, ...]) -> None:
    options = {"categories": 3} if name == "categorical" else {"shape": shape}
    density = likelihoods.build(ModalityConfig.model_validate({"name": "m", "likelihood": name, **options}))
    raw = torch.zeros(0, *density.parameter_shape)
    value = torch.zeros(0, *density.modality.shape, dtype=torch.int64 if name == "categorical" else torch.float32)
    assert density.log_prob(raw, value).shape == (0,)
    assert torch.equal(density.profile(raw, value, torch.zeros(0, dtype=torch.int64), 3), torch.zeros(3))
    assert density.errors(raw, value, torch.zeros(0, dtype=torch.bool)).sum() == 0
