"""A batch from its file to its files: validate, ingest, run, finalize."""

from app.db import conservation
from app.domain.ids import item_uuid
from tests.support.bulk import Bulk, line


def test_a_batch_runs_from_its_file_to_its_files_in_order(bulk: Bulk) -> None:
    batch_id = bulk.create(
        [line(n, {"n": n, "fail": n % 7 == 3}, retry={"max_attempts": 1}) for n in range(500)]
    )
    row = bulk.finish(batch_id)
    assert (row.status, row.total, row.ingested, row.invalid) == ("completed", 500, 500, 0)
    output, error = bulk.outputs(batch_id)
    wrong = [n for n in range(500) if n % 7 == 3]
    assert [one["custom_id"] for one in error] == [str(n) for n in wrong]
    assert [one["custom_id"] for one in output] == [str(n) for n in range(500) if n not in wrong]
    assert error[0]["error"] == {"code": "model_error", "message": "RuntimeError: asked to fail"}
    assert error[0]["response"] is None
    first = output[0]
    assert first["id"] == f"batch_req_{item_uuid(batch_id, 1).hex}"
    assert first["error"] is None
    assert first["response"]["status_code"] == 200
    body = first["response"]["body"]
    assert (body["object"], body["model"], body["version"], body["status"]) == (
        "job",
        "echo",
        "1",
        "succeeded",
    )
    assert body["output"] == {"n": 0, "fail": False}
    assert body["created_at"].endswith("Z")
    assert bulk.counts(batch_id) == {
        "succeeded": 500 - len(wrong),
        "failed": len(wrong),
        "canceled": 0,
        "expired": 0,
    }
    assert not conservation.check(bulk.queue.engine).violations
    assert not bulk.queue.execute("SELECT FROM batch_work")
