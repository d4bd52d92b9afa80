"""how jobs wait

Lanes, a moment by which a job must have started, one live job per caller's key, dead letters that were replayed, and
what operators say about pools.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("lane", sa.Text(), server_default="interactive", nullable=False))
    op.add_column("jobs", sa.Column("start_by", sa.DateTime(timezone=True), nullable=True))
    op.add_column("jobs", sa.Column("unique_key", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("replay_of", sa.UUID(), nullable=True))
    op.add_column("jobs", sa.Column("replayed_as", sa.UUID(), nullable=True))
    op.create_check_constraint(op.f("ck_jobs_lane"), "jobs", "lane IN ('interactive', 'batch')")
    op.create_check_constraint(
        op.f("ck_jobs_finished"), "jobs", "(finished_at IS NULL) = (state IN ('queued', 'running'))"
    )
    # No index may speak of a column that a claim changes: it would keep the claim from staying on its page (HOT).
    op.drop_index("ix_jobs_live", "jobs")
    op.create_index("ix_jobs_unfinished", "jobs", ["id"], postgresql_where=sa.text("finished_at IS NULL"))
    op.create_index(
        "ix_jobs_start_by",
        "jobs",
        ["start_by"],
        postgresql_where=sa.text("start_by IS NOT NULL AND finished_at IS NULL"),
    )
    op.create_index(
        "ix_jobs_dead", "jobs", ["id"], postgresql_where=sa.text("error IS NOT NULL AND replayed_as IS NULL")
    )
    op.create_table(
        "unique_jobs",
        sa.Column("account_id", sa.UUID(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("job_id", sa.UUID(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_unique_jobs_account_id")),
        sa.PrimaryKeyConstraint("account_id", "key", name=op.f("pk_unique_jobs")),
    )
    op.create_table(
        "pools",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("paused", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("draining", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=True),
        sa.Column("account_cap", sa.Integer(), nullable=True),
        sa.Column(
            "kind_caps",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("slots BETWEEN 0 AND 10000 AND account_cap >= 0", name=op.f("ck_pools_caps")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_pools")),
    )
