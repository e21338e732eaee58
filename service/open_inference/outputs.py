"""The outputs that are asked for decide what is computed: codes, predictions of modalities, or both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from service.inference.category_names import NAME
from service.inference.payload import MOST_FAULTS, Config, Rows, answerable
from service.inference.questions import Tree
from service.inference.values import Array, shown
from service.open_inference import texts
from service.open_inference.datatypes import name_of
from service.shared.errors import BadInput, Fault, pointer

CODES = ("latent_mean", "latent_logvar")
RECONSTRUCTION = "recon."


@dataclass(frozen=True)
class Asked:
    """An output, and whether its values come as bytes."""

    name: str
    target: str | None
    part: str | None
    binary: bool


@dataclass(frozen=True)
class Outputs:
    """All that is asked for."""

    asked: Sequence[Asked]
    codes: bool = False
    targets: Sequence[str] = field(default_factory=list)


def known(config: Config) -> dict[str, tuple[str | None, str | None]]:
    """The name of every output, with the modality and the part of its prediction that it is; None twice for codes.

    The first output of a likelihood has the modality's own name; the names of others are added to it.
    """
    found: dict[str, tuple[str | None, str | None]] = dict.fromkeys(CODES, (None, None))
    for modality in config.modalities:
        own, *others = modality.facts.outputs
        found[RECONSTRUCTION + modality.name] = modality.name, own.name
        for output in others:
            found[f"{RECONSTRUCTION}{modality.name}.{output.name}"] = modality.name, output.name
        if modality.category_names:
            found[f"{RECONSTRUCTION}{modality.name}.{NAME}"] = modality.name, NAME
    return found


def read_outputs(head: Mapping[str, Any], config: Config) -> Outputs:
    """What a request asks for; the codes, when it does not say. Raises BadInput."""
    parameters = head.get("parameters") or {}
    binary = isinstance(parameters, dict) and parameters.get("binary_data_output") is True
    asked = head.get("outputs")
    if asked is None or asked == []:
        return Outputs([Asked(name, None, None, binary) for name in CODES], codes=True)
    if not isinstance(asked, list) or len(asked) > len(known(config)):
        detail = f"outputs is {shown(asked)}, expected a list of some of {sorted(known(config))}"
        raise BadInput([Fault("/outputs", "bad_outputs", detail)])
    names, faults = known(config), []
    found: list[Asked] = []
    for place, output in enumerate(asked):
        name = output.get("name") if isinstance(output, dict) else None
        own = (output.get("parameters") or {}) if isinstance(output, dict) else {}
        if not isinstance(name, str) or name not in names:
            detail = f"output {shown(name)}, expected some of {sorted(names)}"
            faults.append(Fault(pointer("outputs", place, "name"), "unknown_output", detail))
        elif not isinstance(own, dict) or own.keys() - {"binary_data"}:
            detail = f"output {name!r} has parameters {shown(own)}, expected binary_data alone"
            faults.append(Fault(pointer("outputs", place, "parameters"), "unknown_parameter", detail))
        elif any(one.name == name for one in found):
            detail = f"output {name!r} stands there twice"
            faults.append(Fault(pointer("outputs", place, "name"), "duplicate_output", detail))
        elif type(own.get("binary_data", binary)) is not bool:
            detail = f"binary_data of output {name!r} is {shown(own['binary_data'])}, expected true or false"
            faults.append(Fault(pointer("outputs", place, "parameters"), "bad_boolean", detail))
        else:
            found.append(Asked(name, *names[name], binary=own.get("binary_data", binary)))
    if faults:
        raise BadInput(faults[:MOST_FAULTS])
    targets = list(dict.fromkeys(one.target for one in found if one.target is not None))
    return Outputs(found, any(one.target is None for one in found), targets)


def tensors(outputs: Outputs, rows: Rows, codes: Tree, predictions: Tree) -> tuple[list[dict[str, Any]], list[bytes]]:
    """The outputs as they stand in the head of an answer, and the bytes of those that are binary.

    Raises BadInput when an answer is no finite number.
    """
    described, binary = [], []
    for asked in outputs.asked:
        array = _own(_array(asked, codes, predictions), rows)
        tensor: dict[str, Any] = {"name": asked.name, "datatype": name_of(array.dtype), "shape": list(array.shape)}
        if asked.binary:
            binary.append(array.tobytes() if array.dtype.kind != "O" else texts.packed(array.ravel().tolist()))
            tensor["parameters"] = {"binary_data_size": len(binary[-1])}
        else:
            tensor["data"] = array.ravel() if array.dtype.kind != "O" else array.ravel().tolist()
        described.append(tensor)
    return described, binary


def _array(asked: Asked, codes: Tree, predictions: Tree) -> Array:
    if asked.target is not None and asked.part is not None:
        part = np.asarray(predictions[asked.target][asked.part])
        return np.frompyfunc(_text, 1, 1)(part) if asked.part == NAME else part
    if asked.name == "latent_mean":
        return np.asarray(codes["mean"])
    with np.errstate(divide="ignore"):  # what it makes infinite is refused
        return np.asarray(2 * np.log(codes["standard_deviation"]))


def _own(array: Array, rows: Rows) -> Array:
    """Values of the asker's own steps, zeros behind a sequence's end, in the types of the protocol."""
    if rows.lengths is not None:
        steps, longest = next(iter(rows.present.values())).shape[1], int(rows.lengths.max())
        inside = np.arange(longest) < rows.lengths[:, None]
        nothing = "" if array.dtype.kind == "O" else 0
        whole = np.full((rows.count, steps, *array.shape[2:]), nothing, array.dtype)
        whole[:, :longest][inside] = array[:, :longest][inside]
        array = whole
    if array.dtype.kind == "O":
        return array
    own: Array = answerable(array.astype("<f4" if array.dtype.kind == "f" else "<i8"), None)
    return own


def _text(name: int | str | None) -> str:
    """A category's name as BYTES have it, empty where it has none."""
    return "" if name is None else str(name)
