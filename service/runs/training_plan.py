"""Completes a request with defaults, and checks it against the dataset and its statistics."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from models.config import (
    ArchitectureOptions,
    Misfits,
    MMVAEConfig,
    MMVAEOptions,
    MMVRNNConfig,
    MMVRNNOptions,
    ModalityConfig,
    TrainingConfig,
    complete,
    default_likelihood,
    parse,
    presets,
)
from models.config.modality import CategoryNames
from models.config.presets import Preset, UnfitPreset
from models.config.training import misfits
from models.config.wording import sentences
from service.registry.tables import Model, ModelVersion
from service.runs import checkpoints, schemas
from service.runs.tables import Run
from service.shared.errors import BadInput, Fault, NotFound, pointer
from service.shared.samples import ModalitySchema, Schema

# Of all category names of a model together. A manifest has them twice; MAX_MANIFEST_BYTES leaves room for that.
MAX_NAMES_BYTES = 1024 * 1024
MANIFEST_INDENT = 12
_OPTIONS: TypeAdapter[MMVAEOptions | MMVRNNOptions] = TypeAdapter(ArchitectureOptions)


Chosen = TypeVar("Chosen")


class Resolved(NamedTuple):
    """A request with every default filled in."""

    preset: Preset
    config: MMVAEConfig | MMVRNNConfig
    training: TrainingConfig
    init_artifact_id: str | None


def resolve(
    session: Session,
    project_id: str,
    request: schemas.RunRequest,
    schema: Schema,
    rows: int,
    statistics: Mapping[str, Any],
) -> Resolved:
    """Complete the request with defaults, and check it against the dataset: its schema, rows and statistics.

    Raises BadInput with every misfit, and NotFound.
    """
    options = request.architecture or (MMVAEOptions() if schema.kind == "static" else MMVRNNOptions())
    if options.kind != schema.kind:
        detail = f"architecture {options.architecture!r} trains on {options.kind} data, the dataset is {schema.kind}"
        raise BadInput([Fault("/architecture/architecture", "wrong_kind", detail)])
    architecture = options.model_dump(exclude_unset=True)
    splits = statistics.get("splits")  # split -> number of rows; None for a dataset without splits
    usable, held_out = (rows, 0) if splits is None else (rows - splits["test"], splits["validation"])
    named = request.training.model_dump(exclude_unset=True)
    try:
        choices = presets.choose(
            request.preset, schema.kind, len(schema.modalities), usable, architecture, named, held_out, request.devices
        )
    except UnfitPreset as error:
        raise BadInput([Fault("/preset", "misfit", str(error))]) from error
    training = _valid(TypeAdapter(TrainingConfig), choices.training, "training", choices.preset)
    chosen = {**choices.architecture, "architecture": options.architecture}
    try:
        modalities = _modalities(schema)
    except ValidationError as error:
        raise BadInput(
            [Fault("/dataset", "misfit", f"of the dataset, {sentence}") for _, sentence in sentences(error)]
        ) from error
    try:
        config = complete(_valid(_OPTIONS, chosen, "architecture", choices.preset), modalities)
    except Misfits as error:
        faults = [Fault(pointer("architecture", *m.place), "misfit", m.detail) for m in error.found]
        raise BadInput(faults) from error
    unfit = misfits(training, config, rows, splits, request.devices)
    faults = [Fault(pointer("training", *m.place), "misfit", m.detail) for m in unfit]
    faults += _misfits_of_values(config, statistics)
    artifact_id = None
    if request.init_from is not None:
        artifact_id, other = _init(session, project_id, request.init_from)
        faults += _differences(config, other)
    elif training.fit == "conditional":
        detail = "is 'conditional' without `init_from`, expected the version to which a conditional part is fitted"
        faults.append(Fault("/training/fit", "misfit", detail))
    if faults:
        raise BadInput(faults)
    return Resolved(choices.preset, config, training, artifact_id)


def _valid(kind: TypeAdapter[Chosen], chosen: Mapping[str, Any], field: str, preset: str) -> Chosen:
    """The values of the request and the preset together. Raises BadInput where they contradict each other."""
    try:
        return kind.validate_python(chosen)
    except ValidationError as error:
        with_preset = f"with the preset {preset!r}"
        faults = [Fault(pointer(field), "misfit", f"{field} {with_preset}: {detail}") for _, detail in sentences(error)]
        raise BadInput(faults) from error


def _init(
    session: Session, project_id: str, source: schemas.InitFromVersion | schemas.InitFromCheckpoint
) -> tuple[str, MMVAEConfig | MMVRNNConfig]:
    """The file with the initial weights, and the configuration of its model. Raises NotFound."""
    if isinstance(source, schemas.InitFromCheckpoint):
        checkpoint, _ = checkpoints.find(session, project_id, source.run, source.step)
        return checkpoint.artifact_id, parse(session.get_one(Run, source.run).architecture)
    version = session.scalar(
        select(ModelVersion)
        .join(Model, Model.id == ModelVersion.model_id)
        .where(
            Model.project_id == project_id,
            Model.name == source.model,
            Model.deleted_at.is_(None),
            ModelVersion.version == source.version,
            ModelVersion.deleted_at.is_(None),
        )
    )
    if version is None:
        raise NotFound("model version", f"{source.model}/{source.version}")
    return version.artifact_id, parse(version.config)


def _differences(config: MMVAEConfig | MMVRNNConfig, other: MMVAEConfig | MMVRNNConfig) -> list[Fault]:
    """The fields in which two configurations differ, so that one model cannot load the weights of the other."""
    own_fields, other_fields = _comparable(config, other)
    return [
        Fault(
            "/init_from",
            "misfit",
            f"{field} is {other_fields.get(field)!r} there and {own_fields.get(field)!r} here"[:500],
        )
        for field in sorted({*own_fields, *other_fields})
        if own_fields.get(field) != other_fields.get(field)
    ]


def _comparable(
    config: MMVAEConfig | MMVRNNConfig, other: MMVAEConfig | MMVRNNConfig
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both as JSON. Category names are compared only if both models have them: weights do not depend on names.

    The conditional part is always fitted anew.
    """
    own_fields, other_fields = (each.model_dump(mode="json", exclude={"conditional"}) for each in (config, other))
    for left, right in zip(own_fields["modalities"], other_fields["modalities"], strict=False):
        if left["category_names"] is None or right["category_names"] is None:
            left["category_names"] = right["category_names"] = None
    return own_fields, other_fields


def _modalities(schema: Schema) -> list[ModalityConfig]:
    """The modalities. Category names that exceed `MAX_NAMES_BYTES` together are left out."""
    room, configs = MAX_NAMES_BYTES, []
    for modality in schema.modalities:
        names = modality.category_names
        size = len(json.dumps(names)) + MANIFEST_INDENT * len(names or ())
        if size > room:
            names, size = None, 0
        room -= size
        configs.append(_modality(modality, names))
    return configs


def _modality(schema: ModalitySchema, names: CategoryNames | None) -> ModalityConfig:
    return ModalityConfig(
        name=schema.name,
        shape=schema.shape,
        categories=schema.categories,
        category_names=names,
        likelihood=schema.likelihood or default_likelihood(schema.dtype, schema.categories),
    )


def _misfits_of_values(config: MMVAEConfig | MMVRNNConfig, statistics: Mapping[str, Any]) -> list[Fault]:
    """Every property of the dataset that would make the training fail before its first step."""
    faults = []
    if (shortest := statistics.get("lengths", {}).get("minimum", 1)) < 1:
        detail = f"its shortest sequence has {shortest} time steps, expected at least one in each; leave those rows out"
        faults.append(Fault("/dataset", "misfit", detail))
    for modality in config.modalities:
        figures = statistics.get("modalities", {}).get(modality.name, {})
        if figures.get("present") == 0:
            detail = f"no row has modality {modality.name!r}, expected it in some; leave it out of the dataset"
            faults.append(Fault("/dataset", "misfit", detail))
        elif why := _outside(modality, figures):
            faults.append(Fault(pointer("architecture", "modalities", modality.name, "likelihood"), "misfit", why))
    return faults


def _outside(modality: ModalityConfig, figures: Mapping[str, Any]) -> str | None:
    """Why values of the modality are outside of the likelihood's support; None if all are inside."""
    if "minimum" not in figures:
        return None
    smallest, largest = figures["minimum"], figures["maximum"]
    what = f"modality {modality.name!r} has values from {smallest:g} to {largest:g}"
    if modality.support.contains(smallest) and modality.support.contains(largest):
        return None
    return f"{what}, and {modality.likelihood} is for {modality.support}; choose another likelihood"
