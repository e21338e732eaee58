"""How many times faster than a textbook's loop a training step is, on one processor core, and what it keeps in memory.

Each pair computes the same first: losses and all gradients, with the same weights and noise. Then the two take turns.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.peers import loops
from benchmarks.peers.loops import REALISTIC, SMALL, Case
from benchmarks.peers.textbook import VAE, VRNN
from benchmarks.report import Figure, publish
from models.batch import Batch
from models.config import MLPConfig, MMVAEConfig, MMVRNNConfig, TrainingConfig
from models.config.presets import choose
from models.mmvae import MMVAE
from models.mmvrnn import MMVRNN
from models.ops import gru_loop
from models.synthetic import quadratic_sinusoidal
from models.training import allocator
from models.training.dataset import Dataset
from models.training.events import Epoch
from models.training.loop import fit
from models.training.objective import negative_elbo

ROUNDS = 15
LEARNING_RATE = 1e-3
ROWS, BATCH, EPOCHS = 5000, 100, 12

Step = Callable[[], None]


def main() -> None:
    """Measure all of it."""
    torch.set_num_threads(1)
    allocator.keep_freed_memory()  # as a trainer does
    print(f"loop over time: {gru_loop.loop_over_time()}")
    figures = [*vrnn(SMALL, 6.0), *memory(SMALL), *vrnn(REALISTIC, 2.0), *memory(REALISTIC)]
    publish("train_speed", [*figures, *preset(), *vae()])


def vrnn(case: Case, least: float) -> list[Figure]:
    """A step of the MM-VRNN beside the textbook's VRNN."""
    model, peer = loops.sequence_pair(case)
    batch, noise = loops.sequences(case)
    weights = loops.sequence_weights(model, peer)
    ours = loops.losses_and_gradients(_bound(model, batch, noise), list(model.parameters()))
    theirs = loops.losses_and_gradients(peer.negative_elbo(batch.values, batch.present, noise), list(weights))
    # the gradients of our parameters, in the places where they stand in the textbook's matrices
    found = [theirs[str(index)] for index in range(len(weights))]
    placed = torch.autograd.grad(list(weights.values()), list(model.parameters()), found)
    theirs = {"loss": theirs["loss"], **{str(index): gradient for index, gradient in enumerate(placed)}}
    loops.check_equal(case.name, ours, theirs)
    optimiser, default = _fused(model), torch.optim.Adam(peer.parameters(), lr=LEARNING_RATE)

    def textbook() -> None:
        default.zero_grad()
        peer.negative_elbo(batch.values, batch.present, noise).mean().backward()
        default.step()

    return _compared(f"VRNN {case.name}", _training_step(model, batch, noise, optimiser), textbook, least)


def preset() -> list[Figure]:
    """The model that sequences get by default, beside its own parts one step after the other."""
    chosen = choose("sequence-imputation", "sequence", 2, 600, {}, {})
    config = MMVRNNConfig(modalities=loops.modalities({"x": 1, "y": 1}), **chosen.architecture)
    torch.manual_seed(0)
    model = MMVRNN(config)
    case = Case("preset", SMALL.widths._replace(modalities={"x": 1, "y": 1}), 100, chosen.training["batch_size"])
    batch, _ = loops.sequences(case)
    noise = torch.randn(case.rows, case.steps, model.latent_features)
    ours = loops.losses_and_gradients(_bound(model, batch, noise), list(model.parameters()))
    theirs = loops.losses_and_gradients(loops.step_by_step(model, batch, noise), list(model.parameters()))
    loops.check_equal("the preset", ours, theirs)
    default = torch.optim.Adam(model.parameters(), lr=0.0)

    def textbook() -> None:
        default.zero_grad()
        loops.step_by_step(model, batch, noise).mean().backward()
        default.step()

    return _compared("default sequence preset", _training_step(model, batch, noise, _fused(model)), textbook, None)


def memory(case: Case) -> list[Figure]:
    """Bytes that a step keeps for its way back, for T and for 2 T steps."""
    model, peer = loops.sequence_pair(case)
    ours, theirs = _kept_bytes(model, peer, case, case.steps)
    twice, _ = _kept_bytes(model, peer, case, 2 * case.steps)
    figures = [
        Figure(f"VRNN {case.name}: kept for the way back", ours / 2**20, "MiB", None, None),
        Figure(f"VRNN {case.name}: the textbook's", theirs / 2**20, "MiB", None, None),
    ]
    growth = twice / ours
    figures.append(Figure(f"VRNN {case.name}: kept for 2 T over T", growth, "times", "<= 2.1", growth <= 2.1))
    return figures


def _kept_bytes(model: MMVRNN, peer: VRNN, case: Case, steps: int) -> tuple[int, int]:
    batch, noise = loops.sequences(case, steps)
    ours = _kept(lambda: _bound(model, batch, noise))
    return ours, _kept(lambda: peer.negative_elbo(batch.values, batch.present, noise))


def vae() -> list[Figure]:
    """Samples a second of a whole training, data handling and masks included, beside a DataLoader and default Adam."""
    config = MMVAEConfig(
        modalities=loops.modalities({"m1": 2, "m2": 2}), latent_features=5, network=MLPConfig(hidden_features=(10,))
    )
    training = TrainingConfig.model_validate(
        {
            "epochs": EPOCHS,
            "batch_size": BATCH,
            "optimiser": "adam",
            "learning_rate": LEARNING_RATE,
            "weight_decay": 0.0,
            "beta": {"schedule": "constant", "value": 0.1},
            "validation_fraction": 0.0,
            "modality_dropout": 0.5,
        }
    )
    values = quadratic_sinusoidal(ROWS, 0)
    data = Dataset.from_arrays(values)
    _check_vae(config, {name: torch.from_numpy(value) for name, value in values.items()})
    ours, theirs = _our_epochs(config, training, data), _textbook_epochs(config, values)
    _ = next(ours), next(theirs)  # the first has what is done once
    pairs = [(next(ours), next(theirs)) for _ in range(EPOCHS - 1)]
    fast, slow = (ROWS / statistics.median(seconds) for seconds in zip(*pairs, strict=True))
    return [
        Figure("MM-VAE: ours", fast, "samples/s", None, None),
        Figure("MM-VAE: DataLoader and default Adam", slow, "samples/s", None, None),
        Figure("MM-VAE: times the textbook's", fast / slow, "times", ">= 3", fast / slow >= 3),
    ]


def _our_epochs(config: MMVAEConfig, training: TrainingConfig, data: Dataset) -> Iterator[float]:
    """Seconds of one epoch after the other."""
    events = fit(config, data, training, seed=0)
    while True:
        begun = time.perf_counter()
        while not isinstance(next(events), Epoch):
            pass
        yield time.perf_counter() - begun


def _textbook_epochs(config: MMVAEConfig, values: Mapping[str, NDArray[np.float32]]) -> Iterator[float]:
    _, peer = loops.sample_pair(config, 10)
    names = sorted(values)
    loader = DataLoader(
        TensorDataset(*(torch.from_numpy(values[name]) for name in names)), batch_size=BATCH, shuffle=True
    )
    optimiser = torch.optim.Adam(peer.parameters(), lr=LEARNING_RATE)
    while True:
        begun = time.perf_counter()
        for items in loader:
            _textbook_step(peer, optimiser, dict(zip(names, items, strict=True)))
        yield time.perf_counter() - begun


def _textbook_step(peer: VAE, optimiser: torch.optim.Optimizer, values: dict[str, Tensor]) -> float:
    """Half of the samples lose one of the two modalities."""
    rows = len(next(iter(values.values())))
    hidden = torch.where(torch.rand(rows) < 0.5, torch.randint(len(values), (rows,)), -1)
    present = {name: hidden != index for index, name in enumerate(values)}
    optimiser.zero_grad()
    loss = peer.negative_elbo(values, present, torch.randn(rows, peer.latent), 0.1).mean()
    loss.backward()
    optimiser.step()
    return loss.item()


def _check_vae(config: MMVAEConfig, values: dict[str, Tensor]) -> None:
    model, peer = loops.sample_pair(config, 10)
    values = {name: value[:BATCH] for name, value in values.items()}
    everything = torch.ones(BATCH, dtype=torch.bool)
    present = {"m1": torch.arange(BATCH) % 3 != 0, "m2": torch.arange(BATCH) % 4 != 1}
    noise = torch.randn(BATCH, config.latent_features)
    terms = model.terms(Batch(values, present), Batch(values, dict.fromkeys(values, everything)), noise)
    ours = loops.losses_and_gradients(negative_elbo(terms, 0.1).loss, _ordered(model, peer))
    theirs = loops.losses_and_gradients(peer.negative_elbo(values, present, noise, 0.1), list(peer.parameters()))
    loops.check_equal("MM-VAE", ours, theirs)


def _ordered(model: MMVAE, peer: VAE) -> list[Tensor]:
    pairs = loops.sample_weights(model, peer)
    return [pairs[parameter] for parameter in peer.parameters()]


def _bound(model: MMVRNN, batch: Batch, noise: Tensor) -> Tensor:
    return negative_elbo(model.terms(batch, batch, noise), beta=1.0).loss


def _training_step(model: MMVRNN, batch: Batch, noise: Tensor, optimiser: torch.optim.Optimizer) -> Step:
    def step() -> None:
        optimiser.zero_grad()
        _bound(model, batch, noise).mean().backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()

    return step


def _fused(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True)


def _kept(forward: Callable[[], Tensor]) -> int:
    """Bytes of the tensors that automatic differentiation keeps, each once."""
    storages: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        forward()
    return sum(storages.values())


def _compared(name: str, ours: Step, theirs: Step, least: float | None) -> list[Figure]:
    """Median milliseconds of both, in turns, and how many times faster ours is."""
    times: tuple[list[float], list[float]] = ([], [])
    for round in range(ROUNDS + 4):
        for step, found in zip((ours, theirs), times, strict=True):
            begun = time.perf_counter()
            step()
            if round >= 4:
                found.append(1e3 * (time.perf_counter() - begun))
    fast, slow = (statistics.median(found) for found in times)
    bar = None if least is None else f">= {least:g}"
    return [
        Figure(f"{name}: ours", fast, "ms", None, None),
        Figure(f"{name}: textbook", slow, "ms", None, None),
        Figure(f"{name}: times faster", slow / fast, "times", bar, None if least is None else slow / fast >= least),
    ]


if __name__ == "__main__":
    main()
