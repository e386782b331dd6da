"""A database as a large installation has it: many tenants, versions, children, batches and endpoints."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql
from pydantic import SecretStr

from app.db import partitions
from app.db.engine import make_engine, transaction
from app.db.migrate import upgrade


@dataclass(frozen=True)
class Size:
    """How many of each there are. `busy` versions have jobs that wait; a result is of one of `days`."""

    tenants: int = 500
    versions: int = 200
    busy: int = 100
    children: int = 500
    leases: int = 4
    waiting: int = 20_000
    results: int = 50_000
    days: int = 5
    deliveries: int = 10_000
    endpoints: int = 100
    batches: int = 200

    def of_one(self) -> "Size":
        """As many jobs, results and deliveries, of one tenant and version, with two children."""
        return replace(self, tenants=1, versions=1, busy=1, children=2, endpoints=1, batches=1)


# Versions are for a device that no worker of the measured stack has. `{who}` is any tenant's id, of the row
# number `n`: not always the same one for a version.
_TENANTS = """
INSERT INTO tenants (name) SELECT 'tenant-' || n FROM generate_series(1, :tenants) n;
INSERT INTO api_keys (id, tenant_id, secret_hash, scopes)
SELECT 'many' || n, n, :secret, ARRAY['jobs:read', 'jobs:write'] FROM generate_series(1, :tenants) n;
INSERT INTO model_versions (model, version, source, source_sha256, device, unit, max_batch_items,
                            execution_timeout_s, memory_mb, input_schema, output_schema)
SELECT 'model-' || n, '1', 'nowhere', '', 'remote', 'item', 64, 60, 16,
       json_build_object('type', 'object', 'title', 'Input ' || n, 'properties', json_build_object(
           'text', json_build_object('type', 'string', 'maxLength', 100000 + n),
           'n', json_build_object('type', 'integer'))), '{{}}'
  FROM generate_series(1, :versions) n;
INSERT INTO models (name, current_version_id) SELECT model, id FROM model_versions;
INSERT INTO version_speeds (version_id, pool, jobs, units, seconds)
SELECT id, 'default', 100, 100, 10 FROM model_versions;
INSERT INTO workers (id, name, host, pid, pool, purchase, device, queues, state, models, machine)
SELECT gen_random_uuid(), 'worker-' || n / 5 || '/' || n % 5, 'host-' || n / 5, n, 'default', 'on_demand',
       'cpu', ARRAY['remote.interactive', 'remote.batch'], 'ready',
       (SELECT jsonb_object_agg('model-' || (n + m) % :versions, jsonb_build_object('memory_mb', 16))
          FROM generate_series(1, 8) m), 'machine-' || n / 5
  FROM generate_series(1, :children) n;
INSERT INTO webhook_endpoints (id, tenant_id, url, events, secret)
SELECT uuidv7(), {who}, 'https://receiver-' || n || '.example/hook', ARRAY['job.completed'], ''
  FROM generate_series(1, :endpoints) n;
"""
_JOB = """INSERT INTO jobs (id, tenant_id, version_id, lane, priority, input, input_hash, expires_at,
                  execution_timeout_s, max_attempts, initial_delay_ms, max_delay_ms, created_at, batch_id)
SELECT id, tenant_id, version_id, lane, 1, '{{"n":1}}', '', now() + interval '1 day', 60, 3, 1000, 60000,
       uuid_extract_timestamp(id), batch_id FROM made"""
_HISTORY = f"""
CREATE TEMPORARY TABLE made AS
SELECT uuidv7(make_interval(days => -(n % :days))) AS id, {{who}} AS tenant_id,
       1 + n % :versions AS version_id, 0 AS lane, CAST(NULL AS uuid) AS batch_id, n
  FROM generate_series(1, :results) n;
{_JOB};
INSERT INTO job_results (job_id, status, output, error, started_at, completed_at, epoch, device, run_s,
                         tenant_id)
SELECT id, CASE n % 200 WHEN 0 THEN 'failed' ELSE 'succeeded' END,
       CASE n % 200 WHEN 0 THEN NULL ELSE json '{{{{"n":1}}}}' END,
       CASE n % 200 WHEN 0 THEN json '{{{{"code":"model_error"}}}}' END,
       uuid_extract_timestamp(id), uuid_extract_timestamp(id), n, 'cpu', 0.01, tenant_id FROM made;
INSERT INTO job_attempts (job_id, epoch, attempt, worker_id, started_at, ended_at, outcome, tenant_id)
SELECT id, n, 1, gen_random_uuid(), uuid_extract_timestamp(id), uuid_extract_timestamp(id),
       CASE n % 200 WHEN 0 THEN 'error' ELSE 'succeeded' END, tenant_id FROM made;
DROP TABLE made;
"""
_QUEUE = f"""
CREATE TEMPORARY TABLE made AS
SELECT uuidv7() AS id, {{who}} AS tenant_id, 1 + n % :busy AS version_id, 0 AS lane,
       CAST(NULL AS uuid) AS batch_id, n FROM generate_series(1, :waiting + :children * :leases) n;
{_JOB};
INSERT INTO job_ready (job_id, version_id, lane, priority, rank, expires_at, tenant_id)
SELECT id, version_id, lane, 1, n * 100, now() + interval '1 day', tenant_id FROM made WHERE n <= :waiting;
INSERT INTO job_leases (job_id, version_id, lane, priority, rank, expires_at, tenant_id, epoch, worker_id)
SELECT m.id, version_id, lane, 1, n * 100, now() + interval '1 day', tenant_id, n, w.id
  FROM made m JOIN (SELECT id, row_number() OVER () - 1 AS place FROM workers) w
       ON w.place = m.n % :children WHERE n > :waiting;
DROP TABLE made;
"""
# Of the eight jobs of a batch five wait and three have ended, each told by a tally of its own.
_BATCHES = f"""
CREATE TEMPORARY TABLE begun AS
SELECT CAST(left(CAST(uuidv7() AS text), 28) || '00000000' AS uuid) AS id, {{who}} AS tenant_id, n
  FROM generate_series(1, :batches) n;
INSERT INTO batches (id, tenant_id, endpoint, completion_window, status, total, ingested, expires_at,
                     in_progress_at)
SELECT id, tenant_id, '/v1/jobs', '24h', 'in_progress', 8, 8, now() + interval '1 day', now() FROM begun;
INSERT INTO batch_work (batch_id, due_at) SELECT id, now() + interval '1 day' FROM begun;
CREATE TEMPORARY TABLE made AS
SELECT CAST(left(CAST(b.id AS text), 28) || lpad(to_hex(item), 8, '0') AS uuid) AS id, tenant_id,
       1 + (n * 7) % :busy AS version_id, 1 AS lane, b.id AS batch_id, item
  FROM begun b CROSS JOIN generate_series(1, 8) item;
{_JOB};
INSERT INTO job_ready (job_id, version_id, lane, priority, rank, expires_at, tenant_id)
SELECT id, version_id, lane, 1, 1000 * item, now() + interval '1 day', tenant_id FROM made WHERE item <= 5;
INSERT INTO job_results (job_id, status, reason, tenant_id)
SELECT id, 'expired', 'queue_ttl_passed', tenant_id FROM made WHERE item > 5;
INSERT INTO batch_tallies (batch_id, succeeded, failed, canceled, expired)
SELECT batch_id, 0, 0, 0, 1 FROM made WHERE item > 5;
DROP TABLE begun, made;
"""
# Half of the deliveries are due, half wait for their next try.
_DELIVERIES = """
CREATE TEMPORARY TABLE made AS
SELECT uuidv7() AS id, w.tenant_id, w.id AS endpoint_id, w.url, n
  FROM generate_series(1, :deliveries) n
  JOIN (SELECT *, row_number() OVER () - 1 AS place FROM webhook_endpoints) w ON w.place = n % :endpoints;
INSERT INTO webhook_deliveries (id, tenant_id, endpoint_id, url, event)
SELECT id, tenant_id, endpoint_id, url, 'job.completed' FROM made;
INSERT INTO webhook_queue (delivery_id, target, endpoint_id, due_at)
SELECT id, CAST(endpoint_id AS text), endpoint_id,
       now() + make_interval(hours => CAST(n / :endpoints % 2 AS integer)) FROM made;
DROP TABLE made;
"""


def make(server_url: str, name: str, size: Size, secret_hash: bytes) -> str:
    """A database of this name on the same server, with so much in it. Returns its URL."""
    place, _, _ = server_url.rpartition("/")
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    url = f"{place}/{name}"
    upgrade(url)
    engine = make_engine(SecretStr(url))
    with transaction(engine) as connection:
        today = datetime.now(UTC)
        partitions.ensure(connection, today - timedelta(days=size.days), size.days + 1)
    engine.dispose()
    values: dict[str, Any] = {**vars(size), "secret": secret_hash}
    # Tenants' and versions' ids begin at 1 in a new database.
    who = "1 + (CAST(n AS bigint) * 7919 + n / 97) % :tenants"
    with psycopg.connect(url, autocommit=True) as filling:
        filling.execute("SET synchronous_commit = off")
        for part in (_TENANTS, _HISTORY, _QUEUE, _BATCHES, _DELIVERIES):
            text = part.format(who=who)
            for key, value in sorted(values.items(), key=lambda pair: -len(pair[0])):
                text = text.replace(f":{key}", sql.Literal(value).as_string(filling))
            filling.execute(text)
        filling.execute("VACUUM (ANALYZE)")
    return url
