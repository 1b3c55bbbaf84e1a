"""Is what we compute what the model computes? Asked once per model, when it is opened, on a few hundred tokens."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from graft.core.config.errors import FaultError, UsageError
from graft.core.models.architectures import Kind
from graft.core.models.base_model import Base
from graft.core.tokens.token_shards import TokenSource
from graft.models.checks.probe_texts import longest, reads_at_most, row, texts_of
from graft.models.forward.encoder_decoder import EncoderDecoder
from graft.models.forward.lengths import switches
from graft.models.forward.model import Model, OwnHead
from graft.models.losses.head import Projection
from graft.models.losses.token_losses import score
from graft.models.runtime.numeric_faults import FORWARD, in_words, is_memory
from graft.models.runtime.parallel import ranks
from graft.packing.batch import Batch
from graft.packing.span_corruption import Corrupted, stack

NUM_TOKENS = 224
SHARES = (0.3, 0.1, 0.4, 0.02, 0.18)  # of these tokens in each text: no two of them have one length
# Small logits hide a soft cap: at 0.5 a cap of 30 changes 0.00005 nats. Louder hidden states show it.
LOUDER = 16.0
BEYOND = 9  # tokens by which a text goes beyond a length at which the model may change
AT_ONCE = 5e10  # parameters times tokens that are looked at when a model is opened, and not when it is first needed

Check = Callable[[Model, list[Tensor], float], None]


@torch.no_grad()
def verify(model: Model, batch: Batch | None = None) -> None:
    """Compares what we run with what transformers would: blocks, texts in company and alone, losses.

    Texts have unequal lengths, some beyond every length at which the configuration says that the model changes; where
    that is dear, a decoder is asked when rows that long first come (see `look_further`). batch: where their tokens
    are taken from; else they are drawn. Runs in the weights' own type (flash attention: in bfloat16) and with
    dropout off. Where they disagree, it falls back to the slow way (transformers' own blocks; pieces as rows of their
    own, of one length if it must be; the model's own logits) and says so in its notes. Errors: UsageError when a
    decoder's token changes what was made of those before it; FaultError when not even the slow way gives the model's
    own losses.
    """
    total = NUM_TOKENS if batch is None else min(NUM_TOKENS, batch.tokens_BT.shape[1])
    limit = reads_at_most(model)
    if limit is not None:
        total = min(total, int((limit - model.reading.ahead) / max(SHARES)))
    lengths = [max(1, int(total * share)) for share in SHARES]
    steps = [step for step in switches(model.hf) if limit is None or step < limit]
    size = sum(weight.numel() for weight in model.hf.parameters())
    seen = [step for step in steps if ranks() > 1 or size * (step + BEYOND) <= AT_ONCE]
    model.unseen = []  # what is compared here runs as if all had been seen
    with _plainly(model) as tolerance, in_words(model.hf.config.model_type):
        texts = texts_of(model, lengths, None if batch is None else batch.tokens_BT[0])
        if not model.logits(texts[0].unsqueeze(0)).isfinite().all():
            return  # nothing can be compared; the first loss will say what is wrong, and where
        for check in CHECKS[model.reading.kind]:
            check(model, texts, tolerance)
        for step in seen:
            check_company(model, step, limit, tolerance)
    model.unseen = [step for step in steps if step not in seen and model.reading.kind == "decoder"]
    model.look_further = look_further


@torch.no_grad()
def look_further(model: Model, width: int) -> None:
    """Do rows of this width hold several pieces? Looks beyond the lengths that were too dear when it was opened."""
    limit = reads_at_most(model)
    while model.unseen and model.unseen[0] < width:
        step = model.unseen.pop(0)
        if model.packs_to is None and model.packs:
            with _plainly(model) as tolerance:
                model.root.within(check_company, model, step, limit, tolerance)


def check_company(model: Model, step: int, limit: int | None, tolerance: float) -> None:
    """Texts below and beyond a length at which the model may change, in company and alone."""
    beyond = step + BEYOND if limit is None else min(step + BEYOND, limit - model.reading.ahead)
    texts = texts_of(model, [max(1, step // 3), beyond, 7], None)
    if model.reading.kind != "decoder":
        for check in CHECKS[model.reading.kind]:
            check(model, texts, tolerance)
    elif model.packs and model.packs_to is None and _apart(model, texts) > tolerance:
        model.packs_to = step
        model.notes.append(
            f"{model.hf.config.model_type}: packed pieces see each other or lose their place in rows of more than "
            f"{step} tokens (hidden states differ); there every piece runs as a row of its own, which is slower"
        )


@contextmanager
def _plainly(model: Model) -> Generator[float]:
    """Dropout off, in the weights' own type where that can be compared; gives the tolerance of a comparison."""
    training, precision = model.hf.training, model.precision
    exact = not model.flash and next(model.hf.parameters()).dtype in (torch.float32, torch.float64)
    model.hf.eval()
    model.precision = "fp32" if exact else precision
    try:
        yield 2e-4 if exact else 0.1
    finally:
        model.precision = precision
        model.hf.train(training)


def check_ids(model: Model, base: Base, sources: Mapping[str, TokenSource], vocabulary: int) -> None:
    """Every token of the text has its embedding. Errors: UsageError naming the first that has none.

    vocabulary: size of that of the tokenizer that made the sources, which need not be the base's.
    """
    known = min(len(model.hf.get_input_embeddings().weight), model.head.vocabulary)  # type: ignore[arg-type, union-attr]
    names = {number: word for word, number in base.tokenizer.get_vocab(with_added_tokens=True).items()}
    if max(*names, base.marks.start or 0, base.marks.end or 0, vocabulary - 1) < known:
        return
    for name, source in sources.items():  # the tokenizer knows more than the model: does the text use it?
        for document in range(len(source.length_D)):
            largest = int(source.tokens(document).max(initial=0))
            if largest >= known:
                raise UsageError(
                    f'source "{name}" uses the token "{names.get(largest, "")}" with the id {largest}, and the model '
                    f"has embeddings for {known} tokens",
                    where=str(base.folder),
                    allowed=f"ids 0 to {known - 1}",
                    do="enlarge the model (transformers: model.resize_token_embeddings(len(tokenizer))) and save it, "
                    "or put back the tokenizer that it was trained with",
                )


def _verify_causal(model: Model, texts: list[Tensor], tolerance: float) -> None:
    """The last token, changed, changes nothing before it."""
    tokens_1T = longest(texts)
    changed_1T = tokens_1T.clone()
    changed_1T[:, -1] = (changed_1T[:, -1] + 1) % model.head.vocabulary
    before_1TD, after_1TD = (_plain_hidden(model, each)[:, :-1] for each in (tokens_1T, changed_1T))
    if before_1TD.numel() and (difference := _distance(after_1TD, before_1TD)) > tolerance:
        raise UsageError(
            f"{model.hf.config.model_type}: not a causal model: a token changes what it makes of the text before it "
            f"(hidden states move by {difference:.2g} standard deviations), so predicting the next token means nothing",
            allowed="a decoder: each token sees itself and what stands before it",
            do="take a causal language model; of a family that is both, set is_decoder in its config.json",
        )


def _verify_blocks(model: Model, texts: list[Tensor], tolerance: float) -> None:
    """One piece through our norms, MLPs and attention, and through transformers' own."""
    tokens_1T = longest(texts)
    if _distance(model.hidden(row([tokens_1T[0]])), _plain_hidden(model, tokens_1T)) > tolerance:
        model.slow_down()
        model.notes.append(
            f"{model.hf.config.model_type}: our blocks are not this model's (hidden states differ); transformers' own "
            "take their place, which is slower"
        )


def _verify_packing(model: Model, texts: list[Tensor], tolerance: float) -> None:
    """Texts in one row, and each alone by the model's own forward."""
    if _apart(model, texts) <= tolerance:
        return
    model.packs = False
    if _apart(model, texts) <= tolerance:
        model.notes.append(
            f"{model.hf.config.model_type}: packed pieces see each other or lose their place (hidden states differ); "
            "every piece now runs as a row of its own, which is slower"
        )
        return
    model.fills = False
    if (difference := _apart(model, texts)) > tolerance:
        raise FaultError(
            f"{model.hf.config.model_type}: what the model makes of a text is another thing beside other texts of its "
            f"length (hidden states move by {difference:.2g} standard deviations)",
            do="use a model of a family that transformers supports, or report this one",
        )
    model.notes.append(
        f"{model.hf.config.model_type}: what stands behind a text changes it (hidden states differ); pieces now run "
        "beside others of their length alone, which is slower"
    )


def _apart(model: Model, texts: list[Tensor]) -> float:
    """How far texts in company are from each alone through transformers' forward."""
    alone = [_plain_hidden(model, text.unsqueeze(0)) for text in texts]
    try:
        return _distance(model.hidden(row(texts)), torch.cat(alone, 1))
    except FORWARD as error:
        if is_memory(error) or not model.packs:
            raise
        return float("inf")


def _verify_head(model: Model, texts: list[Tensor], tolerance: float) -> None:
    """Differences are in nats, the largest over the tokens."""
    tokens_1T = longest(texts)
    targets_1T = tokens_1T.roll(-1, 1)
    hidden_1TD = _plain_hidden(model, tokens_1T)
    with model.autocast():
        own_logits_1TV = model.hf(input_ids=tokens_1T, use_cache=False).logits
    own_1T = torch.nn.functional.cross_entropy(own_logits_1TV[0].float(), targets_1T[0], reduction="none")

    def difference(head: Projection, reference_1T: Tensor, volume: float = 1.0) -> float:
        try:
            return float((score(hidden_1TD * volume, head, targets_1T) - reference_1T).abs().max())
        except FORWARD as error:  # a head that takes something else than the last hidden states
            if is_memory(error):
                raise
            return float("inf")

    off = difference(model.head, own_1T)
    own_off = difference(OwnHead(model.hf), own_1T)
    if off <= tolerance and own_off <= tolerance:
        loud_1T = score(hidden_1TD * LOUDER, OwnHead(model.hf), targets_1T)
        off = difference(model.head, loud_1T, LOUDER)
        tolerance = tolerance * LOUDER
    if off <= tolerance:
        return
    if own_off > tolerance:
        raise FaultError(
            f"the logits of {model.hf.config.model_type} cannot be computed from its last hidden states "
            f"(its losses differ from ours by {own_off:.2g} nats)",
            do="use a model of a family that transformers supports, or report this one",
        )
    model.own_head = True
    model.notes.append(
        f"{model.hf.config.model_type}: its logits are not those of its head as we read it; they now come from the "
        "model's own code, which is slower"
    )


def _verify_borders(model: Model, texts: list[Tensor], tolerance: float) -> None:
    """An encoder: texts in a row, and each alone through the whole model; the largest difference in nats."""
    with model.autocast():
        alone = [model.hf(input_ids=text.unsqueeze(0)).logits[0] for text in texts]
    targets_1T = torch.cat(texts).unsqueeze(0)

    def ours() -> Tensor:
        return score(model.hidden(row(texts)), model.head, targets_1T)[0]

    _same_losses(model, ours, torch.cat(alone), targets_1T[0], tolerance)


def _verify_written(model: Model, texts: list[Tensor], tolerance: float) -> None:
    """An encoder-decoder: texts side by side, half read and half written, and each alone through the whole model."""
    assert isinstance(model.reading, EncoderDecoder)
    cuts = [(part[: 1 + len(part) // 2], part[len(part) // 2 :]) for part in (text.cpu().numpy() for text in texts)]
    pieces = [Corrupted(reads, writes, np.full(len(writes), -1)) for reads, writes in cuts]
    halves = stack(pieces, [0] * len(pieces)).to(model.device)
    own = []
    for reads, writes, _place in pieces:
        reads_1L, writes_1U = (torch.from_numpy(half).unsqueeze(0).to(model.device) for half in (reads, writes))
        with model.autocast():
            own.append(model.hf(input_ids=reads_1L, labels=writes_1U, use_cache=False).logits[0])

    def ours() -> Tensor:
        written_PUD = model.root.within(model.reading.written, model, halves)  # type: ignore[attr-defined]
        return score(written_PUD, model.head, halves.writes_PU)[halves.counts_PU > 0]

    _same_losses(model, ours, torch.cat(own), halves.writes_PU[halves.counts_PU > 0], tolerance)


def _same_losses(model: Model, ours: Callable[[], Tensor], own_NV: Tensor, targets_N: Tensor, tolerance: float) -> None:
    """Errors: FaultError where the largest difference is more than the tolerance, in nats, even without fillers."""
    own_N = torch.nn.functional.cross_entropy(own_NV.float(), targets_N, reduction="none")
    if model.fills and float((ours() - own_N).abs().max()) > tolerance:
        model.fills = False
        model.notes.append(
            f"{model.hf.config.model_type}: texts filled up behind a mask are read in another way (losses differ); "
            "pieces now run beside others of their length alone, which is slower"
        )
    if not model.fills and (difference := float((ours() - own_N).abs().max())) > tolerance:
        raise FaultError(
            f"{model.hf.config.model_type}: the losses of pieces that share a row are not those of the model alone "
            f"(they differ by {difference:.2g} nats)",
            do="use a model of a family that transformers supports, or report this one",
        )


def _plain_hidden(model: Model, tokens_1T: Tensor) -> Tensor:
    with model.autocast():
        return model.body(input_ids=tokens_1T, use_cache=False).last_hidden_state


def _distance(ours_1TD: Tensor, theirs_1TD: Tensor) -> float:
    """Largest difference, in standard deviations of the hidden states."""
    return float((ours_1TD.float() - theirs_1TD.float()).abs().max() / theirs_1TD.float().std())


CHECKS: dict[Kind, tuple[Check, ...]] = {
    "decoder": (_verify_causal, _verify_blocks, _verify_packing, _verify_head),
    "encoder": (_verify_borders,),
    "encoder-decoder": (_verify_written,),
}
