"""Shows the metrics over HTTP where there is no API that does."""

import threading

from prometheus_client import start_http_server

from app.observability import metrics

RETRY_S = 1.0


def export(bind: str | None) -> None:
    """Answer scrapes at `bind`, in threads that end with the process. Nothing happens if it is None.

    The port of a predecessor that has just died may still be taken: it is tried until it is free.
    """
    if bind:
        threading.Thread(target=_serve, args=[bind], name="metrics", daemon=True).start()


def _serve(bind: str) -> None:
    host, _, port = bind.rpartition(":")
    free = threading.Event()
    while not free.is_set():
        try:
            start_http_server(int(port), host, metrics.all_processes())
        except OSError:
            free.wait(RETRY_S)
        else:
            free.set()
