"""Why documents are not used, as data: a code with a sentence, declared by whoever decides.

A dropped document has `dropped_by` (who decided: "reading", a curation step, "pool"), `reason` (a code that this one
declares) and `detail` (what the code leaves open: a suffix, a source, a score). The ledger counts by fate, which is
made of them here: "dropped: unread kind: .pdf". An artifact keeps what was declared in its manifest, so that whoever
shows it needs no step.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

MARK = "dropped: "
READ = "reading"  # who decides what is no document at all
CODE = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Reason:
    """One reason to drop a document.

    code: lower-case letters, digits and _. sentence: what it means, for people. words: how the ledger writes it; "{}"
    stands for the detail, and each detail is counted by itself there. By default the code, with spaces.
    copy: whether the same text stands elsewhere and was kept there.
    """

    code: str
    sentence: str
    words: str = ""
    copy: bool = False

    @property
    def told(self) -> str:
        return self.words or self.code.replace("_", " ")

    @property
    def by_detail(self) -> bool:
        """Whether the ledger counts each detail by itself."""
        return "{}" in self.told

    def fate(self, detail: str = "") -> str:
        """What the ledger counts it as."""
        return MARK + self.told.replace("{}", detail)

    def detail_in(self, fate: str) -> str | None:
        """The detail of a fate of this reason; None where it is the fate of another one."""
        before, slot, after = self.told.partition("{}")
        said = fate.removeprefix(MARK)
        if not slot:
            return "" if said == before else None
        fits = said.startswith(before) and said.endswith(after) and len(said) >= len(before) + len(after)
        return said[len(before) : len(said) - len(after)] if fits else None


@dataclass(frozen=True)
class Drop:
    """What the ledger tells apart. detail: where the reason counts by it."""

    by: str
    reason: str
    detail: str
    fate: str

    def to_json(self) -> dict[str, str]:
        return {"dropped_by": self.by, "reason": self.reason, "detail": self.detail, "fate": self.fate}


def facts_of(drops: Iterable[Drop], reasons: Mapping[str, Sequence[Reason]]) -> dict[str, Any]:
    """What a manifest keeps: "reasons" {who decides: {code: {sentence, copy}}}, and "drops", each fate with its parts.

    reasons: those that are declared, by who decides; of reading, those that came up are added.
    """
    drops = list(drops)
    met = {one.reason for one in drops if one.by == READ}
    every = {READ: [one for one in READING if one.code in met], **reasons}
    return {
        "reasons": {
            by: {one.code: {"sentence": one.sentence, "copy": one.copy} for one in some}
            for by, some in every.items()
            if some
        },
        "drops": [one.to_json() for one in drops],
    }


def is_copy(facts: Mapping[str, Any], by: str, reason: str) -> bool:
    """Whether a document that was dropped so has the text of one that was kept; facts: of its corpus."""
    return bool(facts.get("reasons", {}).get(by, {}).get(reason, {}).get("copy"))


def meanings(facts: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The sentence for every fate that artifacts with these facts tell of."""
    found: dict[str, dict[str, None]] = {}
    for one in facts:
        for drop in one.get("drops", ()):
            reason = one["reasons"].get(drop["dropped_by"], {}).get(drop["reason"])
            if reason:
                found.setdefault(drop["fate"], {})[reason["sentence"]] = None
    return {fate: "; ".join(sentences) for fate, sentences in found.items()}


LEFT = "left out: "
READING: tuple[Reason, ...] = (
    Reason("empty", LEFT + "no text in it"),
    Reason("undecodable", LEFT + "not readable as text"),
    Reason("not_json", LEFT + "a line that is not JSON"),
    Reason("not_csv", LEFT + "a row whose quotes do not match"),
    Reason("ragged_row", LEFT + "a row with more or fewer cells than the header"),
    Reason("column_twice", LEFT + "two columns have the name of the text field", "column stands twice"),
    Reason("unread_kind", "not read: files of this kind are not opened", "unread kind: {}"),
    Reason("no_text_field", LEFT + "the row has no such field"),
    Reason("not_text", LEFT + "the field holds something else than text", "text field is not text"),
    Reason("too_large", LEFT + "more text than one document may have", "too large for one document"),
    Reason("expands", LEFT + "it unpacks to far more than its file", "expands to far more than its file"),
    Reason("markup", LEFT + "more markup than can be read", "markup too large to be read"),
    Reason("no_memory", LEFT + "it needs more memory than there is", "needs more memory than there is"),
    Reason("sampled_out", "not read: a part of the text was enough", "not needed (sampled out, one entry a file)"),
    Reason("not_python", LEFT + "a module that is not Python", "not python"),
    Reason("dialogue_malformed", LEFT + "a dialogue whose turns cannot be told", "dialogue is malformed"),
    Reason("dialogue_role", LEFT + "a dialogue with an unknown role", "dialogue has an unknown role"),
    Reason("dialogue_not_words", LEFT + "a dialogue that holds more than text", "dialogue holds more than text"),
    Reason("dialogue_no_words", LEFT + "a dialogue with an empty turn", "dialogue with a turn that holds nothing"),
    Reason("dialogue_no_answer", LEFT + "a dialogue without an answer", "dialogue without an answer"),
    Reason("pair_no_prompt", LEFT + "a pair of answers to nothing", "pair without a prompt"),
    Reason("pair_parts_early", LEFT + "a pair that differs before its last turn", "pair parts before its last turn"),
    Reason("pair_equal", LEFT + "a pair of equal answers", "pair of equal answers"),
    Reason(
        "dialogue_not_json",
        LEFT + "a dialogue that is text and no JSON list of messages",
        "dialogue is text that is no JSON list of messages",
    ),
    Reason(
        "dialogue_tools",
        LEFT + "a dialogue whose tools are no list of descriptions",
        "dialogue's tools are no list of descriptions",
    ),
    Reason(
        "dialogue_weight",
        LEFT + "a dialogue with a weight other than 0 and 1",
        "dialogue has a weight other than 0 and 1",
    ),
    Reason(
        "dialogue_unlearned",
        LEFT + "a dialogue without an answer of a weight above 0",
        "dialogue without an answer of a weight above 0",
    ),
)


def read_fate(code: str) -> str:
    """The fate of a document that reading drops for this code; its detail follows, where it has one."""
    return next(one for one in READING if one.code == code).fate()


@cache
def read_reason(fate: str) -> tuple[str, str]:
    """(code, detail) of a fate that reading gives.

    Raises: AssertionError (a fault of ours) for one that is not declared in READING.
    """
    for one in READING:
        detail = one.detail_in(fate)
        if detail is not None and fate.startswith(MARK):
            return one.code, detail
    raise AssertionError(f"reading dropped a document as {fate!r}, which graft.core.text.drop_reasons does not declare")
