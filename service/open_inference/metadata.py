"""Metadata of models as the protocol describes it. Its extensions: `optional` inputs, and masks."""

from typing import Any

from models.config import ModalityConfig
from service.inference.encoding import NAMES, OF_DRAWS
from service.inference.queries import Config, Version
from service.open_inference.datatypes import BYTES
from service.open_inference.outputs import CALIBRATION, known
from service.open_inference.tensor_decoding import MASK

EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository", "statistics", "schedule_policy")
PLATFORM = "sensorium"


def of_server(version: str) -> dict[str, Any]:
    """Metadata of the server."""
    return {"name": "sensorium", "version": version, "extensions": list(EXTENSIONS)}


def of_version(version: Version) -> dict[str, Any]:
    """Metadata of a version: names, types, and shapes with -1 for any length."""
    inputs = [
        {"name": name, "datatype": datatype, "shape": [-1, *dims], "optional": True}
        for name, datatype, dims in _inputs(version.config)
    ]
    outputs = [
        {"name": name, "datatype": datatype, "shape": [-1, *dims]} for name, datatype, dims in _outputs(version.config)
    ]
    named = {"name": version.model, "versions": [str(version.number)], "platform": _platform(version.config)}
    return {**named, "inputs": inputs, "outputs": outputs}


def configuration(version: Version, max_rows: int) -> dict[str, Any]:
    """The configuration of a version, whose dimensions do not include the rows."""
    return {
        "name": version.model,
        "platform": _platform(version.config),
        "backend": PLATFORM,
        "max_batch_size": max_rows,
        "input": [
            {"name": name, "data_type": _type(datatype), "dims": dims, "optional": True}
            for name, datatype, dims in _inputs(version.config)
        ],
        "output": [
            {"name": name, "data_type": _type(datatype), "dims": dims}
            for name, datatype, dims in _outputs(version.config)
        ],
        "dynamic_batching": {},
    }


def _platform(config: Config) -> str:
    return f"{PLATFORM}_{config.architecture}"


def _type(datatype: str) -> str:
    return "TYPE_STRING" if datatype == BYTES else f"TYPE_{datatype}"


def _inputs(config: Config) -> list[tuple[str, str, list[int]]]:
    """Name, type, and dimensions of one row."""
    steps = _steps(config)
    values = [
        (modality.name, "INT64" if modality.dtype == "int64" else "FP32", [*steps, *modality.shape])
        for modality in config.modalities
    ]
    return values + [(MASK + name, "BOOL", steps) for name, _, _ in values]


def _outputs(config: Config) -> list[tuple[str, str, list[int]]]:
    """Name, type, and dimensions of one row."""
    steps = _steps(config)
    modalities = {modality.name: modality for modality in config.modalities}
    listed: list[tuple[str, str, list[int]]] = []
    for name, source in known(config).items():
        if name == CALIBRATION:
            listed.append((name, BYTES, []))
        elif source.target is None:
            listed.append((name, "FP32", [*steps, config.code_features]))
        else:
            datatype, dims = _of_value(modalities[source.target], source.part)
            draws = [-1] if source.part in OF_DRAWS else []
            listed.append((name, datatype, [*draws, *steps, *dims]))
    return listed


def _steps(config: Config) -> list[int]:
    return [] if config.kind == "static" else [-1]


def _of_value(modality: ModalityConfig, part: str) -> tuple[str, list[int]]:
    """Type and dimensions of a part of one value."""
    if part in NAMES:
        return BYTES, []
    outputs = {output.name: output for output in modality.facts.outputs}
    if part not in outputs:  # a value, a bound or a draw
        return ("INT64" if modality.dtype == "int64" else "FP32"), list(modality.shape)
    dims = outputs[part].shape(modality.shape, modality.categories)
    return ("INT64" if outputs[part].holds == "category" else "FP32"), list(dims)
