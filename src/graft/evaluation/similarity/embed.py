"""embed: what a model makes of each document of a text, its mean hidden state and its bits, kept for comparisons."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from graft.core.config.errors import FaultError, UsageError
from graft.core.config.settings import check_choices
from graft.core.models.architectures import WORDS, kind_of
from graft.core.models.base_model import Base
from graft.core.process.notes import tell_notes
from graft.core.process.precision import Precision, computed
from graft.core.process.progress import Progress
from graft.core.records.features import Features, write_features
from graft.core.stats.even_sample import golden_order
from graft.core.store.artifact import Artifact, Draft, Store
from graft.core.tokens import cached_encoder as encoder
from graft.data.ingest import TABLE
from graft.models.runtime.settle_precision import recorded, settle_here
from graft.readers.file_record import UNREAD_KIND

if TYPE_CHECKING:
    from graft.models.forward.model import Model

MOST = 2000  # documents: measures hold all pairs of two texts at once
ROW_TOKENS = 8192  # read at once
BATCH_ROWS = 4096
CHARS_PER_TOKEN = 16  # of a long document no more than so many are turned into tokens


@dataclass(frozen=True)
class Embed:
    """Which part of a text the model reads: the beginnings of some documents, spread evenly over the text."""

    documents: int = 200  # different ones, at most
    tokens: int = 512  # of each document, from its beginning; at most what the model reads at once
    precision: Precision = "auto"  # bf16 where the hardware multiplies it, else fp32

    def __post_init__(self) -> None:
        check_choices(self)
        if not 1 <= self.documents <= MOST:
            raise UsageError(
                f"documents is {self.documents}", allowed=f"1 to {MOST:,}", do="200 is usual: all pairs are compared"
            )
        if self.tokens < 1:
            raise UsageError(f"tokens is {self.tokens}", allowed="1 or more")


def embed(docs: Artifact, model: Base, settings: Embed = Embed(), *, store: Store) -> Artifact:
    """Kind "features": graft.core.records.features of the documents of `docs`, an artifact of `ingest`.

    The vector of a document is the mean of the last hidden states (what the head projects, after the final norm) over
    its tokens, without the mark before it, whose state is often far from all others. Its bits are those of all its
    targets as `graft.models.scoring.scoring` counts them, the end mark included where it was read to its end.
    Errors: UsageError for an encoder-decoder; FaultError for a loss or state that is no number, naming the document.
    """
    if kind_of(model.config) == "encoder-decoder":
        raise UsageError(
            f"{model.name} {WORDS['encoder-decoder']}: it has no hidden states of a text",
            where=str(model.folder / "config.json"),
            allowed=f"a model that {WORDS['decoder']} or {WORDS['encoder']}",
            do="give another --model",
        )
    settings = settle_here(settings)
    inputs = {"docs": docs, "model": model.fingerprint(store.prints)}
    origins = {"model": model.origin}
    return store.make(
        "features", settings, inputs, __name__, lambda one: _build(one, docs, model, settings), origins=origins
    )


@dataclass
class _Read:
    """A document as it is read. ids: its tokens with the marks that stand in what is read."""

    text: str
    ids: np.ndarray
    num_bytes: float
    place: str
    marked: bool  # the first is the mark before the document


def _build(draft: Draft, docs: Artifact, base: Base, settings: Embed) -> None:
    from graft.models.files.weights import open_model

    rows, facts = _choose(docs, settings.documents)
    model = open_model(base.folder, computed(settings.precision), frozen=True)
    longest = min(settings.tokens, base.window - model.reading.ahead)
    made = encoder.CachedEncoder(base.tokenizer)
    read = [_cut(row, base, made, longest) for row in rows]
    found = [one for one in read if one[0] is not None]
    documents = [one for one, _ in found if one is not None]
    if not documents:
        raise UsageError("no document has a token to read", where=", ".join(docs.facts["paths"]), do="look at the text")
    facts |= {"cut": sum(cut for _, cut in found), "without tokens": len(read) - len(found), "longest": longest}
    written = _run(model, documents, longest)
    write_features(draft.path, written)
    notes = [*model.notes, *([f"the model's loss is {model.reading.measure}"] if model.reading.measure else [])]
    tell_notes(notes)
    draft.facts |= facts | {"documents": len(documents), "bytes": int(written.bytes_D.sum()), "notes": notes}
    draft.facts |= {"model": base.name, "paths": docs.facts["paths"]}
    draft.facts |= {"runtime": recorded(computed(settings.precision))}


def _choose(docs: Artifact, most: int) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """At most so many different usable documents, in steps of the golden ratio through the text; and what is there."""
    table = pq.read_table(docs / TABLE, columns=["id", "dropped"])
    seen: dict[str, int] = {}
    usable = 0
    for row, (one, dropped) in enumerate(zip(table["id"].to_pylist(), table["dropped"].to_pylist(), strict=True)):
        if not dropped:
            usable += 1
            seen.setdefault(one, row)
    places = np.array(list(seen.values()), np.int64)
    if len(places) > most:
        places = np.sort(places[golden_order(len(places))[:most]])
    unread = sum(dropped.startswith(UNREAD_KIND) for dropped in table["dropped"].to_pylist())
    facts = {"usable": usable, "different": len(seen), "dropped": len(table) - usable - unread}
    return list(_rows(docs, places)), facts


def _rows(docs: Artifact, places: np.ndarray) -> Iterator[dict[str, Any]]:
    """These rows of the table, in order; the others are never held all at once."""
    first = 0
    with pq.ParquetFile(docs / TABLE) as file:
        for batch in file.iter_batches(BATCH_ROWS, columns=["text", "parents"]):
            inside = places[(places >= first) & (places < first + len(batch))] - first
            yield from batch.take(pa.array(inside)).to_pylist()
            first += len(batch)


def _cut(row: dict[str, Any], base: Base, made: encoder.CachedEncoder, longest: int) -> tuple[_Read | None, bool]:
    """A document up to `longest` targets, None where it has none; and whether that is not all of it."""
    text: str = row["text"]
    part = text[: longest * CHARS_PER_TOKEN]
    ids = made.encode([part]).ids
    start = [] if base.marks.start is None else [base.marks.start]
    end = [] if base.marks.end is None else [base.marks.end]
    kept = ids[: longest + (not start)]
    cut = len(kept) < len(ids) or len(part) < len(text)
    whole = np.concatenate([start, kept, [] if cut else end]).astype(np.int64)[: longest + 1]
    if len(kept) == 0 or len(whole) < 2:
        return None, False
    said = part
    size = len(part.encode("utf-8", "surrogatepass"))
    if len(kept) < len(ids):
        decode = base.tokenizer.decode
        said = decode(kept.tolist(), skip_special_tokens=False)
        size *= len(said.encode()) / max(1, len(decode(ids.tolist(), skip_special_tokens=False).encode()))
    place = " + ".join(row["parents"])
    return _Read(said, whole, size, place, bool(start)), cut


def _run(model: Model, documents: Sequence[_Read], longest: int) -> Features:
    """Every document as a piece of a packed row, twice through the model: for its states and for its losses."""
    from graft.models.runtime.numeric_faults import enough_memory
    from graft.packing.rows import best_fit
    from graft.packing.sampler import pack

    rows = best_fit([len(one.ids) - 1 for one in documents], longest)
    at_once = max(1, ROW_TOKENS // longest)
    vectors: dict[int, np.ndarray] = {}
    bits_D = np.full(len(documents), np.nan)
    progress = Progress("embed", len(documents))
    for first in range(0, len(rows), at_once):
        these = rows[first : first + at_once]
        batch = pack([[documents[d].ids for d in row] for row in these], [0] * len(these), longest)
        batch = batch.to(model.device)
        with enough_memory("reading text", do="set --tokens lower, or take a smaller model"):
            hidden_BTD = _hidden(model, batch)
            nats_BT, asked_BT, _ = (each.cpu().numpy() for each in model.scores(batch))
        for b, row in enumerate(these):
            at = 0
            for d in row:
                end = at + len(documents[d].ids) - 1
                vectors[d] = hidden_BTD[b, min(at + documents[d].marked, end - 1) : end].mean(0)
                bits_D[d] = nats_BT[b, at:end][asked_BT[b, at:end]].sum(dtype=np.float64) / math.log(2)
                at = end
        progress.advance(sum(map(len, these)))
    progress.close()
    vectors_DW = np.stack([vectors[d] for d in range(len(documents))])
    broken = np.flatnonzero(~(np.isfinite(vectors_DW).all(1) & np.isfinite(bits_D)))
    if len(broken):
        places = ", ".join(documents[d].place for d in broken[:5])
        raise FaultError(
            f"what the model makes of {len(broken)} of {len(documents)} documents is not a number",
            where=places,
            do="look at these places in the text; if nothing is wrong there, the model is: fetch its files again",
        )
    return Features.of([one.text for one in documents], vectors_DW, bits_D, [one.num_bytes for one in documents])


def _hidden(model: Model, batch: Any) -> np.ndarray:
    import torch

    with torch.no_grad():
        return model.hidden(batch).double().cpu().numpy()
