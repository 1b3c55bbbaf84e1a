"""A language model of transformers, reduced to what training and scoring need: hidden states and a head."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.utils.import_utils import is_flash_attn_2_available

from graft.core.models.architectures import Kind
from graft.core.process.precision import Computed
from graft.models.forward.attention import NAME, register
from graft.models.forward.lengths import body_of, forget_lengths, longest_text, rope_switch
from graft.models.losses.head import Head, Projection
from graft.models.losses.last_layer import LastLayer
from graft.models.runtime.numeric_faults import within_tables
from graft.models.runtime.parallel import root_of, split
from graft.packing.batch import Batch

# Where transformers' families keep the arithmetic between the head's matrix and the logits.
SOFT_CAPS = ("final_logit_softcapping", "logits_soft_cap")
SCALES = ("logit_scale", "lm_head_multiplier")
DIVISORS = ("logits_scaling",)


class TargetScores(NamedTuple):
    """What a model makes of the targets of packed rows."""

    nats_BT: Tensor  # float32; 0 where nothing was asked
    asked_BT: Tensor  # bool: the target was predicted; of fillers and, but for decoders, of marks it is not
    best_BT: Tensor  # bool: and no token was likelier


class Reading(Protocol):
    """How a kind of model reads packed rows and is asked for their targets."""

    @property
    def kind(self) -> Kind: ...

    @property
    def ahead(self) -> int:
        """Tokens of a piece beyond its pairs that are read when it is scored."""
        ...

    @property
    def measure(self) -> str:
        """What the nats of `scores` are, where they are not those of the next token."""
        ...

    def hidden(self, model: Model, batch: Batch) -> Tensor:
        """hidden_BTD: what the head projects."""
        ...

    def scores(self, model: Model, batch: Batch, sample: bool) -> TargetScores:
        """No gradients. sample: a fixed part of the targets is enough, where asking for all takes several passes."""
        ...

    def logits(self, model: Model, tokens_PT: Tensor) -> Tensor:
        """logits_PTV by the model's own forward, for comparing two copies of it."""
        ...


class Adapter(Protocol):
    """What a tuning put in beside the weights."""

    def save(self, folder: Path) -> None:
        """Write it in PEFT's own form."""
        ...

    def merge(self) -> None:
        """Put its product into the weights, and take it out."""
        ...


class Model:
    """Packed rows in, final hidden states out; the head beside it, so that nobody has to make logits.

    Parameters keep the type they were loaded in (float32 unless asked otherwise); with precision "bf16" the matrix
    products run in bfloat16 under autocast. Attention never crosses from a piece into another one. In decoders it is
    causal, and positions tell transformers where pieces begin; models that cannot be told (recurrent ones, ALiBi) run
    each piece as a row of its own, which `verify` finds out when a model is opened
    (graft.models.files.weights.open_model), whoever opens it. `reading` knows what other kinds do.
    """

    def __init__(
        self,
        hf: PreTrainedModel,
        *,
        precision: Computed = "bf16",
        attention: str = "auto",
        reading: Reading,
    ) -> None:
        """attention: a name transformers knows, "graft_pieces" (ours), or "auto": the fastest that will do."""
        register()
        self.hf = hf
        self.root = root_of(hf)
        self.reading = reading
        self.precision: Computed = precision
        self.fast = self.device.type == "cpu"  # norms and gated MLPs with our backward, where they are Llama's
        self.packs = True  # False: every piece runs as a row of its own
        self.packs_to: int | None = None  # rows longer than this never hold several pieces
        self.fills = True  # False: no such row is filled up, so that only pieces of one length run together
        self.unseen: list[int] = []  # lengths at which it may change, and which `verify` has not looked beyond
        self.look_further: Callable[[Model, int], None] | None = None  # looks at lengths in `unseen` up to a width
        self.own_head = False  # True: logits come from the model's own forward
        self.notes: list[str] = []  # what its user should know of it: slow ways taken, weights not used
        self.penalties: list[Callable[[], Tensor]] = []  # put in by tunings; see `penalty`
        self.adapter: Adapter | None = None  # put in by tunings, and taken out again by their `fold`
        self.seed = 0  # of what tunings draw: the train stage sets the run's
        self.hf.set_attn_implementation(self._attention(attention))
        self.longest, self.rope = longest_text(hf), rope_switch(hf)  # see graft.models.forward.lengths
        forget_lengths(hf)

    def split(self) -> Self:
        """Its weights split over the ranks that work together, each on the device of its rank; as it is for one."""
        if split(self.hf):
            self.root = root_of(self.hf)
            self.fast = self.device.type == "cpu"
            self.hf.set_attn_implementation(self._attention("auto"))
        return self

    @property
    def body(self) -> nn.Module:
        """Embedding and blocks up to the final norm."""
        return body_of(self.hf)

    @property
    def device(self) -> torch.device:
        return self.hf.device

    def parameters(self) -> Iterator[nn.Parameter]:
        """What trains; a tied weight once."""
        return (parameter for parameter in self.hf.parameters() if parameter.requires_grad)

    def penalty(self) -> Tensor | float:
        """What tunings ask for beside the objective, in nats per counted target; 0.0 where none asks."""
        return sum((one() for one in self.penalties), 0.0)

    def hidden(self, batch: Batch) -> Tensor:
        """hidden_BTD: what the head projects, in decoders after the final norm.

        Errors: UsageError where this kind of model has none.
        """
        with self._tables(batch.tokens_BT):
            return self.root.within(self.reading.hidden, self, batch)

    def scores(self, batch: Batch, *, sample: bool = False) -> TargetScores:
        """What it makes of the targets of packed rows, asked as its kind can be (see `reading`); no gradients."""
        with self._tables(batch.tokens_BT):
            return self.root.within(self.reading.scores, self, batch, sample)

    def logits(self, tokens_PT: Tensor) -> Tensor:
        """logits_PTV of whole texts by the model's own forward, for comparing two copies of it."""
        with self._tables(tokens_PT):
            return self.root.within(self.reading.logits, self, tokens_PT)

    def _tables(self, tokens_BT: Tensor) -> AbstractContextManager[None]:
        return within_tables(self.hf.config.model_type, tokens_BT.shape[1], self.longest)

    def autocast(self) -> torch.autocast:
        """The context under which the body runs."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    @property
    def flash(self) -> bool:
        return str(self.hf.config._attn_implementation).startswith("flash_attention")

    def slow_down(self) -> None:
        """transformers' own blocks from now on."""
        self.fast = False
        if self.hf.config._attn_implementation == NAME:
            self.hf.set_attn_implementation("sdpa")

    @property
    def head(self) -> Projection:
        """Read off the model anew each time: tunings and merges replace weights."""
        head = read_head(self.hf, self.precision)
        if isinstance(head, Head) and not self.own_head:
            return head
        if self.reading.kind == "decoder":
            return OwnHead(self.hf)
        embedding, layer = self.hf.get_input_embeddings(), self.hf.get_output_embeddings()
        assert isinstance(layer, nn.Module)
        return LastLayer(layer, embedding.weight.shape[0])  # type: ignore[union-attr, arg-type]

    def _attention(self, name: str) -> str:
        """The implementation to use; "auto" picks by device and by what the model supports."""
        if name != "auto":
            return name
        if self.reading.kind != "decoder":
            return "sdpa" if self.hf._supports_sdpa else "eager"
        flash = self.precision == "bf16" and is_flash_attn_2_available()  # it computes in 16 bits only
        if self.device.type == "cuda" and flash and self.hf._supports_flash_attn:
            return "flash_attention_2"
        if not self.hf._supports_sdpa:
            return "eager"
        chunks = getattr(self.hf.config, "attention_chunk_size", None)
        return NAME if self.device.type == "cpu" and self.hf._supports_attention_backend and not chunks else "sdpa"


def read_head(hf: PreTrainedModel, precision: Computed) -> Projection:
    """The head as a formula where its matrix is a plain linear layer, else as the model computes it."""
    matrix = hf.get_output_embeddings()
    if type(matrix) is not nn.Linear:
        return OwnHead(hf)
    config = hf.config.get_text_config()
    caps, scales, divisors = (
        [value for name in names if isinstance(value := getattr(config, name, None), int | float)]
        for names in (SOFT_CAPS, SCALES, DIVISORS)
    )
    scale = 1.0
    for value in scales:
        scale *= value
    for value in divisors:
        scale /= value
    compute = torch.bfloat16 if precision == "bf16" else None
    return Head(matrix.weight, matrix.bias, scale, caps[0] if caps else None, compute)


@dataclass
class _Given(BaseModelOutputWithPast):
    """Hidden states and nothing else, whatever else a family's forward asks its body for."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


class OwnHead:
    """hidden -> logits by the model's own forward, for arithmetic that no field of the configuration names.

    For the length of the call the body of this one model returns the hidden states it is given.
    """

    _lock = threading.RLock()

    def __init__(self, hf: PreTrainedModel) -> None:
        self.hf = hf

    @property
    def vocabulary(self) -> int:
        return self.hf.get_input_embeddings().weight.shape[0]  # type: ignore[union-attr, return-value]

    def logits(self, hidden_ND: Tensor) -> Tensor:
        hidden_1ND = hidden_ND.unsqueeze(0).to(self.hf.dtype)
        given = _Given(last_hidden_state=hidden_1ND)  # type: ignore[arg-type]
        tokens_1N = torch.zeros(1, len(hidden_ND), dtype=torch.long, device=hidden_ND.device)
        body = body_of(self.hf)
        with self._lock:
            body.forward = lambda *_, **__: given  # an attribute of this instance, in front of its class's method
            try:
                logits_1NV = self.hf(input_ids=tokens_1N, use_cache=False).logits
            finally:
                del body.forward
        return logits_1NV[0].float() if logits_1NV.dtype != torch.float64 else logits_1NV[0]
