"""Bodies of the Open Inference Protocol. Requests of `infer` are decoded without Pydantic."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.open_inference import examples
from service.open_inference.datatypes import BYTES, DTYPES
from service.open_inference.request_decoding import MAX_ID_CHARACTERS, MAXIMA


class Live(BaseModel):
    """The process is alive."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"live": True}]})

    live: bool = Field(description="Always true: a process that is not alive does not answer.")


class Ready(BaseModel):
    """Requests can be served."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"ready": True}]})

    ready: bool = Field(description="Always true: without the database the answer is 503.")


class ModelReady(BaseModel):
    """The model can be used."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "digits", "ready": True}]})

    name: str = Field(description="Name of the model.")
    ready: bool = Field(description="Always true: for a model or version that does not exist the answer is 404.")


class ServerMetadata(BaseModel):
    """The server, and the extensions of the protocol that it has."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.SERVER]})

    name: str = Field(description="Always `sensorium`.")
    version: str = Field(description="Release of the service.")
    extensions: list[str] = Field(description="Names of the extensions.")


class OutputTensor(BaseModel):
    """Name, type and shape of an output."""

    name: str = Field(description="Name of the output.")
    datatype: str = Field(description="Type of the elements: `FP32`, `INT64`, `BOOL` or `BYTES`.")
    shape: list[int] = Field(description="Its dimensions: rows, steps of sequences, dimensions of a value; -1 is any.")


class InputTensor(OutputTensor):
    """Name, type and shape of an input: a modality, or the mask that says where its values are present."""

    name: str = Field(description="Name of the input: that of a modality, or of its mask.")
    optional: bool = Field(description="Always true: a request may have any subset of the modalities.")


class ModelMetadata(BaseModel):
    """Inputs and outputs of a version."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.METADATA]})

    name: str = Field(description="Name of the model.")
    versions: list[str] = Field(description="The number of the described version.")
    platform: str = Field(description="`sensorium_` and the architecture.")
    inputs: list[InputTensor] = Field(description="All inputs.")
    outputs: list[OutputTensor] = Field(description="All outputs.")


class ConfiguredOutput(BaseModel):
    """An output as Triton's model configuration describes it."""

    name: str = Field(description="Name of the output.")
    data_type: str = Field(description="`TYPE_` and the type, such as `TYPE_FP32`; `TYPE_STRING` for texts.")
    dims: list[int] = Field(description="Dimensions without that of the rows; -1 is any length.")


class ConfiguredInput(ConfiguredOutput):
    """An input as Triton's model configuration describes it."""

    name: str = Field(description="Name of the input.")
    optional: bool = Field(description="Always true.")


class ModelConfiguration(BaseModel):
    """The configuration of a version in Triton's format."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.CONFIGURATION]})

    name: str = Field(description="Name of the model.")
    platform: str = Field(description="`sensorium_` and the architecture.")
    backend: str = Field(description="Always `sensorium`.")
    max_batch_size: int = Field(description="Maximum number of rows of a request.")
    input: list[ConfiguredInput] = Field(description="All inputs.")
    output: list[ConfiguredOutput] = Field(description="All outputs.")
    dynamic_batching: dict[str, Any] = Field(
        description="Empty. Its presence says that requests are computed together."
    )


class Tally(BaseModel):
    """How often something happened, and how long it took in all."""

    count: int = Field(description="Number of times.")
    ns: int = Field(description="Sum of the durations, in nanoseconds.")


class InferenceStatistics(BaseModel):
    """Counts and durations of requests, and of the parts of those that succeeded."""

    success: Tally = Field(description="Requests that were answered, from their arrival to their answer.")
    fail: Tally = Field(description="Requests that failed.")
    queue: Tally = Field(description="Waiting for a batch.")
    compute_input: Tally = Field(description="Decoding of the request.")
    compute_infer: Tally = Field(description="Computation by the model.")
    compute_output: Tally = Field(description="Encoding of the answer.")
    cache_hit: Tally = Field(description="Always 0: answers are not cached.")
    cache_miss: Tally = Field(description="Always 0: answers are not cached.")


class VersionStatistics(BaseModel):
    """The requests to one version since this process started."""

    name: str = Field(description="Name of the model.")
    version: str = Field(description="Number of the version.")
    last_inference: int = Field(description="Time of the last answer, in milliseconds since 1970; 0 before the first.")
    inference_count: int = Field(description="Number of rows that were answered.")
    execution_count: int = Field(description="Number of requests that were answered.")
    inference_stats: InferenceStatistics = Field(description="Counts and durations.")
    batch_stats: list[dict[str, Any]] = Field(description="Always empty: batches are not counted by size.")


class StatisticsAnswer(BaseModel):
    """The requests to this process, by version."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.STATISTICS]})

    model_stats: list[VersionStatistics] = Field(description="One entry per version.")


class IndexEntry(BaseModel):
    """One version of the project."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.INDEX_ENTRY]})

    name: str = Field(description="Name of the model.")
    version: str = Field(description="Number of the version.")
    state: Literal["READY"] = Field(description="Always `READY`: a version is loaded with its first request.")
    reason: str = Field(description="Always empty.")


class Nothing(BaseModel):
    """An empty object: the call is done."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}]})


_NAME = {"type": "string", "description": "Name of the tensor, as the metadata of the model lists it."}
_SHAPE = {
    "type": "array",
    "description": "Its dimensions: rows, steps of sequences, dimensions of a value.",
    "items": {"type": "integer"},
}
_DATA = {
    "type": "array",
    "description": "The elements in row-major order. Without it the tensor is binary, and its bytes follow the JSON.",
    "items": {},
}


def _parameters(description: str, known: dict[str, Any] | None = None) -> dict[str, Any]:
    """The parameters of a request, an input or an output; without `known`, others are ignored."""
    if known is None:
        return {"type": "object", "description": description}
    found = {"type": "object", "properties": known, "additionalProperties": False}
    return {"anyOf": [found, {"type": "null"}], "description": description}


def _up_to(maximum: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": 0, "maximum": maximum}


def _tensors(description: str, fields: dict[str, Any], required: list[str]) -> dict[str, Any]:
    tensor = {"type": "object", "properties": {"name": _NAME, **fields}, "required": ["name", *required]}
    return {"type": "array", "description": description, "items": tensor}


_ID = {
    "type": "string",
    "maxLength": MAX_ID_CHARACTERS,
    "description": "Id of the request, at most 200 characters. The answer repeats it.",
}
_BODY = {
    "type": "object",
    "description": "The tensors of the inputs, and the outputs to answer.",
    "properties": {
        "id": _ID,
        "parameters": _parameters(
            "By name: `n_samples`, 0 to 1000 draws over which predictions average; `draws`, 0 to 1000 joint "
            "completions; `level`, the probability of intervals; `seed` of the draws; `timeout` in microseconds; "
            "`binary_data_output`, whether outputs are binary unless they say otherwise; `priority`, which has no "
            "effect.",
            {
                "binary_data_output": {"type": "boolean"},
                "level": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
                **{name: _up_to(maximum) for name, maximum in MAXIMA.items()},
            },
        ),
        "inputs": _tensors(
            "Any subset of the modalities, each at most once, and masks of those that are given.",
            {
                "datatype": {"enum": [*DTYPES, BYTES], "type": "string", "description": "Type of the elements."},
                "shape": _SHAPE,
                "data": _DATA,
                "parameters": _parameters("By name: `binary_data_size`, the number of bytes of a binary tensor."),
            },
            ["datatype", "shape"],
        ),
        "outputs": _tensors(
            "The outputs to answer; `latent_mean` and `latent_logvar` if there are none.",
            {
                "parameters": _parameters(
                    "By name: `binary_data`, whether this output is binary.", {"binary_data": {"type": "boolean"}}
                )
            },
            [],
        ),
    },
    "required": ["inputs"],
    "additionalProperties": False,
    "examples": [examples.REQUEST],
}
_ANSWER = {
    "type": "object",
    "description": "The outputs, in the order of the request.",
    "properties": {
        "id": _ID,
        "model_name": {"type": "string", "description": "Name of the model."},
        "model_version": {"type": "string", "description": "Number of the version that answered."},
        "outputs": _tensors(
            "The outputs, in the order of the request.",
            {
                "datatype": {"type": "string", "description": "Type of the elements: `FP32`, `INT64` or `BYTES`."},
                "shape": _SHAPE,
                "data": _DATA,
                "parameters": _parameters("By name: `binary_data_size`, the number of bytes of a binary tensor."),
            },
            ["datatype", "shape"],
        ),
    },
    "required": ["model_name", "model_version", "outputs"],
    "examples": [examples.ANSWER],
}
INFER: dict[str, Any] = {
    "tag": "inference",
    "body": _BODY,
    "content": {"application/json": _ANSWER, "application/octet-stream": {"type": "string", "format": "binary"}},
    "parameters": (
        {
            "name": "Inference-Header-Content-Length",
            "in": "header",
            "required": False,
            "schema": {"type": "string", "pattern": "^[0-9]{1,18}$"},
            "description": "Bytes of JSON before those of binary tensors.",
        },
    ),
    "response_description": "The outputs that were asked for; bytes, if some of them are binary.",
}
"""Arguments of `service.http.starlette_route.PostRoute`."""
IGNORED_BODY: dict[str, Any] = {
    "requestBody": {
        "required": False,
        "description": "What clients of the protocol send. It is checked and has no effect.",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "description": "An object without any effect.",
                    "properties": {
                        "parameters": {
                            "type": ["object", "null"],
                            "description": "Only `unload_dependents`: no model depends on another.",
                            "properties": {"unload_dependents": {"description": "Any value."}},
                            "additionalProperties": False,
                        },
                        "ready": {"description": "Any value: all versions are ready."},
                    },
                    "additionalProperties": False,
                    "examples": [{}],
                }
            }
        },
    }
}
"""`openapi_extra` of operations whose body is ignored."""
