"""A model as one file: its weights in safetensors, its config and metadata as JSON in the header. No pickle."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from models import config
from models.architectures import Model, build
from models.config.wording import sentences, shown
from models.multimodal import NO_PARTS, Parts
from models.ops import Backend

FORMAT = "sensorium-model"
VERSION = 1
HEADER = "sensorium"
# Tensors with this prefix do not belong to the model: a training keeps the state to resume from there.
EXTRA = "extra/"
MAX_REASONS = 5


class CheckpointError(ValueError):
    """A file that is not a checkpoint, is damaged, or was written by a newer version."""


def save(model: Model, path: Path, metadata: dict[str, str]) -> None:
    """Write the model and `metadata` to `path`. `read_metadata` returns the metadata."""
    write(path, header(model, metadata), model.state_dict())


def header(model: Model, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The header of a checkpoint of this model, ready for JSON."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "config": model.config.model_dump(mode="json"),
        "parts": model.parts.names(),
        "metadata": dict(metadata),
    }


def write(
    path: Path, header: Mapping[str, Any], weights: Mapping[str, Tensor], extra: Mapping[str, Tensor] | None = None
) -> None:
    """Write a checkpoint of these weights. `load` ignores the `extra` tensors."""
    tensors = {name: tensor.contiguous() for name, tensor in weights.items()}
    tensors |= {EXTRA + name: tensor.contiguous() for name, tensor in (extra or {}).items()}
    # One entry: safetensors writes several entries in random order, and the digest of the file would vary with it.
    save_file(tensors, path, metadata={HEADER: json.dumps(header)})


def load(path: Path, parts: Parts = NO_PARTS, backend: Backend = "auto") -> Model:
    """The model in `path`, on the CPU and in evaluation mode.

    parts: the custom modules that it was built with. backend: as in `models.build`; a checkpoint does not store it.
    Raises CheckpointError if the file is not a whole checkpoint of a known format version, or needs other parts.
    """
    header, tensors = _read(path)
    if header.get("parts", []) != parts.names():
        raise CheckpointError(
            f"{path.name} needs parts {header.get('parts') or 'none'}, got {parts.names() or 'none'}: a checkpoint "
            "holds the weights of custom modules and not their code; pass the modules as `parts`"
        )
    wanted = _config(path, header)
    try:
        # Without storage: random weights that are then overwritten would double the time and memory of a load.
        with torch.device("meta"):
            model = build(wanted, parts, backend)
    except Exception as error:  # impossible sizes; and a custom network may raise any error
        raise CheckpointError(f"{path.name} has a config of which no model can be built") from error
    try:
        model.load_state_dict(tensors, assign=True)
    except (RuntimeError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{path.name} has weights that do not fit its config: their names, shapes or types differ from the model's"
        ) from error
    return model.eval()


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata that was given to `save`. Reads only the header."""
    metadata: dict[str, Any] = _read_header(path)["metadata"]
    return metadata


def read_weights(path: Path) -> dict[str, Tensor]:
    """The model's tensors by name. Raises CheckpointError."""
    return _read(path)[1]


def read_extra(path: Path) -> dict[str, Tensor]:
    """The extra tensors, by name. Raises CheckpointError."""
    _read_header(path)
    with safe_open(path, framework="pt") as file:
        names = [name for name in file.keys() if name.startswith(EXTRA)]  # noqa: SIM118 - not a mapping
        return {name.removeprefix(EXTRA): file.get_tensor(name) for name in names}


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    header = _read_header(path)
    try:
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if not name.startswith(EXTRA)]  # noqa: SIM118 - not a mapping
            return header, {name: file.get_tensor(name) for name in names}
    except (SafetensorError, RuntimeError, ValueError, TypeError, AttributeError) as error:  # types that torch lacks
        raise CheckpointError(
            f"{path.name} has tensors that cannot be read: types that torch lacks, or damaged bytes"
        ) from error


def _read_header(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, framework="pt") as file:
            entries: dict[str, str] = file.metadata() or {}
    except SafetensorError as error:
        raise CheckpointError(
            f"{path.name} is not a whole safetensors file: its header is damaged, or bytes are missing"
        ) from error
    try:
        header: dict[str, Any] = json.loads(entries.get(HEADER, "{}"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path.name} has a header that is not JSON") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path.name} has {shown(header)} as its header, expected an object")
    if header.get("format") != FORMAT:
        raise CheckpointError(f"{path.name} has format {header.get('format')!r} in its header, expected {FORMAT!r}")
    version = header.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise CheckpointError(
            f"{path.name} has format version {version!r}, expected at most {VERSION}: upgrade to read it"
        )
    return header


def _config(path: Path, header: dict[str, Any]) -> config.MMVAEConfig | config.MMVRNNConfig:
    try:
        return config.parse(header.get("config"))
    except ValidationError as error:
        why = "; ".join(detail for _, detail in sentences(error)[:MAX_REASONS])
        raise CheckpointError(f"{path.name} has a config that this version cannot read: {why}") from error
