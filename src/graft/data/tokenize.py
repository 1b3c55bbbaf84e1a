"""tokenize: a corpus becomes token shards, written once per tokenizer, resumable shard by shard."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from graft.core.config.errors import UsageError
from graft.core.config.settings import check_choices
from graft.core.models.base_model import Base
from graft.core.process.notes import tell_notes
from graft.core.process.progress import Progress
from graft.core.store.artifact import Artifact, Draft, Store
from graft.core.store.atomic_files import write_whole
from graft.core.store.ledger import REWRITTEN, Amount
from graft.core.text import dialogue
from graft.core.text.dialogue import Dialogue
from graft.core.text.documents import SPLITS, exact_id
from graft.core.text.drop_reasons import Drop, facts_of
from graft.core.tokens.cached_encoder import CachedEncoder
from graft.core.tokens.chat_template import Template, TemplateRefusal
from graft.core.tokens.dialogue_encoder import REFUSAL, REFUSED, DialogueEncoder
from graft.core.tokens.lost_text import CHARACTERS, DOCUMENTS, LostText, keeps_all, lost_notes, lost_text
from graft.core.tokens.shard_writer import ShardWriter
from graft.core.tokens.special_tokens import unknown_id
from graft.core.tokens.token_shards import TokenSource

TOKENIZE = "tokenize"  # who drops what a chat template refuses
COLUMNS = ["text", "position", "num_bytes", "split", "dropped", "notes"]


@dataclass(frozen=True)
class Tokenize:
    """How text becomes token ids.

    A document is stored as  start t1 .. tn end  (see graft.core.tokens.token_shards). Text is text: a special token
    spelled out in a document ("<|endoftext|>") is read as the characters it is made of, so that no document can forge a
    border. Documents that are no dialogues are not touched by what is set for dialogues: all their tokens count.
    graft.core.tokens.dialogue_encoder says exactly which tokens of a dialogue count as its answers.
    """

    shard_bytes: int = 8_000_000  # UTF-8 bytes of text per shard: what a kill can cost
    chat: Literal["plain", "template"] = "plain"  # dialogues as their plain text, or as the chat template writes them
    template: str = ""  # Jinja; "": the base's own chat_template.jinja, or chat_template of its tokenizer_config.json
    count: Literal["all", "answers"] = "all"  # which tokens of a dialogue; answers: and what ends their turns
    pairs: bool = False  # store the rejected answer of a pair too, after the chosen one; of both only the answer counts

    def __post_init__(self) -> None:
        check_choices(self)
        if self.shard_bytes < 1:
            raise UsageError(f"shard_bytes is {self.shard_bytes}", allowed="1 or more")
        if self.template and self.chat != "template":
            raise UsageError("template is set, and chat is plain", do="set chat to template, or leave template out")
        if self.template and "messages" not in self.template:
            raise UsageError(
                f'template is "{self.template[:60]}", and names no messages',
                allowed="the Jinja text itself, as in chat_template.jinja of a chat model",
            )

    @property
    def for_dialogues(self) -> bool:
        """Whether dialogues are stored in another way than as any text."""
        return self.chat != "plain" or self.count != "all" or self.pairs


def tokenize(corpus: Artifact, base: Base, settings: Tokenize = Tokenize(), *, store: Store) -> Artifact:
    """Kind "tokens": for every source of the corpus its shards, and the ledger in documents, bytes and tokens.

    Documents marked as dropped are counted in tokens too, and not written. The tokens of a pair are those of both its
    documents. Errors: UsageError where a template is wanted and there is none, where what is set for dialogues or
    pairs meets no document, and where the template refuses so much that a split is empty.
    """
    inputs = {"corpus": corpus, "tokenizer": base.tokenizer_fingerprint(store.prints)}
    written = chat_template(base, settings.template) if settings.chat == "template" else None
    if written:
        inputs["template"] = exact_id(written.identity)
    return store.make(
        "tokens",
        settings,
        inputs,
        __name__,
        lambda draft: _write(draft, corpus, base, settings, written),
        origins={"tokenizer": base.origin},
    )


def chat_template(base: Base, source: str = "") -> Template:
    """`source`, or the base's own chat template, ready to render. Errors: UsageError where there is none."""
    from transformers.utils.chat_template_utils import render_jinja_template  # which leaves torch alone

    return Template.of(base, render_jinja_template, source)


def sources(tokens: Artifact) -> dict[str, TokenSource]:
    """The sources of a tokens artifact, in the order of the corpus."""
    return {name: TokenSource(tokens.path, name) for name in tokens.facts["sources"]}


def _write(draft: Draft, corpus: Artifact, base: Base, settings: Tokenize, written: Template | None) -> None:
    size = base.tokenizer.get_vocab_size(with_added_tokens=True)
    names = list(corpus.facts["sources"])
    labels, weighted, tools = _look_through(corpus, settings)
    spoken = settings.for_dialogues or weighted
    dtype = _dtype(base, size)
    said = {"dtype": dtype, "start": base.marks.start, "end": base.marks.end}
    write_whole(draft / "tokens.json", json.dumps(said | ({"labels": labels} if labels else {})))
    draft.facts |= {"sources": names, "vocabulary": size, "base": base.name}
    base.tokenizer.encode_special_tokens = True
    dialogues = DialogueEncoder(base.tokenizer, base.marks, written, settings.count == "answers", settings.pairs)
    whole = keeps_all(base.tokenizer)
    lost: dict[str, LostText] = {}
    writer = ShardWriter(CachedEncoder(base.tokenizer), base.marks, dtype, labels)
    if spoken:
        writer.dialogues = dialogues
    for source in names:
        progress = Progress(f"tokenize {source}", corpus.ledger.read[source].bytes)
        draft.ledger.enter(source, corpus.ledger.read[source])
        tokens = Amount()
        with pq.ParquetFile(corpus / f"{source}.parquet") as file:
            for number, shard in enumerate(_cut(file, settings.shard_bytes)):
                if not whole:
                    lost[source] = lost.get(source, LostText()) + _lost_of(base, shard)
                ledger = writer.write(f"{draft / source}-{number:05}", source, shard)
                for fate, amount in ledger.fates[source].items():
                    draft.ledger.settle(source, fate, amount)
                    tokens += Amount(tokens=amount.tokens)
                progress.advance(ledger.read[source].bytes)
        draft.ledger.enter(source, tokens)
        for fate, amount in corpus.ledger.fates[source].items():
            if fate.startswith(REWRITTEN):  # of no document: the bytes by which steps made texts shorter
                draft.ledger.settle(source, fate, amount)
        progress.close()
    turns = _turns(draft.path, names)
    if tools and not spoken:
        turns["lost"]["tools"] += tools
    draft.facts |= {key: dict(count) for key, count in turns.items() if count}
    if lost:
        draft.facts["lost_text"] = {name: one.shares for name, one in lost.items()}
    notes = lost_notes(base.name, draft.facts.get("lost_text", {}))
    by = "the chat template" if written else "the plain form of a dialogue"
    notes += turn_notes(turns["ends"], turns["lost"], by)
    if written:
        refused = _Refusals(corpus, written, settings.count == "answers" or settings.pairs or weighted)
        refused.require_rest(draft)
        notes += refused.notes(draft)
        if any(REFUSED in fates for fates in draft.ledger.fates.values()):
            draft.facts |= facts_of([Drop(TOKENIZE, REFUSAL.code, "", REFUSED)], {TOKENIZE: [REFUSAL]})
    if notes:
        draft.facts["notes"] = notes
        tell_notes(notes)
    if spoken:
        draft.facts["counted"] = {name: _counted(TokenSource(draft.path, name)) for name in names}
    if labels:
        draft.facts["labels"] = labels


def _counted(source: TokenSource) -> dict[str, int]:
    """Of the training text: pairs, targets in all and those that count, rejected answers included."""
    train_D = source.documents("train")
    both_D = np.concatenate([train_D, source.pairs("train") + 1])
    return {
        "pairs": len(both_D) - len(train_D),
        "tokens": int(source.pairs_D[both_D].sum()),
        "counted": int(source.counted_D[both_D].sum()),
    }


def _lost_of(base: Base, shard: pa.Table) -> LostText:
    """What the tokenizer loses of some documents of a shard, evenly spread over it."""
    kept = [row for row, dropped in enumerate(shard["dropped"].to_pylist()) if not dropped]
    rows = kept[:: max(1, len(kept) // DOCUMENTS)][:DOCUMENTS]
    some = [shard["text"][row].as_py()[:CHARACTERS] for row in rows]
    return lost_text(base.tokenizer, some, unknown_id(base))


def _turns(folder: Path, names: Sequence[str]) -> dict[str, Counter[str]]:
    """Of all shards: what ends the answers that count, and what dialogues lost."""
    found = {"ends": Counter[str](), "lost": Counter[str]()}
    for name in names:
        for path in sorted(folder.glob(f"{name}-*.turns.json")):
            for key, count in json.loads(path.read_text("utf-8")).items():
                found[key].update(count)
    return found


def turn_notes(ends: Mapping[str, int], lost: Mapping[str, int], by: str) -> list[str]:
    """In words, what a template leaves out, and answers that no token ends. by: what writes the dialogues."""
    notes = [f"{by} leaves out {name} {count:,} times" for name, count in sorted(lost.items())]
    if unended := ends.get("", 0):
        notes.append(
            f"{by} ends {unended:,} of {sum(ends.values()):,} answers with no special token: there the model does not "
            "learn where to stop. A template that writes one after every answer teaches that."
        )
    return notes


def _look_through(corpus: Artifact, settings: Tokenize) -> tuple[list[str], bool, int]:
    """The labels of all documents, sorted; whether some answer has weight 0; dialogues with descriptions of tools.

    Errors: UsageError where the settings are for what no document is.
    """
    labels: set[str] = set()
    dialogues = pairs = tools = 0
    weighted = False
    for source in corpus.facts["sources"]:
        with pq.ParquetFile(corpus / f"{source}.parquet") as file:
            for batch in file.iter_batches(columns=["notes"]):
                for notes in filter(_says_more, batch.column(0).to_pylist()):
                    found = json.loads(notes)
                    labels.update([found["label"]] if "label" in found else [])
                    dialogues += dialogue.NOTE in found
                    note = found.get(dialogue.NOTE, {})
                    pairs += "rejected" in note
                    tools += "tools" in note
                    weighted = weighted or any(turn[4:] == [False] for turn in note.get("turns", ()))
    where = ", ".join(map(str, corpus.facts["sources"]))
    if settings.for_dialogues and not dialogues:
        raise UsageError(
            "no document is a dialogue, and chat, count or pairs of tokenize are set for some",
            where=where,
            allowed="rows with messages, prompt and response ... and without the text field (see ingest)",
            do="leave chat, count and pairs as they are by default, or look at ingest.text_field",
        )
    if settings.pairs and not pairs:
        raise UsageError(
            "no document is a preference pair, and tokenize.pairs is set",
            where=where,
            allowed="rows with chosen and rejected, without the text field",
            do="set pairs to false",
        )
    return sorted(labels), weighted, tools


def _says_more(notes: str) -> bool:
    return '"label"' in notes or f'"{dialogue.NOTE}"' in notes


@dataclass(frozen=True)
class _Refusals:
    """What a template refuses of a corpus. answers: whether it has to show where answers are."""

    corpus: Artifact
    written: Template
    answers: bool

    def require_rest(self, draft: Draft) -> None:
        """Raises: UsageError, in the template's own words, where it leaves a source without a document of a split."""
        for source, fates in draft.ledger.fates.items():
            before = self.corpus.ledger.fates[source]
            lacking = [name for name in SPLITS if _documents(before, name) and not _documents(fates, name)]
            if not lacking:
                continue
            raise UsageError(
                f"the chat template refuses {fates[REFUSED].documents} dialogues of source {source!r} and leaves no "
                f"{' and no '.join(lacking)} document: {self._first(source)[1]}",
                allowed="dialogues in the form that the template is written for",
                do="set tokenize.template to another one, or tokenize.chat to plain",
            )

    def notes(self, draft: Draft) -> list[str]:
        """How many dialogues of each source are refused, and which is the first and why."""
        found: list[str] = []
        for source, fates in draft.ledger.fates.items():
            if number := _documents(fates, REFUSED):
                place, why = self._first(source)
                found.append(
                    f"{source}: the chat template refuses {number:,} dialogues ({fates[REFUSED].bytes / 1e3:,.0f} kB), "
                    f"which are not trained on (first: {place}: {why})"
                )
        return found

    def _first(self, source: str) -> tuple[str, str]:
        """(its place, why) of the first dialogue that is refused."""
        columns = ["text", "notes", "dropped", "parents"]
        with pq.ParquetFile(self.corpus / f"{source}.parquet") as file:
            for row in chain.from_iterable(batch.to_pylist() for batch in file.iter_batches(256, columns=columns)):
                one = None if row["dropped"] else Dialogue.noted(row["text"], row["notes"])
                try:
                    for side in [one, one.worse] if one and one.rejected is not None else [one] if one else []:
                        self.written.render(side.messages, side.tools, answers=self.answers)
                except TemplateRefusal as refused:
                    return row["parents"][0], str(refused)
        return "?", "it does not say why"


def _documents(fates: Mapping[str, Amount], fate: str) -> int:
    return fates[fate].documents if fate in fates else 0


def _dtype(base: Base, size: int) -> str:
    """The narrowest type that holds every id; ids can have gaps, so their number alone does not say."""
    if size > 1 << 16:
        return "uint32"
    taken = base.tokenizer.get_vocab(with_added_tokens=True).values()
    largest = max(*taken, base.marks.start or 0, base.marks.end or 0)
    return "uint16" if largest < 1 << 16 else "uint32"


def _cut(file: pq.ParquetFile, shard_bytes: int) -> Iterator[pa.Table]:
    """The corpus table in runs of whole documents of about `shard_bytes`; the cuts depend on the text alone."""
    held: list[pa.Table] = []
    held_bytes = 0
    for batch in file.iter_batches(batch_size=256, columns=COLUMNS):
        table = pa.Table.from_batches([batch])
        sizes = table["num_bytes"].to_numpy()
        first = 0
        for row, size in enumerate(sizes):
            held_bytes += int(size)
            if held_bytes >= shard_bytes:
                yield pa.concat_tables([*held, table.slice(first, row + 1 - first)])
                held, held_bytes, first = [], 0, row + 1
        held.append(table.slice(first))
    rest = pa.concat_tables(held) if held else None
    if rest is not None and rest.num_rows:
        yield rest
