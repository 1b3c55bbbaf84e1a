"""A Llama drawn from a seed, and rows packed with documents, for benchmarks that need no real text."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import transformers

from graft.core.process.precision import Computed
from graft.packing.batch import Batch

MEAN_LENGTH, SPREAD = 5.0, 0.9  # of the logarithm of a document's length: half of them are shorter than 150 tokens


@dataclass(frozen=True)
class Size:
    """A Llama with tied embeddings, and the batch of one step."""

    hidden: int
    layers: int
    heads: int
    wide: int  # of the MLP
    vocabulary: int
    rows: int = 16
    window: int = 512
    precision: Computed = "bf16"


SIZES = {"small": Size(256, 6, 4, 704, 8192), "medium": Size(512, 8, 8, 1408, 32000)}


def fresh_model(size: Size) -> transformers.LlamaForCausalLM:
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            hidden_size=size.hidden, num_hidden_layers=size.layers, num_attention_heads=size.heads,
            num_key_value_heads=size.heads, intermediate_size=size.wide, vocab_size=size.vocabulary,
            max_position_embeddings=size.window, tie_word_embeddings=True,
        )
    )  # fmt: skip


def batches_of(size: Size, num_batches: int) -> list[Batch]:
    """Documents of mixed lengths end to end, cut where a row ends; each token is likely to follow from the last."""
    generator = torch.Generator().manual_seed(1)
    num_tokens = num_batches * size.rows * size.window
    places: list[int] = []
    while len(places) < num_tokens:
        length = int((MEAN_LENGTH + SPREAD * torch.randn((), generator=generator)).exp().clamp(8, 4 * size.window))
        while length > 0:
            piece = min(length, size.window - len(places) % size.window)
            places.extend(range(piece))
            length -= piece
    step = torch.randint(1, 9, (num_tokens + 1,), generator=generator)
    tokens = step.cumsum(0) * 31 % size.vocabulary
    shape = (num_batches, size.rows, size.window)
    position = torch.tensor(places[:num_tokens]).view(shape)
    weights_BT, source_B = torch.ones(shape[1:]), torch.zeros(size.rows, dtype=torch.long)
    whole = zip(tokens[:-1].view(shape), tokens[1:].view(shape), position, strict=True)
    return [Batch(read, target, weights_BT, place, source_B) for read, target, place in whole]


class Rows:
    """Batches made beforehand, in the place of a sampler; one process reads all of each."""

    names = ("documents",)

    def __init__(self, batches: list[Batch]) -> None:
        self.batches, self.rows = batches, len(batches[0])

    def batch(self, k: int, rank: int = 0, ranks: int = 1) -> Batch:
        assert (rank, ranks) == (0, 1)
        return self.batches[k]
