"""spend cap

Accounts have a balance for each day of what their jobs cost at vendors, where the operator caps that. The days that are
open are found by this index when the cap changes.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_index(
        "ix_balances_spend", "balances", ["period_end"], postgresql_where=sa.text("meter = 'spend_microusd'")
    )
