"""What a folder of mixed files becomes: kinds that are not read, encodings, CSV, and what is said of them."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graft.core.config.errors import UsageError
from graft.core.store.artifact import Artifact, Store
from graft.data.curate import curate
from graft.data.ingest import Ingest, ingest
from graft.readers import csv_rows
from graft.readers.encoded import encoding_of, wide_encoding
from graft.readers.seen import ReadCounts

FRENCH = "Le café était fermé à Noël; les élèves mangèrent des crêpes où il fut déçu. "
GERMAN = "Die Übung über größere Maßnahmen für Bürger in Köln ist schön. "
QUOTED = "The “smart” quotes – and dashes — are Microsoft’s; a résumé costs £5 or €6. "
RUSSIAN = "Привет, мир! Это обычный русский текст о том, как живут люди. "


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "texts").mkdir()
    return tmp_path / "texts"


def read(folder: Path, store: Store, **changes: str) -> Artifact:
    return ingest([str(folder)], "domain", Ingest(**changes), store=store)


def rows(docs: Artifact) -> list[dict]:
    return pq.read_table(docs / "docs.parquet").to_pylist()


def texts(docs: Artifact) -> list[str]:
    return [row["text"] for row in rows(docs) if not row["dropped"]]


def fates(docs: Artifact) -> dict[str, tuple[int, int]]:
    return {fate: (amount.documents, amount.bytes) for fate, amount in docs.ledger.fates["domain"].items()}


# Kinds of files that are not read


def mixed(folder: Path) -> None:
    (folder / "a.txt").write_text("one text")
    (folder / "b.md").write_text("two texts")
    for number in range(3):
        (folder / f"{number}.pdf").write_bytes(b"%PDF" * (number + 1))
    (folder / "c.docx").write_bytes(b"PK")
    (folder / "README").write_bytes(b"no suffix")


def test_files_of_kinds_that_are_not_read_are_rows_of_the_ledger(folder: Path, store: Store, capsys) -> None:
    mixed(folder)
    docs = read(folder, store)
    assert fates(docs) == {
        "kept": (2, 17),
        "dropped: unread kind: .pdf": (3, 24),
        "dropped: unread kind: .docx": (1, 2),
        "dropped: unread kind: no suffix": (1, 9),
    }
    read_in_all = docs.ledger.read["domain"]
    assert (read_in_all.documents, read_in_all.bytes) == (7, 52)
    note = "domain: 5 files of kinds that are not read: 3 .pdf, 1 no suffix, 1 .docx."
    assert docs.facts["notes"] == [note] and note in capsys.readouterr().err
    lost = [(row["parents"], row["dropped"]) for row in rows(docs)[2:]]
    assert ((["c.docx"], "dropped: unread kind: .docx")) in lost and len(lost) == 5


def test_the_corpus_and_its_ledger_keep_them(folder: Path, store: Store) -> None:
    mixed(folder)
    docs = read(folder, store)
    found = curate({"domain": docs}, store=store).ledger
    assert found.fates["domain"]["dropped: unread kind: .pdf"].documents == 3
    assert found.read["domain"] == docs.ledger.read["domain"]


def test_documents_keep_their_positions_when_a_file_that_is_not_read_is_added(folder: Path, store: Store) -> None:
    mixed(folder)
    before = read(folder, store)
    (folder / "0.zip").write_bytes(b"PK")
    after = read(folder, store)
    assert before.name != after.name, "its ledger is another"
    assert rows(before)[:2] == rows(after)[:2]


def test_many_kinds_do_not_make_many_rows_of_the_ledger(folder: Path, store: Store) -> None:
    (folder / "a.txt").write_text("text")
    for number in range(50):
        (folder / f"model.{number:04}").write_bytes(b"xx")
    found = fates(read(folder, store))
    assert len(found) == 32 and found["dropped: unread kind: other"] == (20, 40)


def test_a_folder_that_is_all_read_has_no_note(folder: Path, store: Store) -> None:
    (folder / "a.txt").write_text("text")
    assert read(folder, store).facts["notes"] == []


def test_what_cannot_be_used_is_said_while_reading_with_its_place(folder: Path, store: Store, capsys) -> None:
    (folder / "a.txt").write_text("text")
    (folder / "b.txt").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\xff\xfe")
    (folder / "c.txt").write_text(" ")
    (folder / "d.jsonl").write_text('{"body": "x"}\n')
    docs = read(folder, store)
    said = capsys.readouterr().err
    assert "domain: 3 of 4 documents could not be used: 1 undecodable (first: b.txt), 1 empty (first: c.txt), " in said
    assert "1 no text field (first: d.jsonl#1; set ingest.text_field (--text-field))." in said
    assert len(docs.facts["notes"]) == 1


def test_empty_documents_alone_are_said_while_reading_only(folder: Path, store: Store, capsys) -> None:
    (folder / "a.txt").write_text("text")
    (folder / "empty one.txt").write_text("")
    assert read(folder, store).facts["notes"] == []
    assert "1 of 2 documents could not be used: 1 empty (first: empty one.txt)" in capsys.readouterr().err


# Encodings


@pytest.mark.parametrize("text", [FRENCH, GERMAN, QUOTED, "caf\u00e9 au lait"])
@pytest.mark.parametrize("name", ["a.txt", "a.md.gz", "a.jsonl", "a.json", "lines.json", "a.csv.zst", "a.html"])
def test_windows_1252_and_latin_1_are_recognised_in_every_kind_of_file(
    folder: Path, store: Store, name: str, text: str
) -> None:
    text = text.strip()
    content = {
        "a.jsonl": json.dumps({"text": text}, ensure_ascii=False),
        "lines.json": json.dumps({"text": text}, ensure_ascii=False) + "\n",
        "a.json": json.dumps([{"text": "plain"}, {"text": text}], ensure_ascii=False, indent=1),
        "a.csv.zst": f'id,text\n1,"{text}"\n',
        "a.html": f"<html><body><article><p>{text * 8}</p></article></body></html>",
    }.get(name, text)
    write(folder / name, content.encode("cp1252"))
    (folder / "z.txt").write_text("good")
    docs = read(folder, store)
    assert any(text in one for one in texts(docs))
    assert docs.facts["encodings"] == {"cp1252 (guessed)": 1, "utf-8": 1}
    assert docs.facts["notes"] == [
        f"domain: 1 file not in UTF-8, read as cp1252, which is a guess (first: {name}); where it is wrong, set "
        "ingest.encoding (--encoding)."
    ]


def write(path: Path, content: bytes) -> None:
    packed = {".gz": gzip.compress, ".zst": zstandard.compress}.get(path.suffix, bytes)
    path.write_bytes(packed(content))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.jsonl.zst", "a.json", "a.tsv", "a.html"])
def test_byte_order_marks_and_utf_16_without_one(folder: Path, store: Store, name: str, encoding: str) -> None:
    content = {
        "a.jsonl.zst": json.dumps({"text": FRENCH}, ensure_ascii=False),
        "a.json": json.dumps([{"text": FRENCH}], ensure_ascii=False),
        "a.tsv": f"id\ttext\n1\t{FRENCH}\n",
        "a.html": f'<html><head><meta charset="{encoding}"></head><body><p>{FRENCH * 8}</p></body></html>',
    }.get(name, FRENCH)
    write(folder / name, content.encode(encoding))
    docs = read(folder, store)
    assert [FRENCH.strip() in one for one in texts(docs)] == [True]
    assert docs.facts["encodings"] == {"utf-8" if encoding == "utf-8-sig" else encoding: 1}
    assert docs.facts["notes"] == [], "nothing is guessed"


def test_an_encoding_that_is_named_is_used_where_text_is_not_utf_8(folder: Path, store: Store) -> None:
    (folder / "a.txt").write_bytes(RUSSIAN.encode("koi8-r"))
    (folder / "b.txt").write_text(RUSSIAN)
    (folder / "c.jsonl").write_bytes(json.dumps({"text": RUSSIAN}, ensure_ascii=False).encode("koi8-r"))
    docs = read(folder, store, encoding="KOI8_R")
    assert texts(docs) == [RUSSIAN] * 3
    assert docs.facts["encodings"] == {"koi8-r": 2, "utf-8": 1} and docs.facts["notes"] == []


def test_other_encodings_are_no_guess_but_an_advice(folder: Path, store: Store) -> None:
    (folder / "a.txt").write_bytes(RUSSIAN.encode("cp1251"))
    (folder / "b.txt").write_text("good")
    docs = read(folder, store)
    [note] = docs.facts["notes"]
    assert "1 undecodable (first: a.txt; it looks like cp1251: --encoding cp1251)" in note
    assert texts(docs) == ["good"]
    (folder / "b.txt").unlink()
    with pytest.raises(UsageError, match="--encoding cp1251"):
        read(folder, store)


def test_utf_8_that_is_damaged_is_not_taken_for_another_encoding(folder: Path, store: Store) -> None:
    (folder / "a.txt").write_bytes(FRENCH.encode()[:-1] + b"\xe9")
    (folder / "b.jsonl").write_bytes(
        b"".join(json.dumps({"text": one}, ensure_ascii=False).encode() + b"\n" for one in (FRENCH, "x"))
        + b'{"text": "caf\xe9 au lait"}\n'
    )
    docs = read(folder, store)
    assert texts(docs) == [FRENCH, "x"] and fates(docs)["dropped: undecodable"][0] == 2


def test_a_file_of_lines_may_mix_utf_8_and_windows_1252(folder: Path, store: Store) -> None:
    lines = [json.dumps({"text": one}, ensure_ascii=False) for one in ("plain", FRENCH, "crème brûlée")]
    encoded = [line.encode(name) for line, name in zip(lines, ("ascii", "cp1252", "utf-8"), strict=True)]
    (folder / "a.jsonl").write_bytes(b"\n".join(encoded))
    assert texts(read(folder, store)) == ["plain", FRENCH, "crème brûlée"]


def test_unknown_encodings_are_refused_with_what_is_allowed() -> None:
    for name in ("latin-7", "base64", "rot13", "iso-2022-jp", "utf-7", "idna"):
        with pytest.raises(UsageError, match=rf'encoding is "{name}"\n  allowed: utf-8, utf-16'):
            Ingest(encoding=name)
    with pytest.raises(UsageError, match='did you mean "windows_1252"'):
        Ingest(encoding="window-1252")
    assert [encoding_of(name) for name in ("latin1", "UTF8", "windows-1252")] == ["iso8859-1", "utf-8", "cp1252"]


def test_wide_characters_are_known_by_their_zeros_and_other_files_are_not_taken_for_them() -> None:
    assert wide_encoding("plain".encode("utf-16-le")) == "utf-16-le"
    assert wide_encoding("plain".encode("utf-16-be")) == "utf-16-be"
    assert wide_encoding(b"RIFF\0\0\1\0\1\0\0\0") == "" == wide_encoding(b"nul \0 byte")
    assert wide_encoding("日本\0".encode("utf-16-le"), "utf-16") == "utf-16-le"


# CSV and TSV


def test_csv_columns_are_found_as_the_fields_of_json_are(folder: Path, store: Store) -> None:
    (folder / "a.csv").write_text('id,text\n1,"one, with a comma"\n2,"two ""quoted""\nand a second line"\n\n3,\n')
    docs = read(folder, store)
    assert texts(docs) == ["one, with a comma", 'two "quoted"\nand a second line']
    assert [row["parents"] for row in rows(docs)] == [["a.csv#1"], ["a.csv#2"], ["a.csv#3"]]
    assert fates(docs)["dropped: empty"] == (1, 0)
    (folder / "a.csv").write_text("prompt,response,text_\nWhy?,Because.,x\n")
    assert texts(read(folder, store)) == ["Why?\nBecause."]
    assert texts(read(folder, store, text_field="text_")) == ["x"]


def test_a_csv_without_the_text_field_names_its_columns(folder: Path, store: Store) -> None:
    (folder / "a.csv").write_text("id,body\n1,one\n")
    with pytest.raises(UsageError, match="fields that are there: id, body"):
        read(folder, store)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.csv.zst", "a.tsv", "A.TSV"])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_csv_in_every_wrapping_and_with_every_line_end(folder: Path, store: Store, name: str, ends: str) -> None:
    sign = "\t" if "tsv" in name.lower() else ","
    write(folder / name, ends.join([f"id{sign}text", f"1{sign}one", f'2{sign}"two{ends}lines"', ""]).encode())
    assert texts(read(folder, store)) == ["one", "two\nlines"]


@pytest.mark.parametrize("sign", [",", ";", "\t", "|"])
def test_the_delimiter_is_told_by_what_parts_most_rows_alike(folder: Path, store: Store, sign: str) -> None:
    others = "".join(one for one in ",;|" if one != sign)
    lines = [f"number{sign}text", *(f"{n}{sign}some {others} text{others * (n % 3)}" for n in range(9))]
    (folder / "a.csv").write_text("\n".join(lines))
    assert texts(read(folder, store))[1] == f"some {others} text{others}" and len(texts(read(folder, store))) == 9


def test_a_lone_column_is_text_with_all_its_commas(folder: Path, store: Store) -> None:
    (folder / "a.csv").write_text('text\nOne, two; three.\n"Quoted, too"\n5" of rain, or more\n')
    assert texts(read(folder, store))[:1] == ["One, two; three."]
    (folder / "a.csv").write_text('text\nOne, two; three.\n"Quoted, too"\n')
    assert texts(read(folder, store)) == ["One, two; three.", "Quoted, too"]


def test_quotes_that_are_letters_of_the_text_are_read_as_such(folder: Path, store: Store) -> None:
    (folder / "a.tsv").write_text('label\ttext\n1\t"so it begins\n0\tsaid "he" and left\n1\t" and ends" there\n')
    assert texts(read(folder, store)) == ['"so it begins', 'said "he" and left', '" and ends" there']


def test_ragged_rows_and_broken_quotes_are_counted_by_their_place(folder: Path, store: Store) -> None:
    good = "".join(f'{n},"text, number {n}"\n' for n in range(20))
    (folder / "a.csv").write_text(f'id,text\n{good}21,cut, by a comma\n22\n23,"quoted" wrongly\n24,fine\n25,"no end\n')
    docs = read(folder, store)
    found = fates(docs)
    assert found["kept"][0] == 21 and found["dropped: ragged row"][0] == 2 and found["dropped: not csv"][0] == 2
    assert docs.facts["first_lost"]["dropped: ragged row"] == "a.csv#21"
    assert docs.facts["first_lost"]["dropped: not csv"] == "a.csv#23"
    assert "2 ragged row (first: a.csv#21; it has more or fewer cells than the header" in docs.facts["notes"][0]
    assert docs.ledger.read["domain"].documents == 25


def test_a_cell_without_end_does_not_take_in_the_rest_of_the_file(
    folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_rows, "LONGEST", 500)
    monkeypatch.setattr(csv_rows, "SAMPLE", 20)
    rest = "".join(f"{n},line {n}\n" for n in range(100))
    (folder / "a.csv").write_text(f'id,text\n1,one\n2,"no end\n{rest}')
    docs = read(folder, store)
    assert len(texts(docs)) > 50 and fates(docs)["dropped: not csv"][0] == 1


def test_a_long_cell_is_read_whole(folder: Path, store: Store) -> None:
    (folder / "a.csv").write_text(f'id,text\n1,"{"long text, " * 40_000}"\n2,short\n')
    assert [len(one) for one in texts(read(folder, store))] == [440_000, 5]


def test_bytes_that_are_no_text_cost_the_row_they_are_in(folder: Path, store: Store) -> None:
    (folder / "a.csv").write_bytes(
        "id,text\n1,déjà vu\n2,bad \xff\n3,good\n".encode("latin-1").replace(b"d\xe9j\xe0", "déjà".encode())
    )
    docs = read(folder, store)
    assert texts(docs) == ["déjà vu", "good"] and docs.facts["first_lost"] == {"dropped: undecodable": "a.csv#2"}


def test_a_text_column_that_stands_twice_is_no_text(folder: Path, store: Store) -> None:
    (folder / "a.csv").write_text("text,text\none,two\n")
    (folder / "b.txt").write_text("good")
    assert fates(read(folder, store))["dropped: column stands twice"][0] == 1


def test_compression_that_breaks_off_is_one_loss(folder: Path, store: Store) -> None:
    content = "id,text\n" + "".join(f"{n},row number {n * 7919}\n" for n in range(20_000))
    packed = gzip.compress(content.encode())
    (folder / "a.csv.gz").write_bytes(packed[: len(packed) // 2])
    docs = read(folder, store)
    assert 1000 < len(texts(docs)) < 20_000 and fates(docs)["dropped: undecodable"][0] == 1


@given(
    st.lists(
        st.text(st.characters(exclude_characters="\0\r\ufeff", exclude_categories=["Cs"]), min_size=1, max_size=30),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from(csv_rows.DELIMITERS),
)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_the_csv_module_writes_is_read_back(folder: Path, content: list[str], sign: str) -> None:
    out = io.StringIO()
    csv.writer(out, delimiter=sign, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(
        [["id", "text"], *([str(n), one] for n, one in enumerate(content))]
    )
    path = folder / "a.csv"
    path.write_text(out.getvalue(), encoding="utf-8")
    file = csv_rows.File(path, "a.csv", ".csv", path.stat().st_size)
    found = list(csv_rows.read(file, csv_rows.Fields()))
    assert [one.text for one in found] == [one if one.strip() else "" for one in content]


def test_every_loss_is_counted_with_its_first_place() -> None:
    seen = ReadCounts()
    for number in range(3):
        seen.count(csv_rows.FileRecord("", f"a.csv#{number}", 4, 0, csv_rows.RAGGED))
    assert seen.first_lost == {csv_rows.RAGGED: "a.csv#0"} and seen.lost[csv_rows.RAGGED].bytes == 12
