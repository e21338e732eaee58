"""The outputs of a model, and those that a request asks for: codes, predictions of modalities, or both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.inference.encoding import CATEGORY_NAME
from service.inference.modality_values import shown
from service.inference.queries import Config
from service.inference.row_decoding import MAX_FAULTS
from service.shared.errors import BadInput, Fault, pointer

CODES = ("latent_mean", "latent_logvar")
RECONSTRUCTION = "recon."


@dataclass(frozen=True)
class Output:
    """An output that a request asks for.

    target: the modality, and part: the output of its likelihood; None for codes. binary: whether it is sent as bytes.
    """

    name: str
    target: str | None
    part: str | None
    binary: bool


@dataclass(frozen=True)
class Outputs:
    """All outputs that a request asks for."""

    requested: Sequence[Output]
    codes: bool = False
    targets: Sequence[str] = field(default_factory=list)


def known(config: Config) -> dict[str, tuple[str | None, str | None]]:
    """The name of every output -> its modality and the output of the modality's likelihood; None twice for codes.

    The first output of a likelihood is called as the modality; the others append their own name.
    """
    names: dict[str, tuple[str | None, str | None]] = dict.fromkeys(CODES, (None, None))
    for modality in config.modalities:
        first, *others = modality.facts.outputs
        names[RECONSTRUCTION + modality.name] = modality.name, first.name
        for output in others:
            names[f"{RECONSTRUCTION}{modality.name}.{output.name}"] = modality.name, output.name
        if modality.category_names:
            names[f"{RECONSTRUCTION}{modality.name}.{CATEGORY_NAME}"] = modality.name, CATEGORY_NAME
    return names


def decode_outputs(head: Mapping[str, Any], config: Config) -> Outputs:
    """The outputs that a request asks for, by default the codes. Raises BadInput."""
    parameters = head.get("parameters") or {}
    binary = isinstance(parameters, dict) and parameters.get("binary_data_output") is True
    listed = head.get("outputs")
    if listed is None or listed == []:
        return Outputs([Output(name, None, None, binary) for name in CODES], codes=True)
    if not isinstance(listed, list) or len(listed) > len(known(config)):
        detail = f"outputs is {shown(listed)}, expected a list of some of {sorted(known(config))}"
        raise BadInput([Fault("/outputs", "bad_outputs", detail)])
    names, faults = known(config), []
    outputs: list[Output] = []
    for place, output in enumerate(listed):
        name = output.get("name") if isinstance(output, dict) else None
        own = (output.get("parameters") or {}) if isinstance(output, dict) else {}
        if not isinstance(name, str) or name not in names:
            detail = f"output {shown(name)}, expected some of {sorted(names)}"
            faults.append(Fault(pointer("outputs", place, "name"), "unknown_output", detail))
        elif not isinstance(own, dict) or own.keys() - {"binary_data"}:
            detail = f"output {name!r} has parameters {shown(own)}, expected only binary_data"
            faults.append(Fault(pointer("outputs", place, "parameters"), "unknown_parameter", detail))
        elif any(other.name == name for other in outputs):
            detail = f"output {name!r} is given twice, expected once"
            faults.append(Fault(pointer("outputs", place, "name"), "duplicate_output", detail))
        elif type(own.get("binary_data", binary)) is not bool:
            detail = f"binary_data of output {name!r} is {shown(own['binary_data'])}, expected true or false"
            faults.append(Fault(pointer("outputs", place, "parameters"), "bad_boolean", detail))
        else:
            outputs.append(Output(name, *names[name], binary=own.get("binary_data", binary)))
    if faults:
        raise BadInput(faults[:MAX_FAULTS])
    targets = list(dict.fromkeys(other.target for other in outputs if other.target is not None))
    return Outputs(outputs, any(other.target is None for other in outputs), targets)
