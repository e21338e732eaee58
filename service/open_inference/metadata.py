"""Metadata of models as the protocol describes it. Its extensions: `optional` inputs, and masks."""

from typing import Any

from models.config import ModalityConfig
from service.inference.encoding import CATEGORY_NAME
from service.inference.queries import Config, Version
from service.open_inference.datatypes import BYTES
from service.open_inference.outputs import known
from service.open_inference.tensor_decoding import MASK

EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository", "statistics", "schedule_policy")
PLATFORM = "sensorium"


def of_server(version: str) -> dict[str, Any]:
    """Metadata of the server."""
    return {"name": "sensorium", "version": version, "extensions": list(EXTENSIONS)}


def of_version(version: Version) -> dict[str, Any]:
    """Metadata of a version: names, types, and shapes with -1 for any length."""
    lead = _lead(version.config)
    inputs = [
        {"name": name, "datatype": datatype, "shape": [*lead, *dims], "optional": True}
        for name, datatype, dims in _inputs(version.config)
    ]
    outputs = [
        {"name": name, "datatype": datatype, "shape": [*lead, *dims]}
        for name, datatype, dims in _outputs(version.config)
    ]
    named = {"name": version.model, "versions": [str(version.number)], "platform": _platform(version.config)}
    return {**named, "inputs": inputs, "outputs": outputs}


def configuration(version: Version, max_rows: int) -> dict[str, Any]:
    """The configuration of a version, whose dimensions do not include the rows."""
    steps = _lead(version.config)[1:]
    return {
        "name": version.model,
        "platform": _platform(version.config),
        "backend": PLATFORM,
        "max_batch_size": max_rows,
        "input": [
            {"name": name, "data_type": _type(datatype), "dims": [*steps, *dims], "optional": True}
            for name, datatype, dims in _inputs(version.config)
        ],
        "output": [
            {"name": name, "data_type": _type(datatype), "dims": [*steps, *dims]}
            for name, datatype, dims in _outputs(version.config)
        ],
        "dynamic_batching": {},
    }


def _lead(config: Config) -> list[int]:
    return [-1] if config.kind == "static" else [-1, -1]


def _platform(config: Config) -> str:
    return f"{PLATFORM}_{config.architecture}"


def _type(datatype: str) -> str:
    return "TYPE_STRING" if datatype == BYTES else f"TYPE_{datatype}"


def _inputs(config: Config) -> list[tuple[str, str, list[int]]]:
    values = [
        (modality.name, "INT64" if modality.dtype == "int64" else "FP32", list(modality.shape))
        for modality in config.modalities
    ]
    return values + [(MASK + name, "BOOL", []) for name, _, _ in values]


def _outputs(config: Config) -> list[tuple[str, str, list[int]]]:
    modalities = {modality.name: modality for modality in config.modalities}
    listed = []
    for name, (target, part) in known(config).items():
        if target is None or part is None:
            listed.append((name, "FP32", [config.code_features]))
        else:
            listed.append((name, *_predicted(modalities[target], part)))
    return listed


def _predicted(modality: ModalityConfig, part: str) -> tuple[str, list[int]]:
    if part == CATEGORY_NAME:
        return BYTES, []
    (output,) = (output for output in modality.facts.outputs if output.name == part)
    return ("INT64" if output.holds == "category" else "FP32"), list(output.shape(modality.shape, modality.categories))
