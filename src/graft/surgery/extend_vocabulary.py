"""extend: a base gets tokens for the words of a domain, and rows for them that begin as what they stand for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow.parquet as pq

from graft.core.config.errors import FaultError, UsageError
from graft.core.config.settings import check_choices
from graft.core.models.base_model import TOKENIZER_FILES, Base
from graft.core.models.named_tokens import named_ids
from graft.core.models.weight_files import read_json
from graft.core.process.progress import Progress
from graft.core.store.artifact import Artifact, Draft, Store, digest
from graft.core.tokens.bpe_merges import LearnedMerges, count_words, learn
from graft.core.tokens.bpe_spelling import Spelling, with_merges
from graft.core.tokens.cached_encoder import CachedEncoder

if TYPE_CHECKING:
    from tokenizers import Tokenizer

KEPT = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja")
SHOWN = 20  # new tokens that the facts name
NUM_TEXTS, TEXT_TOKENS = 3, 64  # on which the written model is compared with the base
TOLERANCE = 1e-5  # of logits, relative to the largest


@dataclass(frozen=True)
class Growth:
    """How many tokens are added, by which text, and how their rows begin.

    Tokens are chosen by what they save: the base's own byte-pair merges are continued on the domain's training text
    (see graft.core.tokens.bpe_merges). They stand behind all merges that the base has, so text that holds none of the
    new pairs is read as before. Their ids begin behind the largest that the tokenizer or the configuration names.
    """

    tokens: int = 1000  # new tokens, at most
    min_count: int = 50  # a token that saves fewer tokens of the training text than this is not added
    source: str = "domain"  # whose training text is counted
    start: Literal["mean", "random_like"] = "mean"  # of the rows: the mean of the parts, or as the old rows are spread
    seed: int = 0  # of random_like

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("tokens", "min_count"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}", allowed="1 or more")


def extend(base: Base, corpus: Artifact, settings: Growth = Growth(), *, store: Store) -> Artifact:
    """Kind "extend": `model/` in Hugging Face form with its new tokenizer, `tokens.json` (all of them), and facts.

    facts: tokens_added, first_new, rows, tied, largest (the tokens that save most), idle (how many later ones took up
    wholly), fertility per source on validation text before and after. Errors: UsageError for a tokenizer that is not
    BPE, a source that is not there, and where no pair is frequent enough; FaultError where what was written does not
    read old text as the base does.
    """
    inputs: dict[str, Artifact | str] = {"base": base.fingerprint(store.prints), "corpus": corpus}
    if base.training_notes:  # they go along with the model
        inputs["notes of the base"] = digest(base.training_notes)
    return store.make(
        "extend",
        settings,
        inputs,
        __name__,
        lambda draft: _build(draft, base, corpus, settings),
        origins={"base": base.origin},
    )


def _build(draft: Draft, base: Base, corpus: Artifact, settings: Growth) -> None:
    if settings.source not in corpus.facts["sources"]:
        raise UsageError(f'growth counts the source "{settings.source}"', allowed=", ".join(corpus.facts["sources"]))
    path = base.folder / "tokenizer.json"
    file = read_json(path) if path.exists() else json.loads(base.tokenizer.to_str())
    known = Spelling.read(file, _named_ids(base), where=str(base.folder))
    base.tokenizer.encode_special_tokens = True  # text is text, as in graft.data.tokenize
    learned = _learn(base, corpus, settings, known)
    folder = draft / "model"
    grown = with_merges(file, [merge[:3] for merge in learned.merges], known)
    facts = _write_model(base, folder, _old_texts(base, corpus), learned, settings)
    _write_tokenizer(base, folder, grown)
    new = Base(base.name, folder).tokenizer
    _check_tokenizer(base, folder, _some_texts(corpus))
    listed = [
        {"id": merge.made, "text": new.decode([merge.made], skip_special_tokens=False), "saved": merge.saved}
        for merge in learned.merges
    ]
    (draft / "tokens.json").write_text(json.dumps(listed, indent=1, ensure_ascii=False), encoding="utf-8")
    new.encode_special_tokens = True
    draft.facts |= facts | {
        "base": base.name,
        "tokens_added": len(learned.merges),
        "first_new": known.first_new,
        "largest": listed[:SHOWN],
        "idle": len(learned.idle()),
        "training_tokens": {"before": learned.tokens_before, "after": learned.tokens_after},
        "fertility": {name: _fertility(corpus, name, base.tokenizer, new) for name in corpus.facts["sources"]},
    }


def _learn(base: Base, corpus: Artifact, settings: Growth, known: Spelling) -> LearnedMerges:
    """Errors: UsageError where nothing is frequent enough."""
    progress = Progress("counting words", corpus.ledger.fates[settings.source]["train"].bytes)

    def watched() -> Iterator[str]:
        for text in texts_of(corpus, settings.source, "train"):
            yield text
            progress.advance(len(text))

    words = count_words(watched(), base.tokenizer, known)
    progress.close()
    learned = learn(words, known, tokens=settings.tokens, min_count=settings.min_count)
    if not learned.merges:
        raise UsageError(
            f"no new token would save {settings.min_count} tokens of the training text of {settings.source}",
            allowed="text in which words are spelled in several tokens, often enough",
            do="lower growth.min_count, give more text, or adapt the base without new tokens",
        )
    return learned


def texts_of(corpus: Artifact, source: str, split: str) -> Iterator[str]:
    """The usable documents of one split, in order."""
    file = pq.ParquetFile(corpus / f"{source}.parquet")
    for batch in file.iter_batches(batch_size=256, columns=["text", "split", "dropped"]):
        for row in batch.to_pylist():
            if row["split"] == split and not row["dropped"]:
                yield row["text"]


def _named_ids(base: Base) -> list[int]:
    """Token ids that the model's configuration names; some name one that the tokenizer does not have."""
    return sorted(named_ids(base.config) | named_ids(base.generation))


def _some_texts(corpus: Artifact) -> list[str]:
    """Validation text of every source, its beginning."""
    return [
        text[:4000]
        for source in corpus.facts["sources"]
        for text, _ in zip(texts_of(corpus, source, "validation"), range(NUM_TEXTS), strict=False)
    ]


def _old_texts(base: Base, corpus: Artifact) -> list[list[int]]:
    """A few texts in the base's own tokens."""
    encoded = base.tokenizer.encode_batch_fast(_some_texts(corpus), add_special_tokens=False)
    longest = sorted((one.ids[:TEXT_TOKENS] for one in encoded), key=len, reverse=True)
    return [ids for ids in longest[:NUM_TEXTS] if ids] or [[0]]


def _write_model(
    base: Base, folder: Path, texts: Sequence[list[int]], learned: LearnedMerges, settings: Growth
) -> dict[str, Any]:
    """Save the grown model, read it back, and compare it with the base. Errors: FaultError where old tokens differ."""
    import torch

    from graft.models.edit.embedding_rows import grow_rows, old_logits, old_rows
    from graft.models.files.stored_types import StoredTypes
    from graft.models.files.weights import open_model, save_model
    from graft.models.runtime.numeric_faults import enough_memory

    parts = learned.parts()
    with enough_memory("extending the model", do="take a smaller base, or a machine with more memory"):
        model = open_model(base.folder, "fp32", frozen=True)
        StoredTypes.of(base.folder, model.hf).round(
            model.hf
        )  # what saving would do in any case, so that it is compared
        first = min(min(parts), *(len(rows) for rows in old_rows(model, min(parts))))
        texts = [kept for text in texts if (kept := [token for token in text if token < first])] or [[0]]
        rows, logits = old_rows(model, first), old_logits(model, texts, first)
        grow_rows(model, parts, settings.start, settings.seed)
        new = list(parts)[:TEXT_TOKENS]
        width = min(len(new), *map(len, texts))
        difference = save_model(model, base.folder, folder, torch.tensor([one[:width] for one in (*texts, new)]))
        del model
        again = open_model(folder, "fp32", frozen=True)
        moved = float((old_logits(again, texts, first) - logits).abs().max())
        same = all(torch.equal(ours, theirs) for ours, theirs in zip(old_rows(again, first), rows, strict=True))
    if not same or not moved <= TOLERANCE * max(1.0, float(logits.abs().max())):
        raise FaultError(
            f"the extended model is not the base on old text: logits differ by {moved:.3g}, "
            f"old rows are {'the same' if same else 'others'}",
            where=str(folder),
            do="report it with the model's config.json",
        )
    hf: Any = again.hf
    return {
        "rows": len(hf.get_input_embeddings().weight),
        "tied": hf.get_output_embeddings().weight is hf.get_input_embeddings().weight,
        "reload_difference": difference,
        "logits_moved": moved,
        "num_parameters": sum(p.numel() for p in hf.parameters()),
    }


def _write_tokenizer(base: Base, folder: Path, file: dict[str, Any]) -> None:
    """tokenizer.json alone says what the tokenizer is now: older forms of it beside it would contradict."""
    for name in set(TOKENIZER_FILES) - set(KEPT):
        (folder / name).unlink(missing_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(file, indent=2, ensure_ascii=False), encoding="utf-8")
    if base.training_notes:  # its peak rate is what an automatic rate returns to
        (folder / "training.json").write_text(json.dumps(base.training_notes, indent=1), encoding="utf-8")


def _check_tokenizer(base: Base, folder: Path, texts: Sequence[str]) -> None:
    """Errors: FaultError where old tokens have other ids, text does not come back, or transformers reads it otherwise
    (where it read the base's as tokenizers does)."""
    old, new = base.tokenizer, Base(base.name, folder).tokenizer
    ids = new.get_vocab(with_added_tokens=True)
    lost = [word for word, number in old.get_vocab(with_added_tokens=True).items() if ids.get(word) != number]
    fault = f"tokens that were there have another id now ({', '.join(lost[:5])})" if lost else ""
    new.encode_special_tokens = True
    for text in texts:
        before, after = (
            one.decode(one.encode(text, add_special_tokens=False).ids, skip_special_tokens=False) for one in (old, new)
        )
        if before != after:
            fault = fault or f"a text comes back as another: {after[:60]!r}"
    new.encode_special_tokens = False
    if not fault and _agrees(base.folder, texts) and not _agrees(folder, texts):
        fault = "transformers reads text with it otherwise than tokenizers does"
    if fault:
        raise FaultError(
            f"the extended tokenizer is not the base's with more tokens: {fault}",
            where=str(folder),
            do="report it with the base's tokenizer files",
        )


def _agrees(folder: Path, texts: Sequence[str]) -> bool:
    """Whether transformers opens this folder's tokenizer and gives the ids that tokenizers gives."""
    from transformers import AutoTokenizer

    from graft.models.runtime.quiet import quiet

    tokenizer = Base("", folder).tokenizer
    with quiet():  # it warns of texts that are longer than the window
        try:
            theirs: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        except Exception:  # ImportError, ValueError, OSError, KeyError ...: as many as there are types
            return False
        return all(
            theirs(text, add_special_tokens=False)["input_ids"] == tokenizer.encode(text, add_special_tokens=False).ids
            for text in texts
        )


def _fertility(corpus: Artifact, source: str, old: Tokenizer, new: Tokenizer) -> dict[str, Any]:
    """Tokens that the validation text of a source takes, per byte and per word (what white space separates)."""
    texts = list(texts_of(corpus, source, "validation"))
    num_bytes, num_words = sum(len(text.encode()) for text in texts), sum(len(text.split()) for text in texts)
    found: dict[str, Any] = {"documents": len(texts), "bytes": num_bytes, "words": num_words}
    for name, tokenizer in (("before", old), ("after", new)):
        tokens = len(CachedEncoder(tokenizer).encode(texts).ids)
        found[name] = {
            "tokens": tokens,
            "tokens_per_byte": tokens / num_bytes if num_bytes else None,
            "tokens_per_word": tokens / num_words if num_words else None,
        }
    return found
