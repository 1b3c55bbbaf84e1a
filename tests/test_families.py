"""Every family of the installed transformers: what it makes of a text in company is what it makes of it alone, to 1e-4,
or it is refused in words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import transformers

from families import LOADERS, all_families, alone, look, quietly, row, texts, trained

PAGE = Path(__file__).parents[1] / "docs" / "models.md"
# One of each way in which texts are read and weights are kept; all that can be built run with `-m soak`.
SPREAD = [
    ("llama", "decoder"), ("gpt2", "decoder"), ("bloom", "decoder"), ("mamba", "decoder"), ("mixtral", "decoder"),
    ("deepseek_v3", "decoder"), ("gemma2", "decoder"), ("llama4_text", "decoder"), ("mpt", "decoder"),
    ("recurrent_gemma", "decoder"), ("bert", "encoder"), ("mpnet", "encoder"), ("fnet", "encoder"),
    ("t5", "encoder-decoder"), ("bart", "encoder-decoder"),
]  # fmt: skip
OF_EACH = 4  # at most of those that are alike


def chosen() -> list[object]:
    """All families; for `-m soak` alone those that docs/models.md says the same of as of others, but a few of each."""
    alike: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        family, *told = (cell.strip() for cell in line.strip("|").split("|"))
        if line.startswith("| ") and len(told) == 5:
            alike.setdefault((*told[:4], re.sub(r"[\d,.]+", "0", told[4])), []).append((family, told[0]))
    others = {one for group in alike.values() for one in set(group) - set(group[:: -(-len(group) // OF_EACH)])}
    others -= set(SPREAD)
    return [pytest.param(*one, marks=pytest.mark.soak) if one in others else one for one in all_families()]


@pytest.mark.parametrize(("family", "kind"), chosen())
def test_in_company_as_alone_or_refused_in_words(tmp_path, family, kind):
    found = look(family, kind, tmp_path)
    assert found.off <= 1e-4
    assert found.way not in ("refused", "not built") or found.notes[0]
    said = PAGE.read_text(encoding="utf-8")
    if f"transformers {transformers.__version__}," in said:
        lines = [line for line in said.splitlines() if line.startswith(f"| {family} | {kind} |")]
        assert lines == [row(found)], "write docs/models.md again: python tests/families.py"


def goes_on(family, kind, folder):
    difference, ours, _ = trained(family, kind, folder / "base", folder / "out")
    assert difference <= 1e-4
    with quietly():
        again = LOADERS[kind].from_pretrained(folder / "out", dtype=torch.float32).eval()
    for one, text in zip(ours, texts(), strict=True):
        torch.testing.assert_close(one, alone(again, kind, text), atol=1e-4, rtol=1e-4)
    with quietly():
        before = LOADERS[kind].from_pretrained(folder / "base", dtype=torch.float32).eval()
    assert any(not torch.allclose(one, alone(before, kind, text)) for one, text in zip(ours, texts(), strict=True))


@pytest.mark.parametrize(("family", "kind"), SPREAD)
def test_trained_saved_and_read_by_transformers(tmp_path, family, kind):
    goes_on(family, kind, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize(("family", "kind"), [one for one in all_families() if one not in SPREAD])
def test_and_all_the_others(tmp_path, family, kind):
    said = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith(f"| {family} | {kind} |")]
    if any(f"| {kind} | {way} |" in line for line in said for way in ("refused", "not built")):
        pytest.skip("docs/models.md says why it cannot be read")
    goes_on(family, kind, tmp_path)
