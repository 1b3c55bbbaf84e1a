"""What a job costs: seconds by stage, memory, disk, and how fast this machine is."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from graft.core.stats.evaluation_size import SCORE_TO_TRAIN
from graft.core.store.artifact import Store
from graft.models.runtime.settle_precision import precision_of
from graft.planning.text import SourceForecast
from graft.training.settings import TrainingShape

# Rates of the stages around training, in bytes of text or tokens per second of one ordinary core.
READ_BYTES, CURATE_BYTES, ENCODE_BYTES = 20e6, 8e6, 4e6
SAMPLE_TO_TRAIN = 2.5  # a third of the arithmetic, but token by token: measured on 2 cores with the embedded base
# Speed of a training step against a small float32 matrix product, on 2 cores: in bf16 measured where the processor
# multiplies it (0.33 against 0.22 TFLOP/s), in fp32 a guess.
TRAIN_TO_PRODUCT = {"bf16": 1.4, "fp32": 0.5}
FP32_TO_BF16 = 3  # time of a product in fp32, in products in bf16 where the processor multiplies it
PROCESS_BYTES = 0.6e9  # Python, torch and transformers, before the first weight
EVIDENCE_BYTES = 11.0  # on disk, of a token that was scored


def until_tokens(sources: Mapping[str, SourceForecast], pace: float, done: Counter[str]) -> dict[str, float]:
    """Seconds of the stages before the first training. pace: tokens trained on per second; done: artifacts by kind."""
    text = sum(source.text_bytes for source in sources.values())
    seconds = {
        "docs": sum(_reading(source, pace) for source in list(sources.values())[done["docs"] :]),
        "corpus": text / CURATE_BYTES,
        "tokens": text / ENCODE_BYTES,
    }
    needed = {"docs": len(sources)}
    return {kind: value for kind, value in seconds.items() if done[kind] < needed.get(kind, 1)}


def _reading(source: SourceForecast, pace: float) -> float:
    """Seconds to get a source's documents."""
    return source.tokens / pace * SAMPLE_TO_TRAIN if source.sampled else source.text_bytes / READ_BYTES


def scoring(tokens: float, pace: float, precision: str, trained: str) -> float:
    """Seconds to score so many tokens. pace: tokens trained on per second, in the precision `trained`."""
    return tokens / pace * SCORE_TO_TRAIN * (FP32_TO_BF16 if (precision, trained) == ("fp32", "bf16") else 1)


def memory(num_parameters: int, shape: TrainingShape, size: Mapping[str, Any], *, num_teachers: int) -> float:
    """Weights, gradients and two AdamW moments in float32, frozen models, and the activations of one micro-batch.

    Activations per token and layer: 34 width + 5 heads * window bytes in 16 bits (Korthikanti et al. 2022, arXiv
    2205.05198, eq. 2), the attention matrix being kept.
    """
    width = size.get("hidden_size") or size.get("n_embd") or 1024
    layers = size.get("num_hidden_layers") or size.get("n_layer") or 12
    heads = size.get("num_attention_heads") or size.get("n_head") or 12
    tokens = shape.micro_rows * shape.window
    activations = tokens * layers * (34 * width + 5 * heads * shape.window)
    return PROCESS_BYTES + (16 + 4 * num_teachers) * num_parameters + activations


def disk(num_parameters: int, sources: Mapping[str, SourceForecast]) -> float:
    """Document tables twice (compressed to a third), tokens, a checkpoint of 12 bytes a weight, the model twice."""
    text = sum(source.text_bytes for source in sources.values())
    tokens = sum(source.tokens for source in sources.values())
    return 2 * text / 3 + 4 * tokens + 12 * num_parameters + 2 * 2 * num_parameters


def train_flops(store: Store, precision: str) -> float:
    """Floating-point operations per second of training: of the store's last run in this precision, else from products
    for 0.15 s."""
    runs = [one for one in store.artifacts() if one.kind == "train" and precision_of(one) == precision]
    if runs:
        return runs[-1].facts["tokens_per_second"] * 6 * runs[-1].facts["num_parameters"]
    left = np.ones((128, 128), np.float32)  # small: a large one would wait for cores that others use
    fastest, until = float("inf"), time.perf_counter() + 0.15
    while (started := time.perf_counter()) < until:
        np.matmul(left, left)
        fastest = min(fastest, time.perf_counter() - started)  # what the machine can do undisturbed
    return TRAIN_TO_PRODUCT[precision] * 2 * 128**3 / fastest
