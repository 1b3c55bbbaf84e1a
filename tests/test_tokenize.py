"""The tokenize stage: shards survive a kill, and every document, byte and token is accounted for."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, decoders, models, processors

from fork_server import run
from graft.core.models.base_model import Base
from graft.core.store.artifact import Artifact, Store
from graft.core.store.ledger import Amount
from graft.core.text.documents import SCHEMA, doc_row
from graft.core.tokens.cached_encoder import CachedEncoder
from graft.data.tokenize import Tokenize, sources, tokenize
from test_encoder import BY_WORDS, END, byte_level, make


def corpus_of(store: Store, **texts: list[tuple[str, str, str]]) -> Artifact:
    """A corpus by hand: for every source its documents as (text, split, dropped)."""

    def build(draft):
        draft.facts["sources"] = list(texts)
        for source, documents in texts.items():
            rows = [
                doc_row(text, source=source, position=i, parent=f"{source}#{i}", dropped=dropped) | {"split": split}
                for i, (text, split, dropped) in enumerate(documents)
            ]
            pq.write_table(pa.Table.from_pylist(rows, SCHEMA), draft / f"{source}.parquet")
            for row in rows:
                amount = Amount(1, row["num_bytes"])
                draft.ledger.enter(source, amount)
                draft.ledger.settle(source, row["dropped"] or row["split"], amount)

    return store.make("corpus", None, {"texts": json.dumps(texts)}, (), build)


def base_of(folder: Path, tokenizer: Tokenizer, start: str | None = None, end: str | None = END) -> Base:
    folder.mkdir(parents=True, exist_ok=True)
    if start:
        mark = (start, tokenizer.token_to_id(start))
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{start} $A", special_tokens=[mark])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": end}))
    (folder / "config.json").write_text("{}")
    return Base("tiny", folder)


DOCUMENTS = [
    ("The court sat.", "train", ""), ("", "train", ""), ("Lost words", "", "dropped: not csv"), ("Été 12", "test", ""),
    (f"a{END}b", "train", ""), ("", "", "dropped: empty"), ("Lost too", "", "dropped: not csv"),
    ("last one  ", "validation", ""),
]  # fmt: skip


@pytest.mark.parametrize(("start", "end"), [("<|pad|>", END), (None, END), (None, None)])
def test_documents_marks_and_ledger(tmp_path, start, end):
    store = Store(tmp_path / "store")
    base = base_of(tmp_path / "base", BY_WORDS["digits"](), start, end)
    corpus = corpus_of(store, **{"law.en": DOCUMENTS, "law": DOCUMENTS[::-1], "law-en": DOCUMENTS[:1]})
    tokens = tokenize(corpus, base, Tokenize(shard_bytes=20), store=store)
    plain = BY_WORDS["digits"]()
    first, last = plain.token_to_id(start or END), plain.token_to_id(END)
    marks = [first] * bool(start or end), [last] * bool(end)
    assert list(sources(tokens)) == ["law.en", "law", "law-en"]
    for name, documents in {"law.en": DOCUMENTS, "law": DOCUMENTS[::-1], "law-en": DOCUMENTS[:1]}.items():
        source = sources(tokens)[name]
        kept = [(i, *document) for i, document in enumerate(documents) if not document[2]]
        stored = [marks[0] + plain.encode(text, add_special_tokens=False).ids + marks[1] for _, text, *_ in kept]
        assert [source.tokens(d).tolist() for d in range(len(kept))] == stored
        assert source.position_D.tolist() == [i for i, *_ in kept]
        assert source.num_bytes_D.tolist() == [len(text.encode()) for _, text, *_ in kept]
        for split_name in ("train", "validation", "test"):
            assert source.documents(split_name).tolist() == [d for d, k in enumerate(kept) if k[2] == split_name]
        fates: dict[str, Amount] = {}
        for text, split_name, dropped in documents:
            num_tokens = len(plain.encode(text, add_special_tokens=False).ids) + len(marks[0]) + len(marks[1])
            amount = Amount(1, len(text.encode()), max(0, num_tokens - 1) if text else 0)
            fate = dropped or split_name
            fates[fate] = fates.get(fate, Amount()) + amount
        assert tokens.ledger.fates[name] == fates
        assert tokens.ledger.read[name] == sum(fates.values(), Amount())


def test_a_special_token_spelled_out_forges_no_border(tmp_path):
    store, base = Store(tmp_path / "store"), base_of(tmp_path / "base", BY_WORDS["qwen-2"]())
    documents = [(f"{END} x{END}<|pad|>", "train", ""), (END, "test", "")]
    source = sources(tokenize(corpus_of(store, law=documents), base, store=store))["law"]
    for d in range(2):
        assert base.marks.end not in source.tokens(d)[1:-1]
        assert base.tokenizer.decode(source.tokens(d)[1:-1].tolist()).replace("##", "").replace(" ", "")


@pytest.mark.parametrize(("largest", "dtype"), [(65_535, "uint16"), (65_536, "uint32")])
def test_ids_with_gaps_fit_their_type(tmp_path, largest, dtype):
    tokenizer = make(byte_level(use_regex=True), model=models.BPE({"a": 0, "b": 1, "ab": largest}, [("a", "b")]))
    store, base = Store(tmp_path / "store"), base_of(tmp_path / "base", tokenizer, end=None)
    source = sources(tokenize(corpus_of(store, law=[("abab", "train", "")]), base, store=store))["law"]
    assert source.tokens(0).dtype == dtype
    assert source.tokens(0).tolist() == [largest, largest]


def contents(tokens: Artifact) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in tokens.path.iterdir() if path.name != "manifest.json"}


def test_killed_anywhere_the_second_run_finishes_with_the_same_bytes(tmp_path, monkeypatch):
    """Every file gets its name by a rename: stop before each of them in turn, as a kill would."""
    documents = [(f"{text} {i}", split_name, dropped) for i in range(3) for text, split_name, dropped in DOCUMENTS]
    base = base_of(tmp_path / "base", BY_WORDS["llama-3"]())
    rename, encode = os.replace, CachedEncoder.encode
    renamed: list[str] = []
    asked: list[tuple[str, ...]] = []

    def run(root: Path, stop: int | None = None) -> Artifact:
        monkeypatch.setattr(os, "replace", rename)
        corpus = corpus_of(Store(root), law=documents, sea=documents[:5])
        renamed.clear()

        def counted(source, target):
            if len(renamed) == stop:
                raise KeyboardInterrupt
            renamed.append(Path(target).name)
            rename(source, target)

        monkeypatch.setattr(os, "replace", counted)
        return tokenize(corpus, base, Tokenize(shard_bytes=40), store=Store(root))

    monkeypatch.setattr(CachedEncoder, "encode", lambda self, texts: asked.append(tuple(texts)) or encode(self, texts))
    whole = run(tmp_path / "whole")
    num_renames, all_asked = len(renamed), list(asked)
    assert len(all_asked) == len(list(whole.path.glob("*.bin"))) > 4
    assert not any(name.endswith(".partial") for name in contents(whole))
    for stop in range(num_renames):
        root = tmp_path / f"killed-{stop}"
        with pytest.raises(KeyboardInterrupt):
            run(root, stop)
        marks = {p.name for p in root.glob("drafts/tokens-*/*.json") if re.fullmatch(r".*-\d{5}\.json", p.name)}
        asked.clear()
        assert contents(run(root)) == contents(whole)
        assert asked == all_asked[len(marks) :], "only what was not done is done again"


def test_a_document_without_text_has_no_tokens_whatever_its_bytes(tmp_path):
    """What could not be decoded keeps the bytes that were there; the finding: it was counted as one token."""

    def build(draft):
        draft.facts["sources"] = ["law"]
        rows = [
            doc_row("The court.", source="law", position=0, parent="a") | {"split": "train"},
            doc_row("", source="law", position=1, parent="b", dropped="dropped: undecodable", num_bytes=7),
        ]
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), draft / "law.parquet")
        for row in rows:
            draft.ledger.enter("law", Amount(1, row["num_bytes"]))
            draft.ledger.settle("law", row["dropped"] or row["split"], Amount(1, row["num_bytes"]))

    store, base = Store(tmp_path / "store"), base_of(tmp_path / "base", BY_WORDS["gpt-2"]())
    tokens = tokenize(store.make("corpus", None, {}, (), build), base, store=store)
    assert tokens.ledger.fates["law"]["dropped: undecodable"] == Amount(1, 7, 0)
    assert tokens.ledger.fates["law"]["train"].tokens == len(sources(tokens)["law"].tokens(0)) - 1


def test_tokens_know_where_their_tokenizer_came_from(tmp_path):
    store, base = Store(tmp_path / "store"), base_of(tmp_path / "base", BY_WORDS["gpt-2"]())
    tokens = tokenize(corpus_of(store, law=DOCUMENTS), base, store=store)
    assert tokens.origins == {"tokenizer": str(tmp_path / "base")}


MANY_SHARDS = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
from pathlib import Path
from graft.core.tokens.token_shards import TokenSource
source = TokenSource(Path(sys.argv[1]), "law")
assert len(source.shards) == 150
held = source.tokens(0)
for document in [*range(150), *range(149, -1, -1)]:
    assert source.tokens(document).tolist() == [document, document + 1]
assert held.tolist() == [0, 1]
"""


def test_more_shards_than_files_may_be_open(forks, tmp_path):
    (tmp_path / "tokens.json").write_text(json.dumps({"dtype": "uint16"}))
    for i in range(150):
        np.array([i, i + 1], np.uint16).tofile(tmp_path / f"law-{i:05}.bin")
        one = np.zeros(1, np.int64)
        np.savez(tmp_path / f"law-{i:05}.npz", length=one + 2, split=one, num_bytes=one + 9, position=one + i)
    command = [sys.executable, "-c", MANY_SHARDS, str(tmp_path)]
    ran = run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
