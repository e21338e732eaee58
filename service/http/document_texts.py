"""What the OpenAPI document says about the whole API: its introduction, its tags and its path parameters."""

from service.http.query_parameters import MAX_PAGE_SIZE

INTRODUCTION = f"""\
Train multimodal generative models, keep them in a registry, and ask them with any subset of the modalities.

A session: upload a file (`POST /v1/uploads`), make a dataset version of it (`POST /v1/datasets`), start a run
(`POST /v1/runs`), and call the model version that the run makes
(`POST /v1/models/{{name}}/versions/{{version}}/reconstruct`).

## Authentication

Every call of `/v1` and `/v2` except `/v2/health/…` needs an API key: `Authorization: Bearer sns_…`, or the key as
the password of Basic authentication with any user name. A key belongs to one project and sees only its resources.
Its scopes (`read`, `write`, `infer`, `admin`) limit what it may do.

## Pages

A list with the parameter `page_size` returns one page: at most that many items, 1 to {MAX_PAGE_SIZE}, 50 by default.
`next_page_token` is the `page_token` of the next page, and null on the last page. A token is valid only for the
list that returned it.

## HEAD

Every path that has `GET` answers `HEAD` with the same status and headers, and without a body: `Content-Length` and
`ETag` of a download, for example.

## Errors

Every error is `application/problem+json` (RFC 9457). `code` is stable, for programs. `detail` is for people.
`errors` lists the faults of the input, each with a `pointer` to its place: a JSON pointer into the body, `?name`
for a query parameter, or the name of a path parameter. `request_id` finds the request in the server's log.

## Repeated requests

Many operations that create something accept the header `Idempotency-Key`. A repetition with the same key and the
same content within one day creates nothing: it gets the stored answer without secrets, and the header
`Idempotent-Replayed: true`. The same key with other content is refused.

## Waiting

Workers do the work of runs and dataset versions. Instead of polling, follow `/v1/events`, or let the call that
creates or reads one wait: `?wait=SECONDS`, or the header `Prefer: wait=SECONDS`. The answer then comes when a worker
is done with it or when the wait is over. The longest wait is 60 seconds; `Preference-Applied` tells the one that
applies.

## Values

Times are RFC 3339, in UTC. Names have 1 to 100 letters, digits, `-` and `_`, and begin with a letter or a digit.
Ids begin with the kind of the resource, such as `run_`. A later release may add fields to answers.
"""

LICENCE = {"name": "MIT", "identifier": "MIT"}
SERVERS = [
    {
        "url": "/",
        "description": "The installation that sent this document: paths begin at its address, such as "
        "`http://127.0.0.1:8000`, or the address of the proxy before it.",
    }
]

TAGS = {
    "datasets": "Uploaded files, and dataset versions: immutable samples with a schema, which workers make.",
    "runs": "Trainings: their state, metrics, events, log, checkpoints and evaluation.",
    "registry": "Models, their immutable versions, and aliases, which name a version and can be moved.",
    "inference": "Predictions of a model version from any subset of its modalities: `/v1` takes values by modality and "
    "row, `/v2` takes the tensors of the Open Inference Protocol.",
    "events": "Everything visible that happened in the project, as a list or as server-sent events.",
    "workers": "The processes that run trainings and conversions.",
    "identity": "The key of the request: its project, scopes and quotas. Any valid key will do.",
    "administration": "API keys, projects, the audit log, and loading of models into memory. Needs the scope `admin`.",
    "operations": "Health and metrics of the process, for probes and monitoring. Without a key.",
}
"""The description of every tag, in the order of the document."""

PATH_PARAMETERS = {
    "runs/{run_id}": "Id of the run.",
    "uploads/{upload_id}": "Id of the upload.",
    "api-keys/{key_id}": "Id of the API key. It is not the key itself.",
    "projects/{project_id}": "Id of the project.",
    "datasets/{name}": "Name of the dataset.",
    "models/{name}": "Name of the model.",
    "versions/{version}": "Number of the version, counted from 1 in each dataset or model.",
    "errors/{code}": "The `code` of a problem, of a failed run or dataset version, or of a wrong value.",
    "aliases/{alias}": "Name of the alias. It begins with a letter.",
}
"""The description of a path parameter, by the two segments of the path that name it."""
VERSION_OR_ALIAS = "Number of the version, or an alias."
"""A version in paths of the Open Inference Protocol."""
