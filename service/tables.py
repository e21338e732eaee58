"""The tables of all domains, in one metadata: Alembic compares it with a database.

Project ─┬─ ApiKey
         ├─ AuditEvent               who did what
         ├─ IdempotencyKey           answers to repeated requests
         ├─ Event                    the outbox: what happened to its resources
         ├─ Job ── JobEvent, JobLog  the state machine of everything that a worker does
         ├─ Artifact                 a content-addressed file
         ├─ Upload ── Artifact
         ├─ Dataset ── DatasetVersion ── Job (convert), Artifact
         ├─ Run ── Job (train), DatasetVersion; RunTag, RunMetric, RunLatestMetric, RunCheckpoint ── Artifact
         └─ Model ─┬─ ModelVersion ── Run, Artifact
                   └─ Alias ── ModelVersion  (the one that it names, and the one that it moves to)
Worker                               worker processes
Engine ── EngineReport ── ModelVersion       processes that serve inference, and what they report of a version
"""

from types import ModuleType

from service.access import tables as access
from service.datasets import tables as datasets
from service.jobs import tables as jobs
from service.registry import tables as registry
from service.runs import tables as runs
from service.shared.events import tables as events
from service.shared.storage import tables as storage
from service.shared.table_base import Table

DOMAINS: tuple[ModuleType, ...] = (access, jobs, datasets, registry, runs, storage, events)
METADATA = Table.metadata
