"""Text and numbers as the report page shows them: marks for what cannot be seen, tokens that read as their document."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.core.text.token_text import locate, spelled
from graft.report.shared import wording


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (" the", "␣the"),
        ("\n  ", "⏎␣␣"),
        ("\t\r", "⇥␍"),
        (" " * 8, "␣×8"),
        ("a\u00a0b", "a⍽b"),
        ("\ufffd", "▯"),
        ("\x00\x1b\x7f", "␀␛␡"),
        ("\u202e", "[RLO]"),
        ("\ue000", "[U+E000]"),
        ("", "∅"),
        ("né日", "né日"),
    ],
)
def test_whitespace_and_invisible_characters_are_marked(text: str, shown: str) -> None:
    assert "".join(piece for piece, _ in wording.marked(text)) == shown


def test_numbers_as_a_reader_wants_them() -> None:
    thin = wording.THIN
    assert wording.signed(-2.14691, 3) == "−2.147" and wording.signed(0.00001, 3) == "0.000"
    assert wording.signed(1234.5, 1) == "+1,234.5"
    assert wording.percent(0.0) == f"0.0{thin}%" and wording.percent(0.0001) == f"< 0.1{thin}%"
    assert wording.change(0.0301) == f"+3.0{thin}%"
    assert [wording.number(x) for x in (5.678, 318.68, 12345.6, 2e9, float("inf"))] == [
        "5.68", "318.7", "12,346", f"2{thin}×{thin}10⁹", "∞",
    ]  # fmt: skip
    assert wording.scientific(0.00025) == f"2.5{thin}×{thin}10⁻⁴" and wording.scientific(0) == "0"
    assert [wording.duration(x) for x in (0.051, 41.39, 3725, 40000)] == ["0.051 s", "41 s", "62 min", "11 h 7 min"]
    assert [wording.memory(x) for x in (999, 1_289_990_144, 85e9)] == ["999 B", "1.29 GB", "85 GB"]
    assert wording.typeset("a-1 -37.2% (95 % interval)") == f"a-1 −37.2{thin}% (95{thin}% interval)"


def cut(text: str, sizes: list[int]) -> list[tuple[str, float, float]]:
    """Byte tokens of the sizes, each decoded alone as a tokenizer does."""
    data, tokens, at = text.encode(), [], 0
    for size in [*sizes, len(data)]:
        if piece := data[at : at + size]:
            tokens.append((piece.decode("utf-8", "replace"), 1.0, 0.5))
        at += size
    return tokens


@given(st.text(st.sampled_from("ab \n日本é😀\ufffd"), max_size=12), st.lists(st.integers(1, 4), max_size=40))
def test_any_cut_of_the_bytes_reads_as_the_text(text: str, sizes: list[int]) -> None:
    tokens = cut(text, sizes)
    rows = spelled(text, tokens)
    assert "".join(row[0] for row in rows) == text
    assert sum(row[3] for row in rows) == len(tokens)
    assert sum(row[1] for row in rows) == pytest.approx(len(tokens))
    assert sum(row[2] for row in rows) == pytest.approx(len(tokens) / 2)


def test_parts_of_a_character_are_one_row_and_their_nats_add() -> None:
    assert spelled("a日b", [("a", 1, 1), ("\ufffd", 2, 1), ("\ufffd", 3, 1), ("b", 1, 1)]) == [
        ["a", 1, 1, 1], ["日", 5, 2, 2], ["b", 1, 1, 1],
    ]  # fmt: skip


def test_spaces_that_a_tokenizer_hides_come_back() -> None:
    tokens = [("The", 1, 1), ("cat", 1, 1), ("\n", 1, 1), ("", 1, 1), ("sat", 1, 1), ("</s>", 4, 3)]
    rows = spelled("The cat\n  sat", tokens)
    assert "".join(row[0] for row in rows[:-1]) == "The cat\n  sat"
    assert rows[-1] == ["</s>", 4, 3, 0]


def test_tokens_that_do_not_spell_the_text_keep_their_own() -> None:
    assert locate(b"The Cat", ["the", "cat"]) is None
    assert spelled("The Cat", [("the", 1, 2), ("cat", 3, 4)]) == [["the", 1, 2, 1], ["cat", 3, 4, 1]]


def test_a_document_cut_in_the_middle_reads_as_its_beginning() -> None:
    assert [row[0] for row in spelled("one two three", [("one", 1, 1), (" two", 1, 1)])] == ["one", " two"]
