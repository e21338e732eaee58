"""Every code of a problem, a failed job and a fault: a table for `/errors`, the OpenAPI document and docs/errors.md."""

from collections.abc import Mapping
from dataclasses import dataclass

PATH = "/errors"


@dataclass(frozen=True)
class ErrorCode:
    """One code.

    status: of the response; None for codes that are inside a body. title: a few words. meaning: when it comes. advice:
    what to do. is_retryable: whether the same request, or the next attempt of the job, may succeed without a change.
    example: a `detail`. pointer: the place of the example's fault, for problems that list faults.
    """

    code: str
    status: int | None
    title: str
    meaning: str
    advice: str
    is_retryable: bool = False
    example: str = ""
    pointer: str | None = None


def type_of(code: str) -> str:
    """The `type` of a problem: the path under which the service describes its code."""
    return f"{PATH}/{code}"


_PROBLEMS = (
    # 400
    ErrorCode(
        "invalid_host",
        400,
        "Invalid Host header",
        "The request has no header `Host`, several of them, or one that is no host.",
        "Send one header `Host`, as HTTP/1.1 requires. Most HTTP libraries do.",
        example="the request has 2 headers `Host`, expected one",
    ),
    ErrorCode(
        "invalid_http",
        400,
        "Invalid HTTP",
        "The received bytes are not an HTTP/1.1 request. The connection closes.",
        "Send the request with an HTTP/1.1 library; check that no proxy changes it.",
        example="the received bytes are not an HTTP/1.1 request",
    ),
    ErrorCode(
        "invalid_page_token",
        400,
        "Invalid page token",
        "`page_token` was not returned by this list, or belongs to other filters.",
        "Take `next_page_token` of the previous page of the same list, or start again without a token.",
        example="page_token is 'nothing', expected the next_page_token of the previous page of this list",
        pointer="?page_token",
    ),
    ErrorCode(
        "invalid_state",
        400,
        "Invalid state",
        "`state` was not returned by this version of the model.",
        "Send the `state` of the previous answer of the same version, or `null` for the first part of a sequence.",
        example="state is 'nothing', expected one that 'moves' version 1 has returned",
        pointer="/state",
    ),
    ErrorCode(
        "not_json",
        400,
        "Unreadable JSON",
        "The body has bytes that are no UTF-8, is nested too deep, or has a number with too many digits.",
        "Send the body as JSON in UTF-8.",
        example="the body is bytes that are no UTF-8, is nested too deep, or has a number too long, expected JSON",
        pointer="",
    ),
    ErrorCode(
        "upgrade_not_offered",
        400,
        "Upgrade is not offered",
        "The request has a body and asks to upgrade the connection. The connection closes.",
        "Send it as HTTP/1.1, without the header `Upgrade`.",
        example="the request has a body and asks to upgrade the connection, which the service never does:"
        " send it as HTTP/1.1, without the header `Upgrade`",
    ),
    # 401
    ErrorCode(
        "invalid_api_key",
        401,
        "Invalid API key",
        "The API key is unknown, was revoked, or has expired.",
        "Use a valid key. An administrator of the project can create one.",
        example="the API key is not known, or no longer valid",
    ),
    ErrorCode(
        "missing_api_key",
        401,
        "Missing API key",
        "The request has no API key.",
        "Send `Authorization: Bearer sns_…`, or the key as the password of Basic authentication.",
        example="send an API key: `Authorization: Bearer sns_…`, or as the password of Basic",
    ),
    # 403
    ErrorCode(
        "insufficient_scope",
        403,
        "Insufficient scope",
        "The API key is valid, but lacks the scope that the call needs.",
        "Use a key with the scope that `WWW-Authenticate` names.",
        example="the key has the scopes read, this call needs the scope 'write': use another key",
    ),
    ErrorCode(
        "key_outlives_its_maker",
        403,
        "Key outlives its maker",
        "The new API key would expire later than the key that creates it.",
        "Ask for an earlier expiry, or use a key that is valid for longer.",
        example="the new key never expires, expected no later than the key that makes it: <time>",
    ),
    ErrorCode(
        "operator_required",
        403,
        "Operator required",
        "Only keys of an operator project create, delete and restore projects and set their quotas.",
        "Use a key of an operator project, or ask the operator of the installation.",
        example="the project of the key does not operate, expected an operator project, which alone creates projects",
    ),
    # 404
    ErrorCode(
        "alias_not_found",
        404,
        "Alias not found",
        "The model has no alias of this name, or the project has no such model.",
        "List the aliases: `GET /v1/models/{name}/aliases`.",
        example="there is no alias 'small/nothing' in this project",
    ),
    ErrorCode(
        "api_key_not_found",
        404,
        "API key not found",
        "The project has no API key of this id.",
        "List the keys: `GET /v1/api-keys`.",
        example="there is no api key 'key_nothing' in this project",
    ),
    ErrorCode(
        "checkpoint_not_found",
        404,
        "Checkpoint not found",
        "The run has no checkpoint of this step.",
        "List the checkpoints: `GET /v1/runs/{run_id}/checkpoints`.",
        example="there is no checkpoint 'run_… step 999999' in this project",
    ),
    ErrorCode(
        "dataset_not_found",
        404,
        "Dataset not found",
        "The project has no dataset of this name, or it was deleted.",
        "List the datasets: `GET /v1/datasets`.",
        example="there is no dataset 'nothing' in this project",
    ),
    ErrorCode(
        "dataset_version_not_found",
        404,
        "Dataset version not found",
        "The dataset has no version of this number, or it was deleted.",
        "List the versions: `GET /v1/datasets/{name}/versions`.",
        example="there is no dataset version 'small/99' in this project",
    ),
    ErrorCode(
        "evaluation_of_run_not_found",
        404,
        "Evaluation not found",
        "The run has no evaluation: it has not succeeded, or none was asked for.",
        "Wait until the run has succeeded.",
        example="there is no evaluation of run 'run_…' in this project",
    ),
    ErrorCode(
        "model_not_found",
        404,
        "Model not found",
        "The project has no model of this name, or it was deleted.",
        "List the models: `GET /v1/models`, or with `?deleted=true` the deleted ones.",
        example="there is no model 'nothing' in this project",
    ),
    ErrorCode(
        "model_version_not_found",
        404,
        "Model version not found",
        "The model has no version of this number, or it was deleted.",
        "List the versions: `GET /v1/models/{name}/versions`.",
        example="there is no model version 'small/99' in this project",
    ),
    ErrorCode(
        "not_found",
        404,
        "Path not found",
        "The API has no such path.",
        "Compare the path with `GET /openapi.json`.",
        example="there is no path '/v1/nothing'",
    ),
    ErrorCode(
        "project_not_found",
        404,
        "Project not found",
        "There is no project of this id that the caller may see.",
        "List the projects: `GET /v1/projects`.",
        example="there is no project 'prj_nothing' in this project",
    ),
    ErrorCode(
        "run_not_found",
        404,
        "Run not found",
        "The project has no run of this id.",
        "List the runs: `GET /v1/runs`.",
        example="there is no run 'run_nothing' in this project",
    ),
    ErrorCode(
        "upload_not_found",
        404,
        "Upload not found",
        "The project has no upload of this id.",
        "List the uploads: `GET /v1/uploads`.",
        example="there is no upload 'upl_nothing' in this project",
    ),
    # 405
    ErrorCode(
        "method_not_allowed",
        405,
        "Method not allowed",
        "The path does not have this method.",
        "Use one of the methods that the header `Allow` names.",
        example="the method is DELETE, expected one of GET, HEAD, POST for '/v1/runs'",
    ),
    # 408
    ErrorCode(
        "request_timeout",
        408,
        "Request time-out",
        "The rest of the request was not received in time. The connection closes.",
        "Send the request without pauses.",
        is_retryable=True,
        example="the rest of the request was not received within 15 s, send it without pauses",
    ),
    # 409
    ErrorCode(
        "dataset_deleted",
        409,
        "Dataset deleted",
        "The dataset or its version is deleted.",
        "Restore it by `POST …/restore`, or use another version. What was purged cannot be restored.",
        example="dataset 'slow' is deleted; POST /v1/datasets/slow/restore undoes it",
    ),
    ErrorCode(
        "dataset_in_use",
        409,
        "Dataset in use",
        "Runs or model versions use the dataset; `errors` names them.",
        "Delete them first, or delete the dataset with `?force=true`.",
        example="dataset 'moves' is used by model version moves/1, run run_…; force deletes it anyway",
        pointer="",
    ),
    ErrorCode(
        "dataset_not_ready",
        409,
        "Dataset not ready",
        "The dataset version is still being validated, or was rejected.",
        "Wait until its `state` is `ready`. A rejected version never becomes ready.",
        is_retryable=True,
        example="dataset 'waiting' version 1 is validating, expected ready",
    ),
    ErrorCode(
        "job_has_ended",
        409,
        "Run has ended",
        "The run has ended, so that it cannot be cancelled, paused or resumed.",
        "Get the run for its state: `GET /v1/runs/{run_id}`.",
        example="it has succeeded already and cannot be cancelled",
    ),
    ErrorCode(
        "manifest_too_large",
        409,
        "Manifest too large",
        "The manifest of the version does not fit into a bundle.",
        "Make the configuration or the description of the model shorter.",
        example="the manifest has 5000000 bytes, expected at most 4194304",
    ),
    ErrorCode(
        "no_conditional",
        409,
        "No conditional part",
        "Draws of missing values were asked of a version without a conditional part.",
        "Train a version with `architecture.conditional`, or fit a conditional part to this version by a run with "
        "`init_from` and `training.fit` = `conditional`. Without `draws` any version completes values.",
        example="model 'small' version 1 has no conditional part, which draws need: train one with "
        "`architecture.conditional`, or fit one to this version by a run with `init_from` and `training.fit` = "
        "`conditional`",
    ),
    ErrorCode(
        "own_project",
        409,
        "Own project",
        "A key cannot delete the project that it belongs to.",
        "Use a key of another operator project, or `sensorium project delete` on the host.",
        example="the key belongs to this project, expected a key of another operator project",
    ),
    ErrorCode(
        "project_exists",
        409,
        "Project exists",
        "There is a project of this name, which may be deleted.",
        "Choose another name, or restore or purge the deleted project.",
        example="the name 'clinic' is taken by a project already",
    ),
    ErrorCode(
        "project_in_use",
        409,
        "Project in use",
        "The project was deleted less than 10 s ago, or a worker still runs a job of it.",
        "Send the request again later.",
        is_retryable=True,
        example="project 'left' was deleted less than 10 s ago: purge it later",
    ),
    ErrorCode(
        "project_not_deleted",
        409,
        "Project not deleted",
        "Only a deleted project can be purged.",
        "Delete the project without `purge` first.",
        example="project 'kept' is in use: delete it without `purge` first",
    ),
    ErrorCode(
        "run_cannot_be_retried",
        409,
        "Run cannot be retried",
        "Only a run that failed or was cancelled can be retried.",
        "Wait until the run has ended, or create a new run.",
        example="the run is running, expected failed or cancelled",
    ),
    ErrorCode(
        "run_has_not_ended",
        409,
        "Run has not ended",
        "A run that has not ended cannot be deleted.",
        "Cancel the run first.",
        is_retryable=True,
        example="the run is queued: cancel it first",
    ),
    ErrorCode(
        "runs_not_allowed",
        409,
        "Runs not allowed",
        "The project may queue no runs.",
        "Ask the operator to raise the quota `queued_runs` of the project.",
        example="the project may queue no runs: ask the operator to raise its queued_runs",
    ),
    ErrorCode(
        "too_many_aliases",
        409,
        "Too many aliases",
        "The model has the maximum number of aliases.",
        "Delete an alias first.",
        example="model 'small' has 100 aliases; delete one first",
    ),
    ErrorCode(
        "too_ragged_for_npz",
        409,
        "Too ragged for npz",
        "As .npz file, with all sequences padded to the longest, the dataset would be too large.",
        "Choose another format.",
        example="padded to the longest sequence, the file has 3360 bytes, expected at most 100; choose another format",
    ),
    ErrorCode(
        "upload_in_use",
        409,
        "Upload in use",
        "A dataset is being created from the upload.",
        "Delete the upload when the dataset version is `ready` or `rejected`.",
        is_retryable=True,
        example="dataset 'waiting' version 2 is being created from it; delete the upload when the version is ready or"
        " rejected",
    ),
    ErrorCode(
        "version_in_use",
        409,
        "Version in use",
        "Aliases name the model version; `errors` lists them.",
        "Move or delete the aliases first.",
        example="the version of 'small' has the aliases live; move or delete them",
        pointer="",
    ),
    # 410
    ErrorCode(
        "events_pruned",
        410,
        "Events deleted",
        "The event `after` is not stored: it and events after it may have been deleted by their age "
        "(`SENSORIUM_EVENT_DAYS`).",
        "Read the resources again, then the events with `after=0`.",
        example="event 17 is not stored: it and events after it may have been deleted by their age; the oldest stored "
        "event is 30: read the resources again, then the events with after=0",
    ),
    # 412
    ErrorCode(
        "alias_exists",
        412,
        "Alias exists",
        "`If-None-Match: *` asks for a new alias, but the alias exists.",
        "Leave the header out to move the alias, or choose another name.",
        example="the alias exists, with revision 1",
    ),
    ErrorCode(
        "alias_missing",
        412,
        "Alias missing",
        "`If-Match` asks for an existing alias, but the model has no alias of this name.",
        "Leave the header out to create the alias.",
        example="the alias does not exist, If-Match expects any that does",
    ),
    ErrorCode(
        "revision_mismatch",
        412,
        "Revision mismatch",
        "The alias was changed since its ETag was read.",
        "Get the alias again, and decide with its new value.",
        example="the alias has revision 1, If-Match expects 9",
    ),
    # 413
    ErrorCode(
        "body_too_large",
        413,
        "Body too large",
        "The body has more bytes than the call accepts.",
        "Send a smaller body: fewer rows, or several requests.",
        example="the body has more than 200000 bytes",
    ),
    ErrorCode(
        "rows_too_large",
        413,
        "Rows too large",
        "The rows of the request, or the answer to them, need more memory than one request may use.",
        "Send fewer rows, fewer steps or fewer samples per request.",
        example="20000 rows x 100 steps need 9.6 GB of memory, expected at most 2.1 GB; send fewer rows",
    ),
    ErrorCode(
        "too_many_rows",
        413,
        "Too many rows",
        "The request has more rows than the project may send at once.",
        "Send several requests, or ask the operator to raise the quota `request_rows` of the project.",
        example="the request has 2 rows, the project may send at most 1 at once: send several requests",
    ),
    ErrorCode(
        "upload_too_large",
        413,
        "Upload too large",
        "The file has more bytes than the installation accepts, or than the project may store in total.",
        "Split the file, or ask the operator to raise SENSORIUM_UPLOAD_BYTES or the project's quota `stored_bytes`.",
        example="the upload has more than 100000 bytes",
    ),
    # 415
    ErrorCode(
        "unsupported_content_encoding",
        415,
        "Unsupported content encoding",
        "The call does not read a body with this `Content-Encoding`.",
        "Send the body without encoding. Only `/v2/models/…/infer` reads gzip and deflate.",
        example="content encoding 'gzip', expected a body that is not encoded",
    ),
    ErrorCode(
        "unsupported_media_type",
        415,
        "Unsupported media type",
        "The call reads JSON only, and `Content-Type` names another type.",
        "Send `Content-Type: application/json`.",
        example="content type 'text/plain', expected application/json",
    ),
    # 416
    ErrorCode(
        "range_not_satisfiable",
        416,
        "Range not satisfiable",
        "The range begins after the end of the file.",
        "Ask for a part within the size that `Content-Range` tells.",
        example="Range is 'bytes=99999999-', expected a part of the 13824 bytes of the file",
    ),
    # 422
    ErrorCode(
        "idempotency_key_reused",
        422,
        "Idempotency key reused",
        "The `Idempotency-Key` was used for another request.",
        "Send a new key with each new request.",
        example="the idempotency key 'make it once' was used for another request, expected a new key per request",
        pointer="idempotency-key",
    ),
    ErrorCode(
        "invalid_input",
        422,
        "Invalid input",
        "Values of the body, the query, the path or the headers are wrong; `errors` lists every one with its place.",
        "Correct the values that `errors` names.",
        example="training.epochs is 0, expected at least 1 (and 2 more)",
        pointer="/training/epochs",
    ),
    # 429
    ErrorCode(
        "too_many_queued_runs",
        429,
        "Too many queued runs",
        "The project has as many queued runs as it may have.",
        "Wait until runs have started, or cancel some; then try again.",
        is_retryable=True,
        example="the project has 1 queued runs, at most 1 are allowed",
    ),
    ErrorCode(
        "rate_limited",
        429,
        "Rate limited",
        "The project has used its limit of requests per minute.",
        "Wait for the seconds of `Retry-After`, then try again.",
        is_retryable=True,
        example="the project has used its limit of 1 requests per minute; wait, then try again",
    ),
    # 431
    ErrorCode(
        "headers_too_large",
        431,
        "Headers too large",
        "The request line and headers have too many bytes. The connection closes.",
        "Send fewer or shorter headers and query parameters.",
        example="the request line and headers have more than 65536 bytes",
    ),
    ErrorCode(
        "trailers_too_large",
        431,
        "Trailers too large",
        "The framing of a chunked body has too many bytes that are no content. The connection closes.",
        "Send larger chunks, without extensions and trailers.",
        example="the chunk sizes, chunk extensions and trailers of the body have more than 16384 bytes that are no"
        " content: send larger chunks, without extensions and trailers",
    ),
    # 500
    ErrorCode(
        "artifact_corrupt",
        500,
        "Damaged file",
        "A stored file differs from its checksum.",
        "Tell the operator, who can restore the file from a backup; or create the resource again.",
        example="artifact fb5ab667a862 has other bytes than were stored: its sha256 begins with 8560c456cf70",
    ),
    ErrorCode(
        "internal_error",
        500,
        "Internal error",
        "The service failed in an unexpected way.",
        "Tell the operator the `request_id`: the log has the reason under it.",
        example="the service failed; its log has the reason under this request id",
    ),
    # 501
    ErrorCode(
        "unsupported_transfer_encoding",
        501,
        "Unsupported transfer encoding",
        "The request has a `Transfer-Encoding` other than `chunked`. The connection closes.",
        "Send the body with `Content-Length` or chunked.",
        example="transfer encoding 'gzip, chunked', expected only 'chunked'",
    ),
    # 503
    ErrorCode(
        "body_not_read",
        503,
        "Body not read",
        "The process that parses large bodies ended while it read this one.",
        "Try again. If it happens again, send fewer rows per request.",
        is_retryable=True,
        example="the process that reads large bodies has ended; try again",
    ),
    ErrorCode(
        "database_unavailable",
        503,
        "Database unavailable",
        "The database does not answer.",
        "Try again after the seconds of `Retry-After`.",
        is_retryable=True,
        example="the database does not answer; try again",
    ),
    ErrorCode(
        "engine_busy",
        503,
        "Engine busy",
        "As many requests wait for the inference engine as its queue holds.",
        "Try again after the seconds of `Retry-After`, with increasing pauses.",
        is_retryable=True,
        example="256 requests wait for the engine already; try again",
    ),
    ErrorCode(
        "inference_unavailable",
        503,
        "Inference unavailable",
        "No inference worker answers.",
        "Try again after the seconds of `Retry-After`.",
        is_retryable=True,
        example="no inference worker answers; try again",
    ),
    ErrorCode(
        "service_unavailable",
        503,
        "Service unavailable",
        "The proxy in front of the service reaches no API process.",
        "Try again in some seconds.",
        is_retryable=True,
        example="no API process responds; try again",
    ),
    ErrorCode(
        "storage_unavailable",
        503,
        "Storage unavailable",
        "The storage of files does not answer.",
        "Try again after the seconds of `Retry-After`.",
        is_retryable=True,
        example="the bucket does not answer; try again",
    ),
    # 504
    ErrorCode(
        "timed_out",
        504,
        "Timed out",
        "There was no answer within `timeout_seconds` of the request, or within the limit of the service.",
        "Try again, with more time or fewer rows.",
        is_retryable=True,
        example="no answer within timeout_seconds, 1e-09",
    ),
    # 507
    ErrorCode(
        "engine_out_of_memory",
        507,
        "Engine out of memory",
        "The model needs more memory than an inference engine has.",
        "Ask the operator to raise SENSORIUM_INFERENCE_MEMORY_BYTES, or train a smaller model.",
        example="model 'small' version 1 takes 1704 bytes of memory, an engine has 1"
        " (SENSORIUM_INFERENCE_MEMORY_BYTES)",
    ),
    ErrorCode(
        "quota_exceeded",
        507,
        "Quota exceeded",
        "The project would store more bytes than it may. What is deleted counts until it is purged.",
        "Delete uploads or runs, or purge datasets or models (DELETE with `?purge=true`), or ask for a larger quota.",
        example="the project may store 0 more bytes, and the upload has more: delete uploads or runs, or purge datasets"
        " or models (DELETE with ?purge=true), or ask for a larger quota",
    ),
    ErrorCode(
        "storage_full",
        507,
        "Storage full",
        "A disk, bucket or database is full. Only deletions are accepted.",
        "Delete uploads or runs, or purge datasets or models (DELETE with `?purge=true`), or ask the operator for more"
        " space; then try again.",
        is_retryable=True,
        example="no space is left for new data (database): delete uploads or runs, or purge datasets or models (DELETE"
        " with ?purge=true), or ask the operator for more space",
    ),
)

_JOB_ERRORS = (
    ErrorCode(
        "dataset_rejected",
        None,
        "Dataset rejected",
        "The file cannot become a dataset.",
        "Correct the places that `errors` names, and create the dataset again.",
    ),
    ErrorCode(
        "unusable_data",
        None,
        "Unusable data",
        "Training cannot go on with these data or options.",
        "Change what `detail` names.",
    ),
    ErrorCode(
        "training_diverged",
        None,
        "Training diverged",
        "Training cannot go on with these data or options.",
        "Change what `detail` names.",
    ),
    ErrorCode(
        "unusable_checkpoint",
        None,
        "Unusable checkpoint",
        "A stored checkpoint is damaged, or does not fit.",
        "Create a new run.",
    ),
    ErrorCode(
        "timeout",
        None,
        "Time limit exceeded",
        "The run took longer than `timeout_seconds`.",
        "Retry the run: it resumes from its checkpoint; or create one with more time.",
    ),
    ErrorCode(
        "unavailable",
        None,
        "Unavailable",
        "A file or a service that the job needs did not work.",
        "Wait: the job is attempted again, up to `max_attempts` times.",
        is_retryable=True,
    ),
    ErrorCode(
        "process_died",
        None,
        "Process died",
        "The process of the job ended without a result.",
        "Wait: the job is attempted again, up to `max_attempts` times.",
        is_retryable=True,
    ),
    ErrorCode(
        "worker_lost",
        None,
        "Worker lost",
        "The worker of the job ended without a result.",
        "Wait: the job is attempted again, up to `max_attempts` times.",
        is_retryable=True,
    ),
    ErrorCode(
        "fault",
        None,
        "Fault",
        "The program failed with an unexpected exception.",
        "Tell the operator the reference in `detail`: the log has the reason under it.",
        is_retryable=True,
    ),
    ErrorCode(
        "repeated_fault",
        None,
        "Repeated fault",
        "The program failed in the same way as in an earlier attempt.",
        "Tell the operator the reference in `detail`: the log has the reason under it.",
    ),
)

_FAULTS = (
    ErrorCode("missing", None, "Missing", "The value is required and not given.", "Add the value."),
    ErrorCode("unknown_field", None, "Unknown field", "The API does not have this name here.", "Remove the field."),
    ErrorCode(
        "unknown_value",
        None,
        "Unknown value",
        "The value is not one of the allowed values.",
        "Choose an allowed value.",
    ),
    ErrorCode(
        "wrong_type",
        None,
        "Wrong type",
        "The value is of another type: text for a number, 1.5 for a whole number, a list for an object.",
        "Send the type that `detail` names.",
    ),
    ErrorCode(
        "wrong_format",
        None,
        "Wrong format",
        "The text does not match: a name, a date and time with its time zone, Unicode.",
        "Send the format that `detail` names.",
    ),
    ErrorCode(
        "out_of_range",
        None,
        "Out of range",
        "The number is below, above or between what is allowed, or not finite.",
        "Send a number in the range that `detail` names.",
    ),
    ErrorCode(
        "too_short", None, "Too short", "The text or list has too few characters or items.", "Send a longer value."
    ),
    ErrorCode(
        "too_long", None, "Too long", "The text or list has too many characters or items.", "Send a shorter value."
    ),
    ErrorCode(
        "invalid_value", None, "Invalid value", "The value is wrong in another way.", "Change what `detail` names."
    ),
)


def _by_code(rows: tuple[ErrorCode, ...]) -> Mapping[str, ErrorCode]:
    return {row.code: row for row in rows}


PROBLEMS = _by_code(_PROBLEMS)
"""The codes of error responses, by status."""
JOB_ERRORS = _by_code(_JOB_ERRORS)
"""The codes of failed runs and dataset versions that no response has."""
FAULTS = _by_code(_FAULTS)
"""The codes of wrong values, in `errors`, that any request can have."""


def find(code: str) -> ErrorCode | None:
    """The row of a code of any kind."""
    return PROBLEMS.get(code) or JOB_ERRORS.get(code) or FAULTS.get(code)
