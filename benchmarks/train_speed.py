"""How many times faster a training step is than a textbook's, on one processor core, and how much memory it takes.

First a check that all contenders compute the same losses and gradients, with the same weights and noise. Then they run
in turns. One thing changes from one contender to the next, so that each gain has its own figure: the loader, the
optimiser, projections hoisted out of the loop over time, our model, its kernels. The last contender is a job's step.
"""

import functools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from benchmarks.peers import epochs, loops, steps
from benchmarks.peers.loops import REALISTIC, SMALL, Case
from benchmarks.report import Figure, publish
from models.batch import Batch
from models.config import MLPConfig, MMVAEConfig, MMVRNNConfig, TrainingConfig
from models.config.presets import choose
from models.mmvae import MMVAE
from models.mmvrnn import MMVRNN
from models.ops import library
from models.ops.elbo import elbo
from models.synthetic import quadratic_sinusoidal
from models.training import allocator
from models.training.dataset import Dataset
from tests.reference.vae import VAE
from tests.reference.vrnn import VRNN, HoistedVRNN
from tests.reference.weights import sample_weights, sequence_weights

ROUNDS, WARM_UP = 15, 4
# Steps of an epoch of a job.
JOB_STEPS = 4
ROWS, BATCH, EPOCHS = 5000, 100, 12

ADAM = functools.partial(torch.optim.Adam, lr=steps.LEARNING_RATE)


def main() -> None:
    """Measure all contenders."""
    torch.set_num_threads(1)
    allocator.keep_freed_memory()  # as a trainer does
    print(f"kernels: {library.path() or library.NOT_BUILT}")
    figures = [*vrnn(SMALL, 6.0), *memory(SMALL), *vrnn(REALISTIC, 2.0), *memory(REALISTIC)]
    publish("train_speed", [*figures, *preset(), *vae()])


def vrnn(case: Case, minimum: float) -> list[Figure]:
    """A step of the MM-VRNN compared with the textbook's VRNN, and with the contenders between the two."""
    model, peer = loops.sequence_pair(case)
    _, hoisted = loops.sequence_pair(case, HoistedVRNN)
    batch, noise = loops.sequences(case)
    ours = _found(model, batch, noise)
    for name, other in ((case.name, peer), (f"{case.name}, hoisted", hoisted)):
        loops.check_equal(name, ours, _placed(model, other, batch, noise))
    reference, _ = loops.sequence_pair(case)
    reference.backend = "reference"
    loops.check_equal(f"{case.name}, without kernels", ours, _found(reference, batch, noise))
    job = _job_epochs(case)
    found = _medians(
        {
            "ours": steps.ours(model, batch, noise, steps.fused(model)),
            "textbook": steps.textbook(peer, batch, noise, ADAM(peer.parameters())),
            "hoisted": steps.textbook(hoisted, batch, noise, ADAM(hoisted.parameters())),
            "hoisted, fused": steps.textbook(hoisted, batch, noise, steps.fused(hoisted)),
            "without kernels": steps.ours(reference, batch, noise, steps.fused(reference)),
            "job": lambda: next(job),
        }
    )
    what = f"VRNN {case.name}"
    job_step = found["job"] / JOB_STEPS
    return [
        *_pair(what, found["ours"], found["textbook"], minimum),
        _told(f"{what}: hoisted PyTorch", found["hoisted"], "ms"),
        _told(f"{what}: hoisted PyTorch, fused optimiser", found["hoisted, fused"], "ms"),
        _told(f"{what}: ours without kernels", found["without kernels"], "ms"),
        _told(f"{what}: a job's step", job_step, "ms"),
        _told(f"{what}: times faster than hoisted PyTorch", found["hoisted, fused"] / found["ours"], "times"),
        _told(f"{what}: gain by hoisting", found["textbook"] / found["hoisted"], "times"),
        _told(f"{what}: gain by the optimiser", found["hoisted"] / found["hoisted, fused"], "times"),
        _told(f"{what}: gain by our model", found["hoisted, fused"] / found["without kernels"], "times"),
        _told(f"{what}: gain by kernels", found["without kernels"] / found["ours"], "times"),
        _told(f"{what}: a job's step over ours alone", job_step / found["ours"], "times"),
    ]


def _placed(model: MMVRNN, peer: VRNN, batch: Batch, noise: Tensor) -> dict[str, Tensor]:
    """The textbook's losses, and its gradients in terms of our parameters."""
    weights = sequence_weights(model, peer)
    theirs = loops.losses_and_gradients(peer.negative_elbo(batch.values, batch.present, noise), list(weights))
    found = [theirs[str(index)] for index in range(len(weights))]
    placed = torch.autograd.grad(list(weights.values()), list(model.parameters()), found)
    return {"loss": theirs["loss"], **{str(index): gradient for index, gradient in enumerate(placed)}}


def _job_epochs(case: Case) -> Iterator[float]:
    """Epochs of JOB_STEPS steps as a job trains them: batches, masks and noise are made in every step."""
    batch, _ = loops.sequences(case._replace(rows=JOB_STEPS * case.rows))
    values, present = ({name: part.numpy() for name, part in parts.items()} for parts in (batch.values, batch.present))
    training = {"epochs": ROUNDS + WARM_UP + 1, "batch_size": case.rows, "validation_fraction": 0.0}
    dataset = Dataset.from_arrays(values, "sequence", present)
    return epochs.ours(loops.sequence_config(case), TrainingConfig.model_validate(training), dataset)


def preset() -> list[Figure]:
    """The default model of sequences, compared with the same parts called step by step."""
    chosen = choose("sequence-imputation", "sequence", 2, 600, {}, {})
    config = MMVRNNConfig(modalities=loops.modalities({"x": 1, "y": 1}), **chosen.architecture)
    torch.manual_seed(0)
    model = MMVRNN(config)
    case = Case("preset", SMALL.widths._replace(modalities={"x": 1, "y": 1}), 100, chosen.training["batch_size"])
    batch, _ = loops.sequences(case)
    noise = torch.randn(case.rows, case.steps, model.latent_features)
    ours = _found(model, batch, noise)
    theirs = loops.losses_and_gradients(loops.step_by_step(model, batch, noise), list(model.parameters()))
    loops.check_equal("the preset", ours, theirs)
    default = torch.optim.Adam(model.parameters(), lr=0.0)

    def textbook() -> None:
        default.zero_grad()
        loops.step_by_step(model, batch, noise).mean().backward()
        default.step()

    return _compared("default sequence preset", steps.ours(model, batch, noise, steps.fused(model)), textbook, None)


def memory(case: Case) -> list[Figure]:
    """Bytes that a step saves for backward, for T and for 2 T steps."""
    model, peer = loops.sequence_pair(case)
    ours, theirs = _saved_bytes(model, peer, case, case.steps)
    twice, _ = _saved_bytes(model, peer, case, 2 * case.steps)
    figures = [
        Figure(f"VRNN {case.name}: saved for backward", ours / 2**20, "MiB", None, None),
        Figure(f"VRNN {case.name}: the textbook's", theirs / 2**20, "MiB", None, None),
    ]
    growth = twice / ours
    figures.append(Figure(f"VRNN {case.name}: saved for 2 T over T", growth, "times", "<= 2.1", growth <= 2.1))
    return figures


def _saved_bytes(model: MMVRNN, peer: VRNN, case: Case, length: int) -> tuple[int, int]:
    batch, noise = loops.sequences(case, length)
    ours = steps.saved_bytes(lambda: _bound(model, batch, noise))
    return ours, steps.saved_bytes(lambda: peer.negative_elbo(batch.values, batch.present, noise))


def vae() -> list[Figure]:
    """Samples per second of a whole training with data and masks, compared with a DataLoader and default Adam."""
    config = MMVAEConfig(
        modalities=loops.modalities({"m1": 2, "m2": 2}), latent_features=5, network=MLPConfig(hidden_features=(10,))
    )
    training = TrainingConfig.model_validate(
        {
            "epochs": EPOCHS,
            "batch_size": BATCH,
            "optimiser": "adam",
            "learning_rate": steps.LEARNING_RATE,
            "weight_decay": 0.0,
            "beta": {"schedule": "constant", "value": 0.1},
            "validation_fraction": 0.0,
            "modality_dropout": 0.5,
        }
    )
    values = quadratic_sinusoidal(ROWS, 0)
    data = Dataset.from_arrays(values)
    _check_vae(config, {name: torch.from_numpy(value) for name, value in values.items()})
    fused = functools.partial(ADAM, fused=True)
    contenders = {
        "ours": epochs.ours(config, training, data),
        "textbook": epochs.textbook(config, values, BATCH, ADAM),
        "slices": epochs.textbook(config, values, BATCH, ADAM, loaded=False),
        "slices, fused": epochs.textbook(config, values, BATCH, fused, loaded=False),
        "without kernels": epochs.ours(config, training, data, "reference"),
    }
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for epoch in range(EPOCHS):
        for name, contender in contenders.items():
            seconds = next(contender)
            if epoch:  # the first epoch includes work that is done once
                found[name].append(seconds)
    speed = {name: ROWS / statistics.median(seconds) for name, seconds in found.items()}
    ratio = speed["ours"] / speed["textbook"]
    return [
        _told("MM-VAE: ours", speed["ours"], "samples/s"),
        _told("MM-VAE: DataLoader and default Adam", speed["textbook"], "samples/s"),
        Figure("MM-VAE: times the textbook's", ratio, "times", ">= 3", ratio >= 3),
        _told("MM-VAE: slices and default Adam", speed["slices"], "samples/s"),
        _told("MM-VAE: slices and fused Adam", speed["slices, fused"], "samples/s"),
        _told("MM-VAE: ours without kernels", speed["without kernels"], "samples/s"),
        _told("MM-VAE: gain by the loader", speed["slices"] / speed["textbook"], "times"),
        _told("MM-VAE: gain by the optimiser", speed["slices, fused"] / speed["slices"], "times"),
        _told("MM-VAE: gain by our step", speed["without kernels"] / speed["slices, fused"], "times"),
        _told("MM-VAE: gain by kernels", speed["ours"] / speed["without kernels"], "times"),
    ]


def _check_vae(config: MMVAEConfig, values: dict[str, Tensor]) -> None:
    model, peer = loops.sample_pair(config, 10)
    values = {name: value[:BATCH] for name, value in values.items()}
    everything = torch.ones(BATCH, dtype=torch.bool)
    present = {"m1": torch.arange(BATCH) % 3 != 0, "m2": torch.arange(BATCH) % 4 != 1}
    noise = torch.randn(BATCH, config.latent_features)
    inputs, targets = Batch(values, present), Batch(values, dict.fromkeys(values, everything))
    ours = loops.losses_and_gradients(elbo(model, inputs, targets, noise, 0.1).loss, _ordered(model, peer))
    theirs = loops.losses_and_gradients(peer.negative_elbo(values, present, noise, 0.1), list(peer.parameters()))
    loops.check_equal("MM-VAE", ours, theirs)


def _ordered(model: MMVAE, peer: VAE) -> list[Tensor]:
    pairs = sample_weights(model, peer)
    return [pairs[parameter] for parameter in peer.parameters()]


def _bound(model: MMVRNN, batch: Batch, noise: Tensor) -> Tensor:
    return elbo(model, batch, batch, noise).loss


def _found(model: MMVRNN, batch: Batch, noise: Tensor) -> dict[str, Tensor]:
    return loops.losses_and_gradients(_bound(model, batch, noise), list(model.parameters()))


def _compared(name: str, ours: steps.Step, theirs: steps.Step, minimum: float | None) -> list[Figure]:
    """Median milliseconds of both, in turns, and how many times faster ours is."""
    found = _medians({"ours": ours, "textbook": theirs})
    return _pair(name, found["ours"], found["textbook"], minimum)


def _pair(name: str, ours: float, textbook: float, minimum: float | None) -> list[Figure]:
    bar = None if minimum is None else f">= {minimum:g}"
    holds = None if minimum is None else textbook / ours >= minimum
    return [
        _told(f"{name}: ours", ours, "ms"),
        _told(f"{name}: textbook", textbook, "ms"),
        Figure(f"{name}: times faster", textbook / ours, "times", bar, holds),
    ]


def _medians(contenders: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Median milliseconds of one step of each contender, in turns."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for round in range(ROUNDS + WARM_UP):
        for name, step in contenders.items():
            begun = time.perf_counter()
            step()
            if round >= WARM_UP:
                times[name].append(1e3 * (time.perf_counter() - begun))
    return {name: statistics.median(found) for name, found in times.items()}


def _told(name: str, value: float, unit: str) -> Figure:
    """A figure without a bar."""
    return Figure(name, value, unit, None, None)


if __name__ == "__main__":
    main()
