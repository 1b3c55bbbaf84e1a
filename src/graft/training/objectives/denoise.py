"""Write the spans of text that were taken out of what is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graft.core.config.errors import UsageError
from graft.core.stats.tally import Tally
from graft.training.objectives.contract import Needs

if TYPE_CHECKING:
    from torch import Tensor

    from graft.models.forward.model import Model
    from graft.packing.batch import Batch
    from graft.training.contract import Start


@dataclass(frozen=True)
class Denoise:
    """Write the spans of text that were taken out of what is read: T5's span corruption.

    per written token: -log p(token), in nats: each span's sentinel, its tokens, and the end mark at the close (the next
    sentinel, where the tokenizer has no end mark). Source: Raffel et al. 2020 (arXiv 1910.10683, section 3.1.4), in the
    form of the released code (random_spans_noise_mask; see graft.packing.span_corruption). Every piece of a packed row
    is a text of its own: the encoder reads it without the marks around the document and with an end mark, so a piece of
    up to about 30 tokens has one span, at its end. Draws depend on (seed, row, piece). Weights of single tokens are not
    used; a piece in which nothing counts is left out, as is one of a single token.

    For models that read with one half and write with the other and know sentinels: the T5 family.
    Costs one forward and one backward pass over about 1.2 times the tokens that are written and read.
    """

    rate: float = 0.15  # share of the tokens that is hidden
    mean_span: float = 3.0  # tokens of a hidden span
    seed: int = 0

    def needs(self) -> Needs:
        return Needs(kinds=("encoder-decoder",))

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise UsageError(f"rate is {self.rate}", allowed="more than 0 and below 1")
        if self.mean_span < 1:
            raise UsageError(f"mean_span is {self.mean_span}", allowed="1 or more")

    def bind(self, start: Start, load: Callable[[str], Model]) -> Callable[[Model, Batch], Tally[Tensor]]:
        """Errors: UsageError where the tokenizer has no sentinels."""
        from graft.core.tokens.special_tokens import sentinel_ids
        from graft.models.forward.encoder_decoder import written_sums
        from graft.packing.span_corruption import Noise, halves_of

        sentinels, noise = sentinel_ids(start.base), Noise(self.rate, self.mean_span)

        def loss(model: Model, batch: Batch) -> Tally[Tensor]:
            return written_sums(model, halves_of(batch, noise, self.seed, sentinels, start.marks), len(batch))

        return loss
