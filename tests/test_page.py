"""The report page without a browser: what it says, that it loads nothing, and that no text can become markup."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from browser.made_facts import HOSTILE, hostile_facts, one_document_facts, small_facts
from graft.core.records.evidence import Evidence, read_evidence, write_evidence
from graft.core.store.artifact import Artifact
from graft.core.store.ledger import Amount, Ledger
from graft.core.text.documents import SCHEMA, doc_row
from graft.evaluation.probes.blame import Blame
from graft.evaluation.probes.forgetting import Forgetting
from graft.report.adaptation import panels
from graft.report.adaptation.accounts import ledger
from graft.report.adaptation.facts import Materials, gather_facts, sample_documents
from graft.report.adaptation.page import render_page
from graft.report.adaptation.stage import number_keys, summarize
from graft.report.shared.axis import Ruler
from graft.report.shared.curves import POINTS_DRAWN, curves, thinned
from graft.report.shared.html import embedded_json, web_file


class Outline(HTMLParser):
    """Elements with their attributes, and the text outside of script and style."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = "" if tag == self.inside else self.inside

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts[-1] += data
        elif self.inside != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


def outline(facts: dict, title: str = "A report") -> Outline:
    return Outline(render_page(facts, title=title))


def said(text: str) -> str:
    """Text as the parser sees it, narrow spaces as spaces."""
    return re.sub(r"\s+", " ", text)


def test_the_page_says_what_the_facts_say() -> None:
    text = outline(small_facts()).text
    for words in (
        "Domain loss fell 20.0 %, so the model reads the domain better 5.000 → 4.000 nats per token (lower is better)",
        ", 95 % interval −25.0 % to −15.0 %",
        "General loss rose 2.5 %, so the model reads general text worse",
        "5.000 → 4.000",
        "1.667 → 1.333",
        "148.4 → 54.60",
        "of 16 in the split",
        "of 2,100 in the split",
        "stay_close (kl_weight 0.1)",
        "5 × 10⁻⁴",
        "2.5 GB",
        "3.3 million parameters",
        "90.0 % domain, 10.0 % general",
        "83 s",
        "schedule.warm_stable_decay.warmup",
    ):
        assert words in text, words


def test_a_fully_scored_source_names_no_split() -> None:
    rows = panels.changes(small_facts())["rows"]
    assert [row["tokens"]["of"] for row in rows] == ["2,100", ""]


def test_notes_are_shown() -> None:
    facts = small_facts() | {"notes": ["A stand-in was used."]}
    page = outline(facts)
    assert "A stand-in was used." in page.text
    assert sum(attributes.get("role") == "note" for _, attributes in page.elements) == 1


def test_nothing_is_loaded_from_anywhere() -> None:
    for tag, attributes in outline(hostile_facts()).elements:
        for name in ("src", "srcset", "data", "poster", "action", "formaction", "background"):
            assert name not in attributes, (tag, attributes)
        if href := attributes.get("href"):
            assert href.startswith("#") or (tag == "link" and href == "data:,"), (tag, href)
    page = render_page(small_facts(), title="A report")
    loads = re.sub(r"/\*!.*?\*/|\"http://www\.w3\.org/[\w/]+\"", "", page, flags=re.DOTALL)  # licences, names of XML
    assert "http:" not in loads and "https:" not in loads and "@import" not in loads and "url(http" not in loads


def test_every_in_page_link_has_its_target() -> None:
    page = outline(small_facts())
    names = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    links = {attributes["href"] for tag, attributes in page.elements if tag == "a"}
    assert "#docs-aa" in links
    assert {link[1:] for link in links if link} <= names
    pointed = [a[key] for _, a in page.elements for key in ("aria-controls", "aria-labelledby") if key in a]
    assert set(pointed) <= names


def test_header_cells_have_a_scope() -> None:
    heads = [attributes for tag, attributes in outline(small_facts()).elements if tag == "th"]
    assert heads and all(attributes.get("scope") in ("col", "row") for attributes in heads)


def test_the_content_policy_allows_just_this_script() -> None:
    page = outline(small_facts())
    policy = next(a["content"] for tag, a in page.elements if tag == "meta" and "Content-Security" in str(a.values()))
    allowed = base64.b64encode(hashlib.sha256(page.scripts[1].encode()).digest()).decode()
    assert policy and f"script-src 'sha256-{allowed}';" in policy and "default-src 'none'" in policy


def test_hostile_text_stays_text() -> None:
    plain = outline(small_facts() | {"notes": ["a note"] * len(HOSTILE)})
    hostile = outline(hostile_facts(), title=HOSTILE[0])
    assert len(hostile.scripts) == len(plain.scripts) == 2
    assert not {tag for tag, _ in hostile.elements} - {tag for tag, _ in plain.elements}
    assert "49" not in hostile.text.split("]]>")[1][:12]
    for text in HOSTILE[:4]:
        assert said(text) in hostile.text
    data = json.loads(hostile.scripts[0])
    assert [row[0] for row in data["documents"][0]["tokens"]] == list(HOSTILE)


@given(st.text(st.sampled_from("<>/!-&scriptSCRIPT \u2028'\"\\"), max_size=40))
def test_embedded_json_holds_no_markup_and_reads_back(text: str) -> None:
    block = embedded_json({"text": text})
    assert not set("<>&") & set(block)
    assert json.loads(block) == {"text": text}


def test_one_document_has_no_interval() -> None:
    text = outline(one_document_facts()).text
    assert "one document: no interval" in text
    assert "no interval (one document)" in text


def test_a_source_without_validation_or_training_still_renders() -> None:
    facts = small_facts()
    del facts["curve"]["validation"]["general"]
    del facts["curve"]["training"]["general"]
    assert "Neither trained on nor watched while training" in outline(facts).text
    [drawn] = json.loads(outline(facts).scripts[0])["charts"]
    assert drawn["about"] == "Learning curve of domain"


def test_empty_blame_and_no_documents_say_so() -> None:
    facts = small_facts() | {"documents": []}
    facts["blame"]["domain"] = {"lost": [], "gained": [], "classes": [], "items": 0, "total": 0.0}
    text = outline(facts).text
    assert "No vocabulary item did." in text and "No document was scored." in text and "No token was scored." in text


def test_parts_that_do_not_sum_are_called_out() -> None:
    facts = small_facts()
    assert "do not sum" not in outline(facts).text
    facts["blame"]["domain"]["classes"][0]["blame"] += 0.01
    assert "The parts do not sum to the total change" in outline(facts).text


def test_the_sum_is_held_to_a_millionth_of_the_change() -> None:
    facts = small_facts()
    facts["blame"]["domain"]["classes"][0]["blame"] += 0.9e-6
    assert panels.blame(facts)[0]["adds_up"]
    facts["blame"]["domain"]["classes"][0]["blame"] += 0.2e-6
    assert not panels.blame(facts)[0]["adds_up"] and panels.blame(facts)[1]["adds_up"]
    facts = small_facts()  # a model that did not change at all has nothing to divide
    facts["changes"][1]["after"] = facts["changes"][1]["before"]
    facts["blame"]["general"] |= {"classes": [], "total": 0.0}
    assert panels.blame(facts)[1]["adds_up"]


def test_without_blame_the_page_has_no_such_section() -> None:
    whole, bare = outline(small_facts()), outline(small_facts() | {"blame": {}})
    ids = {attributes.get("id") for _, attributes in whole.elements}
    assert ids - {attributes.get("id") for _, attributes in bare.elements} >= {"blame", "blame-h", "blame-0"}
    assert "#blame" not in {attributes.get("href") for _, attributes in bare.elements}
    assert "Which tokens did it" not in bare.text and "Before and after" in bare.text


@pytest.mark.parametrize(
    ("split", "words", "never"),
    [
        ("test", "The same held-out documents (test split)", "validation split"),
        ("validation", "The same documents of the validation split", "held-out documents"),
        ("train", "The same documents of the training text", "held-out documents"),
    ],
)
def test_the_page_says_which_text_was_scored(split: str, words: str, never: str) -> None:
    facts = small_facts()
    facts["summary"]["split"] = split
    text = outline(facts).text
    assert words in text and never not in text
    assert panels.changes(facts)["known"].startswith(f"Word n-grams of the {split} text")
    fates = {row["fate"]: row["meaning"] for row in ledger(facts)[0]["fates"]}
    assert [fate for fate, words in fates.items() if "compared on this page" in words] == [split] * (split in fates)


def test_ledger_says_whether_it_adds_up() -> None:
    facts = small_facts()
    assert [one["adds_up"] for one in ledger(facts)] == [True, True]
    assert ledger(facts)[0]["sum"] == {"documents": "100", "bytes": "30,000", "tokens": "8,000"}
    facts["ledger"][3]["bytes"] += 1
    assert [one["adds_up"] for one in ledger(facts)] == [False, True]
    assert "not what was read" in outline(facts).text


@pytest.mark.parametrize("values", [[-0.37, 0.06], [0.0], [1e-6], [-0.9], [3.0, -0.01]])
def test_axis_holds_zero_and_all_values_and_has_few_ticks(values: list[float]) -> None:
    axis = Ruler.over([0.0, *values], least=0.01)
    assert all(0 <= axis.at(value) <= 100 for value in [0, *values])
    assert 2 <= len(axis.marks()) <= 6 and any(abs(tick) < 1e-12 for tick in axis.marks())


def test_long_curves_are_thinned_without_moving_the_mean() -> None:
    points = [[step, float(step % 7)] for step in range(100 * POINTS_DRAWN)]
    few = thinned(points)
    assert len(few) == POINTS_DRAWN
    assert np.mean([value for _, value in few]) == pytest.approx(np.mean([value for _, value in points]), rel=1e-5)
    assert thinned(points[:5]) == points[:5] and thinned([]) == []


def test_a_run_that_diverged_still_has_a_page() -> None:
    facts = small_facts()
    facts["curve"]["training"]["domain"][-1][1] = float("nan")
    facts["curve"]["validation"]["domain"][-1][1] = float("inf")
    drawn = curves(facts)[0]
    assert len(drawn["training"]) == 19 and drawn["validation"] == [[0, 5.1], [5000, 4.5]]
    json.loads(outline(facts).scripts[0])


def test_a_long_run_still_makes_a_small_page() -> None:
    facts = small_facts()
    facts["curve"]["rate"] = [[step, 1e-3] for step in range(200_000)]
    facts["curve"]["training"]["domain"] = [[step, 3.123456789] for step in range(200_000)]
    library = len(web_file("plot.bundle.js"))
    assert len(render_page(facts, title="A report")) - library < 200_000


def fold(path: Path, **manifest: object) -> Artifact:
    """A finished folder with this manifest."""
    whole = {"settings": {}, "inputs": {}, "facts": {}, "ledger": {}, "versions": {}, "device": "a machine"}
    path.mkdir(parents=True, exist_ok=True)
    (path / "manifest.json").write_text(
        json.dumps(whole | {"started": "2026-01-01T00:00:00Z", "seconds": 0.1} | manifest)
    )
    return Artifact(path)


def scored(folder: Path, nats: float) -> Artifact:
    """Evidence of two sources, two documents each: "é b" by bytes and words, then the end mark."""
    vocabulary = {1: "\ufffd", 2: "\ufffd", 3: " b", 4: "<end>"}
    facts = {"sources": ["domain", "general"], "scored": {}}
    artifact = fold(folder, facts=facts)
    for number, name in enumerate(facts["sources"]):
        targets = np.array([1, 2, 3, 4] * 2)
        own = nats + number + np.arange(8, dtype=np.float32) / 8
        pair, bounds = np.array([0, 1]), np.array([0, 4, 8])
        write_evidence(folder, Evidence(name, pair, np.array([4, 4]), bounds, targets, own, vocabulary))
    return artifact


@pytest.fixture
def materials(tmp_path: Path) -> Materials:
    """What the stages leave, in small: two documents of each source, without notes and without a line of work."""
    before, after = scored(tmp_path / "evidence-1", 2.0), scored(tmp_path / "evidence-2", 1.5)
    shares = {"overlap": {"domain": {name: {"mean": mean} for name, mean in (("test", 0.1), ("validation", 0.2))}}}
    split = {"validation": 0.05, "test": 0.05, "seed": 0, "most": 20_000_000}
    corpus = fold(tmp_path / "corpus-3", facts={"notes": shares}, settings={"split": split})
    for name in ("domain", "general"):
        rows = [doc_row("é b", source=name, position=place, parent=f"file#{place}") for place in (0, 1)]
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), corpus / f"{name}.parquet")
    book = Ledger()
    book.enter("domain", Amount(2, 8, 8))
    book.settle("domain", "test", Amount(2, 8, 8))
    tokens = fold(tmp_path / "tokens-4", ledger=book.to_json())
    training = small_facts()["training"]
    trained = fold(tmp_path / "train-5", facts=training | {"ratio": 0.9}, settings={"seed": 1, "objective": "causal"})
    (trained / "curve.json").write_text(
        json.dumps([
            {"step": 0, "validation": {"domain": [10.0, 4], "general": [9.0, 3]}},
            {"step": 1, "loss": {"domain": [9.0, 4]}, "rate": 1e-3},
        ])
    )  # fmt: skip
    findings = fold(tmp_path / "findings-6", inputs={"before": before.name, "after": after.name})
    old, new = read_evidence(before), read_evidence(after)
    (findings / "forgetting.json").write_text(json.dumps(Forgetting()(old, new)))
    (findings / "blame.json").write_text(json.dumps(Blame()(old, new)))
    line = [corpus, tokens, before, trained, after, findings]
    paths = {"domain": ["law"], "general": ["prose"]}
    return Materials(corpus, tokens, trained, before, after, findings, "tiny", paths, line, ["A note."])


def noting(artifact: Artifact, **facts: object) -> None:
    """The manifest's facts changed."""
    manifest = artifact.manifest | {"facts": artifact.facts | facts}
    (artifact / "manifest.json").write_text(json.dumps(manifest))
    artifact.manifest.update(manifest)


def test_what_the_stages_leave_is_what_the_page_reads(materials: Materials) -> None:
    facts = gather_facts(materials, summarize(materials))
    assert [row[0] for row in facts["documents"][0]["tokens"]] == ["é", " b", "<end>"]
    assert facts["documents"][0]["tokens"][0][3] == 2 and facts["documents"][0]["parents"][0].startswith("file#")
    assert facts["curve"]["validation"] == {"domain": [[0, 2.5]], "general": [[0, 3.0]]}
    text = outline(facts).text
    assert "A note." in text and "nats of every scored token (before)" in text and "−0.50000" in text


def test_findings_without_blame_still_make_a_page(materials: Materials) -> None:
    (materials.findings / "blame.json").unlink()
    facts = gather_facts(materials, summarize(materials))
    assert facts["blame"] == {} and "Which tokens did it" not in outline(facts).text


def test_what_stages_noted_stands_in_the_summary_and_on_the_page(materials: Materials) -> None:
    noting(materials.trained, notes=["The head was not known.", "Twice said."])
    noting(materials.after, notes=["Twice said.", "Scored in pieces."])
    noting(materials.before, notes=["Twice said."])
    summary = summarize(materials)
    expected = ["A note.", "The head was not known.", "Twice said.", "Scored in pieces."]
    assert [note for note in summary["notes"] if note in expected] == expected  # each once; cautions stand between
    text = outline(gather_facts(materials, summary)).text
    assert all(note in text for note in summary["notes"])


@pytest.mark.parametrize(("split", "overlap"), [("test", 0.1), ("validation", 0.2), ("train", None)])
def test_the_summary_is_of_the_split_that_was_scored(materials: Materials, split: str, overlap: float | None) -> None:
    materials.after.manifest["settings"]["split"] = split
    summary = summarize(materials)
    assert summary["split"] == split and summary["domain"]["overlap"] == overlap
    assert any(f"The {split} split was scored" in note for note in summary["notes"]) == (split != "test")
    assert summary["domain"]["overlap"] != summary["general"]["overlap"] or overlap is None


@pytest.mark.parametrize(
    ("base", "path", "split", "warned"),
    [
        ("embedded", "embedded:prose", {}, False),
        ("embedded", "embedded:prose", {"seed": 1}, True),
        ("embedded", "embedded:prose", {"test": 0.2}, True),
        ("embedded", "embedded:prose", {"test": 0.02}, False),
        ("embedded", "law", {"seed": 1}, False),
        ("tiny", "embedded:prose", {"seed": 1}, False),
    ],
)
def test_another_split_of_text_that_the_base_has_read_is_noted(
    materials: Materials, base: str, path: str, split: dict[str, float], warned: bool
) -> None:
    materials.corpus.manifest["settings"]["split"].update(split)
    one = replace(materials, base=base, paths={"domain": ["law"], "general": [path]})
    assert any("has read" in note and "general" in note for note in summarize(one)["notes"]) == warned


def test_the_keys_of_a_summary_are_known_before_it_is_there(materials: Materials) -> None:
    """Every number in it, by dotted path, is one that a gate may name; and no other."""

    def paths(value: object, path: str = "") -> Iterator[str]:
        if isinstance(value, dict):
            for key, below in value.items():
                yield from paths(below, f"{path}.{key}" if path else key)
        elif isinstance(value, list | tuple):
            for place, below in enumerate(value):
                yield from paths(below, f"{path}.{place}")
        elif not isinstance(value, str):
            yield path

    assert sorted(paths(summarize(materials))) == sorted(number_keys(["domain", "general"]))


def test_no_document_is_shown_twice(tmp_path: Path) -> None:
    """Two alike documents of one source: the one that gained most, and the one that gained least."""
    vocabulary = {1: "a"}
    one = np.array([0, 1]), np.array([1, 1]), np.array([0, 60, 120]), np.ones(120, int)
    before = Evidence("domain", *one, np.full(120, 2.0, np.float32), vocabulary)
    after = Evidence("domain", *one, np.repeat(np.array([1.0, 1.5], np.float32), 60), vocabulary)
    rows = [doc_row("a" * 60, source="domain", position=place, parent=f"file#{place}") for place in (0, 1)]
    corpus = fold(tmp_path / "corpus-3")
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), corpus / "domain.parquet")
    documents = sample_documents({"domain": before}, {"domain": after}, corpus)
    assert [(one["why"], one["parents"]) for one in documents] == [
        ("gained most", ["file#0"]), ("gained least", ["file#1"]),
    ]  # fmt: skip
    documents = sample_documents({"domain": after}, {"domain": before}, corpus)
    assert [one["why"] for one in documents] == ["lost least", "lost most"]


def test_what_training_text_holds_of_the_test_text_is_said():
    facts = small_facts()
    assert panels.changes(facts)["known"].endswith("2.5\u202f% of domain.")
    facts["summary"].pop("domain")
    assert panels.changes(facts)["known"] == ""
