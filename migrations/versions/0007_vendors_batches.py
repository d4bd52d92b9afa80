"""vendors' batches

Lines of a batch that may take a day go to their vendors' own batches in parcels, for half of the units. They are no
jobs until the vendor has made them.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table('batch_parcels',
    sa.Column('id', sa.UUID(), nullable=False),
    sa.Column('batch_id', sa.UUID(), nullable=False),
    sa.Column('model', sa.Text(), nullable=False),
    sa.Column('after_line', sa.Integer(), nullable=False),
    sa.Column('until_line', sa.Integer(), nullable=False),
    sa.Column('lines', sa.Integer(), nullable=False),
    sa.Column('state', sa.Text(), server_default='packed', nullable=False),
    sa.Column('turn', sa.Integer(), server_default='0', nullable=False),
    sa.Column('held_until', sa.DateTime(timezone=True), nullable=True),
    sa.Column('next_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('deployment', sa.Text(), nullable=True),
    sa.Column('upstream_id', sa.Text(), nullable=True),
    sa.Column('is_sure', sa.Boolean(), server_default=sa.text('true'), nullable=False),
    sa.Column('strangers', sa.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
    sa.Column('sent_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('canceled_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('tries', sa.Integer(), server_default='0', nullable=False),
    sa.Column('reason', sa.Text(), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('finished_at', sa.DateTime(timezone=True), nullable=True),
    sa.CheckConstraint("state IN ('packed', 'sending', 'sent', 'landing', 'returning', 'over')", name=op.f('ck_batch_parcels_state')),
    sa.CheckConstraint("(finished_at IS NULL) = (state <> 'over')", name=op.f('ck_batch_parcels_finished')),
    sa.CheckConstraint("state NOT IN ('sent', 'landing') OR upstream_id IS NOT NULL", name=op.f('ck_batch_parcels_upstream')),
    sa.ForeignKeyConstraint(['batch_id'], ['batches.id'], name=op.f('fk_batch_parcels_batch_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_batch_parcels'))
    )
    op.create_index('ix_batch_parcels_next_at', 'batch_parcels', ['next_at'], unique=False, postgresql_where=sa.text('finished_at IS NULL'))
    op.create_index('ix_batch_parcels_batch_id', 'batch_parcels', ['batch_id'], unique=False, postgresql_where=sa.text('finished_at IS NULL'))
    op.add_column('batches', sa.Column('economy', sa.Boolean(), server_default=sa.text('false'), nullable=False))
    op.add_column('batches', sa.Column('parceled_line', sa.Integer(), server_default='0', nullable=False))
    op.add_column('batch_lines', sa.Column('model', sa.Text(), nullable=True))
