"""Write the Grafana dashboards: `python deploy/grafana/dashboards.py`. tests/unit/test_alerts.py compares.

A panel is a title, a unit and its queries, each with the legend of its lines.
"""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent / "dashboards"

Panel = tuple[str, str, list[tuple[str, str]]]


def _quantile(share: float, metric: str, *by: str) -> str:
    labels = ", ".join((*by, "le"))
    return f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket[5m])))"


def _rate(metric: str, *by: str) -> str:
    return f"sum by ({', '.join(by)}) (rate({metric}[5m]))" if by else f"sum(rate({metric}[5m]))"


def _ratio(part: str, whole: str) -> str:
    return f"{_rate(part, 'model')} / {_rate(whole, 'model')}"


_UNITS = 'headrace_batch_units_total{kind="%s"}'
_PLACES = 'max by (model, lane) (headrace_queue_jobs{place="%s"})'

DASHBOARDS: dict[str, list[Panel]] = {
    "Headrace: jobs": [
        ("Ready jobs", "short", [(_PLACES % "ready", "{{model}} {{lane}}")]),
        ("Running jobs", "short", [(_PLACES % "leased", "{{model}} {{lane}}")]),
        (
            "Age of the oldest ready job",
            "s",
            [("max by (model, lane) (headrace_queue_oldest_seconds)", "{{model}} {{lane}}")],
        ),
        (
            "Time until a job is claimed",
            "s",
            [
                (_quantile(0.5, "headrace_claim_wait_seconds", "lane"), "p50 {{lane}}"),
                (_quantile(0.99, "headrace_claim_wait_seconds", "lane"), "p99 {{lane}}"),
            ],
        ),
        (
            "Jobs accepted",
            "ops",
            [
                (_rate("headrace_accept_jobs_total", "model"), "{{model}}"),
                (_rate("headrace_batches_jobs_total"), "from batches"),
            ],
        ),
        (
            "Jobs ended",
            "ops",
            [
                (_rate("headrace_settle_jobs_total", "status"), "{{status}}"),
                (_rate("headrace_expire_jobs_total"), "expired"),
            ],
        ),
        ("Jobs refused", "ops", [(_rate("headrace_accept_refused_total", "code"), "{{code}}")]),
        (
            "Jobs by tenant",
            "ops",
            [(f"topk(10, {_rate('headrace_accept_tenant_jobs_total', 'tenant')})", "{{tenant}}")],
        ),
    ],
    "Headrace: workers": [
        ("Live workers", "short", [("max by (pool, state) (headrace_workers)", "{{pool}} {{state}}")]),
        (
            "Ready jobs that no worker serves",
            "short",
            [("max by (model, lane) (headrace_queue_unserved_jobs)", "{{model}} {{lane}}")],
        ),
        ("Devices at work", "short", [(_rate("headrace_infer_device_seconds_total", "model"), "{{model}}")]),
        (
            "Device share of the time in drains",
            "percentunit",
            [
                (
                    _ratio("headrace_infer_device_seconds_total", "headrace_drain_seconds_total"),
                    "{{model}}",
                )
            ],
        ),
        (
            "Jobs in a micro-batch",
            "short",
            [
                (
                    _ratio("headrace_batch_items_sum", "headrace_batch_items_count"),
                    "{{model}}",
                )
            ],
        ),
        (
            "Fill of a micro-batch",
            "percentunit",
            [
                (
                    _ratio("headrace_batch_fill_ratio_sum", "headrace_batch_fill_ratio_count"),
                    "{{model}}",
                )
            ],
        ),
        (
            "Padding waste",
            "percentunit",
            [
                (
                    "1 - " + _ratio(_UNITS % "asked", _UNITS % "padded"),
                    "{{model}}",
                )
            ],
        ),
        (
            "Time of a micro-batch",
            "s",
            [
                (_quantile(0.5, "headrace_infer_seconds", "model"), "p50 {{model}}"),
                (_quantile(0.99, "headrace_infer_seconds", "model"), "p99 {{model}}"),
            ],
        ),
        (
            "Claim and settle",
            "s",
            [
                (_quantile(0.99, "headrace_claim_seconds"), "claim p99"),
                (_quantile(0.99, "headrace_settle_seconds"), "settle p99"),
            ],
        ),
        ("Drains", "ops", [(_rate("headrace_drains_total", "ended"), "{{ended}}")]),
        ("Rescued jobs", "ops", [(_rate("headrace_rescue_jobs_total", "outcome"), "{{outcome}}")]),
        ("Workers that died", "ops", [(_rate("headrace_rescue_workers_total", "cause"), "{{cause}}")]),
    ],
    "Headrace: edge": [
        ("Requests", "reqps", [(_rate("headrace_http_requests_total", "status"), "{{status}}")]),
        (
            "Time to answer, p99",
            "s",
            [(_quantile(0.99, "headrace_http_request_seconds", "method", "route"), "{{method}} {{route}}")],
        ),
        ("Requests held open", "short", [("sum(headrace_http_waiting)", "waiting")]),
        ("Postgres and Redis", "short", [("min by (service) (headrace_service_up)", "{{service}}")]),
        ("Webhook tries", "ops", [(_rate("headrace_webhook_tries_total", "outcome"), "{{outcome}}")]),
        (
            "From the event to its delivery",
            "s",
            [
                (_quantile(0.5, "headrace_webhook_delay_seconds"), "p50"),
                (_quantile(0.99, "headrace_webhook_delay_seconds"), "p99"),
            ],
        ),
        ("Deliveries", "short", [("max by (place) (headrace_webhook_queue)", "{{place}}")]),
        ("Endpoints", "short", [("max by (status) (headrace_webhook_endpoints)", "{{status}}")]),
        ("Batches", "short", [("max by (status) (headrace_batches_open)", "{{status}}")]),
        (
            "Periodic services, p99",
            "s",
            [(_quantile(0.99, "headrace_scheduler_seconds", "service"), "{{service}}")],
        ),
        (
            "Age of the last round of a scheduler",
            "s",
            [("time() - max(headrace_scheduler_round_timestamp_seconds)", "age")],
        ),
    ],
}


def dashboard(title: str) -> dict[str, Any]:
    """One dashboard as Grafana imports it: two panels in a row."""
    uid = title.lower().replace(": ", "-")
    return {
        "uid": uid,
        "title": title,
        "tags": ["headrace"],
        "schemaVersion": 39,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "panels": [
            {
                "id": number + 1,
                "type": "timeseries",
                "title": name,
                "gridPos": {"x": 12 * (number % 2), "y": 8 * (number // 2), "w": 12, "h": 8},
                "datasource": {"type": "prometheus", "uid": "prometheus"},
                "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
                "targets": [
                    {"refId": chr(ord("A") + at), "expr": query, "legendFormat": legend}
                    for at, (query, legend) in enumerate(queries)
                ],
            }
            for number, (name, unit, queries) in enumerate(DASHBOARDS[title])
        ],
    }


def files() -> dict[Path, str]:
    """Every file with its text."""
    made = (dashboard(title) for title in DASHBOARDS)
    return {FOLDER / f"{one['uid']}.json": json.dumps(one, indent=2) + "\n" for one in made}


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text)
