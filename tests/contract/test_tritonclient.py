"""The released clients of the Open Inference Protocol, sync and aio, against a real port."""

import asyncio
import gzip
import json
from collections.abc import Iterator
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
from tritonclient import http
from tritonclient.http import aio
from tritonclient.http.auth import BasicAuth
from tritonclient.utils import InferenceServerException

from service.open_inference import framing
from tests.conftest import Service
from tests.contract.conftest import Served
from tests.service import steps
from tests.service.files import Array
from tests.service.trained import install

DATA, TRACKS = steps.pictures(), steps.tracks()
MASKED = np.arange(TRACKS["x"].shape[1]) < TRACKS["x.lengths"][:, None]
Client = http.InferenceServerClient
Compression = str | None
Headers = dict[str, str]


@pytest.fixture(scope="module")
def trained(service: Service) -> Service:
    """A service with a model of samples, of which `production` is the first version, and one of sequences."""
    for name, seed in (("pictures", 0), ("pictures", 1), ("tracks", 0)):
        install(service, name, name, seed, "forecasting" if name == "tracks" else None)
    assert service.http.put("/v1/models/pictures/aliases/production", json={"version": 1}).status_code == 201
    return service


@pytest.fixture
def headers(trained: Service, served: Served) -> Headers:
    """Headers with a key of all scopes. `infer` gets a copy, because the clients change the given headers."""
    return {"Authorization": f"Bearer {served.key}"}


@pytest.fixture(scope="module")
def client(trained: Service, served: Served) -> Iterator[Client]:
    """The synchronous client."""
    with http.InferenceServerClient(served.url.removeprefix("http://")) as client:
        yield client


def tensor(name: str, array: Array, *, binary: bool = True) -> http.InferInput:
    kind = {"f": "FP32", "i": "INT64", "b": "BOOL"}[array.dtype.kind]
    made = http.InferInput(name, list(array.shape), kind)
    return made.set_data_from_numpy(array, binary_data=binary)


def wanted(*names: str, binary: bool = True) -> list[http.InferRequestedOutput]:
    return [http.InferRequestedOutput(name, binary_data=binary) for name in names]


def encoded(service: Service, path: str, **inputs: Any) -> dict[str, Array]:
    answer = service.http.post(f"{path}/encode", json={"inputs": inputs})
    assert answer.status_code == 200, answer.text
    return {name: np.array(answer.json()[name], dtype=object) for name in ("mean", "standard_deviation")}


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.asarray(found, float), np.asarray(expected, float), rtol=1e-4, atol=1e-5)


def test_metadata_of_the_server_and_its_models(client: Client, headers: Headers) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("pictures", headers=headers)
    assert client.is_model_ready("pictures", "production", headers=headers)
    assert not client.is_model_ready("pictures", "9", headers=headers)
    assert "binary_tensor_data" in client.get_server_metadata(headers=headers)["extensions"]
    found = client.get_model_metadata("pictures", headers=headers)
    assert found["versions"] == ["1"]
    assert found["inputs"][:2] == [
        {"name": "image", "datatype": "FP32", "shape": [-1, 2, 2], "optional": True},
        {"name": "label", "datatype": "INT64", "shape": [-1], "optional": True},
    ]
    assert {"name": "recon.label", "datatype": "FP32", "shape": [-1, 3]} in found["outputs"]
    assert client.get_model_metadata("pictures", "2", headers=headers)["versions"] == ["2"]
    config = client.get_model_config("tracks", headers=headers)
    assert config["max_batch_size"] > 0
    assert config["input"][0] == {"name": "x", "data_type": "TYPE_FP32", "dims": [-1, 2], "optional": True}


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_codes_are_those_of_v1(
    client: Client,
    trained: Service,
    headers: Headers,
    binary_in: bool,
    binary_out: bool,
    compression: str | None,
) -> None:
    image, label = DATA["image"][:50], DATA["label"][:50]  # enough for an answer that is worth compressing
    found = client.infer(
        "pictures",
        [tensor("image", image, binary=binary_in), tensor("label", label, binary=not binary_in)],
        outputs=wanted("latent_mean", "latent_logvar", binary=binary_out),
        headers=dict(headers),
        request_id="mine",
        request_compression_algorithm=compression,
        response_compression_algorithm=compression,
    )
    expected = encoded(trained, "/v1/models/pictures/versions/1", image=image.tolist(), label=label.tolist())
    close(found.as_numpy("latent_mean"), expected["mean"])
    close(np.exp(found.as_numpy("latent_logvar") / 2), expected["standard_deviation"])
    told = found.get_response()
    assert (told["model_name"], told["model_version"], told["id"]) == ("pictures", "1", "mine")


def test_omitted_inputs_are_missing_and_requested_outputs_are_predicted(
    client: Client, trained: Service, headers: Headers
) -> None:
    names = ("recon.label", "recon.label.category", "recon.image", "recon.image.standard_deviation", "latent_mean")
    image = DATA["image"][:4]
    found = client.infer("pictures", [tensor("image", image)], "2", outputs=wanted(*names), headers=dict(headers))
    body = {"inputs": {"image": image.tolist()}}
    expected = trained.http.post("/v1/models/pictures/versions/2/reconstruct", json=body).json()["outputs"]
    close(found.as_numpy("recon.label"), expected["label"]["probabilities"])
    assert found.as_numpy("recon.label.category").tolist() == expected["label"]["category"]
    close(found.as_numpy("recon.image"), expected["image"]["mean"])
    close(found.as_numpy("recon.image.standard_deviation"), expected["image"]["standard_deviation"])
    close(
        found.as_numpy("latent_mean"), encoded(trained, "/v1/models/pictures/versions/2", image=image.tolist())["mean"]
    )
    assert found.as_numpy("latent_logvar") is None


def test_without_outputs_the_codes_come_as_bytes(client: Client, headers: Headers) -> None:
    found = client.infer("pictures", [tensor("label", DATA["label"][:2])], headers=dict(headers))
    assert [one["name"] for one in found.get_response()["outputs"]] == ["latent_mean", "latent_logvar"]
    assert found.as_numpy("latent_mean").shape == (2, 16)


def test_a_mask_marks_the_rows_that_have_a_modality(client: Client, trained: Service, headers: Headers) -> None:
    image, label = DATA["image"][:3].copy(), DATA["label"][:3]
    image[1] = np.nan  # values at missing places do not matter
    given = np.array([True, False, True])
    inputs = [tensor("image", image), tensor("mask.image", given), tensor("label", label)]
    found = client.infer("pictures", inputs, headers=dict(headers)).as_numpy("latent_mean")
    columns = {"image": [image[0].tolist(), None, image[2].tolist()], "label": label.tolist()}
    close(found, encoded(trained, "/v1/models/pictures/versions/1", **columns)["mean"])


def test_sequences_of_different_lengths_share_a_request(client: Client, trained: Service, headers: Headers) -> None:
    lengths = TRACKS["x.lengths"][:6]
    inputs = [tensor("x", TRACKS["x"][:6]), tensor("mask.x", MASKED[:6])]
    found = client.infer("tracks", inputs, headers=dict(headers)).as_numpy("latent_mean")
    columns = [row[:length].tolist() for row, length in zip(TRACKS["x"][:6], lengths, strict=True)]
    answer = trained.http.post("/v1/models/tracks/versions/1/encode", json={"inputs": {"x": columns}}).json()
    for row, length, expected in zip(found, lengths, answer["mean"], strict=True):
        close(row[:length], expected)
        assert (row[length:] == 0).all()


def test_draws_follow_from_their_seed(client: Client, headers: Headers) -> None:
    def drawn(seed: int) -> Array:
        parameters = {"n_samples": 5, "seed": seed}
        inputs, outputs = [tensor("label", DATA["label"][:2])], wanted("recon.image")
        found = client.infer("pictures", inputs, outputs=outputs, headers=dict(headers), parameters=parameters)
        array: Array = found.as_numpy("recon.image")
        return array

    np.testing.assert_array_equal(drawn(3), drawn(3))
    assert (drawn(3) != drawn(4)).any()


def test_the_repository_is_listed_loaded_and_unloaded(client: Client, headers: Headers) -> None:
    listed = client.get_model_repository_index(headers=headers)
    assert {"name": "pictures", "version": "2", "state": "READY", "reason": ""} in listed
    assert [one["name"] for one in listed] == ["pictures", "pictures", "tracks"]
    client.load_model("tracks", headers=headers)
    client.unload_model("tracks", headers=headers)
    assert (
        client.infer("tracks", [tensor("x", TRACKS["x"][:1])], headers=dict(headers)).as_numpy("latent_mean").ndim == 3
    )
    with pytest.raises(InferenceServerException, match="models come from training"):
        client.load_model("tracks", headers=headers, config="{}")
    with pytest.raises(InferenceServerException, match="no model version 'unheard'"):
        client.load_model("unheard", headers=headers)


def test_requests_are_counted(client: Client, headers: Headers) -> None:
    def counted() -> tuple[int, int, int]:
        [found] = client.get_inference_statistics("pictures", "2", headers=headers)["model_stats"]
        assert (found["name"], found["version"]) == ("pictures", "2")
        parts = found["inference_stats"]
        assert parts["compute_infer"]["ns"] <= parts["success"]["ns"]
        return found["inference_count"], parts["success"]["count"], parts["fail"]["count"]

    rows, succeeded, failed = counted()
    client.infer("pictures", [tensor("label", DATA["label"][:7])], "2", headers=dict(headers))
    with pytest.raises(InferenceServerException):
        client.infer("pictures", [tensor("label", DATA["label"][:7] + 90)], "2", headers=dict(headers))
    assert counted() == (rows + 7, succeeded + 1, failed + 1)
    assert any(one["name"] == "pictures" for one in client.get_inference_statistics(headers=headers)["model_stats"])


def test_errors_have_the_form_that_clients_read(client: Client, headers: Headers) -> None:
    label = tensor("label", DATA["label"][:2])
    with pytest.raises(InferenceServerException, match="send an API key") as refused:
        client.infer("pictures", [label])
    assert refused.value.status() == "401"
    with pytest.raises(InferenceServerException, match="there is no alias 'pictures/staging'") as missing:
        client.infer("pictures", [label], "staging", headers=dict(headers))
    assert missing.value.status() == "404"
    with pytest.raises(InferenceServerException, match=r"input 'smell', expected some of \['image', 'label'") as bad:
        client.infer("pictures", [tensor("smell", DATA["label"][:2])], headers=dict(headers))
    assert bad.value.status() == "422"
    with pytest.raises(InferenceServerException, match="a sequence comes whole"):
        client.infer("pictures", [label], headers=dict(headers), sequence_id=7, sequence_start=True)
    many = [tensor("x", np.zeros((60, 500, 2), np.float32))]
    with pytest.raises(InferenceServerException, match="no answer within"):
        client.infer("tracks", many, headers=dict(headers), timeout=1, outputs=wanted("recon.x"))
    for unsupported in (client.get_system_shared_memory_status, client.get_log_settings, client.get_trace_settings):
        with pytest.raises(InferenceServerException, match="there is no path"):
            unsupported(headers=headers)


def test_the_aio_client_sends_sequences(trained: Service, served: Served, headers: Headers) -> None:
    x, given = TRACKS["x"][:4], MASKED[:4]

    async def session() -> Array:
        async with aio.InferenceServerClient(served.url.removeprefix("http://")) as client:
            inputs, outputs = [tensor("x", x), tensor("mask.x", given)], wanted("recon.y")
            found = await client.infer("tracks", inputs, outputs=outputs, headers=dict(headers))
            array: Array = found.as_numpy("recon.y")
            return array

    columns = [row[mask].tolist() for row, mask in zip(x, given, strict=True)]
    answer = trained.http.post("/v1/models/tracks/versions/1/reconstruct", json={"inputs": {"x": columns}}).json()
    for row, mask, expected in zip(asyncio.run(session()), given, answer["outputs"]["y"]["mean"], strict=True):
        close(row[mask], expected)
        assert (row[~mask] == 0).all()


def test_a_key_is_accepted_as_the_password_of_the_clients_plugin(trained: Service, served: Served) -> None:
    with http.InferenceServerClient(served.url.removeprefix("http://")) as client:
        client.register_plugin(BasicAuth("anybody", served.key))
        assert client.is_model_ready("pictures")
        found = client.infer("pictures", [tensor("label", DATA["label"][:2])])
        assert found.as_numpy("latent_mean").shape == (2, 16)


def raw(served: Served, path: str, content: bytes, **headers: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {served.key}", **{name.replace("_", "-"): headers[name] for name in headers}}
    return httpx.post(f"{served.url}/v2{path}", content=content, headers=headers)


@pytest.mark.parametrize(
    ("rows", "accepted", "encoding"),
    [(50, "gzip", "gzip"), (50, "deflate", "deflate"), (1, "gzip", None), (50, "gzip, deflate", None)],
)
def test_large_answers_are_compressed_on_request(
    trained: Service, served: Served, rows: int, accepted: str, encoding: str | None
) -> None:
    given = {"name": "label", "datatype": "INT64", "shape": [rows], "data": [1] * rows}
    answer = raw(served, "/models/pictures/infer", json.dumps({"inputs": [given]}).encode(), Accept_Encoding=accepted)
    assert answer.status_code == 200
    assert answer.headers.get("content-encoding") == encoding
    assert answer.json()["outputs"][0]["shape"] == [rows, 16]
    assert "compute;dur=" in answer.headers["server-timing"]


def test_errors_are_never_compressed(trained: Service, served: Served) -> None:
    many = {"name": "label", "datatype": "INT64", "shape": [50], "data": [9] * 50}
    answer = raw(served, "/models/pictures/infer", json.dumps({"inputs": [many]}).encode(), Accept_Encoding="gzip")
    assert (answer.status_code, answer.headers.get("content-encoding")) == (422, None)
    assert len(answer.content) > framing.MIN_COMPRESSED_BYTES
    assert answer.json()["error"].startswith("input 'label' has 9 at [0], expected a category from 0 to 2")


def test_a_body_that_grows_too_far_is_refused(trained: Service, served: Served) -> None:
    bomb = gzip.compress(bytes(trained.settings.request_bytes + 1))
    answer = raw(served, "/models/pictures/infer", bomb, Content_Encoding="gzip")
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert answer.json()["error"] == answer.json()["detail"]
    elsewhere = raw(served, "/repository/index", gzip.compress(b"{}"), Content_Encoding="gzip")
    assert (elsewhere.status_code, "error" in elsewhere.json()) == (415, True)


def test_an_answer_that_is_not_finite_is_an_error(client: Client, headers: Headers) -> None:
    far = np.full((1, 2, 2), 3e38, np.float32)
    for outputs in (None, wanted("recon.image")):
        with pytest.raises(InferenceServerException, match="row 0 has values so far from the training data") as refused:
            client.infer("pictures", [tensor("image", far)], outputs=outputs, headers=dict(headers))
        assert refused.value.status() == "422"


def test_steps_without_any_modality_are_zeros_in_the_answer(client: Client, trained: Service, headers: Headers) -> None:
    x, given = TRACKS["x"][:2], np.zeros((2, TRACKS["x"].shape[1]), bool)
    given[:, :2] = True
    inputs = [tensor("x", x), tensor("mask.x", given)]
    found = client.infer("tracks", inputs, outputs=wanted("latent_mean", "recon.y"), headers=dict(headers))
    body = {"inputs": {"x": x[:, :2].tolist()}}
    for name, call, part in (("latent_mean", "encode", "mean"), ("recon.y", "reconstruct", "outputs")):
        answer = trained.http.post(f"/v1/models/tracks/versions/1/{call}", json=body).json()[part]
        close(found.as_numpy(name)[:, :2], answer["y"]["mean"] if part == "outputs" else answer)
        assert found.as_numpy(name).shape[:2] == x.shape[:2]
        assert (found.as_numpy(name)[:, 2:] == 0).all()


def test_the_server_is_found_with_and_without_a_slash(served: Served) -> None:
    headers = {"Authorization": f"Bearer {served.key}"}
    for path in ("/v2", "/v2/"):
        answer = httpx.get(served.url + path, headers=headers, follow_redirects=False)
        assert (answer.status_code, answer.json()["name"]) == (200, "sensorium")
    assert httpx.get(f"{served.url}/v2").json()["error"].startswith("send an API key")


def test_the_aio_client_does_the_same(trained: Service, served: Served, headers: Headers) -> None:
    image = DATA["image"][:50]

    async def session() -> list[Array]:
        async with aio.InferenceServerClient(served.url.removeprefix("http://")) as client:
            assert await client.is_server_live()
            assert await client.is_server_ready()
            assert await client.is_model_ready("pictures", headers=headers)
            assert (await client.get_server_metadata(headers=headers))["name"] == "sensorium"
            assert (await client.get_model_metadata("pictures", headers=headers))["versions"] == ["1"]
            assert (await client.get_model_config("pictures", headers=headers))["input"][0]["optional"] is True
            assert len(await client.get_model_repository_index(headers=headers)) == 3
            await client.load_model("pictures", headers=headers)
            await client.unload_model("pictures", headers=headers)
            assert (await client.get_inference_statistics("pictures", headers=headers))["model_stats"]
            with pytest.raises(InferenceServerException, match="no model version 'pictures/9'"):
                await client.infer("pictures", [tensor("image", image)], "9", headers=dict(headers))
            asked = [
                client.infer(
                    "pictures",
                    [tensor("image", image, binary=binary)],
                    "production",
                    outputs=wanted("latent_mean", binary=binary),
                    headers=dict(headers),
                    request_compression_algorithm=compression,
                    response_compression_algorithm=compression,
                )
                for binary in (True, False)
                for compression in (None, "gzip", "deflate")
            ]
            return [found.as_numpy("latent_mean") for found in await asyncio.gather(*asked)]

    expected = encoded(trained, "/v1/models/pictures/versions/1", image=image.tolist())["mean"]
    for found in asyncio.run(session()):
        close(found, expected)
