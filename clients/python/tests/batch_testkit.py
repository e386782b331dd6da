"""Files and batches of the contract in small: lines are run at once, by `echo`, when looked after."""

import hashlib
import json
import re
from email.parser import BytesParser
from email.policy import HTTP

from client_testkit import Reply, page, problem

NOON = 1_769_860_800
COUNTS = ("queued", "running", "succeeded", "errored", "canceled", "expired")


def batch(status="validating", **changes):
    """A batch as the contract shows it."""
    counts = dict.fromkeys(COUNTS, 0) | changes.pop("counts", {})
    total, failed = sum(counts.values()), counts["errored"] + counts["canceled"] + counts["expired"]
    ended = status in ("completed", "failed", "expired", "cancelled")
    done = counts["succeeded"] + failed
    fraction = 1.0 if ended else done / (total or 1)
    times = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
    return {
        "id": "batch_0190a0000000700080000000000000aa",
        "object": "batch",
        "endpoint": "/v1/jobs",
        "errors": None,
        "input_file_id": "file_1",
        "completion_window": "24h",
        "status": status,
        "output_file_id": None,
        "error_file_id": None,
        "created_at": NOON,
        **{f"{name}_at": NOON + 60 if name == status else None for name in times},
        "expires_at": NOON + 86_400,
        "request_counts": {"total": total, "completed": counts["succeeded"], "failed": failed},
        "counts": counts,
        "progress": {"fraction": fraction, "rate_per_s": None, "eta_s": None},
        "metadata": {},
        "on_invalid": "fail",
        "invalid": 0,
        "dry_run": False,
        "estimate": None,
        "retry_of": None,
        "urls": {},
    } | changes


def bad(line, code="invalid_json_line", message="is not JSON", **more):
    """What is wrong with a line."""
    return {"line": line, "code": code, "message": message, "param": None} | more


def errors(*found):
    return {"object": "list", "data": list(found)}


def result(custom_id, output=None, error=None, number=1):
    """A line of the results as the contract shows it."""
    body = {"id": f"job_{number:032x}", "object": "job", "status": "succeeded", "output": output}
    response = {"status_code": 200, "request_id": "req_7", "body": body}
    return {
        "id": None if error and "line" in error else f"batch_req_{number:032x}",
        "custom_id": custom_id,
        "response": None if error else response,
        "error": error,
    }


def jsonl(values):
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def read_form(request):
    """The fields of a form, its file's bytes and name under `file` and `filename`."""
    head = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode()
    fields = {}
    for part in BytesParser(policy=HTTP).parsebytes(head + request.body).iter_parts():
        name = part.get_param("name", header="Content-Disposition")
        fields[name] = part.get_payload(decode=True)
        if name == "file":
            fields["filename"] = part.get_filename()
    return fields


def content_reply(content, request):
    """All of it or one range, as the server sends it."""
    headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "Content-Type": "application/octet-stream"}
    asked = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
    if asked is None:
        return Reply(body=content, headers=headers)
    start = int(asked[1])
    headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
    return Reply(206, content[start:], headers)


class FakeBatches:
    """A batch of valid lines has ended when it is first asked after. `uploads` counts the files that came."""

    def __init__(self):
        self.files = {}
        self.batches = {}
        self.uploads = 0
        self._contents = {}
        self._results = {}
        self._by_key = {}
        self._sent_by_key = {}

    def __call__(self, request):
        match [request.method, *request.path.strip("/").split("/")[1:]]:
            case ["POST", "files"]:
                return self._upload(request)
            case ["GET", "files"]:
                return self._page(self.files, request.query)
            case ["GET", "files", found] if found in self.files:
                return Reply(body=self.files[found])
            case ["GET", "files", found, "content"] if found in self.files:
                return content_reply(self._contents[found], request)
            case ["DELETE", "files", found] if found in self.files:
                del self.files[found]
                return Reply(body={"id": found, "object": "file", "deleted": True})
            case ["POST", "batches"]:
                return self._once(request, lambda: self._create(request.json))
            case ["GET", "batches"]:
                return self._page(self.batches, request.query)
            case [method, "batches", found, *action] if found in self.batches:
                return self._act(method, self.batches[found], action)
            case _:
                return problem(404, "not_found", "there is no such thing")

    def store(self, content, filename="f.jsonl", purpose="batch"):
        """Keep a file."""
        number = len(self._contents) + 1
        made = {
            "id": f"file_{number:032x}",
            "object": "file",
            "bytes": len(content),
            "created_at": NOON,
            "expires_at": None,
            "filename": filename,
            "purpose": purpose,
            "status": "processed",
            "status_details": None,
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        self.files[made["id"]] = made
        self._contents[made["id"]] = content
        return made

    def _upload(self, request):
        def make():
            self.uploads += 1
            form = read_form(request)
            made = self.store(form["file"], form["filename"], form["purpose"].decode())
            if seconds := form.get("expires_after[seconds]"):
                made["expires_at"] = NOON + int(seconds)
            return dict(made)

        reply = self._once(request, make)
        form = read_form(request)
        sent = (form["file"], form["filename"], form["purpose"])
        if self._sent_by_key.setdefault(request.headers["Idempotency-Key"], sent) != sent:
            return problem(422, "idempotency_key_reused", "this Idempotency-Key was used with another body")
        if reply.body.get("id") not in self.files:
            return problem(409, "file_gone", "the file was deleted")
        return reply

    def _once(self, request, make):
        key = (request.path, request.headers["Idempotency-Key"])
        replayed = key in self._by_key
        if not replayed:
            self._by_key[key] = make()
        if isinstance(self._by_key[key], Reply):
            return self._by_key.pop(key)
        return Reply(body=self._by_key[key], headers={"Idempotent-Replayed": "true"} if replayed else {})

    def _create(self, wanted):
        lines = wanted.get("requests")
        if lines is None:
            if wanted["input_file_id"] not in self.files:
                return problem(404, "file_not_found", "there is no such file")
            lines = self._contents[wanted["input_file_id"]].splitlines()
        made = batch(
            id=f"batch_{len(self.batches) + 1:032x}",
            metadata=wanted.get("metadata", {}),
            endpoint=wanted["endpoint"],
            input_file_id=wanted.get("input_file_id"),
            on_invalid=wanted.get("on_invalid", "fail"),
            dry_run=wanted.get("dry_run", False),
        )
        self.batches[made["id"]] = made
        self._results[made["id"]] = [_run(number, line) for number, line in enumerate(lines, 1)]
        return dict(made)

    def _act(self, method, found, action):
        if action == ["cancel"] and found["status"] == "validating":
            found |= batch("cancelled", id=found["id"])
        if action == ["retry"]:
            again = [one["custom_id"] for one in self._results[found["id"]] if one["error"]]
            requests = [{"custom_id": name, "body": {"model": "echo", "input": {}}} for name in again]
            made = self._create({"requests": requests, "endpoint": "/v1/jobs"})
            self.batches[made["id"]]["retry_of"] = found["id"]
            return Reply(body=made | {"retry_of": found["id"]})
        if method == "GET" and found["status"] == "validating":
            self._end(found)
        if action == ["results"]:
            shown = [] if found["status"] == "failed" else self._results[found["id"]]
            return Reply(body=jsonl(shown), headers={"Content-Type": "application/x-ndjson"})
        return Reply(body=found)

    def _end(self, found):
        results = self._results[found["id"]]
        wrong = [one for one in results if "line" in (one["error"] or {})]
        good, not_good = (
            [one for one in results if bool(one["error"]) is failed] for failed in (False, True)
        )
        kept = {name: found[name] for name in ("id", "metadata", "endpoint", "input_file_id", "retry_of")}
        kept |= {"on_invalid": found["on_invalid"], "dry_run": found["dry_run"], "invalid": len(wrong)}
        if wrong:
            kept["errors"] = errors(*(one["error"] for one in wrong))
        if not_good:
            kept["error_file_id"] = self.store(jsonl(not_good), "errors.jsonl", "batch_output")["id"]
        if wrong and found["on_invalid"] == "fail" and not found["dry_run"]:
            found |= batch("failed", **kept)
            return
        counts = {"succeeded": len(good), "errored": len(not_good) - len(wrong)}
        if found["dry_run"]:
            valid = len(results) - len(wrong)
            models = {"echo": valid}
            estimate = {"valid": valid, "invalid": len(wrong), "models": models, "seconds": 1.5}
            found |= batch("completed", **kept | {"estimate": estimate})
            return
        if good:
            kept["output_file_id"] = self.store(jsonl(good), "output.jsonl", "batch_output")["id"]
        found |= batch("completed", counts=counts, **kept)

    def _page(self, things, query):
        names = list(reversed(things))
        if after := query.get("after"):
            names = names[names.index(after) + 1 :]
        limit = int(query["limit"])
        shown = page([things[name] for name in names[:limit]])
        return Reply(body=shown | {"has_more": len(names) > limit})


def _run(number, line):
    try:
        asked = json.loads(line) if isinstance(line, bytes) else line
        value = asked["body"]["input"]
    except (ValueError, KeyError, TypeError):
        return result(None, error=bad(number))
    if isinstance(value, dict) and value.get("fail"):
        return result(asked["custom_id"], None, {"code": "model_error", "message": "as asked"}, number)
    return result(asked["custom_id"], value, number=number)
