"""LitServe: two workers, batches of up to 32 within 10 ms."""

import os

import litserve

from benchmarks.peers.model import Encoder


class Api(litserve.LitAPI):
    """Batches are formed by LitServe: first come, first served."""

    def setup(self, device: str) -> None:  # noqa: ARG002
        self.encoder = Encoder()

    def decode_request(self, request: dict) -> str:
        return request["text"]

    def predict(self, texts: list[str]) -> list[list[float]]:
        return self.encoder.encode(texts)

    def encode_response(self, output: list[float]) -> dict:
        return {"embedding": output}


if __name__ == "__main__":
    server = litserve.LitServer(
        Api(max_batch_size=32, batch_timeout=0.01), accelerator="cpu", workers_per_device=2
    )
    server.run(
        host="127.0.0.1",
        port=int(os.environ["BENCHMARK_PORT"]),
        generate_client_file=False,
        log_level="error",
    )
