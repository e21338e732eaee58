"""Which networks encode and decode a modality."""

from importlib.metadata import entry_points
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, JsonValue, Tag, field_validator

from models.config.frozen import Frozen, Width

NETWORKS_GROUP = "sensorium.networks"

Activation = Literal["silu", "relu", "gelu", "elu", "leaky_relu", "tanh"]
Widths = Annotated[tuple[Width, ...], Field(max_length=8)]


class _Layers(Frozen):
    activation: Activation = Field(default="silu", description="Activation function after every hidden layer.")
    normalisation: Literal["layer"] | None = Field(
        default=None, description="Before every activation. Of one sample's features: rows never mix."
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Part of the hidden features left out in training.")


class MLPConfig(_Layers):
    """Fully connected layers; an image is flattened and a category becomes one-hot."""

    name: Literal["mlp"] = Field(default="mlp", description="Selects fully connected layers.")
    hidden_features: Widths = Field(default=(128, 128), description="Width of every layer.")


class CNNConfig(_Layers):
    """Convolutions of stride 2 that halve an image (channels, height, width), and transposed ones that double it."""

    model_config = ConfigDict(json_schema_extra={"required": ["name"]})  # without a name it is an mlp

    name: Literal["cnn"] = Field(default="cnn", description="Selects convolutions.")
    channels: Annotated[tuple[Width, ...], Field(min_length=1, max_length=8)] = Field(
        default=(32, 64), description="Number of channels of each convolution, 1 to 8 of them."
    )
    kernel_size: Literal[3, 5, 7] = Field(default=3, description="Width and height of the kernels, in pixels.")
    hidden_features: Widths = Field(default=(128,), description="Fully connected layers behind the convolutions.")


class EmbeddingConfig(_Layers):
    """A learned vector for each category, and fully connected layers behind it; for many categories."""

    model_config = ConfigDict(json_schema_extra={"required": ["name"]})  # without a name it is an mlp

    name: Literal["embedding"] = Field(default="embedding", description="Selects learned vectors.")
    features: Width = Field(default=32, description="Size of a category's vector.")
    hidden_features: Widths = Field(default=(), description="Width of each layer behind the vector; none by default.")


class CustomNetworkConfig(Frozen):
    """A custom network, named by an entry point in the group sensorium.networks."""

    name: str = Field(
        description="Name of an entry point in the group sensorium.networks.",
        json_schema_extra={"not": {"enum": ["mlp", "cnn", "embedding"]}},
    )
    options: dict[str, JsonValue] = Field(default={}, description="Whatever that network takes.")

    @field_validator("name")
    @classmethod
    def _exists(cls, name: str) -> str:
        custom = sorted(entry_points(group=NETWORKS_GROUP).names)
        if name not in custom:
            raise ValueError(
                f"there is no network of this name, only {', '.join(['mlp', 'cnn', 'embedding', *custom])}"
            )
        return name


def _which(value: Any) -> str:
    """The name of a network's class, so that errors are about that class alone."""
    name = value.get("name", "mlp") if isinstance(value, dict) else getattr(value, "name", None)
    built_in = {"mlp": "MLPConfig", "cnn": "CNNConfig", "embedding": "EmbeddingConfig"}
    return built_in.get(name, "CustomNetworkConfig") if isinstance(name, str) else "CustomNetworkConfig"


NetworkConfig = Annotated[
    Annotated[MLPConfig, Tag("MLPConfig")]
    | Annotated[CNNConfig, Tag("CNNConfig")]
    | Annotated[EmbeddingConfig, Tag("EmbeddingConfig")]
    | Annotated[CustomNetworkConfig, Tag("CustomNetworkConfig")],
    Discriminator(_which),
]


def misfit(config: NetworkConfig, shape: tuple[int, ...], categories: int | None) -> str | None:
    """Why this network cannot take a modality's values, or None when it can."""
    if isinstance(config, CNNConfig) and len(shape) != 3:
        return f"a cnn takes images of shape (channels, height, width), and the values have shape {shape}"
    if isinstance(config, EmbeddingConfig) and categories is None:
        return "an embedding takes categories, and the modality has none"
    return None
