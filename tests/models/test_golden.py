"""Stored models, trainings and random numbers of an earlier version: all load, and answer what they answered then."""

import re
from pathlib import Path

import numpy as np
import pytest

import models
from models.ops import Backend, library
from tests.conftest import need
from tests.models import golden
from tests.models.golden import Arrays

# Rounding of float32 sums in another order. Gradients are compared relative to the largest of their array, or to 0.2,
# because a gradient may cancel to zero. PyTorch on one processor, limited to SSE, AVX2 and AVX-512 in turn, gives
# gradients of these models that are up to 1.1e-4 apart.
RTOL, ATOL = 1e-5, 1e-6
GRADIENT = 3e-4
# Optimiser steps magnify differences of gradients. A step moves a weight by about the learning rate, 0.01.
TRAINED = 1e-4


# Models that kernels compute; the others are computed by PyTorch whatever is selected.
SERVED = re.compile("gaussian-product(-tanh|-relu|-linear)?|.*-(zero|missing_embeddings)-.*(gru.|linear)")


@pytest.fixture(params=["auto", "reference"])
def backend(request: pytest.FixtureRequest) -> Backend:
    """The kernels where they serve, then PyTorch alone."""
    if request.param == "auto":
        need(library.available() or None, "the kernels (make kernels)")
    chosen: Backend = request.param
    return chosen


def differences(found: Arrays, expected: Arrays) -> list[str]:
    """What differs by more than rounding, in words."""
    wrong = [f"{name} is {'missing' if name in expected else 'new'}" for name in found.keys() ^ expected.keys()]
    for name in sorted(found.keys() & expected.keys()):
        ours, theirs = found[name], expected[name]
        if ours.shape != theirs.shape or ours.dtype.kind != theirs.dtype.kind:
            wrong.append(f"{name} is {ours.dtype} {ours.shape}, expected {theirs.dtype} {theirs.shape}")
            continue
        rtol, atol = RTOL, ATOL
        if theirs.dtype.kind in "biu":
            rtol = atol = 0.0
        elif name.startswith("gradient/"):
            atol = GRADIENT * max(float(np.abs(theirs).max(initial=0)), 0.2)
        elif name.startswith(("weights/", "epoch/", "evaluation/")):
            rtol = atol = TRAINED
        if not np.allclose(ours, theirs, rtol=rtol, atol=atol):
            apart = np.abs(ours.astype(np.float64) - theirs)
            wrong.append(f"{name} differs by {apart.max():.3g}, its largest number is {np.abs(theirs).max():.3g}")
    return wrong


@pytest.mark.parametrize("name", golden.cases("mmvae"))
def test_an_mmvae_answers_as_it_did(name: str, backend: Backend, tmp_path: Path) -> None:
    compare_model("mmvae", name, backend, tmp_path / "model")


@pytest.mark.parametrize("name", golden.cases("mmvrnn"))
def test_an_mmvrnn_answers_as_it_did(name: str, backend: Backend, tmp_path: Path) -> None:
    compare_model("mmvrnn", name, backend, tmp_path / "model")


def compare_model(kind: str, name: str, backend: Backend, path: Path) -> None:
    """Inference, the parts of the bound, a training step's loss and its gradients."""
    files = golden.archive(kind)
    path.write_bytes(files[f"{name}/model"])
    if backend == "auto" and SERVED.fullmatch(name):
        backend = "kernel"
    case = golden.spec_of(files[f"{name}/case"])
    batches = golden.arrays(golden.archive("batches")[f"{case['batches']}/batches"])
    answers = golden.answers(path, batches, backend)
    assert not differences(answers, golden.arrays(files[f"{name}/answers"]))
    step = golden.step(path, batches, case["training"], backend)
    assert not differences(step, golden.arrays(files[f"{name}/step"]))


@pytest.mark.parametrize("name", golden.cases("trainings"))
def test_a_training_gives_the_weights_it_gave(name: str, backend: Backend) -> None:
    files = golden.archive("trainings")
    spec, data = golden.spec_of(files[f"{name}/spec"]), golden.arrays(files[f"{name}/data"])
    found = golden.train(spec, data, backend)
    assert found is not None
    expected = golden.arrays(files[f"{name}/result"])
    # Evaluations have got more figures since.
    found = {place: value for place, value in found.items() if place in expected or "evaluation/" not in place}
    assert not differences(found, expected)


@pytest.mark.parametrize("name", golden.cases("trainings"))
def test_a_stored_training_state_resumes_to_the_same_weights(name: str, backend: Backend, tmp_path: Path) -> None:
    files = golden.archive("trainings")
    spec, data = golden.spec_of(files[f"{name}/spec"]), golden.arrays(files[f"{name}/data"])
    path = tmp_path / "state"
    path.write_bytes(files[f"{name}/state"])
    found = golden.train({**spec, "evaluate": False}, data, backend, resume=path)
    assert found is not None
    whole = golden.arrays(files[f"{name}/result"])
    expected = {place: whole[place] for place in whole if place in found or place.startswith("weights/")}
    assert not differences(found, expected)


@pytest.mark.parametrize("kind", ["mmvae", "mmvrnn"])
def test_a_stored_bundle_is_read(kind: str, backend: Backend) -> None:
    bundle = golden.FOLDER / f"{kind}.tar"
    manifest = models.describe(bundle)
    predictor = models.load(bundle, backend=backend)
    assert (manifest["model"], manifest["model_version"], manifest["metrics"]) == (
        "sounds",
        3,
        {"loss": 2.5, "kl": None},
    )
    assert predictor.config.model_dump(mode="json")["modalities"] == manifest["config"]["modalities"]
    name = {"mmvae": "mixed-product", "mmvrnn": "mixed-missing_embeddings-filter-gru1"}[kind]
    batches = golden.arrays(golden.archive("batches")[f"{kind}-mixed/batches"])
    found = golden.answers(bundle, batches, backend)
    assert not differences(found, golden.arrays(golden.archive(kind)[f"{name}/answers"]))


def test_random_numbers_are_a_function_of_seed_step_and_row(backend: Backend) -> None:
    found, expected = golden.numbers(backend), golden.arrays(golden.archive("draws")["numbers/result"])
    assert not differences(found, expected)
    assert all(np.array_equal(found[name], expected[name]) for name in expected if name.startswith("uniform"))


def test_masks_are_a_function_of_seed_step_and_row(backend: Backend) -> None:
    files = golden.archive("draws")
    found = golden.masks(golden.arrays(files["masks/batches"]), backend)
    assert not differences(found, golden.arrays(files["masks/result"]))


def test_schedules_equal_those_of_earlier_versions() -> None:
    assert not differences(golden.schedules(), golden.arrays(golden.archive("draws")["schedules/result"]))
