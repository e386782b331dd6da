"""tenants' rows: whoever does not own the tables sees those of the tenants it works for

Revision ID: 0014
Revises: 0013
"""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

# Ids with commas between them, or * for an operator, who sees whose key is whose and nobody's jobs; unset is
# nobody. In a sub-select, so that it is computed once for a statement and not once for a row.
_IDS = (
    "CAST((SELECT string_to_array(nullif(current_setting('headrace.tenants', true), '*'), ','))"
    " AS integer[])"
)
_MINE = f"{{column}} = ANY ({_IDS})"
_MINE_OR_OPERATORS = f"(SELECT current_setting('headrace.tenants', true)) = '*' OR {_MINE}"

# What a row of these says of a tenant's thing is as visible as the thing. A sub-select that gives a value is
# always a look-up by key; of EXISTS the planner might make a hash of the whole other table.
_OF = "(SELECT true FROM {table} WHERE {table}.id = {column})"

POLICIES = {
    "tenants": _MINE_OR_OPERATORS.format(column="id"),
    "api_keys": _MINE_OR_OPERATORS.format(column="tenant_id"),
    "jobs": _MINE.format(column="tenant_id"),
    "job_results": _MINE.format(column="tenant_id"),
    "job_attempts": _MINE.format(column="tenant_id"),
    "job_progress": _MINE.format(column="tenant_id"),
    "idempotency_keys": _MINE.format(column="tenant_id"),
    "webhook_endpoints": _MINE.format(column="tenant_id"),
    "webhook_deliveries": _MINE.format(column="tenant_id"),
    "webhook_results": _OF.format(table="webhook_deliveries", column="delivery_id"),
    "webhook_attempts": _OF.format(table="webhook_deliveries", column="delivery_id"),
    "files": _MINE.format(column="tenant_id"),
    "batches": _MINE.format(column="tenant_id"),
    "batch_errors": _OF.format(table="batches", column="batch_id"),
    "batch_tallies": _OF.format(table="batches", column="batch_id"),
}


def upgrade() -> None:
    for table, visible in POLICIES.items():
        op.execute(f"CREATE POLICY tenant ON {table} USING ({visible})")
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")


def downgrade() -> None:
    for table in POLICIES:
        op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
        op.execute(f"DROP POLICY tenant ON {table}")
