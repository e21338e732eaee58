"""The answers of models and trainings that are stored in tests/fixtures/golden, computed by today's code.

All that the stored answers need of the code's names is here: where one moves, this file follows, and the stored numbers
stay. Arrays are flat mappings, name -> array.
"""

import itertools
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from safetensors.numpy import load as unpacked
from torch import Tensor

import models
from models.batch import Batch
from models.config import (
    BetaSchedule,
    BurstDeletion,
    DeletionMix,
    LearningRateSchedule,
    TrainingConfig,
    parse,
)
from models.config.training import ModalityDropout
from models.io import checkpoint
from models.ops import Backend
from models.ops.philox import Draws
from models.training import evaluate, objective, schedule, state
from models.training.dataset import Dataset
from models.training.deletion_mix import deletion_mix
from models.training.events import Checkpoint, Epoch, Finished
from models.training.loop import fit
from models.training.masking import burst_deletion, modality_dropout

FOLDER = Path(__file__).parents[1] / "fixtures" / "golden"
Array = NDArray[Any]
Arrays = dict[str, Array]

SEED, STEP = 11, 5
HORIZON, QUANTILES = 2, (0.1, 0.5, 0.9)


@lru_cache(maxsize=8)
def archive(name: str) -> dict[str, bytes]:
    """The files of one stored archive by their names."""
    with zipfile.ZipFile(FOLDER / f"{name}.zip") as file:
        return {member: file.read(member) for member in file.namelist()}


def cases(name: str) -> list[str]:
    """The folders of one stored archive."""
    return sorted({member.split("/")[0] for member in archive(name)})


def arrays(content: bytes) -> Arrays:
    """The arrays of a safetensors file."""
    return dict(unpacked(content))


def batch_of(stored_batch: Mapping[str, Array], name: str) -> Batch:
    """The batch of this name among stored ones: NAME/values/MODALITY, NAME/present/MODALITY, NAME/lengths."""
    found: dict[str, dict[str, Tensor]] = {"values": {}, "present": {}, "lengths": {}}
    for key, array in stored_batch.items():
        batch, kind, *modality = key.split("/")
        if batch == name:
            found[kind][modality[0] if modality else ""] = torch.from_numpy(array)
    return Batch(found["values"], found["present"], found["lengths"].get(""))


def answers(path: Path, batches: Mapping[str, Array], backend: Backend) -> Arrays:
    """What the checkpoint at `path` answers about the batches `mixed`, `alone` and `hidden`."""
    predictor = models.load(path, backend=backend)
    names = sorted(modality.name for modality in predictor.config.modalities)
    sequence = predictor.config.kind == "sequence"
    found: Arrays = {}

    def note(place: str, *parts: Mapping[str, Any]) -> None:
        for part in parts:
            for name, value in part.items():
                if isinstance(value, dict):
                    note(f"{place}/{name}", value)
                elif value is not None:
                    found[f"{place}/{name}"] = np.asarray(value)

    for kind in ("mixed", "alone", "hidden"):
        batch = batch_of(batches, kind)
        values = {name: value.numpy() for name, value in batch.values.items()}
        present = {name: mask.numpy() for name, mask in batch.present.items()}
        lengths = None if batch.lengths is None else batch.lengths.numpy()
        latent = predictor.encode(values, present, lengths)
        note(f"encode/{kind}", latent._asdict())
        note(f"reconstruct/{kind}", predictor.reconstruct(values, present, lengths, names))
        if kind != "mixed":
            continue
        note("reconstruct/draws", predictor.reconstruct(values, present, lengths, names, n_samples=3, seed=SEED))
        completed = predictor.impute(values, present, lengths)["completed"]
        note("impute", {name: _filled(name, answer, values, present) for name, answer in completed.items()})
        note("score/mean", predictor.score(values, present, lengths)._asdict())
        note("score/draws", predictor.score(values, present, lengths, n_samples=2, seed=SEED)._asdict())
        if sequence:
            for draws in (0, 3):
                question = (values, present, lengths, HORIZON, names, draws, SEED, QUANTILES)
                note(f"forecast/{draws}", predictor.forecast(*question))
            if latent.state is not None:
                note("piece", predictor.encode(values, present, None, latent.state)._asdict())
    note("sample", predictor.sample(2, 3 if sequence else None, SEED))
    return _without_padding(found, batches) if sequence else found


def _filled(name: str, answer: Arrays, values: Arrays, present: Arrays) -> Array:
    """The completed values; missing counts were rates, which are whole numbers now."""
    if "rate" not in answer or name not in values:
        return answer.get("rate", answer["value"])
    mask = present[name].reshape(*present[name].shape, *[1] * (values[name].ndim - present[name].ndim))
    return np.where(mask, values[name], answer["rate"])


def _without_padding(found: Arrays, batches: Mapping[str, Array]) -> Arrays:
    """Zeros at the steps behind a sequence's end: what stands there means nothing."""
    for kind in ("mixed", "alone", "hidden"):
        lengths = batches[f"{kind}/lengths"]
        valid = np.arange(lengths.max()) < lengths[:, None]
        places = [f"encode/{kind}/", f"reconstruct/{kind}/"]
        places += ["reconstruct/draws/", "impute/", "score/"] if kind == "mixed" else []
        for name, array in found.items():
            if name.startswith(tuple(places)) and array.shape[:2] == valid.shape:
                found[name] = np.where(valid.reshape(*valid.shape, *[1] * (array.ndim - 2)), array, array.dtype.type(0))
    return found


def step(path: Path, batches: Mapping[str, Array], training: Mapping[str, Any], backend: Backend) -> Arrays:
    """The parts of the bound, and the loss of a training step with its gradients, of the batch `mixed`."""
    model = checkpoint.load(path, backend=backend).train()
    targets, inputs = batch_of(batches, "mixed"), batch_of(batches, "mixed")
    # less is shown than is asked for
    first = min(inputs.present)
    some = (torch.arange(inputs.rows) % 3 > 0).reshape(-1, *[1] * (inputs.present[first].ndim - 1))
    inputs = Batch(inputs.values, {**inputs.present, first: inputs.present[first] & some}, inputs.lengths)
    rows = np.arange(100, 100 + targets.rows)
    noise = Draws(SEED, STEP, 7, backend).normal(rows, *model.latent_shape(targets))
    found: Arrays = {}
    with torch.no_grad():
        for name, given in (("mean", None), ("noise", noise)):
            terms = model.terms(inputs, targets, given)
            found[f"terms/{name}/kl"] = terms.kl.numpy()
            found |= {
                f"terms/{name}/log_likelihood/{key}": value.numpy() for key, value in terms.log_likelihood.items()
            }
            found |= {f"terms/{name}/errors/{key}": value.numpy() for key, value in terms.errors.items()}
        if (shares := model.expert_shares(inputs)) is not None:
            found |= {f"shares/{key}": value.numpy() for key, value in shares.items()}
        found["profile"] = objective.negative_profile(model, inputs, targets).numpy()
    chosen = TrainingConfig.model_validate(training)
    loss = objective.negative_bound(
        model, targets, chosen, 0.3, lambda stream: Draws(SEED, STEP, stream, backend), rows
    )
    loss.loss.sum().backward()
    found["loss"], found["kl"] = loss.loss.detach().numpy(), loss.kl.detach().numpy()
    found |= {f"log_likelihood/{name}": value.detach().numpy() for name, value in loss.log_likelihood.items()}
    for name, parameter in model.named_parameters():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        found[f"gradient/{name}"] = gradient.numpy()
    return found


def dataset(data: Mapping[str, Array], kind: str) -> Dataset:
    """Stored arrays as a dataset: values/MODALITY, present/MODALITY, lengths."""
    parts: dict[str, Arrays] = {"values": {}, "present": {}}
    for key, array in data.items():
        part, _, name = key.partition("/")
        if name:
            parts[part][name] = array
    return Dataset.from_arrays(parts["values"], kind, parts["present"], data.get("lengths"))  # type: ignore[arg-type]


def train(
    spec: Mapping[str, Any],
    data: Mapping[str, Array],
    backend: Backend,
    resume: Path | None = None,
    stop: tuple[int, Path] | None = None,
) -> Arrays | None:
    """The weights, rows, metrics and evaluation of a training, from its beginning or from a stored state.

    stop: the step to stop before, and where to write the state; returns None then.
    """
    config, training = parse(spec["config"]), TrainingConfig.model_validate(spec["training"])
    samples = dataset(data, config.kind)
    begun = None if resume is None else state.load(resume)
    answers = itertools.count(0 if begun is None else begun.step)
    should_stop: Callable[[], bool] = (lambda: next(answers) == stop[0]) if stop else (lambda: False)
    found: Arrays = {}
    events = fit(
        config, samples, training, seed=spec["seed"], should_stop=should_stop, resume_from=begun, backend=backend
    )
    for event in events:
        if isinstance(event, Epoch):
            found |= {f"epoch/{event.epoch}/{name}": np.asarray(value) for name, value in event.metrics.items()}
        elif isinstance(event, Checkpoint) and stop:
            state.save(event.state, stop[1])
            return None
        elif isinstance(event, Finished):
            found |= {f"weights/{name}": value.numpy() for name, value in event.model.state_dict().items()}
            found |= {"rows/training": event.train_rows, "rows/validation": event.validation_rows}
            found["epoch/chosen"] = np.asarray(event.epoch)
            if spec["evaluate"]:
                told = evaluate.evaluate(event.model, samples, event.train_rows, event.validation_rows, 3)
                found |= {f"evaluation/{place}": value for place, value in _leaves(told, "")}
    return found


def _leaves(told: Any, place: str) -> Iterator[tuple[str, Array]]:
    """The numbers in JSON by their places; texts are left out."""
    if isinstance(told, dict | list):
        for key, value in told.items() if isinstance(told, dict) else enumerate(told):
            yield from _leaves(value, f"{place}/{key}")
    elif isinstance(told, int | float):
        yield place, np.asarray(told)


def numbers(backend: Backend) -> Arrays:
    """Random numbers by (seed, step, row, stream)."""
    rows = np.array([0, 1, 77, 2**31 + 5, 2**32 - 1, 2**40 + 3])
    found: Arrays = {}
    for seed, number, stream in [(0, 0, 0), (3, 17, 1), (2**63 + 9, 2**40 + 1, 4), (2**32, 2**32, 255)]:
        draws = Draws(seed, number, stream, backend)
        found[f"uniform/{seed}/{number}/{stream}"] = draws.uniform(rows, 6).numpy()
        found[f"normal/{seed}/{number}/{stream}"] = draws.normal(rows, 3, 3).numpy()
    steps = np.array([0, 1, 2**33, 5, 5, 6])
    found["uniform/steps"] = Draws(5, steps, 2, backend).uniform(rows, 5).numpy()
    found["normal/steps"] = Draws(5, steps, 2, backend).normal(rows, 5).numpy()
    return found


DROPOUTS = {
    "subsets": {"strategy": "subsets", "probability": 0.7},
    "number": {"strategy": "number", "probability": 0.7},
    "independent": {"strategy": "independent", "probabilities": {"a": 0.3, "b": 0.9, "m01": 0.5}},
}
BURSTS = {"usual": {}, "long": {"probability": 0.9, "longest": 0.8}}
MIXES = {"usual": {}, "windows": {"windows": 5.0, "more_steps": 1.0}, "steps": {"steps": 9.0}}


def masks(batches: Mapping[str, Array], backend: Backend) -> Arrays:
    """What modality dropout and deletions leave of the batches `static`, `sequence` and `many`."""
    found: Arrays = {}
    draws = Draws(SEED, STEP, 1, backend)
    for kind in ("static", "sequence", "many"):
        batch = batch_of(batches, kind)
        rows = np.arange(7, 7 + batch.rows)
        left = {}
        for name, config in DROPOUTS.items():
            chosen: Any = TypeAdapter(ModalityDropout).validate_python(config)
            left[f"dropout/{name}"] = modality_dropout(batch, chosen, draws, rows)
        if kind == "sequence":
            for name, config in BURSTS.items():
                left[f"burst/{name}"] = burst_deletion(batch, BurstDeletion.model_validate(config), draws, rows)
            for name, config in MIXES.items():
                left[f"mix/{name}"] = deletion_mix(batch, DeletionMix.model_validate(config), draws, rows)
        for name, one in left.items():
            found |= {f"{kind}/{name}/{key}": mask.numpy() for key, mask in one.present.items()}
    return found


BETAS: list[dict[str, Any]] = [
    {"schedule": "constant", "value": 0.7},
    {"schedule": "linear"},
    {"schedule": "linear", "start": 0.1, "end": 2.0, "ramp": 2, "ramp_unit": "epochs"},
    {"schedule": "linear", "end": 1.0, "ramp": 7, "ramp_unit": "steps"},
    {"schedule": "cyclical"},
    {"schedule": "cyclical", "cycles": 3, "ramp": 0.9, "unit": "epochs", "end": 1.0},
]
RATES: list[dict[str, Any]] = [{"schedule": name, "warmup": 0.2} for name in ("cosine", "linear", "constant")]


def schedules() -> Arrays:
    """beta, and the learning rate's factor, at every step of a training."""
    steps, per_epoch = 36, 6
    found: Arrays = {}
    for index, config in enumerate(BETAS):
        beta: Any = TypeAdapter(BetaSchedule).validate_python(config)
        values = [schedule.beta_at(beta, number, steps, per_epoch) for number in range(steps)]
        found[f"beta/{index}"] = np.array([*values, schedule.last_beta(beta)])
    for index, config in enumerate([{}, *RATES]):
        rate = LearningRateSchedule.model_validate(config)
        values = [schedule.learning_rate_factor(rate, number, steps) for number in range(steps)]
        found[f"rate/{index}"] = np.array(values)
    return found


def spec_of(content: bytes) -> dict[str, Any]:
    """A stored JSON object."""
    found: dict[str, Any] = json.loads(content)
    return found
