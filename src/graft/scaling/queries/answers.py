"""`graft law predict`, `solve` and `next`, as answers in plain values; nothing is printed here."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graft.core.config.errors import UsageError, nearest
from graft.core.config.settings import build
from graft.scaling.queries.fit import read
from graft.scaling.queries.words import flag_of, named, number, open_law, percent, place
from graft.scaling.solving.law_file import LawFile, swapped
from graft.scaling.solving.least import least_for_domain_tokens, least_for_flops
from graft.scaling.solving.measured import crossing
from graft.scaling.solving.next_runs import candidates, cost_in, rank
from graft.scaling.solving.trade_off import largest_share, trade_off
from graft.scaling.tables.table_file import read_table
from graft.scaling.tables.trials import Columns, read_trials


def rows_of_table(
    kept: LawFile, content: Mapping[str, Any], table: Path, column: Sequence[str], where: Sequence[str]
) -> list[dict[str, Any]]:
    """Predictions for the rows of a table that has the columns of the fitted one."""
    before = {noun: name for noun, name in content["table"]["columns"].items() if noun in kept.reads}
    columns = Columns(named={**before, **named(column)}, where=tuple(where), ratio_of=kept.ratio_of)
    reads = kept.reads if not kept.domains else (*kept.reads, "weights")
    reading = read([table], None, columns, reads, kept.form, measured=False, known=kept.domains)
    found = kept.of_trials(reading.trials)
    own = swapped(reading.trials.columns, kept.ratio_of)
    told = {name: own[name].tolist() for name in kept.reads}
    return [
        {"place": spot, "columns": {name: values[t] for name, values in told.items()}, "shares": {}, **found.row(t)}
        for t, spot in enumerate(reading.places)
    ]


def rows_asked(kept: LawFile, given: Mapping[str, list[float]], at: Sequence[str]) -> list[dict[str, Any]]:
    """Predictions for every combination of the values given, and for every place of `at`."""
    _require_points(kept)
    asked = [dict(zip(given, values, strict=True)) for values in itertools.product(*given.values())] if given else []
    asked += [place(text) for text in at]
    if not asked:
        asked = [{}]
    return [_row_at(kept, one) for one in asked]


def _row_at(kept: LawFile, asked: Mapping[str, float]) -> dict[str, Any]:
    columns = {name: value for name, value in asked.items() if name not in kept.domains}
    weights_TK = None
    if kept.domains:
        weights_TK = np.array([[asked.get(name, 0.0) for name in kept.domains]])
        if (weights_TK < 0).any() or abs(weights_TK.sum() - 1) > 1e-6 + 0.0005 * len(kept.domains):
            raise UsageError(
                f"the shares in --at sum to {weights_TK.sum():.6g}",
                allowed=f"shares of {', '.join(kept.domains)} that sum to 1; what is not named is 0",
            )
        if not kept.reads and columns:
            name = next(iter(columns))
            raise UsageError(
                f'{kept.form} has no domain "{name}"', allowed=", ".join(kept.domains), do=nearest(name, kept.domains)
            )
    whole = kept.complete(columns, weights_TK)
    told = {name: float(values[0]) for name, values in whole.items()}
    shares = {} if weights_TK is None else dict(zip(kept.domains, weights_TK[0].tolist(), strict=True))
    named_shares = {name: share for name, share in shares.items() if share}
    return {"columns": told, "shares": named_shares, **kept.predict(whole, weights_TK).row(0)}


def solve_laws(
    saved: Path | None, target: str, text: str, against: Path | None, at: Mapping[str, float], base_loss: float | None
) -> dict[str, Any]:
    """`graft law solve` by fitted laws. Errors: UsageError for what does not go together."""
    if saved is None:
        raise UsageError(
            "no fitted law is given", allowed="LAW.json, or --measured TABLE", do="graft law fit ... --json LAW.json"
        )
    kept, _ = open_law(saved)
    answers = {"forget": ("ratio",), "domain_tokens": ("ratio", "tokens"), "flops": ("size", "tokens")}[target]
    for name in answers:
        if name in at:
            raise UsageError(
                f"{name} is given, and it is what --{target.replace('_', '-')} asks for", do="leave it out"
            )
    laws = {"law": _law_told(kept)}
    if target != "forget":
        solver = least_for_domain_tokens if target == "domain_tokens" else least_for_flops
        _require_read(at, kept)
        return {**solver(kept, number(text, f"--{target.replace('_', '-')}"), at).to_json(), **laws}
    if against is None:
        raise UsageError(
            "--forget is given without --against",
            allowed="--against GENERAL.json, the law of general loss",
            do="graft law fit TABLE --loss GENERAL_LOSS --json GENERAL.json, with --ratio-of other where the table's "
            "ratio is the domain's",
        )
    general, _ = open_law(against)
    _require_read(at, kept, general)
    laws["against"] = _law_told(general)
    return {**trade_off(kept, general, percent(text), at, base_loss).to_json(), **laws}


def _require_points(kept: LawFile) -> None:
    """Errors: UsageError for a law of whole curves, which a single place says nothing of."""
    if "step" in kept.reads:
        raise UsageError(
            f"{kept.form} reads a whole run, step by step",
            allowed="a table of the run's steps and learning rates",
            do="graft law predict LAW.json --table TABLE",
        )


def _law_told(kept: LawFile) -> dict[str, Any]:
    return {"form": kept.form, "reads": list(kept.reads), "ratio_of": kept.ratio_of}


def _require_read(at: Iterable[str], *laws: LawFile) -> None:
    reads = list(dict.fromkeys(name for one in laws for name in one.reads))
    for name in at:
        if name not in reads:
            raise UsageError(f'the law reads no "{name}"', allowed=", ".join(reads), do=nearest(name, reads))


def solve_measured(
    table: Path, text: str, base_loss: float | None, column: Sequence[str], ratio_of: str, where: Sequence[str]
) -> dict[str, Any]:
    """Where measured general losses cross the budget, between two measured ratios."""
    content = read_table(table)
    nouns = named(column)
    has_loss = "loss" in nouns or "loss" in (name.lower() for name in content.columns)
    reads = ("ratio", "general_loss", *(("loss",) * has_loss))
    columns = build(Columns, {"named": nouns, "ratio_of": ratio_of, "where": tuple(where)}, place=flag_of)
    reading = read_trials(content, columns, reads, law="--measured", measured=False)
    if base_loss is None and len(set(reading.base_loss.values())) != 1:
        raise UsageError(
            "the base's loss on general text is not known",
            where=table.name,
            allowed="--base-loss L, or a column: --column base_loss=COL",
        )
    base = base_loss if base_loss is not None else next(iter(reading.base_loss.values()))
    trials = reading.trials
    found = crossing(
        trials.column("ratio"), trials.column("general_loss"), base * (1 + percent(text)), reading.places,
        trials.column("loss") if has_loss else None,
    )  # fmt: skip
    return {**found.to_json(), "base_loss": base, "budget": percent(text), "notes": list(reading.notes)}


def next_runs(
    saved: Path, at: str, forget: str, base_loss: float | None, given: Mapping[str, list[float]], flops: str
) -> dict[str, Any]:
    """`graft law next`: the answer with its interval, and all candidates, best first."""
    kept, _ = open_law(saved)
    if kept.domains:
        raise UsageError(
            f"{kept.form} reads shares of domains, of which there are too many combinations to rank",
            allowed="a law that reads size, tokens or ratio",
        )
    _require_points(kept)
    asked = place(at)
    _require_read([*asked, *given], kept)
    if forget:
        if "ratio" in asked:
            raise UsageError("--at names a ratio, and with --forget that is the answer", do="leave it out")
        filled = {
            name: float(one[0]) for name, one in kept.complete({**asked, "ratio": 0.5}).items() if name != "ratio"
        }
        budget = percent(forget)
        answer, answer_S = largest_share(kept, budget, filled, base_loss)
        words = f"the domain's share at a budget of {budget:.4g} of the base's loss"
    else:
        if base_loss is not None:
            raise UsageError("--base-loss is given without --forget", allowed="them together")
        filled = {name: float(one[0]) for name, one in kept.complete(asked).items()}
        answer_S = kept.draw(filled)[:, 0]
        answer = float(kept.predict(filled).value_T[0])
        words = "the loss"
    columns = candidates(kept, given, number(flops, "--flops") if flops else None)
    found = rank(kept, answer, answer_S, columns)
    low, high = np.quantile(answer_S, kept.tails)
    costs = "; FLOPs are 6 * size * tokens" if cost_in(kept) == "FLOPs" else ""
    beyond = [kept.predict(one.columns).row(0)["beyond"] for one in found]
    return {
        "form": kept.form,
        "ratio_of": kept.ratio_of,
        "target": {
            "words": words,
            "reads": list(kept.reads),
            "at": filled,
            "value": answer,
            "low": float(low),
            "high": float(high),
        },
        "cost_in": cost_in(kept),
        "made": f"{len(found)} candidates; a run counts as one point, at its end{costs}",
        "candidates": [{**one.to_json(), "beyond": far} for one, far in zip(found, beyond, strict=True)],
    }
