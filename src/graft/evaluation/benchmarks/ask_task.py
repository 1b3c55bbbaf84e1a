"""ask: the questions of one task, asked of an opened model; how each was answered, as a row."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from graft.core.process.progress import Progress
from graft.core.records.benchmark_answers import judged
from graft.evaluation.benchmarks.question import Question
from graft.evaluation.benchmarks.suite import Task

if TYPE_CHECKING:
    from graft.core.models.base_model import Base
    from graft.models.scoring.context_pairs import Pair, PairEncoder
    from graft.models.scoring.continuations import ContinuationScores, EndingScorer

ARTICLES = re.compile(r"\b(a|an|the)\b")
NO_MARKS = str.maketrans("", "", string.punctuation)
LINE = "\n"  # ends what the model writes


Found = tuple[list[dict[str, Any]], dict[str, Any]]  # rows, and what else there is to say


def ask(
    task: Task, scorer: EndingScorer, base: Base, encoder: PairEncoder, delimiter: str, between: str, tokens: int
) -> Found:
    """A row per question, and {"left_out": why -> how many, "first": why -> place}.

    Errors: NotFinite naming the questions where what the model makes of them is not a number.
    """
    asked = [one.after(task.examples, delimiter, between) for one in task.questions]
    if task.form == "written":
        return _written(task, asked, scorer, base, encoder, tokens)
    return _scored(task, asked, scorer, encoder)


def _scored(task: Task, asked: Sequence[Question], scorer: EndingScorer, encoder: PairEncoder) -> Found:
    from graft.models.runtime.numeric_faults import AtDocuments

    pairs = [pair for one in asked for pair in zip(one.contexts, one.endings, strict=True)]
    places = [(task.name, one.number) for one in asked for _ in one.endings]
    encoded = encoder.encode(pairs, places)
    owners = [number for number, one in enumerate(asked) for _ in one.endings]
    without = {owner: pair.why for owner, pair in zip(owners, encoded, strict=True) if pair.ending is None}
    kept = [(owner, pair) for owner, pair in zip(owners, encoded, strict=True) if owner not in without]
    progress = Progress(f"answer {task.name}", len(kept))
    endings = [pair.ending for _, pair in kept if pair.ending is not None]
    try:
        found = scorer(endings, progress.advance)
    except AtDocuments as fault:
        raise fault.at({(task.name, one.number): one.place for one in asked}) from fault
    progress.close()
    first: dict[int, int] = {}
    for place, (owner, _) in enumerate(kept):
        first.setdefault(owner, place)
    rows = [_row(task, task.questions[owner], found, kept, place) for owner, place in first.items()]
    left_out = Counter(without.values())
    return rows, {
        "left_out": dict(left_out),
        "first": {why: asked[owner].place for owner, why in reversed(without.items())},
    }


def _row(
    task: Task, one: Question, found: ContinuationScores, kept: Sequence[tuple[int, Pair]], place: int
) -> dict[str, Any]:
    """The row of a question whose endings begin at `place` among those scored."""
    mine = slice(place, place + len(one.endings))
    nats, greedy = found.nats_E[mine].tolist(), found.greedy_E[mine].tolist()
    characters = [len(ending) for ending in one.endings]
    num_bytes = [len(ending.encode("utf-8", "surrogatepass")) for ending in one.endings]
    if one.form == "continuation":
        judgements = dict.fromkeys(("", "_norm", "_bytes"), (0 if greedy[0] else -1, greedy[0]))
    else:
        sizes = {"": [1] * len(nats), "_norm": characters, "_bytes": num_bytes}
        judgements = {key: judged(nats, size, one.gold) for key, size in sizes.items()}
    return _described(task, one) | {
        "nats": nats,
        "greedy": greedy,
        "characters": characters,
        "bytes": num_bytes,
        "cut": max(pair.cut for _, pair in kept[mine]),
        **{f"chosen{key}": chosen for key, (chosen, _) in judgements.items()},
        **{f"correct{key}": correct for key, (_, correct) in judgements.items()},
    }


def _described(task: Task, one: Question) -> dict[str, Any]:
    return {
        "task": task.name,
        "item": one.number,
        "id": one.id,
        "place": one.place,
        "form": one.form,
        "query": one.endings[0] if one.form == "contexts" else one.contexts[0],
        "choices": list(one.accepted or one.choices),
        "gold": one.gold,
        "chance": one.chance,
        "written": None,
    }


def _written(
    task: Task, asked: Sequence[Question], scorer: EndingScorer, base: Base, encoder: PairEncoder, tokens: int
) -> Found:
    """What the model writes after each question, up to the end of the line."""
    from graft.models.generation.greedy import write

    prompts, cuts = encoder.prompts([one.contexts[0] for one in asked], room=tokens, task=task.name)
    progress = Progress(f"answer {task.name}", len(asked))
    end = base.marks.end

    def text(ids: Sequence[int]) -> str:
        return base.tokenizer.decode(list(ids), skip_special_tokens=True)

    def done(ids: list[int]) -> bool:
        return ids[-1] == end or LINE in text(ids).lstrip()

    found = write(scorer.model, prompts, limit=tokens, done=done, watch=progress.advance)
    progress.close()
    rows: list[dict[str, Any]] = []
    for one, ids, cut in zip(task.questions, found, cuts, strict=True):
        line = text(ids).strip().partition(LINE)[0].strip()
        correct = is_right(line, one.accepted)
        rows.append(
            _described(task, one)
            | {"nats": [], "greedy": [], "characters": [], "bytes": [], "cut": cut, "written": line}
            | dict.fromkeys(("chosen", "chosen_norm", "chosen_bytes"), 0 if correct else -1)
            | dict.fromkeys(("correct", "correct_norm", "correct_bytes"), correct)
        )
    return rows, {"left_out": {}, "first": {}}


def is_right(line: str, accepted: Sequence[str]) -> bool:
    """Whether it equals one of the accepted answers, both plain; one of which nothing is left, as it stands."""
    return any(plain(line) == plain(one) if plain(one) else line.strip() == one.strip() for one in accepted)


def plain(text: str) -> str:
    """Lower case, without punctuation, articles and double spaces (Rajpurkar et al. 2016, arXiv 1606.05250)."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(NO_MARKS)).split())
