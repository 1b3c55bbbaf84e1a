"""initialize: a new, untrained base: a byte-level BPE trained on the text, and random weights."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from graft.core.artifact import Artifact, Draft, Store
from graft.core.errors import UsageError

END, PAD, MASK = "<|endoftext|>", "<|pad|>", "<|mask|>"


@dataclass(frozen=True)
class Initialize:
    """A Llama-type model with tied embeddings, stored in bfloat16.

    Tokenizer: byte-level BPE, every digit its own token, trained on `tokenizer_bytes` of each source's training text.
    Weights: normal with standard deviation `spread`, as transformers initialises the type.
    """

    vocabulary: int = 8192
    width: int = 192
    layers: int = 4
    heads: int = 6
    feed_forward: int = 512
    window: int = 512
    spread: float = 0.02
    tokenizer_bytes: int = 8_000_000  # of each source
    seed: int = 0

    def __post_init__(self) -> None:
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise UsageError(f"width {self.width} over {self.heads} heads", allowed="an even whole number per head")
        if self.vocabulary < 300:
            raise UsageError(f"vocabulary is {self.vocabulary}", allowed="300 or more: 256 bytes, marks and merges")

    @property
    def num_parameters(self) -> int:
        """Of a Llama-type network with tied embeddings: per layer four attention and three feed-forward matrices."""
        layer = 4 * self.width**2 + 3 * self.width * self.feed_forward + 2 * self.width
        return self.vocabulary * self.width + self.layers * layer + self.width


def initialize(corpus: Artifact, settings: Initialize = Initialize(), *, store: Store) -> Artifact:
    """Kind "base": `model/` in Hugging Face form, with a tokenizer that has read the corpus's training split."""
    return store.make(
        "base", settings, {"corpus": corpus}, (sys.modules[__name__],), lambda draft: _build(draft, corpus, settings)
    )


def _build(draft: Draft, corpus: Artifact, settings: Initialize) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from graft.tensors.weights import quiet

    folder = draft / "model"
    folder.mkdir(exist_ok=True)
    _train_tokenizer(folder, corpus, settings)
    config = LlamaConfig(
        vocab_size=settings.vocabulary,
        hidden_size=settings.width,
        intermediate_size=settings.feed_forward,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        head_dim=settings.width // settings.heads,
        max_position_embeddings=settings.window,
        tie_word_embeddings=True,
        initializer_range=settings.spread,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=1,
        dtype="bfloat16",
    )
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        model: Any = LlamaForCausalLM(config)
    with quiet():
        model.to(torch.bfloat16).save_pretrained(folder)
    draft.facts |= {"num_parameters": sum(p.numel() for p in model.parameters())}


def _train_tokenizer(folder: Path, corpus: Artifact, settings: Initialize) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocabulary,
        special_tokens=[END, PAD, MASK],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(corpus, settings.tokenizer_bytes), trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    notes = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "pad_token": PAD,
        "mask_token": MASK,
        "clean_up_tokenization_spaces": False,
        "model_max_length": settings.window,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(notes, indent=1))


def _texts(corpus: Artifact, limit: int):
    """Training documents of every source, in order, up to `limit` bytes of each."""
    for source in corpus.facts["sources"]:
        left = limit
        for batch in pq.ParquetFile(corpus / f"{source}.parquet").iter_batches(
            batch_size=256, columns=["text", "split", "dropped", "num_bytes"]
        ):
            for row in batch.to_pylist():
                if row["split"] == "train" and not row["dropped"] and left > 0:
                    left -= row["num_bytes"]
                    yield row["text"]
