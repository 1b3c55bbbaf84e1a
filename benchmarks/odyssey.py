"""Does training on a text help less, or hurt, the more the text is like what the model was pre-trained on?

    python benchmarks/odyssey.py run MODELS --data DATA --out odyssey.csv [--bases NAME ..] [--seeds 0 ..]
    python benchmarks/odyssey.py tell odyssey.csv [--page odyssey.html]

The question is that of "Adaptation Odyssey in LLMs" (arXiv 2410.05581). `run` trains every base under MODELS on each
text without replay, at four shares of the rate that it was pre-trained at, and scores it on held-out documents of the
same text; beside it stands how alike the text is to the pre-training text, by every measure of `graft similarity`.
Two controls: other seeds, and the same text with the words of each document in random order (--shuffled). A row per
run; runs are kept in --store and never made twice. `tell` prints the tables of docs/results.md.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from graft.core.config.plugins import Shelf
from graft.core.models.base_model import Base
from graft.core.stats.correlation import correlate
from graft.core.store.artifact import Artifact, Store
from graft.data.curate import curate
from graft.data.ingest import ingest
from graft.data.tokenize import tokenize
from graft.evaluation.probes.blame import CLASSES, by_class
from graft.evaluation.run_probes import examine
from graft.evaluation.score_documents import Evaluate, evaluate
from graft.evaluation.similarity.embed import embed
from graft.evaluation.similarity.measure_similarity import Liken, by_name, liken, read_likeness
from graft.readers.open_compressed import opened
from graft.training.settings import Train
from graft.training.train import train

BASES = ("prose-2m", "prose-3m", "prose-7m")
RATES = (0.03, 0.1, 0.3, 1.0)  # of the peak rate of the pre-training
MOST = 3_000_000  # bytes taken of a text
PIECE = 6000  # characters of a piece of MASC, whose documents are few and long
SCORED = Evaluate(max_tokens=30_000)
MASC = {
    "speech": ("debate-transcript", "court-transcript", "face-to-face", "telephone"),
    "letters": ("email", "letters", "spam"),
    "news, blogs": ("newspaper", "blog"),
    "essays": ("essays", "non-fiction", "travel-guides"),
    "stories": ("fiction", "ficlets", "jokes", "movie-script"),
    "reports": ("govt-docs", "journal", "technical"),
    "twitter": ("twitter",),
}
FILES = {
    "wikipedia": ("wikitext2_valid_test/wikitext2_valid.jsonl.gz", "wikitext2_valid_test/wikitext2_test.jsonl.gz"),
    "statutes": ("law_en/dc_code.jsonl.zst",),
    "medical answers": ("medicine/medquad.jsonl.zst",),
    "medical abstracts": ("medicine/pubmedqa_labeled.jsonl.zst",),
    "sums": ("math/gsm8k.jsonl.zst",),
    "chemistry": ("chemistry/openstax_chemistry.jsonl.zst",),
    "papers": ("scientific_papers/oa_stm_110.jsonl.zst",),
    "python": ("code_python/cpython_stdlib.jsonl.zst",),
    "ML code": ("code_python/ml_repos_py.jsonl.zst",),
}
READ, UNREAD = "novels it read", "novels"
MEASURES = {kind: Shelf("similarities").load(kind).larger_is_closer for kind in Shelf("similarities").names()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    runs = verbs.add_parser("run")
    runs.add_argument("models", type=Path)
    runs.add_argument("--data", type=Path, required=True)
    runs.add_argument("--out", type=Path, required=True)
    runs.add_argument("--bases", nargs="*", default=BASES)
    runs.add_argument("--texts", nargs="*", help="all, if none is named")
    runs.add_argument("--rates", nargs="*", type=float, default=RATES)
    runs.add_argument("--seeds", nargs="*", type=int, default=(0,))
    runs.add_argument("--tokens", type=int, default=100_000)
    runs.add_argument("--shuffled", action="store_true", help="the words of each document in random order")
    runs.add_argument("--store", type=Path, default=Path(".graft/odyssey"))
    runs.set_defaults(verb=run)
    tells = verbs.add_parser("tell")
    tells.add_argument("table", type=Path)
    tells.set_defaults(verb=tell)
    chosen = parser.parse_args()
    chosen.verb(chosen)


def run(chosen: argparse.Namespace) -> None:
    store = Store(chosen.store)
    texts = gather(chosen.data, chosen.models / "held_out_books.json", chosen.store / "texts", chosen.shuffled)
    names = [name for name in texts if name != "pre-training" and (not chosen.texts or name in chosen.texts)]
    for base in chosen.bases:
        model = Base.find(str(chosen.models / base))
        for name in names:
            alike = likeness(model, texts[name], texts["pre-training"], store)
            tokens = corpus(model, texts[name], texts[UNREAD], name, store)
            for rate in chosen.rates:
                for seed in chosen.seeds:
                    at = {"base": base, "text": name, "rate": rate, "seed": seed, "shuffled": int(chosen.shuffled)}
                    keep(chosen.out, at | alike | look(model, tokens, name, rate, seed, chosen.tokens, store))


def gather(data: Path, books: Path, place: Path, shuffled: bool) -> dict[str, Path]:
    """A JSONL file per text, at most MOST bytes of it, spread evenly; and the pre-training text."""
    place = place / ("shuffled" if shuffled else "plain")
    place.mkdir(parents=True, exist_ok=True)
    held_out = set(json.loads(books.read_text()))
    novels = [row for path in sorted((data / "english_prose").glob("*.zst")) for row in lines(path)]
    masc = list(lines(data / "english_masc/masc.jsonl.zst"))
    found: dict[str, list[str]] = {
        UNREAD: [row["text"] for row in novels if row["book"] in held_out],
        READ: [row["text"] for row in novels if row["book"] not in held_out],
    }
    for name, genres in MASC.items():
        found[name] = [part for row in masc if set(genres) & set(row["genre"]) for part in pieces(row["text"])]
    for name, files in FILES.items():
        found[name] = [row["text"] for file in files for row in lines(data / file)]
    whole = found[READ], [part for row in masc for part in pieces(row["text"])]
    found["pre-training"] = [text for side in whole for text in spread(side, MOST // 2)]
    written: dict[str, Path] = {}
    for name, rows in found.items():
        change = shuffle if shuffled and name != "pre-training" else str
        written[name] = place / f"{name.replace(' ', '_').replace(',', '')}.jsonl"
        if not written[name].exists():
            whole_text = "".join(json.dumps({"text": change(text)}) + "\n" for text in spread(rows, MOST))
            written[name].write_text(whole_text)
    return written


def lines(path: Path) -> Iterator[dict[str, Any]]:
    with opened(path) as stream:
        for line in io.TextIOWrapper(stream.content, encoding="utf-8"):
            yield json.loads(line)


def pieces(text: str) -> list[str]:
    """A text in pieces of whole lines, about PIECE characters each."""
    parts = [""]
    for line in text.splitlines(keepends=True):
        if len(parts[-1]) > PIECE:
            parts.append("")
        parts[-1] += line
    return parts


def spread(rows: list[str], most: int) -> list[str]:
    """Rows of at most so many bytes in all, taken evenly."""
    share = most / max(1, sum(len(row) for row in rows))
    return rows if share >= 1 else [row for k, row in enumerate(rows) if int((k + 1) * share) > int(k * share)]


def shuffle(text: str) -> str:
    words = text.split(" ")
    random.Random(0).shuffle(words)
    return " ".join(words)


def likeness(model: Base, text: Path, reference: Path, store: Store) -> dict[str, float | None]:
    sides = [embed(ingest((str(path),), "text", store=store), model, store=store) for path in (text, reference)]
    rows = by_name(read_likeness(liken(sides[0], sides[1], Liken(draws=100), store=store)))
    return {name: row["corrected"] for name, row in rows.items()}


def corpus(model: Base, text: Path, novels: Path, name: str, store: Store) -> Artifact:
    paths = {"domain": text} | ({"general": novels} if name == READ else {})
    docs = {source: ingest((str(path),), source, store=store) for source, path in paths.items()}
    return tokenize(curate(docs, store=store), model, store=store)


def look(
    model: Base, tokens: Artifact, name: str, rate: float, seed: int, length: int, store: Store
) -> dict[str, object]:
    """One run. What it was trained on is what it is tested on, but for novels it read: those are tested on others."""
    settings = Train(tokens=length, rewarm=rate, batch_size=4, seed=seed, evaluations=2, checkpoint_minutes=60)
    trained = train(model, tokens, {"domain": 1.0}, settings, store=store)
    before, after = (
        evaluate(one, tokens, SCORED, store=store) for one in (model, Base(trained.name, trained / "model"))
    )
    findings = examine(before, after, store=store)
    changes = {row["source"]: row for row in json.loads((findings / "forgetting.json").read_text())}
    tested = "general" if name == READ else "domain"
    row = changes[tested]
    items = [one for one in json.loads((findings / "blame.json").read_text()) if one["source"] == tested]
    blame = {one["class"]: one["blame"] for one in by_class(items)}
    curve = [one for one in json.loads((trained / "curve.json").read_text()) if "validation" in one]
    watched = [one["validation"][tested][0] / one["validation"][tested][1] for one in (curve[0], curve[-1])]
    low, high = row["interval"] or (None, None)
    return {
        "before": row["before"], "after": row["after"], "change": row["change"], "low": low, "high": high,
        "documents": row["documents"], "watched": watched[1] / watched[0] - 1,
    } | {f"blame {kind}": blame.get(kind, 0.0) for kind in CLASSES}  # fmt: skip


def keep(path: Path, row: dict[str, object]) -> None:
    """Adds a row; columns are those of the first."""
    known = read(path) if path.exists() else []
    with path.open("w", newline="") as out:
        writer = csv.DictWriter(out, list(known[0] if known else row), restval="", extrasaction="ignore")
        writer.writeheader()
        same = [(key, str(row[key])) for key in ("base", "text", "rate", "seed", "shuffled")]
        writer.writerows([one for one in known if any(one[key] != value for key, value in same)])
        writer.writerow({key: f"{one:.6g}" if isinstance(one, float) else one for key, one in row.items()})


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def tell(chosen: argparse.Namespace) -> None:
    rows = read(chosen.table)
    plain = [row for row in rows if row["shuffled"] == "0"]
    for base in dict.fromkeys(row["base"] for row in plain):
        print(f"\n**{base}**\n")
        texts_table([row for row in plain if row["base"] == base and row["seed"] == "0"])
    print("\n**Correlation over texts of likeness with change**\n")
    correlations([row for row in plain if row["seed"] == "0"])
    print("\n**Controls**\n")
    controls(rows)


def texts_table(rows: list[dict[str, str]]) -> None:
    """A line per text, the most alike first by the model's own loss: likeness, changes by rate, and who did most."""
    rates = sorted({float(row["rate"]) for row in rows})
    head = ["text", "loss before", *MEASURES, *(f"rate x {rate:g}" for rate in rates), "worst class, lowest rate"]
    print("| " + " | ".join(head) + " |\n|---|" + "--:|" * (len(head) - 2) + "---|")
    for text in sorted({row["text"] for row in rows}, key=lambda name: float(of(rows, name)[0]["base_loss"])):
        mine = {float(row["rate"]): row for row in of(rows, text)}
        first = mine[min(mine)]
        cells = [text, f"{float(first['before']):.3f}", *(f"{float(first[name]):.3g}" for name in MEASURES)]
        cells += [changed(mine[rate]) if rate in mine else "" for rate in rates]
        worst = max(CLASSES, key=lambda kind: float(first[f"blame {kind}"]))
        print("| " + " | ".join([*cells, f"{worst} {float(first[f'blame {worst}']):+.4f}"]) + " |")


def changed(row: dict[str, str]) -> str:
    change, low, high = (float(row[key]) if row[key] else None for key in ("change", "low", "high"))
    assert change is not None
    said = f"{change:+.1%}"
    return said if low is None or high is None else f"{said} ({low:+.1%}, {high:+.1%})"


def of(rows: list[dict[str, str]], text: str) -> list[dict[str, str]]:
    return [row for row in rows if row["text"] == text]


def correlations(rows: list[dict[str, str]]) -> None:
    """Likeness is turned so that more is more alike: above 0 is the paper's pattern, alike texts gain less or lose."""
    print("| base | rate | texts | texts that got worse | " + " | ".join(MEASURES) + " |")
    print("|---|--:|--:|--:|" + "---|" * len(MEASURES))
    for base, rate in sorted({(row["base"], float(row["rate"])) for row in rows}):
        mine = [row for row in rows if row["base"] == base and float(row["rate"]) == rate]
        if len(mine) < 5:
            continue
        change = [float(row["change"]) for row in mine]
        cells = []
        for name, closer in MEASURES.items():
            alike = [float(row[name]) * (1 if closer else -1) for row in mine]
            found = correlate(alike, change, [row["text"] for row in mine])
            cells.append(f"{found.spearman:+.2f}" + spanned(found.spearman_interval) + f"; r {found.pearson:+.2f}")
        worse = sum(float(row["low"] or 0) > 0 for row in mine)
        print(f"| {base} | x {rate:g} | {len(mine)} | {worse} | " + " | ".join(cells) + " |")


def spanned(interval: tuple[float, float] | None) -> str:
    return f" ({interval[0]:+.2f}, {interval[1]:+.2f})" if interval else ""


def controls(rows: list[dict[str, str]]) -> None:
    """Of the texts that were also trained on with other seeds, or with their words shuffled: change by change."""
    print("| text | base | rate | change | other seeds | shuffled |\n|---|---|--:|--:|---|---|")
    kinds = (lambda row: row["seed"] != "0", lambda row: row["shuffled"] == "1")
    told = [row for row in rows if any(is_kind(row) for is_kind in kinds)]
    for text, base, rate in dict.fromkeys((row["text"], row["base"], row["rate"]) for row in told):
        same = [row for row in rows if (row["text"], row["base"], row["rate"]) == (text, base, rate)]
        own = [row for row in same if not any(is_kind(row) for is_kind in kinds)]
        cells = [
            ", ".join(f"{float(row['change']):+.2%}" for row in group)
            for group in (own, *([row for row in same if is_kind(row)] for is_kind in kinds))
        ]
        print(f"| {text} | {base} | x {float(rate):g} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
