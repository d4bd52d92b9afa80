"""Bytes that an account keeps: its files, the objects of the store that they consist of, and what is to be removed."""

from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, LargeBinary, text
from sqlalchemy.orm import Mapped, mapped_column

from infra.models.base import Document, Id, Moment, Now, Table

FILE_STATES = ("uploading", "scanning", "ready", "rejected", "expired")


class File(Table):
    """Something that an account uploaded. Written by `workers/files/` alone."""

    __tablename__ = "files"
    __table_args__ = (
        CheckConstraint(f"state IN {FILE_STATES}", name="state"),
        CheckConstraint("(state IN ('uploading', 'scanning')) = (decided_at IS NULL)", name="decided"),
        CheckConstraint("(state = 'ready') = (sha256 IS NOT NULL)", name="kept"),
        CheckConstraint("size_bytes > 0", name="size"),
        Index("ix_files_account_id_id", "account_id", text("id DESC")),
        Index("ix_files_account_id_folder", "account_id", "folder"),
        # What the tender walks: only the few that are not decided.
        Index("ix_files_undecided", "id", postgresql_where=text("decided_at IS NULL")),
    )

    id: Mapped[Id]
    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"))
    #: What it is for: decides which types are taken and how large they may be (`workers/media.py`).
    purpose: Mapped[str]
    name: Mapped[str]
    #: Name and folder as they are searched: without case, vowel marks and the other ways to write the same letter.
    searched: Mapped[str]
    #: Path of folder names, `photos/2026`; empty at the top.
    folder: Mapped[str] = mapped_column(server_default=text("''"))
    state: Mapped[str] = mapped_column(server_default="uploading")
    #: As declared, and once it is ready, as found.
    media_type: Mapped[str]
    #: As declared (the hold on the storage meter); once it is ready, of what is kept.
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    #: Of what was uploaded, as declared, 32 bytes.
    declared_sha256: Mapped[bytes] = mapped_column(LargeBinary)
    #: Of what is kept and served, 32 bytes; of a picture it is another than the declared one: that was made anew.
    sha256: Mapped[bytes | None] = mapped_column(LargeBinary)
    #: What the scan found: width, height, duration, pages, blurhash.
    facts: Mapped[Document] = mapped_column(server_default=text("'{}'"))
    #: `{code, en, ar}` of a rejected file.
    error: Mapped[Document | None]
    #: The scan.
    job_id: Mapped[UUID | None]
    created_at: Mapped[Now]
    #: No upload begins after this moment.
    upload_until: Mapped[Moment]
    decided_at: Mapped[Moment | None]


class Variant(Table):
    """One object of the store that a ready file consists of: the file itself, and what was pictured of it.

    Equal bytes of an account are one object, so an object goes when the last row that names it has gone.
    """

    __tablename__ = "file_variants"
    __table_args__ = (Index(None, "account_id", "sha256"),)

    file_id: Mapped[UUID] = mapped_column(ForeignKey("files.id", ondelete="CASCADE"), primary_key=True)
    #: `original`, `thumbnail` or `poster`.
    name: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[UUID]
    sha256: Mapped[bytes] = mapped_column(LargeBinary)
    media_type: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    width: Mapped[int | None]
    height: Mapped[int | None]


class Discard(Table):
    """An object that may lie in the store without anybody who needs it: written before the object is, or with the
    deletion of what needed it.
    """

    __tablename__ = "discards"

    area: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    #: Removed from then on.
    due: Mapped[Moment] = mapped_column(index=True)
    #: Removed once more then, since an upload under way could bring it back.
    until: Mapped[Moment]
    #: Set while it is being removed: then it can neither be needed nor written down.
    removing_since: Mapped[Moment | None]
