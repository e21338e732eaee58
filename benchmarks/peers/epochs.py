"""Epochs of an MM-VAE's training by the textbook, and of any training by ours: seconds, one epoch after the other."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.peers import loops
from models.config import MMVAEConfig, MMVRNNConfig, TrainingConfig
from models.ops import Backend
from models.training.dataset import Dataset
from models.training.events import Epoch
from models.training.loop import fit
from tests.reference.vae import VAE

Optimiser = Callable[[Iterable[torch.nn.Parameter]], torch.optim.Optimizer]


def ours(
    config: MMVAEConfig | MMVRNNConfig, training: TrainingConfig, data: Dataset, backend: Backend = "auto"
) -> Iterator[float]:
    """A training as a job runs it: data handling, masks and noise included."""
    events = fit(config, data, training, seed=0, backend=backend)
    while True:
        begun = time.perf_counter()
        while not isinstance(next(events), Epoch):
            pass
        yield time.perf_counter() - begun


def textbook(
    config: MMVAEConfig,
    values: Mapping[str, NDArray[np.float32]],
    batch_rows: int,
    optimiser: Optimiser,
    loaded: bool = True,
) -> Iterator[float]:
    """The textbook's VAE. loaded: batches by a DataLoader, else by slices of the shuffled tensors."""
    _, peer = loops.sample_pair(config, 10)
    stepping = optimiser(peer.parameters())
    tensors = {name: torch.from_numpy(values[name]) for name in sorted(values)}
    loader = DataLoader(TensorDataset(*tensors.values()), batch_size=batch_rows, shuffle=True)
    while True:
        begun = time.perf_counter()
        for items in loader if loaded else _slices(list(tensors.values()), batch_rows):
            _step(peer, stepping, dict(zip(tensors, items, strict=True)))
        yield time.perf_counter() - begun


def _slices(tensors: list[Tensor], batch_rows: int) -> Iterator[list[Tensor]]:
    """Batches of all rows in random order."""
    order = torch.randperm(len(tensors[0]))
    shuffled = [tensor[order] for tensor in tensors]
    for start in range(0, len(order), batch_rows):
        yield [tensor[start : start + batch_rows] for tensor in shuffled]


def _step(peer: VAE, optimiser: torch.optim.Optimizer, values: dict[str, Tensor]) -> float:
    """Half of the samples lose one of the two modalities."""
    rows = len(next(iter(values.values())))
    hidden = torch.where(torch.rand(rows) < 0.5, torch.randint(len(values), (rows,)), -1)
    present = {name: hidden != index for index, name in enumerate(values)}
    optimiser.zero_grad()
    loss = peer.negative_elbo(values, present, torch.randn(rows, peer.latent), 0.1).mean()
    loss.backward()
    optimiser.step()
    return loss.item()
