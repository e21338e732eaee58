"""Multimodal generative models in PyTorch, as a library.

Names are imported when they are first used, so that `import models` and `models.config` do not import torch: a process
that only checks configurations starts in milliseconds instead of seconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.architectures import build as build
    from models.batch import Batch as Batch
    from models.devices import cards as cards
    from models.devices import ran_out_of_memory as ran_out_of_memory
    from models.devices import use_threads as use_threads
    from models.imputation import NoConditional as NoConditional
    from models.io.bundle import BundleError as BundleError
    from models.io.bundle import describe as describe
    from models.io.checkpoint import CheckpointError as CheckpointError
    from models.io.checkpoint import save as save
    from models.io.verification import verify as verify
    from models.mmvae import MMVAE as MMVAE
    from models.mmvrnn import MMVRNN as MMVRNN
    from models.multimodal import Parts as Parts
    from models.ops import Backend as Backend
    from models.ops import KernelUnavailable as KernelUnavailable
    from models.ops.explain import Served as Served
    from models.ops.explain import explain as explain
    from models.ops.explain import explain_examples as explain_examples
    from models.ops.explain import in_words as in_words
    from models.predictor import Predictor as Predictor
    from models.predictor import load as load
    from models.training.checks import UnusableData as UnusableData
    from models.training.dataset import Dataset as Dataset
    from models.training.evaluate import evaluate as evaluate
    from models.training.events import Checkpoint as Checkpoint
    from models.training.events import Epoch as Epoch
    from models.training.events import Finished as Finished
    from models.training.events import Started as Started
    from models.training.loop import TrainingDiverged as TrainingDiverged
    from models.training.loop import fit as fit
    from models.training.refit import refit as refit
    from models.training.state import UnusableState as UnusableState

HOMES = {
    "Backend": "models.ops",
    "Batch": "models.batch",
    "BundleError": "models.io.bundle",
    "Checkpoint": "models.training.events",
    "CheckpointError": "models.io.checkpoint",
    "Dataset": "models.training.dataset",
    "Epoch": "models.training.events",
    "Finished": "models.training.events",
    "KernelUnavailable": "models.ops",
    "MMVAE": "models.mmvae",
    "MMVRNN": "models.mmvrnn",
    "NoConditional": "models.imputation",
    "Parts": "models.multimodal",
    "Predictor": "models.predictor",
    "Served": "models.ops.explain",
    "Started": "models.training.events",
    "TrainingDiverged": "models.training.loop",
    "UnusableData": "models.training.checks",
    "UnusableState": "models.training.state",
    "build": "models.architectures",
    "cards": "models.devices",
    "describe": "models.io.bundle",
    "evaluate": "models.training.evaluate",
    "explain": "models.ops.explain",
    "explain_examples": "models.ops.explain",
    "fit": "models.training.loop",
    "in_words": "models.ops.explain",
    "load": "models.predictor",
    "ran_out_of_memory": "models.devices",
    "refit": "models.training.refit",
    "save": "models.io.checkpoint",
    "use_threads": "models.devices",
    "verify": "models.io.verification",
}


def __getattr__(name: str) -> object:
    """Import the module that `name` lives in (PEP 562)."""
    if name not in HOMES:
        raise AttributeError(f"module 'models' has no attribute {name!r}")
    return getattr(import_module(HOMES[name]), name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted(HOMES)
