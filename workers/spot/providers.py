"""Which provider the settings name."""

from app.settings import Settings
from workers.spot.aws import Aws
from workers.spot.azure import Azure
from workers.spot.gcp import Gcp
from workers.spot.local import Local
from workers.spot.metadata import Metadata
from workers.spot.notice import Provider


def choose(settings: Settings) -> Provider | None:
    """The provider, or None where nothing is to be listened for.

    Kubernetes is such a one: whatever takes a pod away (an eviction, a node that shuts down gracefully or is
    drained by its cloud's own handler) sends SIGTERM, and kills it after
    `terminationGracePeriodSeconds`, which `HEADRACE_WORKER_DRAIN_S` repeats.
    Source: Kubernetes documentation, "Pod Lifecycle", section "Termination of Pods".
    """
    spot = settings.spot
    metadata = Metadata(spot.metadata_url, spot.timeout_s)
    match spot.provider:
        case "aws":
            return Aws(metadata)
        case "gcp":
            return Gcp(metadata)
        case "azure":
            return Azure(metadata, acknowledge=spot.acknowledge)
        case "local":
            assert spot.local_file is not None
            return Local(spot.local_file, settings.worker.pool)
    return None
