"""The types of events, and the resources that they are about."""

from typing import NamedTuple

# A job's transitions become events of the resource that the job belongs to.
_JOB_VERBS = {
    "queued": "{a} is created and waits for a worker",
    "started": "a worker starts an attempt; `attempt` is its number",
    "requeued": "{a} waits for a worker again; `reason` says why",
    "paused": "{a} is paused",
    "succeeded": "{a} has succeeded",
    "failed": "{a} has failed for good; `error` has its code and detail",
    "cancelled": "{a} is cancelled",
    "changed": "fields of {a} change; `changed` names them",
    "deleted": "{a} is deleted",
}

TYPES: dict[str, str] = {
    **{f"run.{verb}": text.format(a="the run") for verb, text in _JOB_VERBS.items()},
    **{f"dataset_version.{verb}": text.format(a="the version") for verb, text in _JOB_VERBS.items()},
    "dataset_version.restored": "the deletion of the version is undone",
    "dataset_version.purged": "the file of the version is removed, which cannot be undone",
    "upload.created": "a file is uploaded",
    "upload.deleted": "the file is deleted",
    "dataset.deleted": "the dataset is deleted",
    "dataset.restored": "the deletion of the dataset is undone",
    "dataset.purged": "the files of the dataset are removed, which cannot be undone",
    "model.changed": "fields of the model change; `changed` names them",
    "model.deleted": "the model is deleted",
    "model.restored": "the deletion of the model is undone",
    "model.purged": "the model and its versions are removed, which cannot be undone",
    "model_version.created": "a version is added; `run` is the run that made it, if there is one",
    "model_version.changed": "fields of the version change; `changed` names them",
    "model_version.deleted": "the version is deleted",
    "model_version.restored": "the deletion of the version is undone",
    "model_version.purged": "the version and its file are removed, which cannot be undone",
    "alias.created": "the alias names `version`",
    "alias.changed": "the alias is to move to `pending_version`, or cannot because of `error`",
    "alias.moved": "the alias names `version` from now on",
    "alias.deleted": "the alias is deleted",
    "api_key.created": "an API key is created",
    "api_key.revoked": "the API key is revoked",
    "project.created": "the project is created",
    "project.changed": "fields of the project change; `changed` names them",
    "project.deleted": "the project is deleted",
    "project.restored": "the deletion of the project is undone",
}
"""Every type of event, and what has happened."""

_PATHS = {
    "run": "/v1/runs/{0}",
    "upload": "/v1/uploads/{0}",
    "dataset": "/v1/datasets/{0}",
    "dataset_version": "/v1/datasets/{0}/versions/{1}",
    "model": "/v1/models/{0}",
    "model_version": "/v1/models/{0}/versions/{1}",
    "alias": "/v1/models/{0}/aliases/{1}",
    "api_key": "/v1/api-keys/{0}",
    "project": "/v1/projects/{0}",
}


class Resource(NamedTuple):
    """What an event is about. id: as in paths, with a slash between two parts: `digits/3`, `digits/production`."""

    type: str
    id: str

    @property
    def path(self) -> str:
        """The path of the resource in the API."""
        return _PATHS[self.type].format(*self.id.split("/"))
