"""Runs side by side: what is named is found, only what compares is ranked, pairs are exact, and gates close by run."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm
from scipy.stats import t as student

import graft
from command import call
from conftest import OTHER, WORDS, World, write_texts
from graft.cli.gate import check_gate, limit, reach, read_conditions
from graft.core.config.errors import GateClosed, UsageError
from graft.core.config.plugins import Shelf
from graft.core.config.settings import build
from graft.core.models.base_model import Base
from graft.core.records.evidence import read_evidence
from graft.core.store.artifact import Artifact, Store
from graft.core.store.related import ancestry
from graft.data.curate import curate
from graft.data.ingest import ingest
from graft.data.tokenize import tokenize
from graft.jobs.adapt import Adapt, Outcome
from graft.jobs.extend import Extend
from graft.jobs.report import Report
from graft.report.adaptation.stage import number_keys
from graft.report.overview import settings_table as columns
from graft.report.overview.pareto import fronts, sentence, unbeaten
from graft.report.overview.resolve_inputs import labels
from graft.report.overview.stage import Gather
from graft.surgery.extend_vocabulary import Growth
from graft.training.objectives.stay_close import StayClose
from graft.training.settings import Train
from graft.training.tunings.new_rows import NewRows

SHORT = Train(tokens=8192, batch_size=4, learning_rate=3e-3, evaluations=2, validation_tokens=500, precision="fp32")


def adapted(world: World, out: Path, store: Store, **more: object) -> Path:
    """A finished adaptation of the tiny base, in a folder of results."""
    job = Adapt(
        base=str(world.base.folder), domain=(str(world.domain),), general=(str(world.general),), replay=0.2,
        out=str(out), train=SHORT,
    )  # fmt: skip
    replace(job, **more)(store)
    return out


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return Store(tmp_path_factory.mktemp("overview") / "store")


@pytest.fixture(scope="module")
def runs(world, store, tmp_path_factory) -> dict[str, Path]:
    """Four runs on the same text, of which two differ in their seed alone, and one on other text."""
    folder = tmp_path_factory.mktemp("runs")
    other = write_texts(folder / "other", WORDS[::2] + OTHER[::2], 60, seed=9)
    close = replace(SHORT, objective=StayClose(kl_weight=1.0))
    return {
        "plain": adapted(world, folder / "plain", store),
        "again": adapted(world, folder / "again", store, train=replace(SHORT, seed=1)),
        "bare": adapted(world, folder / "bare", store, replay=0.0),
        "close": adapted(world, folder / "close", store, train=close),
        "foreign": adapted(world, folder / "foreign", store, domain=(str(other),)),
    }


def report(store: Store, out: Path, *names: object, **more: object) -> Outcome:
    return Report(tuple(map(str, names)), out=str(out), **more)(store)


@pytest.fixture(scope="module")
def outcome(runs, store, tmp_path_factory) -> Outcome:
    return report(store, tmp_path_factory.mktemp("out") / "reported", *runs.values())


def page_of(one: Outcome) -> str:
    return (one.out / "report.html").read_text(encoding="utf-8")


def own(path: Path) -> dict:
    return json.loads((path / "summary.json").read_text())


def test_numbers_are_those_of_the_runs_own_summaries(outcome, runs):
    assert list(outcome.summary["runs"]) == list(runs)
    for label, folder in runs.items():
        told, known = outcome.summary["runs"][label], own(folder)
        for name in ("domain", "general"):
            assert told[name] == known[name]
        assert (told["ratio"], told["rate"], told["seed"]) == (known["ratio"], known["rate"], known["seed"])
        assert told["artifact"].startswith("report-") and told["outcome"] == known["outcome"]


def test_only_runs_on_the_same_documents_stand_on_one_frontier(outcome):
    first, second = outcome.summary["fronts"]
    assert first["runs"] == ["plain", "again", "bare", "close"] and second["runs"] == ["foreign"]
    assert any("scored on different documents" in note and "foreign" in note for note in outcome.summary["notes"])
    changes = {name: outcome.summary["runs"][name] for name in first["runs"]}
    for name in first["runs"]:
        mine = [changes[name][role]["change"] for role in ("domain", "general")]
        beaten = any(
            all(changes[other][role]["change"] < value for role, value in zip(("domain", "general"), mine, strict=True))
            for other in first["runs"]
        )
        assert (name in first["best"]) != beaten
    assert "1 other cannot be ranked with them" in outcome.summary["verdict"]


def test_unbeaten_by_hand():
    points = {
        "a": (-0.3, 0.1),
        "b": (-0.2, 0.0),
        "c": (-0.2, 0.05),
        "d": (-0.1, -0.1),
        "e": (-0.3, 0.1),
        "f": (0.0, 0.0),
    }
    assert unbeaten(points) == ("a", "e", "b", "d")  # twins leave each other be; c and f are beaten


def made(label: str, domain: float, general: float, base: str = "b", key: str = "k") -> dict:
    row = {"interval": [0.0, 0.0], "verdict": "improved", "bits": [2.0, 1.0]}
    text = {"key": key, "docs": "d", "documents": 50}
    return {
        "label": label, "base": base, "base_key": base, "sentence": f"what {label} did", "outcome": "improved",
        "domain": row | {"change": domain}, "general": row | {"change": general},
        "texts": {"domain": text, "general": text},
    }  # fmt: skip


def test_the_verdict_by_hand():
    pairs = [
        {"source": "domain", "one": "a", "other": "b", "interval": [0.01, 0.02]},
        {"source": "general", "one": "a", "other": "b", "interval": [-0.01, 0.02]},
    ]
    two = [made("a", -0.3, 0.02), made("b", -0.2, 0.01)]
    assert sentence(two, fronts(two), pairs, 0) == (
        "30.0% lower domain loss: a leads 2 runs on the same test text (certainly better than b); b keeps "
        "general text best, at +1.0% (not certainly better than a); 2 of 2 are on the frontier, where no other run is "
        "better in both."
    )
    for run in two:
        run["texts"]["domain"] = run["texts"]["domain"] | {"documents": 3}
    few = sentence(two, fronts(two), pairs, 0)
    assert "(certainly better than b by 3 test documents alone);" in few and "(not certainly better than a);" in few
    one_best = [made("a", -0.3, 0.0), made("b", -0.2, 0.01)]
    assert "no other run is better in either" in sentence(one_best, fronts(one_best), [], 0)
    apart = [made("a", -0.3, 0.0), made("b", -0.2, 0.01, base="c")]
    assert sentence(apart, fronts(apart), [], 0).startswith("Of 2 runs no two are known to have the same base")
    groups = [
        made("a", -0.3, 0.02),
        made("b", -0.2, 0.01),
        made("c", -0.1, 0.3, key="l"),
        made("d", -0.2, 0.4, key="l"),
        made("e", -0.2, 0.4, key="m"),
    ]
    said = sentence(groups, fronts(groups), [], 0)
    assert (
        "a leads 2 runs from b on" in said
        and "d leads 2 runs from b on" in said
        and "1 other cannot be ranked with any" in said
    )
    assert sentence(two[:1], fronts(two[:1]), [], 3) == "a: what a did."
    assert sentence([], [], [], 2) == "2 artifacts, and no run among them whose outcome was measured."


def test_a_pair_is_its_documents_summed_by_hand(outcome, runs, store):
    """Nats of every document of both runs, read off their evidence, and an interval drawn here by other means."""
    evidence = {}
    for name in ("plain", "bare"):
        found = store.get(outcome.summary["runs"][name]["artifact"]).manifest["inputs"]["after"]
        evidence[name] = read_evidence(store.get(found))["general"]
    sums = {
        name: np.array([one.document(d)[1].astype(float).sum() for d in range(one.num_documents)])
        for name, one in evidence.items()
    }
    row = next(
        row for row in outcome.summary["pairs"]
        if (row["source"], row["one"], row["other"]) == ("general", "plain", "bare")
    )  # fmt: skip
    assert row["documents"] == len(sums["plain"])
    assert row["change"] == pytest.approx(sums["bare"].sum() / sums["plain"].sum() - 1, rel=1e-9)
    draw = np.random.default_rng(5)
    picks = draw.integers(0, len(sums["plain"]), (20_000, len(sums["plain"])))
    changes = sums["bare"][picks].sum(1) / sums["plain"][picks].sum(1) - 1
    width, n = np.ptp(row["interval"]), row["documents"]
    low = norm.cdf(np.sqrt(n / (n - 1)) * student.ppf(0.025, n - 1))  # Hesterberg 2015, section 5.3
    assert np.quantile(changes, [low, 1 - low]) == pytest.approx(row["interval"], abs=0.1 * width)
    assert row["verdict"] == ("no change" if row["interval"][0] <= 0 <= row["interval"][1] else row["verdict"])


def test_pairs_drawn_together_are_those_drawn_alone(outcome, store):
    from graft.core.stats.bootstrap import paired_change
    from graft.evaluation.metrics.bits_per_byte import BitsPerByte

    seen = {
        name: read_evidence(store.get(store.get(told["artifact"]).manifest["inputs"]["after"]))
        for name, told in outcome.summary["runs"].items()
    }
    for row in outcome.summary["pairs"]:
        places = [seen[row[side]][row["source"]].position_D.tolist() for side in ("one", "other")]
        assert places[0] == places[1], (row["one"], row["other"], places[0][:9], places[1][:9])
        alone = paired_change(*(BitsPerByte()(seen[row[side]][row["source"]]) for side in ("one", "other")))
        assert [row["change"], *row["interval"]] == pytest.approx([alone.change, *alone.interval], rel=1e-9)
        assert row["bits"] == pytest.approx([alone.before, alone.after], rel=1e-9)


def test_runs_on_other_text_are_paired_where_they_read_the_same(outcome):
    named = {(row["source"], *sorted((row["one"], row["other"]))) for row in outcome.summary["pairs"]}
    assert ("general", "foreign", "plain") in named and ("domain", "foreign", "plain") not in named
    assert len(named) == len(outcome.summary["pairs"]) == 6 + 10  # of four runs on domain text, of five on general


def test_a_pair_seen_from_the_other_side():
    from graft.report.overview.page import _reversed

    cell = _reversed({"change": 0.25, "interval": [0.0, 1.0], "verdict": "worse"})
    assert cell["change"] == "−20.0\u202f%" and cell["interval"] == "−50.0\u202f% to 0.0\u202f%"
    assert cell["status"]["word"] == "improved"


def test_many_pairs_are_held_against_the_best_alone(outcome, runs, store, tmp_path):
    few = report(store, tmp_path / "few", *runs.values(), gather=Gather(pairs=6))
    kept = [row for row in few.summary["pairs"] if row["source"] == "general"]
    assert len(kept) == 4 and len([row for row in few.summary["pairs"] if row["source"] == "domain"]) == 6
    best = kept[0]["one"]
    assert all(row["one"] == best and row["change"] > 0 for row in kept)
    assert any(f"of 10 pairs of runs the 4 with {best}" in note for note in few.summary["notes"])


def test_settings_that_differ_are_columns_and_the_rest_is_said_once(outcome, runs):
    told = [{"label": name, "settings": one["settings"]} for name, one in outcome.summary["runs"].items()]
    differ, same = columns.split(told)
    assert set(differ) == {"domain text", "objective", "share of domain text", "seed"}
    assert differ["objective"] == ["causal"] * 3 + ["stay_close (kl_weight 1.0)", "causal"]
    assert differ["share of domain text"][2] == "100.0\u202f%" and differ["seed"] == ["0", "1", "0", "0", "0"]
    assert same["peak rate"] == "3\u202f×\u202f10⁻³" and same["train.clip"] == "1.0"
    page = page_of(outcome)
    assert "The same in all:" in page and '<th scope="col" data-sort>Objective</th>' in page


@pytest.mark.parametrize(
    ("shown", "order"),
    [("3\u202f×\u202f10⁻³", "0.003"), ("1,000", "1000.0"), ("89.8\u202f%", "89.8"), ("8 rows of 64", "8.0"),
     ("causal", "causal"), ("−1.5", "-1.5"), ("", "")],
)  # fmt: skip
def test_a_column_is_sorted_by_its_numbers(shown, order):
    assert columns.sortable(shown) == order


def test_every_ancestor_stands_once_in_the_lineage_and_says_who_uses_it(outcome, runs, store):
    page = page_of(outcome)
    rows = re.findall(r'<tr id="(\w+-[0-9a-f]{12})"', page)
    made = [store.get(outcome.summary["runs"][name]["artifact"]) for name in runs]
    assert sorted(rows) == sorted({one.name for artifact in made for one in ancestry(artifact)})
    assert len(rows) == len(set(rows))
    general = made[0].manifest["inputs"]["tokens"]
    row = page[page.index(f'<tr id="{general}"') :]
    assert row[: row.index("</tr>")].count('class="used') == 4  # not the foreign run's
    links = set(re.findall(r'href="#([^"]+)"', page))
    assert links <= set(re.findall(r'id="([^"]+)"', page)), "every link within the page leads somewhere"


def test_links_to_the_runs_own_pages_lead_there(outcome, runs):
    hrefs = re.findall(r'<a href="(\.\.[^"]*report\.html)"', page_of(outcome))
    assert [(outcome.out / href).resolve() for href in hrefs] == [
        path.resolve() / "report.html" for path in runs.values()
    ]


def test_an_artifact_may_be_named_by_a_beginning_or_a_path(outcome, store, tmp_path):
    name = outcome.summary["runs"]["plain"]["artifact"]
    for given in (name, name[:12], store.root / name):
        assert next(iter(report(store, tmp_path / "out", given).summary["runs"].values()))["artifact"] == name


def test_labels_are_as_long_as_it_takes_to_tell_them_apart():
    names = ["out/a/law", "out/b/law/", "./med", "report-12 3", "out/b/law", ".."]
    assert list(labels(names)) == ["a_law", "b_law", "med", "report-12_3", "b_law_2", "run"]


def test_what_is_named_twice_is_shown_once(runs, store, tmp_path, outcome):
    name = outcome.summary["runs"]["plain"]["artifact"]
    trained = store.get(name).manifest["inputs"]["trained"]
    one = report(store, tmp_path / "out", runs["plain"], name, runs["plain"], trained)
    assert list(one.summary["runs"]) == ["plain"]
    assert sum("shown once" in note for note in one.summary["notes"]) == 3
    assert one.summary["verdict"] == f"plain: {own(runs['plain'])['verdict']}"


def test_a_run_whose_artifact_is_gone_still_shows_its_numbers(runs, store, tmp_path):
    for other in (store, Store(tmp_path / "empty")):
        copy = tmp_path / f"copy-{len(other.artifacts())}"
        shutil.copytree(runs["plain"], copy)
        mark = json.loads((copy / ".graft.json").read_text())
        mark["entries"]["summary.json"]["from"] = "report-000000000000/summary.json"
        (copy / ".graft.json").write_text(json.dumps(mark))
        one = report(other, tmp_path / "out", copy)
        [told] = one.summary["runs"].values()
        assert told["domain"] == own(runs["plain"])["domain"] and not told["artifact"]
        assert any("cannot be drawn" in note and "--store" in note for note in one.summary["notes"])
        assert "artifact not in the store" in page_of(one) and "report-000000000000" in page_of(one)


def test_a_changed_summary_is_said_and_a_broken_one_refused(runs, store, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(runs["plain"], copy)
    (copy / "summary.json").write_text("{")
    one = report(store, tmp_path / "out", copy)
    assert one.summary["runs"]["copy"]["domain"] == own(runs["plain"])["domain"]
    assert any("was changed after it was written" in note for note in one.summary["notes"])
    for text in ("{", "[]", '{"domain": {"change": "much"}}', '{"general": {"change": 0.1, "interval": [1]}}'):
        (copy / "summary.json").write_text(text)
        with pytest.raises(UsageError, match=r"summary\.json: this"):
            report(Store(tmp_path / "empty"), tmp_path / "out", copy)


def test_wrong_names_say_what_is_near(runs, store, tmp_path, outcome):
    for names, words in (
        ((), "names no artifact"),
        ((runs["plain"].with_name("plein"),), "plain"),
        (("report",), "fits 5 artifacts"),
        (("nothing-at-all",), "no artifact of this store"),
        ((runs["plain"].parent,), "holds some"),
        ((tmp_path,), "holds no result"),
    ):
        with pytest.raises(UsageError) as error:
            report(store, tmp_path / "out", *names)
        assert words in str(error.value)
    with pytest.raises(UsageError, match="would replace the results"):
        report(store, runs["plain"], runs["plain"])
    assert "report.html" in {path.name for path in runs["plain"].iterdir()}


def moved(store: Store, root: Path, *kinds: str, only: Iterator[Artifact] | list[Artifact]) -> Store:
    """A store with those of the artifacts that are of these kinds."""
    for one in only:
        if one.kind in kinds:
            shutil.copytree(one.path, root / one.name)
    return Store(root)


def test_a_training_alone_finds_what_was_made_of_it(runs, store, tmp_path, outcome):
    told = store.get(outcome.summary["runs"]["plain"]["artifact"])
    trained, line = told.manifest["inputs"]["trained"], ancestry(told)
    whole = report(store, tmp_path / "a", trained).summary
    assert any(told.name in note for note in whole["notes"]) and whole["runs"][trained]["domain"]
    text = ("train", "tokens", "corpus", "docs")
    scored = report(moved(store, tmp_path / "s1", "evidence", *text, only=line), tmp_path / "b", trained).summary
    known = own(runs["plain"])
    for name in ("domain", "general"):
        assert scored["runs"][trained][name]["change"] == pytest.approx(known[name]["change"], rel=1e-12)
    assert any("has no report" in note for note in scored["notes"])
    alone = report(moved(store, tmp_path / "s2", *text, only=line), tmp_path / "c", trained)
    [note] = alone.summary["notes"]
    assert "was not measured" in note and "graft compare" in note and f"{trained}/model" in note
    assert f"--text {runs['plain'].parent.name}" not in note and "domain" in note
    page = page_of(alone)
    assert "not measured" in page and '"about":"Learning curves on domain"' in page


def test_the_command_that_would_measure_a_training_works(runs, store, tmp_path, outcome):
    """It is said as text, so what is said is run."""
    told = store.get(outcome.summary["runs"]["plain"]["artifact"])
    only = moved(store, tmp_path / "s", "train", "base", "tokens", "corpus", "docs", only=ancestry(told))
    note = report(only, tmp_path / "out", told.manifest["inputs"]["trained"]).summary["notes"][0]
    command = re.search(r"`graft (.*)`", note)[1].split()
    process = call(*command, "--store", only.root, "--out", tmp_path / "cmp")
    assert process.returncode == 0, process.stderr


def test_every_kind_has_its_table_and_an_unknown_one_a_note(world, runs, store, tmp_path, outcome):
    line = ancestry(store.get(outcome.summary["runs"]["plain"]["artifact"]))
    kinds = {one.kind: one.name for one in line if one.kind != "report" and one.kind != "train"}
    begun = store.make("odd", {}, {}, (), lambda draft: None)
    one = report(store, tmp_path / "out", *kinds.values(), begun.name)
    assert set(one.summary["others"]) == {*kinds.values(), begun.name} - {kinds["findings"]}
    assert one.summary["runs"][kinds["findings"]]["domain"]["change"] == own(runs["plain"])["domain"]["change"]
    assert any("of the kind odd" in note for note in one.summary["notes"])
    page = page_of(one)
    documents = read_evidence(store.get(kinds["evidence"]))["domain"].num_documents
    assert re.search(rf'<td>domain</td>(<td class="n">[\d.]+</td>){{2}}<td class="n">{documents}</td>', page)
    ledger = store.get(kinds["docs"]).ledger
    [source] = ledger.read
    assert f'<td>kept</td><td class="n">{ledger.read[source].documents}</td>' in page


def test_a_comparison_and_an_extension_are_told_too(world, runs, store, tmp_path):
    fresh = write_texts(tmp_path / "fresh", WORDS, 6, seed=3)
    cmp = call("compare", world.base.folder, runs["bare"] / "model", "--text", fresh, "--out", tmp_path / "cmp",
               "--store", store.root)  # fmt: skip
    assert cmp.returncode == 0, cmp.stderr
    extension = Extend(
        base=str(world.base.folder), domain=(str(world.domain),), general=(str(world.general),),
        out=str(tmp_path / "ext"), growth=Growth(tokens=5), train=replace(SHORT, tuning=NewRows()),
    )  # fmt: skip
    extension(store)
    one = report(store, tmp_path / "out", tmp_path / "cmp", tmp_path / "ext", runs["plain"])
    known = own(tmp_path / "cmp")["texts"]["fresh"]
    assert f"{known['bits_per_byte']['after']:.4g}" in page_of(one)
    told = one.summary["runs"]["ext"]
    assert told["domain"]["change"] == own(tmp_path / "ext")["domain"]["change"]
    assert any("bits per byte" in note and "ext" in note for note in one.summary["notes"])
    assert {row["source"] for row in one.summary["pairs"]} == {"domain", "general"}
    keys = set(extension.number_keys())
    assert set(numbers(own(tmp_path / "ext"))) - keys <= set(numbers({"tuning": own(tmp_path / "ext")["tuning"]})) | {
        key for key in numbers(own(tmp_path / "ext")) if key.startswith("largest.")
    }


SHARES = {"accuracy": {"model": 0.25, "against": None, "change": None}, "interval": {"model": [0.125, 0.5]}, "items": 7,
          "chance": 0.2}  # fmt: skip
METHOD = {
    "label": "replay", "rank": 1, "general": {"change": 0.02, "interval": [0.01, 0.03]},
    "loss": {"overall_performance": 4.25, "forgetting-form-first-minus-last": 9.0, "forgetting-form-max": 0.5},
    "loss_intervals": {"overall_performance": [4.0, 4.5]},
}  # fmt: skip


@pytest.mark.parametrize(
    ("summary", "cells"),
    [
        (
            {"verdict": "m answers", "model": "m", "against": None, "all": SHARES, "tasks": {"arc": SHARES}},
            ["arc", "7", "0.25", "0.125", "0.5", "0.2"],
        ),
        (
            {"verdict": "er leads", "domains": ["law", "sea"], "runs": {"n": METHOD | {"rank": 2}, "er": METHOD}},
            ["replay", "1", "4.25", "4", "4.5", "+2.0\u202f%", "+1.0\u202f%", "+3.0\u202f%", "0.5"],
        ),
        (
            {"verdict": "er", "domains": ["law"], "runs": {"er": METHOD | {"loss": {}, "general": None}}},
            ["replay", "1", "–", "–", "–", "–", "–", "–", "–"],
        ),
    ],
)
def test_summaries_of_other_jobs_are_tables_too(store, tmp_path, summary, cells):
    """Of folders whose artifact is gone; what they say is found by its keys."""
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "summary.json").write_text(json.dumps(summary))
    one = report(store, tmp_path / "out", tmp_path / "gone")
    assert one.summary["others"] == ["gone"] and one.summary["verdict"] == f"gone: {summary['verdict']}"
    assert "1 artifact<" in page_of(one) and "What was given" in page_of(one)
    (tmp_path / "too").mkdir()
    (tmp_path / "too" / "summary.json").write_text(json.dumps(summary | {"verdict": "this, too"}))
    two = report(store, tmp_path / "out", tmp_path / "gone", tmp_path / "too")
    assert two.summary["said"] == {"gone": summary["verdict"], "too": "this, too"} and "2 artifacts" in page_of(two)
    assert all(f'<p class="lead">{words}</p>' in page_of(two) for words in two.summary["said"].values())
    row = next(row for row in page_of(one).split("<tr>") if f"<td>{cells[0]}</td>" in row)
    assert re.findall(r"<td[^>]*>(.*?)</td>", row)[: len(cells)] == cells


def numbers(value: object, path: str = "") -> Iterator[str]:
    """The dotted path of every number."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield from numbers(below, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for place, below in enumerate(value):
            yield from numbers(below, f"{path}.{place}")
    elif isinstance(value, int | float):
        yield path


def test_every_job_says_its_numbers():
    for name in Shelf("jobs").names():
        assert callable(Shelf("jobs").load(name).number_keys), f"the job {name} does not say what a gate may name"


def test_the_keys_of_an_overview_are_known_before_it_is_there(runs, outcome):
    job = Report(tuple(map(str, runs.values())))
    keys = set(job.number_keys())
    own_keys = set(number_keys(["domain", "general"]))
    for label, told in outcome.summary["runs"].items():
        there = set(
            numbers({key: told[key] for key in ("domain", "general", "tokens", "ratio", "rate", "seed", "steps")})
        )
        assert there <= own_keys and {f"{label}.{key}" for key in there} <= keys


def test_gates_close_by_run_and_for_any_run(outcome, runs):
    job = Report(tuple(map(str, runs.values())))
    change = {name: one["general"]["change"] for name, one in outcome.summary["runs"].items()}
    ordered = sorted(change, key=lambda name: change[name])
    middle = (change[ordered[-1]] + change[ordered[-2]]) / 2
    with pytest.raises(GateClosed) as closed:
        check_gate(read_conditions([f"general.change > {middle:.6f}"], job), outcome.summary)
    assert f"{ordered[-1]}.general.change is" in str(closed.value) and ordered[0] not in str(closed.value)
    check_gate(read_conditions([f"{ordered[0]}.general.change > {middle:.6f}"], job), outcome.summary)
    with pytest.raises(GateClosed, match=ordered[-1]):
        check_gate(read_conditions([f"{ordered[-1]}.general.change > {middle:.6f}"], job), outcome.summary)
    with pytest.raises(GateClosed, match="was not measured"):
        check_gate(read_conditions(["budget.share < 0.5"], job), outcome.summary)
    for wrong in ("nobody.general.change > 1", "general.chnge > 1", "plain.verdict > 1"):
        with pytest.raises(UsageError, match="has no number"):
            read_conditions([wrong], job)


def test_values_are_reached_by_keys_with_dots_in_them():
    values = {"v1.5": {"change": 1, "ends": [2, 3]}, "v1": {"5": {"change": 4}}, "none": None}
    assert reach(values, "v1.5.change") == 1 and reach(values, "v1.5.ends.1") == 3
    assert reach(values, "v1.5.ends.9") is None and reach(values, "other", "absent") == "absent"
    assert reach(values, "none.change", "absent") is None


def test_a_run_that_was_not_measured_closes_a_gate_over_all_runs(runs, store, tmp_path, outcome):
    """Beside one that was, it must not be passed over; alone it closes, too."""
    told = store.get(outcome.summary["runs"]["bare"]["artifact"])
    other = store.get(outcome.summary["runs"]["plain"]["artifact"])
    bare = moved(store, tmp_path / "s", "train", "tokens", "corpus", "docs", only=ancestry(told))
    moved(store, tmp_path / "s", "report", "findings", "evidence", "corpus", only=[other])
    trained = told.manifest["inputs"]["trained"]
    for names in ((other.name, trained), (trained,)):
        one = report(bare, tmp_path / "out", *names)
        job = Report(names)
        for key in ("general.change", "domain.interval.1", f"{trained}.general.change"):
            with pytest.raises(GateClosed, match=rf"{trained}\.\S+ was not measured"):
                check_gate(read_conditions([f"{key} > 900%"], job), one.summary)
        known = one.summary["runs"][trained]
        assert known["general"] is None and known["domain"] is None
        assert [known[key] for key in ("ratio", "steps", "rate", "seed", "tokens")] == [
            own(runs["bare"])[key] if key != "tokens" else {"domain": own(runs["bare"])["tokens"]["domain"]}
            for key in ("ratio", "steps", "rate", "seed", "tokens")
        ]
        check_gate(read_conditions([f"steps > {known['steps']}"], job), one.summary)
        with pytest.raises(GateClosed, match=f"{trained}.steps is"):
            check_gate(read_conditions([f"{trained}.steps > {known['steps'] - 1}"], job), one.summary)


@pytest.mark.parametrize("kind", ["findings", "evidence", "train"])
def test_what_is_removed_from_the_store_and_put_back_makes_other_pages(runs, store, tmp_path, outcome, kind):
    """The page is what the store holds now, and no older one; for a report, findings and a training alike."""
    told = store.get(outcome.summary["runs"]["plain"]["artifact"])
    line = ancestry(told)
    for given in (told.name, told.manifest["inputs"]["findings"], told.manifest["inputs"]["trained"]):
        here = moved(store, tmp_path / f"{given}-{kind}", *(one.kind for one in line), only=line)
        gone = [one for one in line if one.kind == kind and one.name != given and (here.root / one.name).exists()]
        if not gone:
            continue
        whole = report(here, tmp_path / "out", given)
        page = page_of(whole)
        for one in gone:
            (here.root / one.name).rename(tmp_path / one.name)
        without = report(here, tmp_path / "out", given)
        assert page_of(without) != page and without.artifacts[-1].name != whole.artifacts[-1].name
        assert all(f'id="{one.name}"' in page and f'id="{one.name}"' not in page_of(without) for one in gone)
        for one in gone:
            (tmp_path / one.name).rename(here.root / one.name)
        again = report(here, tmp_path / "out", given)
        assert again.artifacts[-1].name == whole.artifacts[-1].name and page_of(again) == page


@pytest.mark.parametrize(
    ("verdict", "head", "rest"),
    [
        ("a (x; y), b; c; d", "a (x; y), b", "c; d"),
        ("a", "a", ""),
        ("a (x; y; z", "a (x; y; z", ""),
        ("a;b (c)", "a;b (c)", ""),
    ],
)
def test_the_verdict_is_parted_outside_brackets(verdict, head, rest):
    from graft.report.overview.page import _clauses

    [clause] = _clauses({"runs": [], "named": {"one": "one"}, "summary": {"verdict": verdict}})
    assert (clause["head"], clause["before"]) == (head, rest) and clause["status"]["word"] == "1 artifact"


def test_of_hundreds_of_inputs_the_first_are_named_and_the_others_counted():
    from graft.report.overview.lineage_graph import INPUTS, lanes

    inner = [{"name": f"train-{n:012x}", "inputs": {}} for n in range(INPUTS + 5)]
    inputs = {f"m, seed 0, turn {n}: trained": one["name"] for n, one in enumerate(inner)} | {"base": "b", "notes": ""}
    rows = [*inner, {"name": "stream-000000000000", "inputs": inputs}]
    facts = {"lineage": [one | {"started": "t", "seconds": 1.0, "used_by": ["s"]} for one in rows]}
    last = lanes(facts | {"named": {"s": "s"}, "runs": []})[-1]
    assert last["made_from"] == list(inputs.items())[:INPUTS] and last["used_by"] == "all"
    assert last["outside"] == [("base", "b"), ("and 5 more", "")]


def test_a_turn_of_a_stream_has_a_mixture_and_no_share_of_domain_text(world, store, tmp_path, outcome):
    """Its sources are called otherwise, and which of them is first says nothing."""
    from graft.evaluation.score_documents import Evaluate, evaluate
    from graft.training.train import train

    docs = {
        name: ingest([str(path)], name, store=store) for name, path in (("law", world.domain), ("sea", world.general))
    }
    tokens = tokenize(curate(docs, store=store), world.base, store=store)
    trained = train(world.base, tokens, {"law": 0.75, "sea": 0.25}, SHORT, store=store)
    evaluate(Base(trained.name, trained / "model"), tokens, Evaluate(max_tokens=500), store=store)
    told = report(store, tmp_path / "out", trained.name, outcome.summary["runs"]["plain"]["artifact"])
    one = told.summary["runs"][trained.name]
    assert "ratio" not in one and not one["settings"]["share of domain text"] and one["domain"] is None
    assert one["tokens"] == trained.facts["tokens"] and one["settings"]["mixture"].endswith("sea")
    [other] = [name for name in told.summary["runs"] if name != trained.name]
    assert told.summary["runs"][other]["settings"]["share of domain text"] and "ratio" in told.summary["runs"][other]


def test_the_page_says_how_things_were_named_this_time(store, tmp_path, outcome):
    name = outcome.summary["runs"]["plain"]["artifact"]
    assert f"is {store.root / name}" in page_of(report(store, tmp_path / "a", store.root / name))
    assert f"is {store.root / name}" not in page_of(report(store, tmp_path / "a", name))


def test_every_kind_that_is_made_has_words_in_the_lineage(outcome):
    """No stage makes what the page cannot name; and a report among many is not "this page"."""
    from graft.report.adaptation.panels import KINDS
    from graft.report.overview.lineage_graph import OTHERS

    made = {
        kind for path in Path(graft.__file__).parent.rglob("*.py")
        for kind in re.findall(r'store\.make\(\s*"([a-z-]+)"', path.read_text())
    }  # fmt: skip
    assert {"stream", "answers", "likeness", "report"} <= made <= {*KINDS, *OTHERS} and not {*KINDS} & {*OTHERS}
    assert "this page" not in page_of(outcome) and "report of an adaptation" in page_of(outcome)
    assert KINDS["findings"] in page_of(outcome)


def test_the_line_in_the_drawing_is_the_strictest_gate():
    assert limit(["general.change > 3%", "general.change >= 0.02", "general.change < 1%"], "general.change") == 0.02
    assert limit(["domain.change > 3%", "nonsense"], "general.change") is None


def data_of(one: Outcome) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', page_of(one), re.DOTALL)[1])


def test_every_setting_has_an_effect(runs, store, tmp_path, outcome):
    marks = lambda one: {layer["class"] for layer in data_of(one)["charts"][0]["layers"]}  # noqa: E731
    assert not marks(outcome) & {"budget", "seeds"}
    lined = report(store, tmp_path / "a", *runs.values(), forget=0.03, title="Mine")
    limit = [layer["rows"] for layer in data_of(lined)["charts"][0]["layers"] if layer["class"] == "budget"]
    assert limit == [[[3.0]]] and "3.00\u202f% allowed" in page_of(lined)
    assert "<h1>Mine</h1>" in page_of(lined)
    joined = report(store, tmp_path / "b", *runs.values(), gather=Gather(seeds="joined"))
    seeds = [len(layer["rows"]) for layer in data_of(joined)["charts"][0]["layers"] if layer["class"] == "seeds"]
    assert seeds == [2], "plain and again"
    drawn = report(store, tmp_path / "c", *runs.values(), gather=Gather(seed=1))
    assert [row["interval"] for row in drawn.summary["pairs"]] != [row["interval"] for row in outcome.summary["pairs"]]
    for wrong in ({"pairs": -1}, {"seeds": "mixed"}):
        with pytest.raises(UsageError):
            Gather(**wrong)
    with pytest.raises(UsageError, match="forget"):
        build(Report, {"runs": ["x"], "forget": "much"})


def test_the_page_needs_nothing_but_itself_and_reads_without_scripts(outcome):
    page = page_of(outcome)
    loads = re.sub(r"/\*!.*?\*/|\"http://www\.w3\.org/[\w/]+\"", "", page, flags=re.DOTALL)  # licences, names of XML
    assert "https:" not in loads and "http:" not in loads
    markup = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    for told in outcome.summary["runs"].values():
        for name in ("domain", "general"):
            sign = "−" if told[name]["change"] < 0 else "+"
            assert f"{sign}{abs(told[name]['change']) * 100:.1f}\u202f%" in markup
        assert f"{told['domain']['bits_per_byte']['after']:.3f}" in markup


def test_no_text_becomes_markup(runs, store, tmp_path):
    odd = tmp_path / "<img src=x onerror=alert(1)>"
    shutil.copytree(runs["plain"], odd)
    one = report(store, tmp_path / "out", odd, title="<i>T</i>")
    page = page_of(one)
    assert "<img" not in page and "<i>T" not in page and page.count("</script>") == 2


def test_the_command_the_gate_and_the_recipe(runs, store, tmp_path, outcome):
    out = tmp_path / "out"
    names = list(runs.values())
    open_gate = call("report", *names, "--out", out, "--store", store.root, "--fail-if", "general.change > 900%")
    assert open_gate.returncode == 0, open_gate.stderr
    assert outcome.summary["verdict"] in open_gate.stdout and str(out / "report.html") in open_gate.stdout
    assert "model:" not in open_gate.stdout
    rows = [line.split() for line in open_gate.stdout.splitlines()]
    told = outcome.summary["runs"]["bare"]
    row = next(row for row in rows if row[:1] == ["bare"])
    assert f"{told['domain']['change']:+.1%}" in row and f"{told['general']['change']:+.1%}" in row
    assert "100%" in row and f"{sum(told['tokens'].values()):,}" in row and row[-1] == told["outcome"].split()[-1]
    closed = call("report", *names, "--out", out, "--store", store.root, "--fail-if", "plain.domain.change < 0%")
    assert closed.returncode == 3 and "plain.domain.change is" in closed.stderr and (out / "report.html").exists()
    recipe = tmp_path / "overview.yaml"
    recipe.write_text(f"report:\n  runs: [{', '.join(map(str, names))}]\n  out: {out}\n")
    again = call("run", recipe, "--store", store.root)
    assert again.returncode == 0 and "Nothing to do" in again.stderr
    plan = call("plan", recipe, "--store", store.root)
    assert plan.returncode == 2 and "trains nothing" in plan.stderr
    only = [one for one in ancestry(store.get(outcome.summary["runs"]["bare"]["artifact"])) if one.kind == "train"]
    bare = moved(store, tmp_path / "s", "train", only=only)
    said = call("report", only[0].name, "--out", tmp_path / "bare", "--store", bare.root)
    assert next(line for line in said.stdout.splitlines() if line.startswith(only[0].name)).split()[-1] in (
        "not",
        "measured",
    )
    for arguments, words in (((), "ARTIFACT"), (("nowhere",), "no artifact of this store")):
        wrong = call("report", *arguments, "--store", store.root, "--out", out)
        assert wrong.returncode == 2 and words in wrong.stderr and "Traceback" not in wrong.stderr
