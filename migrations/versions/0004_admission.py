"""admission

What a job may be asked beside its kind: how long a try may run, when it is to be cancelled, whom to tell, and the batch
that it belongs to. An Idempotency-Key stands from now on for whatever its call made, a job or a file. Jobs are admitted
by one call (`0004_admit_jobs.sql`), and the unfinished ones of an account can be counted.
"""

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.alter_column("idempotency_keys", "job_id", new_column_name="subject_id")
    op.add_column("jobs", sa.Column("timeout_s", sa.Integer(), nullable=True))
    op.add_column("jobs", sa.Column("cancel_by", sa.DateTime(timezone=True), nullable=True))
    op.add_column("jobs", sa.Column("webhook", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("batch_id", sa.UUID(), nullable=True))
    op.create_index(
        "ix_jobs_cancel_by",
        "jobs",
        ["cancel_by"],
        postgresql_where=sa.text("cancel_by IS NOT NULL AND finished_at IS NULL"),
    )
    op.create_index(
        "ix_jobs_account_id_unfinished", "jobs", ["account_id"], postgresql_where=sa.text("finished_at IS NULL")
    )
    op.execute(Path(__file__).with_name("0004_admit_jobs.sql").read_text(encoding="utf-8"))
