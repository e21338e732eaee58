"""Converts rows of the registry to response bodies."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.config import MMVAEConfig, MMVRNNConfig, parse
from service.registry import schemas
from service.registry.tables import Alias, ModelVersion
from service.shared.storage.tables import Artifact


def of_models(session: Session, rows: Sequence[Any]) -> list[schemas.Model]:
    """Response bodies of models. rows: (model, number of its newest version)."""
    named = (
        select(Alias.model_id, Alias.name, ModelVersion.version)
        .join(ModelVersion, ModelVersion.id == Alias.version_id)
        .where(Alias.model_id.in_([model.id for model, _ in rows]))
        .order_by(Alias.name)
    )
    aliases: dict[str, dict[str, int]] = {}
    for model_id, alias, version in session.execute(named):
        aliases.setdefault(model_id, {})[alias] = version
    return [
        schemas.Model(
            name=model.name,
            description=model.description,
            tags=model.tags,
            latest_version=newest,
            aliases=aliases.get(model.id, {}),
            created_at=model.created_at,
            deleted_at=model.deleted_at,
        )
        for model, newest in rows
    ]


def of_versions(
    session: Session, name: str, rows: Sequence[tuple[ModelVersion, Artifact]]
) -> list[schemas.ModelVersion]:
    """Response bodies of versions of the model of this name. rows: (version, file)."""
    named = (
        select(Alias.version_id, Alias.name)
        .where(Alias.version_id.in_([version.id for version, _ in rows]))
        .order_by(Alias.name)
    )
    aliases: dict[str, list[str]] = {}
    for version_id, alias in session.execute(named):
        aliases.setdefault(version_id, []).append(alias)
    configs = [parse(version.config) for version, _ in rows]
    return [
        schemas.ModelVersion(
            model=name,
            version=version.version,
            description=version.description,
            tags=version.tags,
            aliases=aliases.get(version.id, []),
            signature=signature(config),
            config=config,
            metrics=version.metrics,
            evaluation=version.evaluation,
            lineage=schemas.Lineage.model_validate(version.lineage),
            sha256=artifact.sha256,
            size_bytes=artifact.size_bytes,
            created_at=version.created_at,
            deleted_at=version.deleted_at,
        )
        for (version, artifact), config in zip(rows, configs, strict=True)
    ]


def of_alias(session: Session, model: str, alias: Alias) -> schemas.Alias:
    """Response body of an alias of the model of this name."""
    ids = [alias.version_id, alias.pending_version_id]
    query = select(ModelVersion.id, ModelVersion.version).where(ModelVersion.id.in_(ids))
    numbers = {row.id: row.version for row in session.execute(query)}
    return schemas.Alias(
        model=model,
        alias=alias.name,
        version=numbers[alias.version_id],
        pending_version=numbers.get(alias.pending_version_id or ""),
        error=alias.error,
        revision=alias.revision,
        updated_at=alias.updated_at,
    )


def signature(config: MMVAEConfig | MMVRNNConfig) -> schemas.Signature:
    """The inputs of a model of this configuration."""
    lead = [-1] if config.kind == "static" else [-1, -1]
    return schemas.Signature(
        inputs=[
            schemas.SignatureInput(
                name=modality.name,
                dtype=modality.dtype,
                shape=[*lead, *modality.shape],
                likelihood=modality.likelihood,
                categories=modality.categories,
                category_names=modality.category_names and list(modality.category_names),
            )
            for modality in config.modalities
        ],
        latent_features=config.code_features,
    )
