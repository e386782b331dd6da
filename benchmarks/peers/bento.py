"""BentoML: two workers, its adaptive batching up to 32."""

import bentoml

from benchmarks.peers.model import Encoder


@bentoml.service(workers=2, traffic={"timeout": 120})
class Embed:
    """Batches are formed by BentoML's dispatcher."""

    def __init__(self) -> None:
        self.encoder = Encoder()

    @bentoml.api(batchable=True, max_batch_size=32, max_latency_ms=60_000)
    def embed(self, text: list[str]) -> list[list[float]]:
        return self.encoder.encode(text)
