"""What can be chosen about a model and its training, as frozen Pydantic configurations; imports no torch.

*Options* are what a user sends. A *config* is options completed with the modalities of a dataset: all it takes to
build the model again, and what a checkpoint stores.
"""

from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator, model_validator

BUILT_IN_EXPERTS = ("product", "weighted_product", "mixture", "mixture_of_products")
EXPERTS_GROUP = "sensorium.experts"
MOST_MODALITIES_OF_SUBSETS = 6

Kind = Literal["static", "sequence"]
LikelihoodName = Literal["gaussian", "bernoulli", "categorical"]
Width = Annotated[int, Field(ge=1, le=4096)]


class Frozen(BaseModel):
    """Immutable, and refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModalityConfig(Frozen):
    """One modality: what a sample's value looks like (or a time step's), and the density that models it."""

    name: str = Field(min_length=1, max_length=100)
    shape: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(), max_length=4, description="Shape of one value; () is a scalar."
    )
    categories: int | None = Field(default=None, ge=2, description="Values are 0 to categories - 1.")
    likelihood: LikelihoodName

    @model_validator(mode="after")
    def _categories_fit(self) -> Self:
        if (self.likelihood == "categorical") != (self.categories is not None):
            raise ValueError(
                f"modality {self.name!r} is {self.likelihood} with categories={self.categories}: "
                "a categorical modality has categories, and no other has"
            )
        if self.categories is not None and self.shape:
            raise ValueError(f"modality {self.name!r} has categories and shape {self.shape}, expected shape ()")
        return self


def default_likelihood(dtype: Literal["float32", "int64"], categories: int | None) -> LikelihoodName:
    """The density for values of this type when the user names none."""
    return "gaussian" if categories is None else "categorical"


class MLPConfig(Frozen):
    """Fully connected layers; an image is flattened and a category becomes one-hot."""

    name: Literal["mlp"] = "mlp"
    hidden_features: tuple[Width, ...] = Field(default=(128, 128), max_length=8, description="Width of every layer.")


NetworkConfig = MLPConfig


class MMVAEOptions(Frozen):
    """Choices of a multimodal variational autoencoder: one latent code for a sample."""

    kind: ClassVar[Kind] = "static"

    architecture: Literal["mmvae"] = "mmvae"
    latent_features: Width = 16
    expert: str = Field(
        default="product",
        description="How the modalities' posteriors are joined: product, weighted_product, mixture, "
        "mixture_of_products, or the name of an entry point in the group sensorium.experts.",
    )
    network: NetworkConfig = Field(default=MLPConfig(), description="Encoder and decoder of every modality.")

    @field_validator("expert")
    @classmethod
    def _expert_exists(cls, name: str) -> str:
        known = {*BUILT_IN_EXPERTS, *entry_points(group=EXPERTS_GROUP).names}
        if name not in known:
            raise ValueError(f"there is no expert of this name, only {', '.join(sorted(known))}")
        return name


class MMVRNNOptions(Frozen):
    """Choices of a multimodal variational recurrent network: one latent code for every time step."""

    kind: ClassVar[Kind] = "sequence"

    architecture: Literal["mmvrnn"] = "mmvrnn"
    latent_features: Width = 8
    modality_features: Width = Field(default=32, description="Size of a modality's encoding before the fusion.")
    hidden_features: Width = Field(default=64, description="Hidden width of fusion, posterior and prior.")
    recurrent_features: Width = Field(default=64, description="Size of the state that one step hands to the next.")
    fusion: Literal["missing_embeddings"] = Field(
        default="missing_embeddings", description="What stands in for a modality that a time step lacks."
    )
    network: NetworkConfig = Field(
        default=MLPConfig(hidden_features=(64,)), description="Encoder and decoder of every modality."
    )


ArchitectureOptions = Annotated[MMVAEOptions | MMVRNNOptions, Field(discriminator="architecture")]


class _Modalities(Frozen):
    modalities: tuple[ModalityConfig, ...] = Field(min_length=1, max_length=60)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [modality.name for modality in self.modalities]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"modalities {', '.join(twice)} stand more than once, expected each name once")
        return self


class MMVAEConfig(MMVAEOptions, _Modalities):
    """Everything it takes to build an MM-VAE."""

    @model_validator(mode="after")
    def _subsets_are_few(self) -> Self:
        most = MOST_MODALITIES_OF_SUBSETS
        if self.expert == "mixture_of_products" and len(self.modalities) > most:
            raise ValueError(
                f"a mixture of products decodes every subset of the modalities, and there are {len(self.modalities)}, "
                f"expected at most {most}"
            )
        return self


class MMVRNNConfig(MMVRNNOptions, _Modalities):
    """Everything it takes to build an MM-VRNN."""


ModelConfig = Annotated[MMVAEConfig | MMVRNNConfig, Field(discriminator="architecture")]
_MODEL_CONFIG: TypeAdapter[MMVAEConfig | MMVRNNConfig] = TypeAdapter(ModelConfig)


def complete(options: MMVAEOptions | MMVRNNOptions, modalities: Sequence[ModalityConfig]) -> MMVAEConfig | MMVRNNConfig:
    """The options together with the modalities of the dataset to train on."""
    return _MODEL_CONFIG.validate_python({**options.model_dump(), "modalities": tuple(modalities)})


def parse(data: object) -> MMVAEConfig | MMVRNNConfig:
    """Read a config back from what `config.model_dump(mode="json")` gave."""
    return _MODEL_CONFIG.validate_python(data)


class ConstantBeta(Frozen):
    """The same weight of the KL divergence from the first step to the last."""

    schedule: Literal["constant"] = "constant"
    value: float = Field(default=1.0, ge=0, le=1000)


class LinearBeta(Frozen):
    """A straight ramp from `start` to `end` over the first part of the training; `end` from there on.

    Ends at 0.1, not at the evidence bound's 1: from 0.5 on the MM-VRNN's codes of the synthetic spirals collapse to the
    prior (KL below 0.3 nats a sequence instead of 267), and the squared error of one modality from the other is 0.10
    instead of 0.063.
    """

    schedule: Literal["linear"] = "linear"
    start: float = Field(default=0.0, ge=0, le=1000)
    end: float = Field(default=0.1, ge=0, le=1000)
    ramp: float = Field(default=0.2, gt=0, description="Length of the ramp, in `ramp_unit`.")
    ramp_unit: Literal["training", "epochs", "steps"] = Field(
        default="training", description="'training' is the whole of it: 0.2 is its first fifth."
    )


class CyclicalBeta(Frozen):
    """The ramp again and again: each cycle rises from `start` to `end` and then stays (arXiv:1903.10145)."""

    schedule: Literal["cyclical"] = "cyclical"
    start: float = Field(default=0.0, ge=0, le=1000)
    end: float = Field(default=0.1, ge=0, le=1000)
    cycles: int = Field(default=4, ge=1, le=10_000)
    ramp: float = Field(default=0.5, gt=0, le=1, description="Part of each cycle that rises.")
    unit: Literal["steps", "epochs"] = Field(default="steps", description="What beta changes with.")


BetaSchedule = Annotated[ConstantBeta | LinearBeta | CyclicalBeta, Field(discriminator="schedule")]


class TrainingConfig(Frozen):
    """How a model is trained, whatever its architecture."""

    epochs: int = Field(default=60, ge=1, le=100_000)
    batch_size: int = Field(default=64, ge=1, le=65_536, description="Rows a step; a sequence is one row.")
    learning_rate: float = Field(default=2e-3, gt=0, le=1)
    weight_decay: float = Field(default=1e-4, ge=0, le=1)
    gradient_clip_norm: float = Field(
        default=1.0, gt=0, description="Largest norm of the gradient of the objective per observed value."
    )
    validation_fraction: float = Field(default=0.1, ge=0, le=0.9, description="Part of the rows held out.")
    beta: BetaSchedule = Field(default=LinearBeta(), description="Weight of the KL divergence over the training.")
    modality_dropout: float = Field(
        default=0.5, ge=0, le=1, description="Probability that a row's inputs lose modalities; its targets stay."
    )

    @model_validator(mode="after")
    def _every_cycle_has_an_epoch(self) -> Self:
        beta = self.beta
        if isinstance(beta, CyclicalBeta) and beta.unit == "epochs" and self.epochs < beta.cycles:
            raise ValueError(f"beta has {beta.cycles} cycles in {self.epochs} epochs, expected at least one epoch each")
        return self
