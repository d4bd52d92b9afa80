"""batches and webhooks

Batches, their lines and results, and the hold from which their jobs draw. Webhook endpoints with their secrets, what
there is to tell, and its deliveries. What an account crosses of its quota is told by the database itself, whoever
writes the balance.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"

_JSON = postgresql.JSONB(none_as_null=True, astext_type=sa.Text())
# As in the first migration, for more tables. Rows that are updated later find room on their page (HOT).
_MAKE_PARTITIONS = """
CREATE OR REPLACE FUNCTION make_partitions(months_ahead integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    parent text;
    filled integer;
    month timestamptz;
    name text;
    made integer := 0;
BEGIN
    FOR step IN 0..months_ahead LOOP
        month := date_trunc('month', now(), 'UTC') + step * interval '1 month';
        FOR parent, filled IN VALUES ('jobs', 70), ('holds', 70), ('ledger_entries', 100), ('batch_lines', 100),
                                     ('batch_results', 100), ('webhook_messages', 90), ('webhook_deliveries', 70) LOOP
            name := parent || to_char(month AT TIME ZONE 'UTC', '_YYYY_MM');
            CONTINUE WHEN to_regclass(name) IS NOT NULL;
            BEGIN
                EXECUTE format(
                    'CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L) WITH (fillfactor = %s)',
                    name, parent, first_uuid(month), first_uuid(month + interval '1 month'), filled);
                made := made + 1;
            EXCEPTION WHEN check_violation THEN
                RAISE WARNING 'partition % not made: its rows already lie in the default partition', name;
            END;
        END LOOP;
    END LOOP;
    RETURN made;
END $$
"""

_TELL_CROSSING = """
CREATE FUNCTION tell_crossing() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    said text;
BEGIN
    FOREACH said IN ARRAY array_remove(ARRAY[
        CASE WHEN OLD.warned_at IS NULL AND NEW.warned_at IS NOT NULL THEN 'quota.warned' END,
        CASE WHEN OLD.stopped_at IS NULL AND NEW.stopped_at IS NOT NULL THEN 'quota.stopped' END], NULL) LOOP
        INSERT INTO webhook_messages (id, account_id, type, subject_id, data)
        SELECT uuidv7(), NEW.account_id, said, NEW.id, jsonb_build_object(
            'meter', NEW.meter, 'limit', NEW.granted, 'used', NEW.used, 'held', NEW.held,
            'remaining', NEW.granted - NEW.used - NEW.held, 'resets_at', NEW.period_end)
        WHERE EXISTS (SELECT FROM webhook_endpoints e WHERE e.account_id = NEW.account_id AND e.disabled_at IS NULL);
    END LOOP;
    RETURN NULL;
END $$
"""
_TELLING = """
CREATE TRIGGER balances_tell_crossing AFTER UPDATE ON balances FOR EACH ROW
WHEN ((OLD.warned_at IS NULL AND NEW.warned_at IS NOT NULL) OR (OLD.stopped_at IS NULL AND NEW.stopped_at IS NOT NULL))
EXECUTE FUNCTION tell_crossing()
"""


def upgrade() -> None:
    op.create_table('batch_flights',
    sa.Column('batch_id', sa.UUID(), nullable=False),
    sa.Column('line', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('job_id', sa.UUID(), nullable=False),
    sa.PrimaryKeyConstraint('batch_id', 'line', name=op.f('pk_batch_flights'))
    )
    op.create_table('batch_lines',
    sa.Column('batch_id', sa.UUID(), nullable=False),
    sa.Column('line', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('custom_id', sa.Text(), nullable=False),
    sa.Column('form', sa.Text(), nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('spec', _JSON, nullable=False),
    sa.Column('labels', _JSON, nullable=True),
    sa.Column('timeout_s', sa.Integer(), nullable=True),
    sa.Column('units', _JSON, nullable=False),
    sa.Column('refused', sa.Boolean(), server_default=sa.text('false'), nullable=False),
    sa.CheckConstraint("form IN ('own', 'openai', 'anthropic')", name=op.f('ck_batch_lines_form')),
    sa.PrimaryKeyConstraint('batch_id', 'line', name=op.f('pk_batch_lines')),
    sa.UniqueConstraint('custom_id', 'batch_id', name=op.f('uq_batch_lines_custom_id_batch_id')),
    postgresql_partition_by='RANGE (batch_id)'
    )
    op.create_table('batch_results',
    sa.Column('batch_id', sa.UUID(), nullable=False),
    sa.Column('results_end', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('errors_end', sa.BigInteger(), nullable=False),
    sa.Column('line', sa.Integer(), nullable=False),
    sa.Column('is_error', sa.Boolean(), nullable=False),
    sa.Column('is_kept', sa.Boolean(), nullable=False),
    sa.Column('told', sa.Text(), nullable=False),
    sa.PrimaryKeyConstraint('batch_id', 'results_end', name=op.f('pk_batch_results')),
    sa.UniqueConstraint('line', 'batch_id', name=op.f('uq_batch_results_line_batch_id')),
    postgresql_partition_by='RANGE (batch_id)'
    )
    op.create_index('ix_batch_results_errors', 'batch_results', ['batch_id', 'errors_end'], unique=True, postgresql_where=sa.text('is_error'))
    op.create_table('webhook_deliveries',
    sa.Column('id', sa.UUID(), nullable=False),
    sa.Column('message_id', sa.UUID(), nullable=False),
    sa.Column('account_id', sa.UUID(), nullable=False),
    sa.Column('endpoint_id', sa.UUID(), nullable=True),
    sa.Column('type', sa.Text(), nullable=False),
    sa.Column('url', sa.Text(), nullable=False),
    sa.Column('state', sa.Text(), server_default='pending', nullable=False),
    sa.Column('body', sa.Text(), nullable=False),
    sa.Column('tries', sa.Integer(), server_default='0', nullable=False),
    sa.Column('next_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('status', sa.Integer(), nullable=True),
    sa.Column('log', _JSON, server_default=sa.text("'[]'"), nullable=False),
    sa.Column('replay_of', sa.UUID(), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('finished_at', sa.DateTime(timezone=True), nullable=True),
    sa.CheckConstraint("(state = 'pending') = (finished_at IS NULL)", name=op.f('ck_webhook_deliveries_finished')),
    sa.CheckConstraint("state IN ('pending', 'delivered', 'failed', 'canceled')", name=op.f('ck_webhook_deliveries_state')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_webhook_deliveries')),
    postgresql_partition_by='RANGE (id)'
    )
    op.create_index('ix_webhook_deliveries_account_id_id', 'webhook_deliveries', ['account_id', sa.literal_column('id DESC')], unique=False)
    op.create_index('ix_webhook_deliveries_endpoint_id_id', 'webhook_deliveries', ['endpoint_id', sa.literal_column('id DESC')], unique=False)
    op.create_index('ix_webhook_deliveries_due', 'webhook_deliveries', [sa.literal_column('coalesce(endpoint_id, account_id)'), 'next_at'], unique=False, postgresql_where=sa.text("state = 'pending'"))
    op.create_index('ix_webhook_deliveries_message_id', 'webhook_deliveries', ['message_id'], unique=False)
    op.create_table('webhook_messages',
    sa.Column('id', sa.UUID(), nullable=False),
    sa.Column('account_id', sa.UUID(), nullable=False),
    sa.Column('type', sa.Text(), nullable=False),
    sa.Column('subject_id', sa.UUID(), nullable=True),
    sa.Column('data', _JSON, nullable=True),
    sa.Column('url', sa.Text(), nullable=True),
    sa.Column('endpoint_id', sa.UUID(), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('spread_at', sa.DateTime(timezone=True), nullable=True),
    sa.CheckConstraint("data IS NOT NULL OR (subject_id IS NOT NULL AND type LIKE 'job.%')", name=op.f('ck_webhook_messages_data')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_webhook_messages')),
    postgresql_partition_by='RANGE (id)'
    )
    op.create_index('ix_webhook_messages_account_id_id', 'webhook_messages', ['account_id', sa.literal_column('id DESC')], unique=False)
    op.create_index('ix_webhook_messages_new', 'webhook_messages', ['id'], unique=False, postgresql_where=sa.text('spread_at IS NULL'))
    op.create_table('batches',
    sa.Column('id', sa.UUID(), nullable=False),
    sa.Column('account_id', sa.UUID(), nullable=False),
    sa.Column('state', sa.Text(), server_default='validating', nullable=False),
    sa.Column('mode', sa.Text(), nullable=False),
    sa.Column('source', sa.Text(), nullable=False),
    sa.Column('source_id', sa.UUID(), nullable=True),
    sa.Column('size_bytes', sa.BigInteger(), nullable=False),
    sa.Column('labels', _JSON, server_default=sa.text("'{}'"), nullable=False),
    sa.Column('webhook', sa.Text(), nullable=True),
    sa.Column('job_id', sa.UUID(), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('expires_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('read_bytes', sa.BigInteger(), server_default='0', nullable=False),
    sa.Column('read_lines', sa.Integer(), server_default='0', nullable=False),
    sa.Column('needs', _JSON, server_default=sa.text("'{}'"), nullable=False),
    sa.Column('fitted_line', sa.Integer(), server_default='0', nullable=False),
    sa.Column('drawn_line', sa.Integer(), server_default='0', nullable=False),
    sa.Column('lines', sa.Integer(), server_default='0', nullable=False),
    sa.Column('rejected', sa.Integer(), server_default='0', nullable=False),
    sa.Column('drawn', sa.Integer(), server_default='0', nullable=False),
    sa.Column('succeeded', sa.Integer(), server_default='0', nullable=False),
    sa.Column('failed', sa.Integer(), server_default='0', nullable=False),
    sa.Column('canceled', sa.Integer(), server_default='0', nullable=False),
    sa.Column('expired', sa.Integer(), server_default='0', nullable=False),
    sa.Column('results_bytes', sa.BigInteger(), server_default='0', nullable=False),
    sa.Column('errors_bytes', sa.BigInteger(), server_default='0', nullable=False),
    sa.Column('charged', _JSON, server_default=sa.text("'{}'"), nullable=False),
    sa.Column('error', _JSON, nullable=True),
    sa.Column('accepted_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('cancel_requested_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('finished_at', sa.DateTime(timezone=True), nullable=True),
    sa.CheckConstraint("(finished_at IS NULL) = (state IN ('validating', 'running', 'canceling'))", name=op.f('ck_batches_finished')),
    sa.CheckConstraint("mode IN ('each', 'all')", name=op.f('ck_batches_mode')),
    sa.CheckConstraint("source IN ('upload', 'file', 'retry')", name=op.f('ck_batches_source')),
    sa.CheckConstraint("state IN ('validating', 'running', 'canceling', 'completed', 'failed', 'canceled', 'expired')", name=op.f('ck_batches_state')),
    sa.ForeignKeyConstraint(['account_id'], ['accounts.id'], name=op.f('fk_batches_account_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_batches'))
    )
    op.create_index('ix_batches_account_id_id', 'batches', ['account_id', sa.literal_column('id DESC')], unique=False)
    op.create_index('ix_batches_finished_at', 'batches', ['finished_at'], unique=False, postgresql_where=sa.text('finished_at IS NOT NULL'))
    op.create_index('ix_batches_source_id', 'batches', ['source_id'], unique=False, postgresql_where=sa.text("source = 'retry'"))
    op.create_index('ix_batches_unfinished', 'batches', ['id'], unique=False, postgresql_where=sa.text('finished_at IS NULL'))
    op.create_table('webhook_endpoints',
    sa.Column('id', sa.UUID(), nullable=False),
    sa.Column('account_id', sa.UUID(), nullable=False),
    sa.Column('url', sa.Text(), nullable=False),
    sa.Column('description', sa.Text(), server_default=sa.text("''"), nullable=False),
    sa.Column('events', sa.ARRAY(sa.Text()), nullable=False),
    sa.Column('signature', sa.Text(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('disabled_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('disabled_reason', sa.Text(), nullable=True),
    sa.Column('failing_since', sa.DateTime(timezone=True), nullable=True),
    sa.Column('paused_until', sa.DateTime(timezone=True), nullable=True),
    sa.Column('pauses', sa.Integer(), server_default='0', nullable=False),
    sa.CheckConstraint("signature IN ('hmac', 'ed25519')", name=op.f('ck_webhook_endpoints_signature')),
    sa.CheckConstraint('(disabled_at IS NULL) = (disabled_reason IS NULL)', name=op.f('ck_webhook_endpoints_disabled')),
    sa.ForeignKeyConstraint(['account_id'], ['accounts.id'], name=op.f('fk_webhook_endpoints_account_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_webhook_endpoints'))
    )
    op.create_index('ix_webhook_endpoints_account_id_id', 'webhook_endpoints', ['account_id', sa.literal_column('id DESC')], unique=False)
    op.create_table('webhook_secrets',
    sa.Column('id', sa.UUID(), nullable=False),
    sa.Column('account_id', sa.UUID(), nullable=False),
    sa.Column('endpoint_id', sa.UUID(), nullable=True),
    sa.Column('signature', sa.Text(), nullable=False),
    sa.Column('sealed', sa.LargeBinary(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('expires_at', sa.DateTime(timezone=True), nullable=True),
    sa.ForeignKeyConstraint(['account_id'], ['accounts.id'], name=op.f('fk_webhook_secrets_account_id')),
    sa.ForeignKeyConstraint(['endpoint_id'], ['webhook_endpoints.id'], name=op.f('fk_webhook_secrets_endpoint_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_webhook_secrets'))
    )
    op.create_index('ix_webhook_secrets_account_id', 'webhook_secrets', ['account_id'], unique=False, postgresql_where=sa.text('endpoint_id IS NULL'))
    op.create_index('ix_webhook_secrets_endpoint_id', 'webhook_secrets', ['endpoint_id'], unique=False)
    op.add_column('holds', sa.Column('drawn', sa.BigInteger(), server_default='0', nullable=False))
    op.create_index('ix_jobs_batch_id_id', 'jobs', ['batch_id', sa.literal_column('id DESC')], unique=False, postgresql_where=sa.text('batch_id IS NOT NULL'))

    op.create_check_constraint(op.f("ck_holds_within_drawn"), "holds", "drawn BETWEEN 0 AND units")
    op.drop_constraint(op.f("ck_ledger_entries_kind"), "ledger_entries")
    op.create_check_constraint(
        op.f("ck_ledger_entries_kind"),
        "ledger_entries",
        "kind IN ('grant', 'hold', 'draw', 'settle', 'void', 'release')",
    )
    op.execute(_TELL_CROSSING)
    op.execute(_TELLING)
    op.execute(_MAKE_PARTITIONS)
    for table in ("batch_lines", "batch_results", "webhook_messages", "webhook_deliveries"):
        op.execute(f"CREATE TABLE {table}_default PARTITION OF {table} DEFAULT")
    op.execute("SELECT make_partitions(3)")
