"""The transitions of a job: the only place that changes a job's state.

Each is one statement whose WHERE clause is its guard, so that any number of processes may try it at once. `attempt` is
the fencing token: the statement of an owner that lost its lease matches no row, and this owner must write nothing.

queue: how a job comes to a worker
    T1   create     -> queued
    T3   claim      queued -> running
requests: what users request
    T9   cancel     queued, paused -> cancelled; running: sets a flag
    T12  pause      queued -> paused; running: sets a flag
         resume     paused -> queued
of_projects: all jobs of a deleted project
    T9   cancel_some
execution: what the owner of a running job reports
    T4   heartbeat  running, lease renewed
    T5   heartbeat, and the checkpoint's row in the same transaction: one fence for both
    T6   succeed    running -> succeeded
    T7   release    running -> queued (drain)
    T10  fail       running -> queued or failed
         postpone   running -> queued, waits for disk space
    T11  stop       running -> cancelled
    T12  suspend    running -> paused
    T13  time_out   running -> failed
recovery: what the reconciler repairs
    T2   due        queued, woken again
    T8   reap       running -> queued, failed, cancelled, paused
"""

from service.jobs.operations.execution import (
    FAULT,
    STORAGE_FULL,
    Lost,
    Progress,
    Requests,
    fail,
    heartbeat,
    postpone,
    release,
    renew,
    set_waiting_reason,
    state_after,
    stop,
    succeed,
    suspend,
    time_out,
)
from service.jobs.operations.of_projects import cancel_some, is_running, remove_some
from service.jobs.operations.queue import Claim, RunningLimit, claim, create, queued_count, running_count
from service.jobs.operations.recovery import due, reap
from service.jobs.operations.requests import cancel, cancel_all, pause, remove, resume

__all__ = [
    "FAULT",
    "STORAGE_FULL",
    "Claim",
    "Lost",
    "Progress",
    "Requests",
    "RunningLimit",
    "cancel",
    "cancel_all",
    "cancel_some",
    "claim",
    "create",
    "due",
    "fail",
    "heartbeat",
    "is_running",
    "pause",
    "postpone",
    "queued_count",
    "reap",
    "release",
    "remove",
    "remove_some",
    "renew",
    "resume",
    "running_count",
    "set_waiting_reason",
    "state_after",
    "stop",
    "succeed",
    "suspend",
    "time_out",
]
