"""Where the processes of one machine keep their metrics together. Imports no metrics: it must come first."""

import os
from pathlib import Path


def share_metrics(folder: Path) -> None:
    """Make this process and its children keep their metrics in `folder`, one file each.

    Only works before `app.observability.metrics` is imported: prometheus_client looks once.
    """
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
