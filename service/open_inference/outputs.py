"""The outputs of a model, and those that a request asks for: codes, predictions and completions of modalities."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from models.config import ModalityConfig
from service.inference.encoding import CATEGORY_NAME, DRAWS, DRAWS_NAME, VALUE, VALUE_NAME
from service.inference.modality_values import shown
from service.inference.queries import Config, Operation
from service.inference.row_decoding import MAX_FAULTS
from service.shared.errors import BadInput, Fault, pointer

CODES = ("latent_mean", "latent_logvar")
RECONSTRUCTION = "recon."
IMPUTATION = "impute."
CALIBRATION = "calibration"


class Source(NamedTuple):
    """Where the array of an output comes from.

    operation: whose answer has it. target: its modality; None for codes and the calibration. part: of the target; empty
    without one.
    """

    operation: Operation
    target: str | None = None
    part: str = ""


@dataclass(frozen=True)
class Output:
    """An output that a request asks for.

    place: in its `outputs`. binary: whether it is sent as bytes.
    """

    name: str
    source: Source
    place: int
    binary: bool


@dataclass(frozen=True)
class Outputs:
    """All outputs that a request asks for."""

    requested: Sequence[Output]

    def need(self, operation: Operation) -> bool:
        """Whether the answer of an operation is needed."""
        return any(output.source.operation == operation for output in self.requested)

    def targets(self, operation: Operation) -> dict[str, str]:
        """The targets of an operation -> the JSON pointers of their first outputs."""
        found: dict[str, str] = {}
        for output in self.requested:
            if output.source.operation == operation and output.source.target is not None:
                found.setdefault(output.source.target, pointer("outputs", output.place, "name"))
        return found


def known(config: Config) -> dict[str, Source]:
    """The name of every output -> its source.

    The first part of a modality is called as the modality; the others append their own name.
    """
    names = dict.fromkeys(CODES, Source("encode"))
    for modality in config.modalities:
        names |= _named(RECONSTRUCTION, "reconstruct", modality.name, reconstructed_parts(modality))
    for modality in config.modalities:
        names |= _named(IMPUTATION, "impute", modality.name, imputed_parts(modality))
    return names | {CALIBRATION: Source("impute")}


def reconstructed_parts(modality: ModalityConfig) -> list[str]:
    """The parts of a prediction: the outputs of the likelihood, and the names of categories."""
    parts = [output.name for output in modality.facts.outputs]
    return [*parts, CATEGORY_NAME] if modality.category_names else parts


def imputed_parts(modality: ModalityConfig) -> list[str]:
    """The parts of a completed modality: the value, its distribution, the bounds of its interval, and the draws."""
    bounds = ["lower", "upper"] if modality.facts.quantiles else []
    named = [VALUE_NAME, DRAWS_NAME] if modality.category_names else []
    return [VALUE, *reconstructed_parts(modality), *bounds, DRAWS, *named]


def _named(prefix: str, operation: Operation, target: str, parts: Sequence[str]) -> dict[str, Source]:
    first, *others = (Source(operation, target, part) for part in parts)
    return {prefix + target: first} | {f"{prefix}{target}.{source.part}": source for source in others}


def decode_outputs(head: Mapping[str, Any], config: Config) -> Outputs:
    """The outputs that a request asks for, by default the codes. Raises BadInput."""
    parameters = head.get("parameters") or {}
    binary = isinstance(parameters, dict) and parameters.get("binary_data_output") is True
    listed = head.get("outputs")
    if listed is None or listed == []:
        return Outputs([Output(name, Source("encode"), place, binary) for place, name in enumerate(CODES)])
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
            outputs.append(Output(name, names[name], place, own.get("binary_data", binary)))
    if faults:
        raise BadInput(faults[:MAX_FAULTS])
    return Outputs(outputs)
