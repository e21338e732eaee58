"""The options and configurations of the two architectures."""

from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator

from models.config.conditional import ConditionalFlowConfig, SequenceFlowConfig
from models.config.frozen import Frozen, Kind, Misfit, Misfits, Width
from models.config.modality import ModalityConfig, ModalityOptions
from models.config.network import MLPConfig, NetworkConfig, misfit
from models.config.wording import sentences

BUILT_IN_EXPERTS = ("product", "weighted_product", "mixture", "mixture_of_products", "hellinger")
EXPERTS_GROUP = "sensorium.experts"
BUILT_IN_FUSIONS = ("zero", "missing_embeddings")
FUSIONS_GROUP = "sensorium.fusions"
MAX_MODALITIES_OF_SUBSETS = 6


class _MMVAE(Frozen):
    kind: ClassVar[Kind] = "static"

    architecture: Literal["mmvae"] = Field(default="mmvae", description="A multimodal variational autoencoder.")
    latent_features: Width = Field(default=16, description="Number of latent features of a sample, 1 to 4096.")
    expert: str = Field(
        default="product",
        description="How the posteriors of the modalities are joined: product, weighted_product, mixture, "
        "mixture_of_products, hellinger, or the name of an entry point in the group sensorium.experts.",
    )
    network: NetworkConfig = Field(default=MLPConfig(), description="Encoder and decoder of every modality.")
    conditional: ConditionalFlowConfig | None = Field(
        default=None, description="The part that `impute` draws from, fitted after the rest; null: none."
    )

    @property
    def code_features(self) -> int:
        """The size of a sample's code."""
        return self.latent_features

    @field_validator("expert")
    @classmethod
    def _expert_exists(cls, name: str) -> str:
        return _registered("expert", name, BUILT_IN_EXPERTS, EXPERTS_GROUP)


class _MMVRNN(Frozen):
    kind: ClassVar[Kind] = "sequence"

    architecture: Literal["mmvrnn"] = Field(default="mmvrnn", description="A multimodal variational recurrent network.")
    latent_features: Width = Field(default=8, description="Number of latent features of a time step, 1 to 4096.")
    modality_features: Width = Field(default=32, description="Size of a modality's features, which the fusion joins.")
    hidden_features: Width = Field(default=64, description="Hidden width of fusion, posterior and prior.")
    recurrence: Literal["gru", "lstm"] = Field(default="gru", description="Kind of the recurrent cells.")
    recurrent_features: Width = Field(default=64, description="Size of the recurrent state.")
    recurrent_layers: int = Field(default=1, ge=1, le=8, description="Number of recurrent layers, 1 to 8.")
    fusion: str = Field(
        default="missing_embeddings",
        description="How the features of a step's modalities are joined: zero (concatenation, zeros for missing ones), "
        "missing_embeddings (concatenation, learned vectors and presence bits), or the name of an entry point in the "
        "group sensorium.fusions.",
    )
    posterior: Literal["concatenation", "product_of_experts"] = Field(
        default="concatenation",
        description="The posterior of a step's code. concatenation: one network of the fused features and the state. "
        "product_of_experts: one expert per modality, multiplied with the prior p(z_t | h).",
    )
    inference: Literal["filter", "smooth"] = Field(
        default="filter", description="filter: z_t depends on x_1 to x_t. smooth: also on later observations."
    )
    static_latent_features: int = Field(
        default=0,
        ge=0,
        le=4096,
        description="Size of a second latent code, of the whole sequence, beside those of the steps; 0: none. "
        "With it the state depends on the codes only, not on the observations. Needs inference smooth and posterior "
        "concatenation.",
    )
    network: NetworkConfig = Field(
        default=MLPConfig(hidden_features=(64,)), description="Encoder and decoder of every modality."
    )
    conditional: SequenceFlowConfig | None = Field(
        default=None, description="The part that `impute` and forecasts draw from, fitted after the rest; null: none."
    )

    @property
    def code_features(self) -> int:
        """The size of a time step's code: its own, followed by the sequence's."""
        return self.latent_features + self.static_latent_features

    @field_validator("fusion")
    @classmethod
    def _fusion_exists(cls, name: str) -> str:
        return _registered("fusion", name, BUILT_IN_FUSIONS, FUSIONS_GROUP)

    @model_validator(mode="after")
    def _static_latent_sees_the_sequence(self) -> Self:
        if self.static_latent_features and self.inference != "smooth":
            raise ValueError(
                f"static_latent_features is {self.static_latent_features} with inference filter, which has not seen "
                "the whole sequence; expected inference smooth, or 0"
            )
        if self.static_latent_features and self.posterior == "product_of_experts":
            raise ValueError(
                f"static_latent_features is {self.static_latent_features} with posterior product_of_experts, expected "
                "posterior concatenation, or 0"
            )
        return self


class _Chosen(Frozen):
    modalities: dict[str, ModalityOptions] = Field(default={}, max_length=60, description="By the modality's name.")


class MMVAEOptions(_MMVAE, _Chosen):
    """Options of a multimodal variational autoencoder: one latent code per sample."""


class MMVRNNOptions(_MMVRNN, _Chosen):
    """Options of a multimodal variational recurrent network: one latent code per time step."""


ArchitectureOptions = Annotated[MMVAEOptions | MMVRNNOptions, Field(discriminator="architecture")]


class _Modalities(Frozen):
    modalities: tuple[ModalityConfig, ...] = Field(
        min_length=1, max_length=60, description="All modalities, 1 to 60, in the order of the dataset."
    )

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [modality.name for modality in self.modalities]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"modalities {', '.join(twice)} stand more than once, expected each name once")
        return self


class MMVAEConfig(_MMVAE, _Modalities):
    """Everything that an MM-VAE is built from."""

    @model_validator(mode="after")
    def _subsets_are_few(self) -> Self:
        if self.expert == "mixture_of_products" and len(self.modalities) > MAX_MODALITIES_OF_SUBSETS:
            raise ValueError(
                f"a mixture of products decodes every subset of the modalities, and there are {len(self.modalities)}, "
                f"expected at most {MAX_MODALITIES_OF_SUBSETS}"
            )
        return self


class MMVRNNConfig(_MMVRNN, _Modalities):
    """Everything that an MM-VRNN is built from."""


ModelConfig = Annotated[MMVAEConfig | MMVRNNConfig, Field(discriminator="architecture")]
_MODEL_CONFIG: TypeAdapter[MMVAEConfig | MMVRNNConfig] = TypeAdapter(ModelConfig)


def complete(options: MMVAEOptions | MMVRNNOptions, modalities: Sequence[ModalityConfig]) -> MMVAEConfig | MMVRNNConfig:
    """The configuration of these options for the modalities of a dataset.

    Raises Misfits with everything that does not fit; places are relative to the options.
    """
    names = {modality.name for modality in modalities}
    found = [
        Misfit(("modalities", name), f"the dataset has no modality {name!r}, only {', '.join(sorted(names))}")
        for name in options.modalities
        if name not in names
    ]
    chosen: list[ModalityConfig] = []
    for modality in modalities:
        place: tuple[str, ...] = ("modalities", modality.name)
        try:
            chosen.append(_chosen(modality, options.modalities))
        except ValidationError as error:
            found += [Misfit((*place, *inner), detail) for inner, detail in sentences(error)]
            continue
        if chosen[-1].network is None and (why := misfit(options.network, modality.shape, modality.categories)):
            found.append(Misfit(("network",), f"modality {modality.name!r}: {why}; choose one for it alone"))
    if not found:
        try:
            return parse({**options.model_dump(), "modalities": tuple(chosen)})
        except ValidationError as error:
            found = [Misfit(inner[1:], detail) for inner, detail in sentences(error)]
    raise Misfits(found)


def parse(data: object) -> MMVAEConfig | MMVRNNConfig:
    """Read a config back from what `config.model_dump(mode="json")` gave, in this release or an earlier one."""
    return _MODEL_CONFIG.validate_python(in_todays_form(data) if isinstance(data, dict) else data)


def in_todays_form(data: dict[str, Any]) -> dict[str, Any]:
    """A stored config of any release with the names of this one, without validating it.

    A product of experts was a fusion once (docs/decisions/0052). The first conditional parts started at N(0, I)
    (docs/decisions/0081), and had no stacking (docs/decisions/0084).
    """
    conditional = data.get("conditional")
    if data.get("architecture") == "mmvae" and isinstance(conditional, dict):
        data = {**data, "conditional": {"start": "normal", "stacking": False, **conditional}}
    if data.get("fusion") == "product_of_experts":
        return {**data, "fusion": "missing_embeddings", "posterior": "product_of_experts"}
    return data


def _registered(what: str, name: str, built_in: Sequence[str], group: str) -> str:
    """The name, if it is a built-in one or that of an entry point. Raises ValueError."""
    if name in built_in:
        return name  # entry points are searched on the disk
    known = {*built_in, *entry_points(group=group).names}
    if name not in known:
        raise ValueError(f"there is no {what} of this name, only {', '.join(sorted(known))}")
    return name


def _chosen(modality: ModalityConfig, options: Mapping[str, ModalityOptions]) -> ModalityConfig:
    if modality.name not in options:
        return modality
    changes = options[modality.name].model_dump(exclude_unset=True, exclude_none=True)
    return ModalityConfig.model_validate({**modality.model_dump(), **changes})
