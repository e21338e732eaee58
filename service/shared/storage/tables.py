"""The table of stored files."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from service.shared.database import now
from service.shared.storage.artifact import Stored
from service.shared.table_base import Table


class Artifact(Table):
    """A file in the store, named by its content within the project."""

    __tablename__ = "artifacts"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    sha256: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(String(20), default="available")
    created_at: Mapped[datetime] = mapped_column(default=now())

    __table_args__ = (
        UniqueConstraint("project_id", "sha256"),
        CheckConstraint("state IN ('available', 'deleting', 'deleted')", name="state"),
        CheckConstraint("size_bytes >= 0", name="size"),
    )

    @property
    def file(self) -> Stored:
        """The file itself."""
        return Stored(self.project_id, self.sha256, self.size_bytes)
