"""Tensors become rows; those that do not fit are refused with their place."""

from typing import Any

import numpy as np
import pytest

from models.config import MMVAEConfig, MMVRNNConfig, ModalityConfig
from service.inference.decoding import ModelContext
from service.inference.queries import Config, Query
from service.inference.rows import RowLimits, Rows, merged
from service.open_inference import framing
from service.open_inference.answer_encoding import encode_tensors
from service.open_inference.outputs import decode_outputs
from service.open_inference.request_decoding import InferRequest, decode_parameters
from service.open_inference.row_decoding import decode_rows, without_trailing_padding
from service.shared.errors import BadInput, SensoriumError

A = ModalityConfig(name="a", shape=(2,), likelihood="gaussian")
B = ModalityConfig(name="b", categories=3, likelihood="categorical")
C = ModalityConfig(name="c", shape=(1,), likelihood="poisson")
STATIC = MMVAEConfig(modalities=(A, B, C))
SEQUENCE = MMVRNNConfig(modalities=(A, B))
LIMITS = RowLimits(rows=10, steps=100)
CONTEXT = ModelContext("m", STATIC, 10, 100)
GOOD: dict[str, Any] = {"name": "a", "datatype": "FP32", "shape": [2, 2], "data": [[1, 2], [3, 4]]}
LABEL: dict[str, Any] = {"name": "b", "datatype": "INT64", "shape": [2], "data": [0, 2]}
SERIES: dict[str, Any] = {"name": "a", "datatype": "FP32", "shape": [1, 2, 2], "data": [1, 2, 3, 4]}


def read(*tensors: Any, config: Config = STATIC, binary: bytes = b"") -> Rows:
    return decode_rows({"inputs": list(tensors)}, memoryview(binary), config, LIMITS)


@pytest.mark.parametrize("data", [[[1, 2], [3, 4]], [1, 2, 3, 4], [1.0, 2, 3, 4]])
def test_data_may_be_nested_or_flat(data: list[Any]) -> None:
    rows = read({**GOOD, "data": data})
    np.testing.assert_array_equal(rows.values["a"], [[1, 2], [3, 4]])
    assert (rows.count, rows.present["a"].tolist(), rows.lengths) == (2, [True, True], None)


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64", "INT8", "UINT16", "INT64"])
def test_numbers_of_any_type_are_accepted(datatype: str) -> None:
    rows = read({**GOOD, "datatype": datatype})
    assert rows.values["a"].dtype == np.float32


FLAGS = MMVAEConfig(
    modalities=(
        ModalityConfig(name="flag", shape=(2,), likelihood="bernoulli"),
        ModalityConfig(name="side", categories=2, likelihood="categorical"),
    )
)


def test_boolean_tensors_are_values_where_there_are_only_zero_and_one() -> None:
    flag = {"name": "flag", "datatype": "BOOL", "shape": [2, 2], "data": [True, False, False, True]}
    side = {"name": "side", "datatype": "BOOL", "shape": [2], "parameters": {"binary_data_size": 2}}
    found = read(flag, side, config=FLAGS, binary=b"\x01\x00").values
    assert (found["flag"].tolist(), found["flag"].dtype) == ([[1, 0], [0, 1]], np.float32)
    assert (found["side"].tolist(), found["side"].dtype) == ([1, 0], np.int64)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1e39, "numbers within float32's range, at most 3.4e+38 in size"), (np.inf, "finite numbers")],
)
def test_a_number_beyond_float32_has_another_message_than_infinity(value: float, expected: str) -> None:
    binary = np.array([1, value, 3, 4], "<f8").tobytes()
    tensor = {"name": "a", "datatype": "FP64", "shape": [2, 2], "parameters": {"binary_data_size": 32}}
    with pytest.raises(BadInput) as caught:
        read(tensor, binary=binary)
    assert caught.value.detail == f"input 'a' has {value} at [0, 1], expected {expected}"


def test_a_request_may_have_binary_and_json_tensors() -> None:
    first, second = np.arange(4, dtype="<f4"), np.array([2, 1], "<i2")
    rows = read(
        {"name": "a", "datatype": "FP32", "shape": [2, 2], "parameters": {"binary_data_size": 16}},
        {"name": "c", "datatype": "FP32", "shape": [2, 1], "data": [5, 6]},
        {"name": "b", "datatype": "INT16", "shape": [2, 1], "parameters": {"binary_data_size": 4}},
        binary=first.tobytes() + second.tobytes(),
    )
    assert rows.values["a"].tolist() == [[0, 1], [2, 3]]
    assert rows.values["b"].tolist() == [2, 1]
    assert rows.values["c"].tolist() == [[5], [6]]


def test_a_mask_gives_the_lengths_of_sequences() -> None:
    mask = {"name": "mask.a", "datatype": "BOOL", "shape": [2, 3], "data": [True, False, True, True, False, False]}
    rows = read({**SERIES, "shape": [2, 3, 2], "data": [0] * 12}, mask, config=SEQUENCE)
    assert rows.lengths is not None
    assert rows.lengths.tolist() == [3, 1]


BAD: list[tuple[list[Any], str, str]] = [
    ([], "/inputs", "expected a list of tensors"),
    ([7], "/inputs/0/name", "expected some of"),
    ([{**GOOD, "name": "smell"}], "/inputs/0/name", "'smell'"),
    ([{**GOOD, "name": "mask.smell"}], "/inputs/0/name", "'mask.smell'"),
    ([GOOD, GOOD], "/inputs/1/name", "is given twice"),
    ([{**GOOD, "datatype": "BYTES"}], "/inputs/0/datatype", "'BYTES'"),
    ([{**GOOD, "datatype": 3}], "/inputs/0/datatype", "expected one of"),
    ([{**GOOD, "datatype": ["FP32"]}], "/inputs/0/datatype", "expected one of"),
    ([{**GOOD, "parameters": [1]}], "/inputs/0/parameters", "expected an object"),
    ([{**GOOD, "parameters": "x"}], "/inputs/0/parameters", "expected an object"),
    ([{**GOOD, "parameters": {"shared_memory_region": "r"}}], "/inputs/0/parameters", "expected it in the body"),
    ([{**GOOD, "datatype": "BOOL", "data": [True] * 4}], "/inputs/0/datatype", "expected a type of numbers"),
    ([{**GOOD, "shape": [2, 3]}], "/inputs/0/shape", "expected [-1, 2]"),
    ([{**GOOD, "shape": [-2, 2]}], "/inputs/0/shape", "expected [-1, 2]"),
    ([{**GOOD, "shape": [2.0, 2]}], "/inputs/0/shape", "expected [-1, 2]"),
    ([{**GOOD, "shape": [2] * 99}], "/inputs/0/shape", "expected [-1, 2]"),
    ([{**GOOD, "shape": None}], "/inputs/0/shape", "expected [-1, 2]"),
    ([{**GOOD, "shape": [10**15, 2]}], "/inputs/0/shape", "expected at most 10"),
    ([{**GOOD, "shape": [0, 2], "data": []}], "/inputs/0/shape", "at least one"),
    ([{**GOOD, "data": [1, 2, 3]}], "/inputs/0/data", "expected 4 values"),
    ([{**GOOD, "data": [[1, 2], [3]]}], "/inputs/0/data", "expected 4 values"),
    ([{**GOOD, "data": ["x"] * 4}], "/inputs/0/data", "expected 4 values"),
    ([{**GOOD, "data": None}], "/inputs/0/data", "expected 4 values"),
    ([{**GOOD, "data": [1, 2, 3, None]}], "/inputs/0/data", "expected 4 values"),
    ([{**GOOD, "data": [True, 2, 3, 4]}], "/inputs/0/data", "expected 4 values"),
    ([{**GOOD, "data": [[1], [2], [3], [4]]}], "/inputs/0/data", "flat or nested as its shape"),
    (
        [{**GOOD, "datatype": "FP16", "data": [1, 2, 3, 7e4]}],
        "/inputs/0/data",
        "has 70000.0, outside the range of FP16",
    ),
    ([{**GOOD, "data": [1, 2, 3, 1e300]}], "/inputs/0/data", "has 1e+300, outside the range of FP32"),
    ([{**GOOD, "datatype": "INT8", "data": [1, 2, 3, 400]}], "/inputs/0/data", "outside the range of its datatype"),
    ([{**LABEL, "data": [0, 3]}], "/inputs/0/data", "has 3 at [1], expected a category from 0 to 2"),
    ([{**LABEL, "datatype": "FP32"}], "/inputs/0/datatype", "expected an integer type"),
    (
        [{"name": "c", "datatype": "FP32", "shape": [1, 1], "data": [-1]}],
        "/inputs/0/data",
        "expected whole numbers from 0 on",
    ),
    ([GOOD, {**LABEL, "shape": [3], "data": [0, 0, 0]}], "/inputs/1/shape", "'a' has [2] rows"),
    ([{"name": "mask.a", "datatype": "BOOL", "shape": [2], "data": [True, True]}], "/inputs/0/name", "not among"),
    (
        [GOOD, {"name": "mask.a", "datatype": "FP32", "shape": [2], "data": [1, 0]}],
        "/inputs/1/datatype",
        "expected BOOL",
    ),
    (
        [GOOD, {"name": "mask.a", "datatype": "BOOL", "shape": [2], "data": [True, False]}],
        "/inputs",
        "row 1 has no modality",
    ),
]


@pytest.mark.parametrize(("tensors", "place", "detail"), BAD)
def test_a_tensor_that_does_not_fit_is_refused_with_its_place(tensors: list[Any], place: str, detail: str) -> None:
    with pytest.raises(BadInput) as refused:
        read(*tensors)
    assert refused.value.faults[0].pointer == place
    assert detail in refused.value.faults[0].detail


def test_texts_are_refused_before_numpy_reads_them() -> None:
    texts = ["x" * 100_000] + [""] * 100_000  # NumPy would make each as wide as the longest: 37 GiB
    with pytest.raises(BadInput, match="expected 4 values"):
        read({**GOOD, "data": texts})


def test_draws_count_in_the_size_of_a_request() -> None:
    with pytest.raises(BadInput, match="2 rows x 1 steps x 51 draws are 102, expected at most 100"):
        decode_rows({"inputs": [GOOD]}, memoryview(b""), STATIC, RowLimits(rows=10, steps=100, draws=51))


def test_every_byte_but_zero_is_true_in_a_binary_mask() -> None:
    mask = {"name": "mask.a", "datatype": "BOOL", "shape": [2], "parameters": {"binary_data_size": 2}}
    rows = read(GOOD, LABEL, mask, binary=b"\x02\x00")
    assert rows.present["a"].view(np.uint8).tolist() == [1, 0]


def test_a_mask_of_rows_holds_for_all_their_steps() -> None:
    a = {**SERIES, "shape": [2, 3, 2], "data": [0] * 12}
    b = {"name": "b", "datatype": "INT64", "shape": [2, 3], "data": [0, 1, 2, 0, 1, 2]}
    mask = {"name": "mask.a", "datatype": "BOOL", "shape": [2], "data": [True, False]}
    rows = read(a, b, mask, config=SEQUENCE)
    assert rows.present["a"].tolist() == [[True] * 3, [False] * 3]
    assert rows.lengths is not None
    assert rows.lengths.tolist() == [3, 3]


def test_rows_that_end_before_their_tensor_share_a_batch() -> None:
    mask = {"name": "mask.a", "datatype": "BOOL", "shape": [1, 3], "data": [True, True, False]}
    padded = read({**SERIES, "shape": [1, 3, 2], "data": [1, 2, 3, 4, 9, 9]}, mask, config=SEQUENCE)
    together = merged([without_trailing_padding(padded), read(SERIES, config=SEQUENCE)])
    assert together.lengths is not None
    assert together.lengths.tolist() == [2, 2]
    np.testing.assert_array_equal(together.values["a"], [[[1, 2], [3, 4]]] * 2)


def test_an_answer_has_the_steps_of_its_request_and_zeros_after_the_end() -> None:
    mask = {"name": "mask.a", "datatype": "BOOL", "shape": [2, 3], "data": [True, True, False, True, False, False]}
    rows = read({**SERIES, "shape": [2, 3, 2], "data": [0] * 12}, mask, config=SEQUENCE)
    asked = decode_outputs({"outputs": [{"name": "latent_mean"}]}, SEQUENCE)
    mean = np.ones((2, 2, 1), np.float32)
    mean[1, 1] = np.nan  # padding means nothing
    described, binary = encode_tensors(asked, rows, {"encode": {"mean": mean}})
    assert binary == []
    assert described[0]["shape"] == [2, 3, 1]
    assert described[0]["data"].tolist() == [1, 1, 0, 1, 0, 0]


@pytest.mark.parametrize(
    ("name", "part", "value"), [("latent_mean", "mean", np.inf), ("latent_logvar", "standard_deviation", 0)]
)
@pytest.mark.parametrize("binary", [True, False])
def test_an_answer_that_is_not_finite_is_refused(name: str, part: str, value: float, binary: bool) -> None:
    asked = decode_outputs({"outputs": [{"name": name, "parameters": {"binary_data": binary}}]}, STATIC)
    codes = {part: np.array([[1.0], [value]], np.float32)}
    with pytest.raises(BadInput, match="row 1 has values so far from the training data"):
        encode_tensors(asked, read(GOOD), {"encode": codes})


@pytest.mark.parametrize(
    ("accepted", "size", "encoding"),
    [
        ("gzip", 1025, "gzip"),
        ("Deflate", 1025, "deflate"),
        ("gzip", 1024, None),
        ("gzip, deflate", 1025, None),
        ("*", 1025, None),
        ("br", 1025, None),
        (None, 1025, None),
    ],
)
def test_an_answer_is_compressed_only_if_the_client_names_one_encoding(
    accepted: str | None, size: int, encoding: str | None
) -> None:
    assert framing.answer_encoding(accepted, size) == encoding


@pytest.mark.parametrize(
    ("size", "binary", "detail"),
    [
        (15, bytes(15), "expected 16 for its shape and datatype"),
        (-16, bytes(16), "expected 16 for its shape and datatype"),
        ("16", bytes(16), "expected 16 for its shape and datatype"),
        (16, bytes(15), "where the body has 15"),
        (16, bytes(17), "expected 16, the sum of binary_data_size"),
    ],
)
def test_binary_sizes_must_add_up(size: Any, binary: bytes, detail: str) -> None:
    tensor = {"name": "a", "datatype": "FP32", "shape": [2, 2], "parameters": {"binary_data_size": size}}
    with pytest.raises(BadInput, match=detail):
        read(tensor, binary=binary)


def test_sequences_are_bounded_before_they_are_computed() -> None:
    with pytest.raises(BadInput, match="expected at most 100"):
        read({**SERIES, "shape": [2, 51, 2], "data": [0] * 204}, config=SEQUENCE)


@pytest.mark.parametrize(
    ("body", "length", "detail"),
    [
        (b"{}", "3", "the body has 2 bytes|expected at most the body's 2"),
        (b"{}", "-1", "Inference-Header-Content-Length is '-1'"),
        (b"{}", "x", "Inference-Header-Content-Length is 'x'"),
        (b"{}", "9" * 99, "Inference-Header-Content-Length"),
        (b"{}", "0" * 4400, "Inference-Header-Content-Length"),
        (b"{", None, "is not JSON"),
        (b"[]", None, "is \\[\\], expected an object"),
        (b'{"a": NaN}', None, "is not JSON"),
    ],
)
def test_a_head_that_cannot_be_read_is_refused(body: bytes, length: str | None, detail: str) -> None:
    with pytest.raises(BadInput, match=detail):
        framing.split(body, length)


@pytest.mark.parametrize("encoding", framing.ENCODINGS)
def test_a_compressed_body_is_bounded_and_whole(encoding: str) -> None:
    body = b"x" * 10_000
    compressed = framing.compressed([body], encoding)
    assert framing.decompressed(compressed, encoding, 10_000) == body
    for bad in (compressed[:-3], compressed + b"more", b"not compressed"):
        with pytest.raises(BadInput):
            framing.decompressed(bad, encoding, 10_000)
    with pytest.raises(SensoriumError, match="more than 9999 bytes"):
        framing.decompressed(compressed, encoding, 9_999)


def test_an_unknown_content_encoding_is_refused() -> None:
    with pytest.raises(SensoriumError, match="'br', expected one of gzip, deflate"):
        framing.decompressed(b"", "br", 10)


@pytest.mark.parametrize(
    ("head", "place"),
    [
        ({"outputs": "recon.a"}, "/outputs"),
        ({"outputs": [{"name": "recon.smell"}]}, "/outputs/0/name"),
        ({"outputs": [7]}, "/outputs/0/name"),
        ({"outputs": [{"name": "recon.a", "parameters": {"classification": 2}}]}, "/outputs/0/parameters"),
        ({"outputs": [{"name": "recon.a"}] * 99}, "/outputs"),
        ({"outputs": [{"name": "recon.a"}] * 2}, "/outputs/1/name"),
        ({"outputs": [{"name": "recon.a", "parameters": {"binary_data": "yes"}}]}, "/outputs/0/parameters"),
    ],
)
def test_unknown_outputs_are_refused(head: dict[str, Any], place: str) -> None:
    with pytest.raises(BadInput) as refused:
        decode_outputs(head, STATIC)
    assert refused.value.faults[0].pointer == place


@pytest.mark.parametrize(
    ("head", "place"),
    [
        ({"model": "x"}, "/model"),
        ({"id": 7}, "/id"),
        ({"parameters": []}, None),
        ({"parameters": [1]}, "/parameters"),
        ({"parameters": {"timeout": -1}}, "/parameters/timeout"),
        ({"parameters": {"seed": 1.5}}, "/parameters/seed"),
        ({"parameters": {"n_samples": 10**6}}, "/parameters/n_samples"),
        ({"parameters": {"temperature": 1}}, "/parameters/temperature"),
        ({"parameters": {"sequence_id": 1}}, "/parameters/sequence_id"),
        ({"parameters": {"binary_data_output": "yes"}}, "/parameters/binary_data_output"),
        ({"parameters": {"priority": 1, "binary_data_output": True, "timeout": 0}}, None),
    ],
)
def test_bad_parameters_are_refused(head: dict[str, Any], place: str | None) -> None:
    if place is None:
        assert decode_parameters(head).timeout_seconds == float("inf")
        return
    with pytest.raises(BadInput) as refused:
        decode_parameters(head)
    assert refused.value.faults[0].pointer == place


def test_requests_without_draws_share_a_batch_whatever_their_seeds() -> None:
    outputs = decode_outputs({"outputs": [{"name": "recon.a"}]}, STATIC)
    rows = read(GOOD)

    def query(**parameters: float) -> Query:
        (found,) = InferRequest.of(decode_parameters({"parameters": parameters}), outputs, rows, CONTEXT).queries()
        return found

    assert query(seed=1).arguments == query(seed=2).arguments
    assert query(seed=1, n_samples=1).arguments != query(seed=2, n_samples=1).arguments
    assert query(seed=1.0, n_samples=1.0).arguments == query(seed=1, n_samples=1).arguments


def request(*outputs: str, tensors: Any = (GOOD,), **parameters: Any) -> InferRequest:
    head = {"outputs": [{"name": name} for name in outputs]}
    asked = decode_outputs(head, STATIC)
    return InferRequest.of(decode_parameters({"parameters": parameters}), asked, read(*tensors), CONTEXT)


def test_completions_are_asked_by_the_names_of_outputs() -> None:
    found = request("impute.c", "recon.a", "impute.b.draws", "latent_mean", draws=3, level=0.5, seed=4).queries()
    assert [query.operation for query in found] == ["encode", "reconstruct", "impute"]
    assert found[1].arguments == {"targets": ["a"], "n_samples": 0, "seed": 0}
    assert found[2].arguments == {"targets": ["c", "b"], "draws": 3, "level": 0.5, "seed": 4}


def test_draws_are_computed_only_if_an_output_has_them() -> None:
    (query,) = request("impute.c", draws=3, seed=4).queries()
    assert query.arguments == {"targets": ["c"], "draws": 0, "level": 0.9, "seed": 0}


def test_the_calibration_alone_is_of_all_that_is_missing() -> None:
    (query,) = request("calibration").queries()
    assert query.arguments["targets"] == ["b", "c"]


@pytest.mark.parametrize(
    ("outputs", "parameters", "fault"),
    [
        (["latent_mean", "impute.a"], {}, ("/outputs/1/name", "nothing_missing")),
        (["impute.c", "impute.c.draws"], {}, ("/outputs/1/name", "no_draws")),
        (["impute.c.draws"], {"draws": 51}, ("/parameters/draws", "too_large")),
        (["impute.c.draws"], {"draws": 1001}, ("/parameters/draws", "bad_integer")),
        (["impute.c"], {"level": 1}, ("/parameters/level", "bad_fraction")),
        (["impute.c"], {"level": "high"}, ("/parameters/level", "bad_fraction")),
        (["impute.b.lower"], {}, ("/outputs/0/name", "unknown_output")),
    ],
)
def test_a_bad_completion_is_refused_with_its_place(
    outputs: list[str], parameters: dict[str, Any], fault: tuple[str, str]
) -> None:
    with pytest.raises(BadInput) as refused:
        request(*outputs, **parameters)
    assert [(each.pointer, each.code) for each in refused.value.faults] == [fault]


def test_draws_of_sequences_have_the_steps_of_the_request() -> None:
    mask = {"name": "mask.a", "datatype": "BOOL", "shape": [2, 3], "data": [True, True, False, True, False, False]}
    rows = read({**SERIES, "shape": [2, 3, 2], "data": [0] * 12}, mask, config=SEQUENCE)
    asked = decode_outputs({"outputs": [{"name": "impute.b.draws"}, {"name": "calibration"}]}, SEQUENCE)
    draws = np.arange(1, 13).reshape(2, 3, 2)  # (B, n, T)
    answer = {"completed": {"b": {"draws": draws}}, "calibration": np.array([1, 2])}
    (drawn, calibration), _ = encode_tensors(asked, rows, {"impute": answer})
    assert (drawn["datatype"], drawn["shape"]) == ("INT64", [2, 3, 3])
    assert np.reshape(drawn["data"], (2, 3, 3)).tolist() == [
        [[1, 2, 0], [3, 4, 0], [5, 6, 0]],
        [[7, 0, 0], [9, 0, 0], [11, 0, 0]],
    ]
    assert (calibration["datatype"], calibration["data"]) == ("BYTES", ["pooled", "pattern"])
