"""Fill in words that were hidden."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from graft.core.config.errors import UsageError
from graft.core.config.settings import check_choices
from graft.core.stats.tally import Tally
from graft.training.objectives.contract import Needs

if TYPE_CHECKING:
    from torch import Tensor

    from graft.models.forward.model import Model
    from graft.packing.batch import Batch
    from graft.training.contract import Start


@dataclass(frozen=True)
class Masked:
    """Fill in words that were hidden: masked language modelling.

    per hidden token: -log p(the token that stood there), in nats; nothing else counts, the token after it included.
    Source: Devlin et al. 2019 (arXiv 1810.04805, section 3.1): 15 % are chosen; of these 80 % are read as the mask
    token, 10 % as a random word, 10 % as themselves. Whole rows are drawn from anew, a row of the run always alike;
    special tokens (marks, masks) are never hidden. Of E tokens that may be hidden exactly round(rate * E) are.

    words: "random"; or by what they say about the documents' labels (pointwise mutual information, see
    graft.core.tokens.pmi): the same number of tokens of every row, but those that say most ("informative") or least
    ("uninformative"), by lot among equals. Labels are those of training documents; after "How useful is CPT for
    generative UDA?" (arXiv 2401.17514), whose smoothing and whether words are ranked by row are not published.

    An encoder (BERT, RoBERTa, ModernBERT) sees both sides of a hidden word within its piece. A decoder that has a mask
    token can be trained too: it sees the left side only, and learns this at the cost of predicting the next token.
    Costs one forward and one backward pass.
    """

    rate: float = 0.15
    keep: float = 0.1  # of the hidden tokens: read as they are
    swap: float = 0.1  # of the hidden tokens: read as a random word
    words: Literal["random", "informative", "uninformative"] = "random"
    labels_of: str = ""  # the source whose labels may be looked at; nothing: the only one that has some
    prior: float = 1.0  # documents' worth of doubt in a token's information about labels
    seed: int = 0

    def needs(self) -> Needs:
        return Needs(kinds=("encoder", "decoder"))

    def __post_init__(self) -> None:
        check_choices(self)
        if not 0 < self.rate < 1:
            raise UsageError(f"rate is {self.rate}", allowed="more than 0 and below 1")
        if self.keep < 0 or self.swap < 0 or self.keep + self.swap > 1:
            raise UsageError(f"keep is {self.keep} and swap {self.swap}", allowed="shares that sum to at most 1")
        if self.prior <= 0:
            raise UsageError(f"prior is {self.prior}", allowed="more than 0")

    def bind(self, start: Start, load: Callable[[str], Model]) -> Callable[[Model, Batch], Tally[Tensor]]:
        """Reads the labels of the sources where words are chosen by them. Errors: UsageError without a mask token, or
        without labels."""
        import torch

        from graft.core.tokens.pmi import largest_pmi
        from graft.core.tokens.special_tokens import mask_id, special_ids
        from graft.models.losses.token_losses import weighted_sums
        from graft.packing.mask_tokens import Words

        names = start.tokenizer.get_vocab(with_added_tokens=True).values()
        vocabulary = max(*names, start.marks.start or 0, start.marks.end or 0) + 1
        score_V = None
        if self.words != "random":
            if self.labels_of and self.labels_of not in start.sources:
                raise UsageError(
                    f'labels_of names a source "{self.labels_of}" that is not there', allowed=", ".join(start.sources)
                )
            asked = [one for name, one in start.sources.items() if self.labels_of in ("", name)]
            labelled = [one for one in asked if (one.label_D >= 0).any()]
            if len(labelled) > 1:  # the labels of a target domain are sealed
                raise UsageError(
                    f"{len(labelled)} sources have labels, and labels_of does not say whose may be looked at",
                    allowed=", ".join(one.name for one in labelled),
                    do="name the labelled source: the other's labels then change nothing",
                )
            sign = 1 if self.words == "informative" else -1
            score_V = torch.from_numpy(sign * largest_pmi(labelled, vocabulary, self.prior))
        hidden = Words(
            rate=self.rate,
            keep=self.keep,
            swap=self.swap,
            seed=self.seed,
            mask=mask_id(start.base),
            special=special_ids(start.base),
            vocabulary=vocabulary,
            score_V=score_V,
        )

        def loss(model: Model, batch: Batch) -> Tally[Tensor]:
            read = hidden.hide(batch)
            sums = weighted_sums(model.hidden(read), model.head, read.targets_BT, read.weights_BT)
            return Tally(sums.total_B, read.weights_BT.sum(1))

        return loss
