"""The outbox: what happened to the resources of a project, written in the transaction that changed them.

Domains call `events.record(session, project_id, "upload.created", Resource("upload", upload.id))`. Readers follow the
table `Event` by its ids. Nothing is sent: readers poll the table.
"""

from service.shared.events.outbox import delete_old, record, remove_some
from service.shared.events.tables import DeletedEvents, Event
from service.shared.events.types import TYPES, Resource

__all__ = ["TYPES", "DeletedEvents", "Event", "Resource", "delete_old", "record", "remove_some"]
