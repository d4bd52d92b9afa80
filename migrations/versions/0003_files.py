"""files

Files, the objects that they consist of, and what is to be removed from the store. Holds and ledger entries are from now
on of a holder, which is a job or a file; what is kept on a level meter is released.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"

_JSON = postgresql.JSONB(none_as_null=True, astext_type=sa.Text())


def upgrade() -> None:
    op.alter_column("holds", "job_id", new_column_name="holder_id")
    op.alter_column("ledger_entries", "job_id", new_column_name="holder_id")
    op.drop_constraint(op.f("ck_holds_state"), "holds")
    op.create_check_constraint(
        op.f("ck_holds_state"), "holds", "state IN ('held', 'settled', 'voided', 'released')"
    )
    op.drop_constraint(op.f("ck_ledger_entries_kind"), "ledger_entries")
    op.create_check_constraint(
        op.f("ck_ledger_entries_kind"), "ledger_entries", "kind IN ('grant', 'hold', 'settle', 'void', 'release')"
    )
    op.create_table(
        "files",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("account_id", sa.UUID(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("searched", sa.Text(), nullable=False),
        sa.Column("folder", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("state", sa.Text(), server_default="uploading", nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("declared_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=True),
        sa.Column("facts", _JSON, server_default=sa.text("'{}'"), nullable=False),
        sa.Column("error", _JSON, nullable=True),
        sa.Column("job_id", sa.UUID(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("upload_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('uploading', 'scanning', 'ready', 'rejected', 'expired')", name=op.f("ck_files_state")
        ),
        sa.CheckConstraint(
            "(state IN ('uploading', 'scanning')) = (decided_at IS NULL)", name=op.f("ck_files_decided")
        ),
        sa.CheckConstraint("(state = 'ready') = (sha256 IS NOT NULL)", name=op.f("ck_files_kept")),
        sa.CheckConstraint("size_bytes > 0", name=op.f("ck_files_size")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_files_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_files")),
    )
    op.create_index("ix_files_account_id_id", "files", ["account_id", sa.literal_column("id DESC")])
    op.create_index("ix_files_account_id_folder", "files", ["account_id", "folder"])
    op.create_index("ix_files_undecided", "files", ["id"], postgresql_where=sa.text("decided_at IS NULL"))
    op.create_table(
        "file_variants",
        sa.Column("file_id", sa.UUID(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("account_id", sa.UUID(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=True),
        sa.Column("height", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["file_id"], ["files.id"], name=op.f("fk_file_variants_file_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("file_id", "name", name=op.f("pk_file_variants")),
    )
    op.create_index(op.f("ix_file_variants_account_id_sha256"), "file_variants", ["account_id", "sha256"])
    op.create_table(
        "discards",
        sa.Column("area", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("due", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("removing_since", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("area", "key", name=op.f("pk_discards")),
    )
    op.create_index(op.f("ix_discards_due"), "discards", ["due"])
