"""Texts that differ only by Unicode normalisation, byte order mark or line ends are the same text."""

from __future__ import annotations

import json
import unicodedata

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.core.store.artifact import Store
from graft.core.text.documents import canonical, doc_id
from graft.core.text.ngrams import ngrams
from graft.core.text.split import Split
from graft.data.curate import Curate, curate
from graft.data.ingest import ingest
from graft.data.steps.overlap import Overlap

pieces = st.lists(
    st.sampled_from(["é", "e\u0301", "ü", "가", "\u1100\u1161", "Å", "\u212b", "ﬁ", "²", "a", " ", "\n", "中"]),
    max_size=12,
).map("".join)
FORMS = {
    "nfd": lambda text: unicodedata.normalize("NFD", text),
    "nfc": lambda text: unicodedata.normalize("NFC", text),
    "byte order mark": lambda text: "\ufeff" + text,
    "mark inside": lambda text: text.replace(" ", " \ufeff"),
    "windows": lambda text: text.replace("\n", "\r\n"),
    "old mac": lambda text: text.replace("\n", "\r"),
}


@pytest.mark.parametrize("form", FORMS)
@given(text=pieces)
@settings(deadline=None)
def test_a_text_in_another_form_is_the_same_text(form, text):
    other = FORMS[form](text)
    assert doc_id(other) == doc_id(text)
    assert ngrams([other], 2)[0].tolist() == ngrams([text], 2)[0].tolist()
    assert canonical(canonical(other)) == canonical(other)


@given(pieces, pieces)
def test_only_canonically_equivalent_texts_are_the_same(one, other):
    """By Unicode's own definition, through its other normal form."""
    assert (doc_id(one) == doc_id(other)) == (unicodedata.normalize("NFD", one) == unicodedata.normalize("NFD", other))


def french(number: int) -> str:
    return " ".join(f"été{number * 40 + i} déjà vu à l'hôtel" for i in range(20))


def test_duplicates_are_found_over_forms_and_the_text_stays_as_it_is(tmp_path):
    texts = [french(i) for i in range(60)]
    other = [unicodedata.normalize("NFD", texts[0]), "\ufeff\ufeff" + texts[1], texts[2]]
    (tmp_path / "d.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in [*texts, *other]))
    store = Store(tmp_path / "store")
    corpus = curate({"domain": ingest([str(tmp_path / "d.jsonl")], "domain", store=store)}, store=store)
    table = pq.read_table(corpus / "domain.parquet").to_pylist()
    assert [row["dropped"] for row in table][60:] == ["dropped: duplicate"] * 3
    assert table[60]["text"] == other[0] and table[0]["text"] == texts[0]


def test_overlap_is_found_over_forms(tmp_path):
    """Copies in NFD, each with a word of its own, meet the fate of copies in NFC."""
    texts = [french(i) for i in range(80)]
    copies = [f"{text} fin{i}" for i, text in enumerate(texts)]
    store, found = Store(tmp_path / "store"), []
    for form in ("NFC", "NFD"):
        path = tmp_path / f"{form}.jsonl"
        rows = [*texts, *(unicodedata.normalize(form, copy) for copy in copies)]
        path.write_text("\n".join(json.dumps({"text": text}) for text in rows))
        docs = {"domain": ingest([str(path)], "domain", store=store)}
        corpus = curate(docs, Curate(split=Split(test=0.3, validation=0.2), steps=(Overlap(),)), store=store)
        found.append({fate: amount.documents for fate, amount in corpus.ledger.fates["domain"].items()})
    assert found[0] == found[1] and found[0]["dropped: overlaps train"] > 10
