"""The operations that a model needs for rows of tokens: what gpu.py compares with the peak.

Multiplications and additions, two for each weight and token (Kaplan et al. 2020, arXiv
2001.08361):

    forward   2 x (weights of the layers' matrices) x tokens + 2 x (weights of the output layer) x positions
              + 4 x layers x heads x head size x (pairs of a token and one that it attends to)

The attention term is that of PaLM's appendix B (Chowdhery et al. 2022, arXiv 2204.02311), with the pairs
that a causal mask leaves. Training a LoRA adds once the matrices (gradients of activations; frozen weights
need none) and twice the attention. The LoRA itself, norms, softmax, padding and anything computed again do
not count. The tokens that rows share count once where they are run once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from sapo.prompts.encoder import Encoded


@dataclass(frozen=True)
class Cost:
    """Operations of a forward pass: of the matrices, output layer included, and of attention."""

    matrices: float
    attention: float

    @property
    def training(self) -> float:
        return 2 * self.matrices + 3 * self.attention

    @property
    def forward(self) -> float:
        return self.matrices + self.attention


def cost(model: PreTrainedModel, rows: Sequence[Encoded], shared: int, every_logit: bool) -> Cost:
    """What the rows cost if their first `shared` tokens run once; logits of answers alone, or of all tokens.

    Not counted: an answer's last token, which predicts nothing, where logits are of answers alone.
    """
    config: Any = model.config
    lengths = [len(row.prompt) + len(row.answer) - (not every_logit) for row in rows]
    tokens = shared + sum(length - shared for length in lengths)
    positions = tokens if every_logit else sum(len(row.answer) for row in rows)
    pairs = triangle(shared) + sum(triangle(length) - triangle(shared) for length in lengths)
    head = model.get_output_embeddings().weight.numel()  # type: ignore[union-attr]
    linear = [m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear)]
    width = config.num_hidden_layers * config.num_attention_heads * config.head_dim
    return Cost(2 * (sum(linear) - head) * tokens + 2 * head * positions, 4 * width * pairs)


def triangle(length: int) -> int:
    """Pairs of a token and one that it attends to, itself or an earlier one."""
    return length * (length + 1) // 2
