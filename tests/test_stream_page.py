"""The page, the terminal and the plan of a stream, without a browser: every number against the matrix it came from."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from typing import Any

import pytest

from browser.made_facts import HOSTILE
from browser.made_stream import FEW, made_stream
from conftest import OTHER, WORDS, World, write_texts
from graft.cli.listing import Teller
from graft.continual.methods.anchor import Anchor
from graft.continual.methods.joint import Joint
from graft.continual.methods.naive import Naive
from graft.continual.methods.replay import Replay
from graft.continual.methods.stay_close import StayClose
from graft.continual.settings import Judge
from graft.core.config.errors import UsageError
from graft.core.store.artifact import Store
from graft.evaluation.score_documents import Evaluate
from graft.jobs.adapt import Outcome
from graft.jobs.continual import Continual
from graft.planning.plan import forecast
from graft.planning.screen import show_forecast
from graft.planning.stream_forecast import Itinerary
from graft.report.continual import turns
from graft.report.continual.heat_maps import head, heat_maps, metrics, ranked
from graft.report.continual.page import render_stream
from graft.report.continual.stage import summarize
from graft.report.shared.axis import Ruler
from graft.training.settings import Train


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    return made_stream(domains=3, methods=FEW, seeds=2)


def page_of(told: dict[str, Any]) -> str:
    return render_stream(told, summarize(told), title="A stream")


def tables(page: str, kind: str) -> list[str]:
    return re.findall(rf'<table class="{kind}.*?</table>', page, flags=re.DOTALL)


def cells(row: str) -> list[str]:
    """What the cells of a row say, their parts apart by a bar, with plain minus signs and spaces."""
    found = re.findall(r"<td[^>]*>(.*?)</td>", row, flags=re.DOTALL)
    words = [re.sub(r"(<[^>]*>)+", "|", cell).strip("|") for cell in found]
    return [re.sub(r"\s+", " ", word.replace("−", "-")) for word in words]


def rows(table: str) -> list[str]:
    return re.findall(r"<tr.*?</tr>", table.partition("<tbody>")[2], flags=re.DOTALL)


# The matrix


@pytest.mark.parametrize(("measure", "scale", "digits"), [("loss", 1, 3), ("accuracy", 100, 1)])
def test_every_cell_of_the_heat_maps_is_one_of_the_matrix(told, measure, scale, digits):
    """The score, and its change against the start, of every method: in the markup, as it is without scripts."""
    ordered = sorted(told["methods"], key=lambda label: told["methods"][label]["rank"][0])
    shown = [table for table in tables(page_of(told), "heat") if table]
    found = shown[: len(ordered)] if measure == "loss" else shown[len(ordered) :]
    assert [re.search(r'data-method="(.*?)"', one)[1] for one in found] == ordered  # type: ignore[index]
    start = list(told["start"][measure].values())
    for label, table in zip(ordered, found, strict=True):
        first, *rest = rows(table)
        assert cells(first) == [f"{scale * value:.{digits}f}" for value in start]
        matrix = [row for row in told["methods"][label][measure]["matrix"] if None not in row]
        drawn = [cells(row) for row in rest if "waited" not in row]
        assert len(drawn) == len(matrix) == (1 if label == "joint" else 3)
        for row, values in zip(drawn, matrix, strict=True):
            for cell, value, old in zip(row, values, start, strict=True):
                score, change = cell.split("|")
                assert float(score) == pytest.approx(scale * value, abs=0.5 * 10**-digits + 1e-9)
                assert float(change) == pytest.approx(scale * (value - old), abs=0.5 * 10**-digits + 1e-9)


def test_better_is_blue_and_worse_orange_whichever_way_the_score_goes(told):
    """A lower loss and a higher accuracy are gains; the fullest colour is that of the largest change of all maps."""
    worse = copy.deepcopy(told)
    for measure, sign in (("loss", 1), ("accuracy", -1)):
        start = worse["start"][measure]["law"]
        worse["methods"]["naive"][measure]["matrix"][2][0] = start + sign * 0.1
        worse["methods"]["naive"][measure]["matrix"][1][0] = start - sign * 0.1
        worse["methods"]["naive"][measure]["matrix"][0][0] = start
        maps = heat_maps(worse, measure)
        naive = next(one for one in maps["maps"] if one["label"] == "naive")
        assert [row["cells"][0]["sort"] for row in naive["rows"]] == ["none", "gain", "loss"]
        strengths = [
            float(cell["strength"]) for one in maps["maps"] for row in one["rows"] for cell in row["cells"] or []
        ]
        assert max(strengths) == 0.5 and min(strengths) == 0
        assert maps["ends"] == (("lower", "higher") if sign == 1 else ("higher", "lower"))


def test_own_turns_are_outlined_and_turns_without_training_stand_together(told):
    maps = {one["label"]: one["rows"] for one in heat_maps(told, "loss")["maps"]}
    own = [[place for place, cell in enumerate(row["cells"]) if cell["own"]] for row in maps["naive"]]
    assert own == [[0], [1], [2]] and [row["name"] for row in maps["naive"]] == ["law", "chemistry", "sums"]
    waits, last = maps["joint"]
    assert waits == {"turn": "1 to 2", "name": "", "cells": None}
    assert last["name"] == "1 to 3 at once" and [cell["own"] for cell in last["cells"]] == [True, True, True, False]
    assert "nothing was trained yet" in page_of(told)


# Metrics, ranks, cost


@pytest.mark.parametrize(("measure", "scale", "digits"), [("loss", 1, 3), ("accuracy", 100, 1)])
def test_every_metric_has_its_value_interval_seeds_and_variant(told, measure, scale, digits):
    shown = metrics(told, measure)
    names = [(one["name"], one["variant"]) for one in shown["heads"]]
    assert names == [
        ("OP", ""), ("LA", ""), ("BWT", "gem"), ("BWT", "trace"), ("FWT", ""), ("Forgetting", "max"),
        ("Forgetting", "first minus last"), ("General", ""), ("FUAR", ""),
    ]  # fmt: skip
    found = {row["label"]: row["cells"] for row in shown["rows"]}["naive"]
    for cell, (label, one) in zip(found, told["methods"]["naive"][measure]["metrics"].items(), strict=True):
        unit, places = (1, 2) if label == "fuar" else (scale, digits)
        written = [cell["value"], *cell["interval"].split(" to "), *cell["spread"].split(" to ")]
        meant = [one["value"], *one["interval"], *one["spread"]]
        for word, value in zip(written, meant, strict=True):
            assert float(word.replace("−", "-")) == pytest.approx(unit * value, abs=0.5 * 10**-places + 1e-9)
    assert all(one["words"] for one in shown["heads"])


def test_what_is_not_defined_says_why(told):
    joint = {row["label"]: row["cells"] for row in metrics(told, "loss")["rows"]}["joint"]
    said = [cell.get("why") for cell in joint]
    assert said == [None, *["needs every turn"] * 6, None, None]
    bad = copy.deepcopy(told)
    bad["methods"]["naive"]["loss"]["metrics"]["fuar"] = {"value": None, "interval": None, "spread": None}
    naive = {row["label"]: row["cells"] for row in metrics(bad, "loss")["rows"]}["naive"]
    assert naive[-1]["why"] == "no domain gained"
    assert "no domain gained" in page_of(bad) and "needs every turn" in page_of(bad)


def test_a_difference_is_coloured_by_its_sense_where_its_interval_leaves_out_nothing(told):
    """Below 0 is worse for BWT and general text, above 0 for forgetting; levels have no colour."""
    one = copy.deepcopy(told)
    found = one["methods"]["naive"]["loss"]["metrics"]
    for label in found:
        found[label] |= {"value": 0.2, "interval": [0.1, 0.3]}
    cells = {row["label"]: row["cells"] for row in metrics(one, "loss")["rows"]}["naive"]
    sorts = [cell["sort"] for cell in cells]
    assert sorts == ["plain", "plain", "gain", "gain", "gain", "loss", "loss", "gain", "plain"]
    for label in found:
        found[label]["interval"] = [-0.1, 0.3]
    cells = {row["label"]: row["cells"] for row in metrics(one, "loss")["rows"]}["naive"]
    assert {cell["sort"] for cell in cells} == {"plain", "none"}


def test_variants_that_the_list_alone_has_are_named_too():
    assert head("backward_transfer")["variant"] == "gem" and head("forgetting")["variant"] == "max"
    assert head("overall_performance after 2")["variant"] == "after turn 2"
    assert head("overall_performance after 0")["variant"] == ""
    assert head("own_metric depth 3") == {"name": "own metric", "variant": "depth 3", "words": ""}


def test_methods_stand_by_rank_with_differences_cost_and_the_frontier(told):
    table = tables(page_of(told), "runs ranking")[0]
    ordered = sorted(told["methods"].items(), key=lambda pair: pair[1]["rank"][0])
    for row, (label, one) in zip(rows(table), ordered, strict=True):
        rank, loss, against, general, seconds, memory = cells(row)
        assert f"</span>{label}" in row and ("on the frontier" in row) == one["front"]
        assert rank.split("|")[0] == str(one["rank"][0])
        assert float(loss.split("|")[0]) == pytest.approx(
            one["loss"]["metrics"]["overall_performance"]["value"], abs=6e-4
        )
        low, high = one["loss"]["metrics"]["overall_performance"]["interval"]
        assert f"{low:.3f} to {high:.3f}" in loss
        if label == "naive":
            assert "is the first" in against
        else:
            assert f"{one['against']['difference']:+.3f}" in against and "improved" in against
        assert f"{100 * one['general']['change']:+.1f}" in general
        assert f"{one['cost']['tokens']:,.0f} tokens" in seconds and "1.2 GB" in memory and "3.3 million" in memory


def test_curves_hold_the_matrix_and_the_mean_over_what_was_seen(told):
    charts = [[one["rows"] for one in chart["layers"] if one["mark"] == "line"] for chart in turns.drawn(told, "loss")]
    assert turns.texts(told) == [
        ("Mean over the domains seen so far", 0), ("law", 1), ("chemistry", 2), ("sums", 3), ("general", 0),
    ]  # fmt: skip
    matrix = told["methods"]["naive"]["loss"]["matrix"]
    assert [value for _, value in charts[2][0]] == pytest.approx(
        [told["start"]["loss"]["chemistry"], *(row[1] for row in matrix)], rel=1e-5
    )
    means = [matrix[0][0], sum(matrix[1][:2]) / 2, sum(matrix[2][:3]) / 3]
    assert [value for _, value in charts[0][0]] == pytest.approx(means, rel=1e-5)
    assert [turn for turn, _ in charts[0][2]] == [3], "joint has the last turn alone"
    assert f"{means[1]:.3f}" in tables(page_of(told), "use")[0]


def test_flips_models_settings_and_texts_are_there(told):
    page = page_of(told)
    table = tables(page, "matrix shaded flips")[0]
    naive = next(row for row in rows(table) if "naive" in row)
    flips = told["methods"]["naive"]["flips"]
    assert [cell.split("|")[0] for cell in cells(naive)] == [
        f"{100 * flips[name]['lost']:.1f} %" for name in ("law", "chemistry", "general")
    ]
    joint = next(row for row in rows(table) if "joint" in row)
    assert [cell.split("|")[0] for cell in cells(joint)][:2] == ["–", "–"]
    names = [name for one in told["methods"].values() for seed in one["models"] for name in seed if name]
    assert len(names) == 2 * (3 + 3 + 1) and all(f"<code>{name}</code>" in page for name in names)
    for words in ("replay.share", "joint.general", "texts/law/", "models/small", "graft why NAME"):
        assert words in page


def test_answers_to_a_suite_stand_by_turn_with_change_and_interval(told):
    """Percent and percentage points; below 0 is worse, as right answers go."""
    table = tables(page_of(told), "runs asked")[0]
    start = f"{100 * told['suite']['start']:.1f}"
    for row, label in zip(rows(table), ranked(told), strict=True):
        one = told["methods"][label]["suite"]
        first, *turns, change, lost, found = cells(row)
        assert first == start
        assert turns == ["–" if value is None else f"{100 * value:.1f}" for value in one["after"]]
        low, high = one["interval"]
        said = [float(word) for word in re.findall(r"[+-]?\d+\.\d", change)]
        assert said == pytest.approx([100 * one["change"], 100 * low, 100 * high], abs=0.0501)
        assert ("worse" in change) == ("▼" in change) == (high < 0)
        assert ("improved" in change) == ("▲" in change) == (low > 0)
        assert lost == f"{100 * one['lost']:.1f} %" and found == f"{100 * one['found']:.1f} %"
    assert "worse" in table and "facts (50 questions" in page_of(told)
    without = made_stream(domains=2, methods=FEW, seeds=1, suite=False)
    assert 'id="suite"' not in page_of(without) and 'href="#suite"' not in page_of(without)


def test_one_seed_and_few_documents_leave_out_what_is_not_known():
    one = made_stream(domains=2, methods=FEW, seeds=1, documents=1)
    page = page_of(one)
    assert "by seed" not in page and "seeds " not in tables(page, "runs ranking")[0]
    assert "no interval" in page and "one test document" in page
    assert one["methods"]["naive"]["loss"]["metrics"]["overall_performance"]["interval"] is None


def test_what_a_user_wrote_is_text_and_nothing_else(told):
    bad = copy.deepcopy(told) | {"base": HOSTILE[0], "notes": list(HOSTILE)}
    bad["paths"]["law"] = list(HOSTILE)
    bad["methods"][HOSTILE[2]] = bad["methods"].pop("naive")
    page = page_of(bad)
    assert page.count("<script") == 2 and "<img" not in page and "window.broken = 2&#39;" in page


def test_a_ruler_places_levels_and_names_round_ones():
    ruler = Ruler(4.0, 6.0)
    assert (ruler.at(4), ruler.at(5), ruler.at(6)) == (0, 50, 100) and ruler.between(4.5, 5.5) == [25, 50]
    assert ruler.ticks() == [{"at": 0, "word": "4"}, {"at": 50, "word": "5"}, {"at": 100, "word": "6"}]
    assert [tick["word"] for tick in Ruler(4.51, 5.49).ticks()] == ["4.6", "4.8", "5.0", "5.2", "5.4"]
    assert [tick["word"] for tick in Ruler(0.92, 1.21).ticks()] == ["1.0", "1.1", "1.2"]
    assert all(2 <= len(Ruler(3.3, 3.3 + span / 10).ticks()) <= 6 for span in range(1, 100))
    same = Ruler.over([3.0, 3.0])
    assert same.low < 3 < same.high and same.at(3) == pytest.approx(50)


# The terminal


def test_the_screen_shows_the_ranking(told, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    summary = summarize(told)
    Teller(fresh=1).finish(Outcome(tmp_path, summary, []))
    lines = capsys.readouterr().out.splitlines()
    first = next(number for number, line in enumerate(lines) if line.lstrip().startswith("method"))
    ordered = sorted(summary["runs"].values(), key=lambda row: row["rank"])
    for row, line in zip(ordered, lines[first + 1 :], strict=False):
        low, high = row["loss_intervals"]["overall_performance"]
        assert line.split()[0] == row["label"].split()[0]
        for word in (
            f"{row['loss']['overall_performance']:.3f}",
            f"{low:.3f} to {high:.3f}",
            f"{row['general']['change']:+.1%}",
        ):
            assert word in line
    assert "–" in lines[first + 1], "what joint forgot is not defined"


def test_other_summaries_rank_nothing(tmp_path, capsys):
    for runs in ({}, {"one": {"verdict": "improved"}}, [{"rank": 1}]):
        summary = {"verdict": "said", "notes": [], "runs": runs}
        Teller(fresh=1).finish(Outcome(tmp_path, summary, []))
        assert "method" not in capsys.readouterr().out


# The plan


@pytest.fixture(scope="module")
def job(world: World, tmp_path_factory) -> Continual:
    root = tmp_path_factory.mktemp("texts")
    paths = {
        name: str(write_texts(root / name, words, 40, seed))
        for seed, (name, words) in enumerate({"law": WORDS, "sea": OTHER, "rest": [*OTHER, *WORDS]}.items())
    }
    return Continual(
        base=str(world.base.folder),
        domains={"law": paths["law"], "sea": paths["sea"]},
        general=(paths["rest"],),
        methods=(Naive(), Replay(0.25, "domains"), Joint()),
        train=Train(tokens=1024, sequence_length=64, batch_size=4, learning_rate=2e-3, evaluations=1, precision="fp32"),
        evaluate=Evaluate(max_tokens=1500),
        judge=Judge(draws=100),
        out=str(root / "out"),
    )


def test_an_itinerary_counts_tokens_by_source_and_what_is_shared_once(job, world):
    """Worked by hand: 4 rows of 64 are a step, 4 steps a turn; replay of domains has nothing to replay in turn 1."""
    one = Itinerary.of(replace(job, seeds=(0, 1)), world.base, dict.fromkeys(("law", "sea", "general"), 10_000))
    assert one.turns == {
        "naive": [{"law": 1024.0}, {"sea": 1024.0}],
        "replay share 25 %, of domains": [{"law": 1024.0}, {"sea": 768.0, "law": 256.0}],
        "joint": [None, {"sea": 1024.0, "law": 1024.0}],
    }
    assert len(one.trainings) == 2 * (1 + 2 + 1) and one.tokens == 2 * (3 * 1024 + 2048)
    teachers = replace(job, methods=(Naive(), StayClose(), Anchor("l2")))
    counts = Itinerary.of(teachers, world.base, dict.fromkeys(("law", "sea", "general"), 10_000)).trainings
    assert [each.num_teachers for each in counts][:4] == [0, 0, 1, 1]


def test_without_tokens_a_turn_is_one_pass_over_its_domain(job, world):
    free = replace(job, train=replace(job.train, tokens=None), methods=(Naive(), Replay(0.5)))
    one = Itinerary.of(free, world.base, {"law": 2560, "sea": 5120, "general": 10_000})
    assert one.turns["naive"] == [{"law": 2560.0}, {"sea": 5120.0}]
    assert one.turns["replay 50 %"] == [
        {"law": 1280.0, "general": 1280.0},
        {"sea": 2560.0, "law": 1280.0, "general": 1280.0},
    ]


@pytest.mark.slow
def test_a_plan_says_what_the_stream_then_does(job, tmp_path, capsys):
    """Trainings and their tokens against those that are made; before and after."""
    store = Store(tmp_path / "store")
    blind = forecast(job, store)
    assert blind.itinerary and not blind.complete and not list(store.root.glob("*-*"))
    assert set(blind.seconds) == {"docs", "corpus", "tokens", "train", "evidence"}
    show_forecast(blind)
    said = capsys.readouterr().out
    assert "3 methods, 2 turns, 1 seed: 4 trainings of 5,120 tokens in all" in re.sub(r"\s+", " ", said)
    assert "768 + 256" in said and "–" in said
    made = job(store).artifacts
    trained = {one.name: sum(one.facts["tokens"].values()) for one in made if one.kind == "train"}
    assert len(trained) == len(blind.itinerary.trainings)
    assert sorted(trained.values()) == pytest.approx(
        sorted(one.shape.tokens for one in blind.itinerary.trainings), rel=0.02
    )
    known = forecast(job, store)
    assert known.complete and known.seconds == {} and all(source.exact for source in known.sources.values())
    show_forecast(known)
    assert "nothing is left to do" in capsys.readouterr().out
    more = forecast(replace(job, methods=(*job.methods, Replay(0.5))), store)  # two trainings of 1024 tokens more
    again = forecast(replace(job, seeds=(5,)), store)  # all four trainings
    assert not more.complete and set(more.seconds) == set(again.seconds) == {"train", "evidence"}
    assert 2048 / 5120 <= more.seconds["train"] / again.seconds["train"] <= 2 / 4  # looks are alike, however long a run
    assert more.seconds["evidence"] / again.seconds["evidence"] == pytest.approx(2 / 4)


def test_a_plan_refuses_what_the_stream_would(job, tmp_path):
    with pytest.raises(UsageError, match="tokens is 100"):
        forecast(replace(job, train=replace(job.train, tokens=100)), Store(tmp_path))
