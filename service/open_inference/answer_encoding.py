"""Answers become tensors of the protocol: a JSON head, then the bytes of the tensors that a request wants as binary."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from service.inference import encoding
from service.inference.encoding import NAMES, OF_DRAWS
from service.inference.modality_values import Array
from service.inference.queries import Config, Operation, Tree, Version
from service.inference.rows import Rows
from service.open_inference import framing
from service.open_inference.datatypes import name_of, pack_texts
from service.open_inference.outputs import CALIBRATION, Output, Outputs
from service.open_inference.request_decoding import InferRequest

Answers = Mapping[Operation, Tree]
"""The answer of each operation that a request needs."""


def encode(
    version: Version, parsed: InferRequest, answers: Answers, is_large: bool
) -> tuple[list[bytes], dict[str, str]]:
    """The body of an answer, in parts if it is large, and its headers. Raises BadInput if a number is not finite."""
    head: dict[str, Any] = {"model_name": version.model, "model_version": str(version.number)}
    if parsed.parameters.id:
        head["id"] = parsed.parameters.id
    head["outputs"], binary = encode_tensors(parsed.outputs, parsed.rows, _with_names(answers, version.config))
    return framing.joined(head, binary, is_large)


def encode_tensors(outputs: Outputs, rows: Rows, answers: Answers) -> tuple[list[dict[str, Any]], list[bytes]]:
    """The outputs as the head describes them, and the bytes of those that are binary. Raises BadInput.

    answers: with category names.
    """
    described: list[dict[str, Any]] = []
    binary: list[bytes] = []
    for output in outputs.requested:
        array = _of_rows(output, _array(output, answers), rows)
        tensor: dict[str, Any] = {"name": output.name, "datatype": name_of(array.dtype), "shape": list(array.shape)}
        if output.binary:
            binary.append(array.tobytes() if array.dtype.kind != "O" else pack_texts(_flat(array)))
            tensor["parameters"] = {"binary_data_size": len(binary[-1])}
        else:
            tensor["data"] = array.ravel() if array.dtype.kind != "O" else _flat(array)
        described.append(tensor)
    return described, binary


def _with_names(answers: Answers, config: Config) -> Answers:
    named = dict(answers)
    if "reconstruct" in answers:
        named["reconstruct"] = encoding.with_names(answers["reconstruct"], config)
    if "impute" in answers:
        completed = encoding.with_names(answers["impute"]["completed"], config)
        named["impute"] = {**answers["impute"], "completed": completed}
    return named


def _array(output: Output, answers: Answers) -> Array:
    operation, target, part = output.source
    answer = answers[operation]
    if target is not None:
        array = np.asarray((answer["completed"] if operation == "impute" else answer)[target][part])
        return np.frompyfunc(_text, 1, 1)(array) if part in NAMES else array
    if output.name == CALIBRATION:
        return encoding.calibration_words(answer)
    if output.name == "latent_mean":
        return np.asarray(answer["mean"])
    with np.errstate(divide="ignore"):  # `encoding.finite` refuses infinite numbers
        return np.asarray(2 * np.log(answer["standard_deviation"]))


def _of_rows(output: Output, array: Array, rows: Rows) -> Array:
    """An array as `_padded` has it: of draws of sequences (B, n, T, ...), of the calibration (B,)."""
    if output.name == CALIBRATION:
        return array
    if output.source.part in OF_DRAWS and rows.lengths is not None:
        return np.moveaxis(_padded(np.moveaxis(array, 1, 2), rows), 2, 1)
    return _padded(array, rows)


def _padded(array: Array, rows: Rows) -> Array:
    """An array in the protocol's types, as many steps wide as the request, zeros after the end of each sequence."""
    if rows.lengths is not None:
        steps, longest = next(iter(rows.present.values())).shape[1], int(rows.lengths.max())
        inside = np.arange(longest) < rows.lengths[:, None]
        empty = "" if array.dtype.kind == "O" else 0
        padded = np.full((rows.count, steps, *array.shape[2:]), empty, array.dtype)
        padded[:, :longest][inside] = array[:, :longest][inside]
        array = padded
    if array.dtype.kind == "O":
        return array
    finite: Array = encoding.finite(array.astype("<f4" if array.dtype.kind == "f" else "<i8"), None)
    return finite


def _flat(texts: Array) -> Sequence[str]:
    flat: list[str] = texts.ravel().tolist()
    return flat


def _text(name: int | str | None) -> str:
    """The name of a category as text, empty if it has none."""
    return "" if name is None else str(name)
