"""initialize: a new, untrained base: a byte-level BPE trained on the text, and random weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq

from graft.core.config.errors import UsageError
from graft.core.config.settings import check_choices
from graft.core.store.artifact import Artifact, Draft, Store

END, PAD, MASK = "<|endoftext|>", "<|pad|>", "<|mask|>"
SENTINELS = 100  # of an encoder-decoder's tokenizer, as T5 has
MERGES_FROM = 300  # tokens below which hardly a merge is left: 256 bytes and marks


@dataclass(frozen=True)
class Initialize:
    """A small model with tied embeddings, stored in bfloat16.

    Tokenizer: byte-level BPE, every digit its own token, trained on `tokenizer_bytes` of each source's training text,
    with marks for the end of a document, for filling and for hidden words; of a t5 also 100 sentinels.
    Architecture: "llama" predicts the next word, "bert" fills in hidden ones (objective masked), "t5" (version 1.1:
    gated feed-forward; relative positions) writes hidden spans (objective denoise). Of a t5 either half has `layers`.
    Weights: normal with standard deviation `spread`, as transformers initialises the type; a t5's spreads differ by
    matrix, and all are in proportion to `spread`, their own at 0.02. No dropout: no text is read often enough here.
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
    architecture: Literal["llama", "bert", "t5"] = "llama"

    def __post_init__(self) -> None:
        check_choices(self)
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise UsageError(f"width {self.width} over {self.heads} heads", allowed="an even whole number per head")
        least = MERGES_FROM + (SENTINELS if self.architecture == "t5" else 0)
        if self.vocabulary < least:
            raise UsageError(
                f"vocabulary is {self.vocabulary}", allowed=f"{least} or more: 256 bytes, marks and merges"
            )

    @property
    def num_parameters(self) -> int:
        """Embeddings count once; a layer has four matrices of attention and two or three of feed-forward."""
        w, f, v = self.width, self.feed_forward, self.vocabulary
        if self.architecture == "bert":  # with biases everywhere, two norms a layer, and a head of one more layer
            layer = 4 * (w**2 + w) + (2 * w * f + f + w) + 4 * w
            return v * w + self.window * w + 2 * w + 2 * w + self.layers * layer + (w**2 + w + 2 * w) + v
        if self.architecture == "t5":  # the decoder attends twice; each half has a norm at the end, and 32 distances
            reads, writes = (attentions * (4 * w**2 + w) + 3 * w * f + w for attentions in (1, 2))
            return v * w + self.layers * (reads + writes) + 2 * w + 2 * 32 * self.heads
        return v * w + self.layers * (4 * w**2 + 3 * w * f + 2 * w) + w


def initialize(corpus: Artifact, settings: Initialize = Initialize(), *, store: Store) -> Artifact:
    """Kind "base": `model/` in Hugging Face form, with a tokenizer that has read the corpus's training split."""
    return store.make("base", settings, {"corpus": corpus}, __name__, lambda draft: _build(draft, corpus, settings))


def _build(draft: Draft, corpus: Artifact, settings: Initialize) -> None:
    import torch

    from graft.models.runtime.quiet import quiet

    folder = draft / "model"
    folder.mkdir(exist_ok=True)
    _train_tokenizer(folder, corpus, settings)
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        model: Any = _untrained(settings)
    with quiet():
        model.to(torch.bfloat16).save_pretrained(folder)
    draft.facts |= {"num_parameters": sum(p.numel() for p in model.parameters())}


def _untrained(settings: Initialize) -> Any:
    import transformers

    shared: dict[str, Any] = {
        "vocab_size": settings.vocabulary,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": 0,
        "pad_token_id": 1,
        "dtype": "bfloat16",
    }
    if settings.architecture == "t5":
        shared |= {"n_positions": settings.window, "decoder_start_token_id": 1}
        config = transformers.T5Config(
            d_model=settings.width,
            d_kv=settings.width // settings.heads,
            d_ff=settings.feed_forward,
            num_layers=settings.layers,
            num_heads=settings.heads,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
            initializer_factor=settings.spread / 0.02,
            **shared,
        )
        return transformers.T5ForConditionalGeneration(config)
    sizes: dict[str, Any] = {
        "hidden_size": settings.width,
        "intermediate_size": settings.feed_forward,
        "num_hidden_layers": settings.layers,
        "num_attention_heads": settings.heads,
        "max_position_embeddings": settings.window,
        "initializer_range": settings.spread,
    }
    if settings.architecture == "bert":
        rates: dict[str, Any] = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        return transformers.BertForMaskedLM(transformers.BertConfig(**sizes, **rates, **shared))
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            **sizes,
            num_key_value_heads=settings.heads,
            head_dim=settings.width // settings.heads,
            **shared,
        )
    )


def _train_tokenizer(folder: Path, corpus: Artifact, settings: Initialize) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    of_t5 = settings.architecture == "t5"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocabulary,
        special_tokens=[END, PAD, MASK, *(f"<extra_id_{i}>" for i in range(SENTINELS if of_t5 else 0))],
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
    (folder / "tokenizer_config.json").write_text(json.dumps(notes, indent=1), encoding="utf-8")


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
