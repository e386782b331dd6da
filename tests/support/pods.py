"""A small Kubernetes API server, over real HTTP: lists pods by label, patches annotations, deletes pods."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class Cluster:
    """Pods by name, and who may ask."""

    def __init__(self, token: str) -> None:
        self.pods: dict[str, dict[str, Any]] = {}
        self.token = token
        self.patches = 0

    def pod(self, name: str, pool: str, phase: str = "Running") -> None:
        self.pods[name] = {
            "metadata": {"name": name, "labels": {"headrace.dev/pool": pool}},
            "status": {"phase": phase},
        }

    def cost(self, name: str) -> str | None:
        annotations: dict[str, str] = self.pods[name]["metadata"].get("annotations", {})
        return annotations.get("controller.kubernetes.io/pod-deletion-cost")


@contextlib.contextmanager
def serve(cluster: Cluster) -> Iterator[str]:
    """The URL of a server of this cluster."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            label, _, value = parse_qs(urlsplit(self.path).query)["labelSelector"][0].partition("=")
            found = [pod for pod in cluster.pods.values() if pod["metadata"]["labels"].get(label) == value]
            self._answer(200, {"items": found})

        def do_PATCH(self) -> None:
            assert self.headers["Content-Type"] == "application/merge-patch+json"
            patch = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            pod = cluster.pods.get(urlsplit(self.path).path.rpartition("/")[2])
            if pod is None:
                self._answer(404, {"message": "not found"})
                return
            cluster.patches += 1
            pod["metadata"].setdefault("annotations", {}).update(patch["metadata"]["annotations"])
            self._answer(200, pod)

        def do_DELETE(self) -> None:
            gone = cluster.pods.pop(urlsplit(self.path).path.rpartition("/")[2], None)
            self._answer(200 if gone else 404, gone or {"message": "not found"})

        def _answer(self, status: int, body: dict[str, Any]) -> None:
            if self.headers["Authorization"] != f"Bearer {cluster.token}":
                status, body = 401, {"message": "who?"}
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
