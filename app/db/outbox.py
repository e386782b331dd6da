"""The SQL of the outbox: deliveries are written by the statement that makes their event true.

An event exists if and only if the state does: `tell_of_jobs` is a part of claim, settle, rescue, expire and
cancel, and `tell_of_batch` of what ends a batch, never a statement of its own.
"""

# A UUIDv7 by Postgres, which has one of its own only from version 18 on: a random UUID whose first 48 bits
# are Unix milliseconds, with the version's bits set. Source: RFC 9562, section 5.7.
_NEW_UUID = """encode(set_bit(set_bit(overlay(
        uuid_send(gen_random_uuid())
        PLACING substring(int8send(CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)) FROM 3)
        FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid"""

NOW = "coalesce(CAST(:now AS timestamptz), now())"
"""The database's clock, unless a test brings its own."""


def target(endpoint_id: str, tenant_id: str, url: str) -> str:
    """What shares one receiver's fate: an endpoint, or a tenant's per-job URLs of one origin."""
    return f"""coalesce(CAST({endpoint_id} AS text),
                    {tenant_id} || ' ' || lower(substring({url} FROM '^[^/]+//[^/?#]+')))"""


def tell_of_jobs(source: str, event: str) -> str:
    """CTEs that write a delivery for everyone who wants `event` of the jobs in the CTE `source`.

    `source` has a column `job_id`; a job's own URL filters by the event's last word. Endpoints are not told
    of each job of a batch, but of the batch. The CTE `told` has the `job_id` of every delivery that can be
    sent now.
    """
    word = event.rpartition(".")[2]
    return f"""audience AS (
        SELECT {_NEW_UUID} AS id, e.job_id, j.tenant_id, a.endpoint_id, a.url, a.enabled
          FROM {source} e
         CROSS JOIN LATERAL (
            SELECT tenant_id, webhook, webhook_events, batch_id FROM jobs WHERE id = e.job_id OFFSET 0) j
         CROSS JOIN LATERAL (
            SELECT CAST(NULL AS uuid) AS endpoint_id, j.webhook AS url, true AS enabled
             WHERE j.webhook IS NOT NULL AND '{word}' = ANY (j.webhook_events)
             UNION ALL
            SELECT w.id, w.url, w.status = 'enabled' FROM webhook_endpoints w
             WHERE w.tenant_id = j.tenant_id AND '{event}' = ANY (w.events) AND j.batch_id IS NULL
         ) a
    ), {_write(f"'{event}'", job_id="job_id", payload="NULL", now="now()")}, told AS (
        SELECT job_id FROM audience WHERE enabled
    )"""


def tell_endpoints(where: str) -> str:
    """CTEs that write a delivery of `:event` with `:payload` for a tenant's endpoints of which `where` holds.

    They are `w` in `where`. The CTE `audience` has their new deliveries' ids.
    """
    job_id, payload = "CAST(NULL AS uuid)", "CAST(:payload AS json)"
    return f"""audience AS (
        SELECT {_NEW_UUID} AS id, w.tenant_id, w.id AS endpoint_id, w.url, w.status = 'enabled' AS enabled
          FROM webhook_endpoints w
         WHERE w.tenant_id = :tenant_id AND {where}
    ), {_write("CAST(:event AS text)", job_id=job_id, payload=payload, now=NOW)}"""


def tell_of_batch(source: str) -> str:
    """CTEs that write a delivery for everyone who wants to know of a batch's end.

    `source` is a CTE with the batch: `id`, `tenant_id`, `webhook` and the `status` it ended with, which names
    the event. The CTE `audience` has the new deliveries' ids.
    """
    return f"""audience AS (
        SELECT {_NEW_UUID} AS id, b.id AS batch_id, b.tenant_id, 'batch.' || b.status AS event,
               a.endpoint_id, a.url, a.enabled
          FROM {source} b
         CROSS JOIN LATERAL (
            SELECT CAST(NULL AS uuid) AS endpoint_id, b.webhook AS url, true AS enabled
             WHERE b.webhook IS NOT NULL
             UNION ALL
            SELECT w.id, w.url, w.status = 'enabled' FROM webhook_endpoints w
             WHERE w.tenant_id = b.tenant_id AND 'batch.' || b.status = ANY (w.events)
         ) a
    ), {_write("event", job_id="CAST(NULL AS uuid)", batch_id="batch_id", payload="NULL", now="now()")}"""


def _write(event: str, *, job_id: str, payload: str, now: str, batch_id: str = "CAST(NULL AS uuid)") -> str:
    """Where the audience's deliveries go. To a disabled endpoint they have failed, so that they can be
    recovered.
    """
    return f"""delivery AS (
        INSERT INTO webhook_deliveries (id, tenant_id, endpoint_id, url, event, job_id, batch_id, payload,
                                        created_at)
        SELECT id, tenant_id, endpoint_id, url, {event}, {job_id}, {batch_id}, {payload}, {now} FROM audience
    ), to_send AS (
        INSERT INTO webhook_queue (delivery_id, target, endpoint_id, due_at)
        SELECT id, {target("endpoint_id", "tenant_id", "url")}, endpoint_id, {now}
          FROM audience WHERE enabled
    ), not_to_send AS (
        INSERT INTO webhook_results (delivery_id, status, error, completed_at)
        SELECT id, 'failed', 'endpoint_disabled', {now} FROM audience WHERE NOT enabled
    )"""
