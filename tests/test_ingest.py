"""ingest: every row of every file is kept or counted, nothing is repaired in silence, and errors say what to do."""

from __future__ import annotations

import gzip
import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graft.core.config.errors import FaultError, UsageError
from graft.core.store.artifact import Artifact, Store
from graft.core.store.ledger import Amount
from graft.core.store.publish import put_out
from graft.core.text.documents import SCHEMA, doc_id
from graft.data.estimate_sizes import survey
from graft.data.ingest import Ingest, ingest
from graft.readers import json_whole
from graft.readers import open_compressed as opened
from graft.readers.encoded import Decoding
from graft.readers.file_record import Fields
from graft.readers.hub import HubPath


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my texts").mkdir()
    return tmp_path / "my texts"


def rows(docs: Artifact) -> list[dict]:
    return pq.read_table(docs / "docs.parquet").to_pylist()


def texts(docs: Artifact) -> list[str]:
    return [row["text"] for row in rows(docs) if not row["dropped"]]


def fates(docs: Artifact, source: str = "domain") -> dict[str, tuple[int, int]]:
    return {fate: (amount.documents, amount.bytes) for fate, amount in docs.ledger.fates[source].items()}


def lines(*objects: object) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in objects)


def test_a_folder_becomes_documents_in_the_order_of_names(folder: Path, store: Store) -> None:
    (folder / "b").mkdir()
    (folder / "b" / "2.md").write_text("two")
    (folder / "a.txt").write_text("one")
    (folder / "c.jsonl").write_bytes(lines({"text": "three"}, {"text": "four"}))
    docs = ingest([str(folder)], "domain", store=store)
    table = pq.read_table(docs / "docs.parquet")
    assert table.schema.equals(SCHEMA)
    assert texts(docs) == ["one", "two", "three", "four"]
    assert [row["parents"] for row in rows(docs)] == [["a.txt"], ["b/2.md"], ["c.jsonl#1"], ["c.jsonl#2"]]
    assert [row["position"] for row in rows(docs)] == [0, 1, 2, 3]
    assert [row["id"] for row in rows(docs)] == [doc_id(text) for text in texts(docs)]
    assert docs.facts["formats"] == {".jsonl": 1, ".md": 1, ".txt": 1} and docs.facts["files"] == 3


def test_hidden_and_unknown_files_are_passed_over_and_counted(folder: Path, store: Store) -> None:
    (folder / "a.txt").write_text("one")
    (folder / ".git").mkdir()
    (folder / ".git" / "b.txt").write_text("no")
    (folder / ".c.txt").write_text("no")
    (folder / "d.pdf").write_bytes(b"%PDF")
    (folder / "README").write_text("no")
    (folder / "old.tar.gz").write_bytes(b"no")
    (folder / "gone.txt").symlink_to(folder / "nowhere")
    (folder / "loop").symlink_to(folder)
    docs = ingest([str(folder)], "domain", store=store)
    assert texts(docs) == ["one"]
    assert docs.facts["skipped"] == {
        "folder reached twice": 1,
        "hidden": 2,
        "not a file (a broken link, a socket)": 1,
    }
    assert fates(docs) == {
        "kept": (1, 3),
        "dropped: unread kind: no suffix": (1, 2),
        "dropped: unread kind: .pdf": (1, 4),
        "dropped: unread kind: .tar.gz": (1, 2),
    }


@pytest.mark.parametrize("name", ["d.jsonl", "d.jsonl.gz", "d.jsonl.zst", "d.ndjson", "d.json", "d.json.gz", "D.JSONL"])
def test_json_lines_in_every_wrapping(folder: Path, store: Store, name: str) -> None:
    write(folder / name, lines({"text": "one"}, {"text": "two"}))
    assert texts(ingest([str(folder)], "domain", store=store)) == ["one", "two"]


@pytest.mark.parametrize("name", ["d.txt", "d.txt.gz", "d.txt.zst", "d.md", "d.md.gz"])
def test_a_text_file_is_one_document_in_every_wrapping(folder: Path, store: Store, name: str) -> None:
    write(folder / name, b"one\n\ntwo\n")
    assert texts(ingest([str(folder / name)], "domain", store=store)) == ["one\n\ntwo\n"]


def write(path: Path, content: bytes) -> None:
    packed = {".gz": gzip.compress, ".zst": zstandard.compress}.get(path.suffix, bytes)
    path.write_bytes(packed(content))


@pytest.mark.parametrize("layout", ["array", "indented array", "object"])
def test_json_files_may_hold_an_array_or_one_object(folder: Path, store: Store, layout: str) -> None:
    documents = [{"text": "one [1, 2]"}, {"text": 'two "x"', "n": 12}]
    content = {
        "array": json.dumps(documents),
        "indented array": "\ufeff\n" + json.dumps(documents, indent=2, ensure_ascii=False) + "\n",
        "object": json.dumps(documents[0], indent=2),
    }[layout]
    (folder / "d.json").write_text(content)
    expected = [one["text"] for one in documents][: 1 if layout == "object" else 2]
    assert texts(ingest([str(folder)], "domain", store=store)) == expected


@given(st.lists(st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), min_size=1, max_size=30)))
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_array_is_read_the_same_however_it_falls_into_chunks(
    folder: Path, monkeypatch: pytest.MonkeyPatch, content: list[str]
) -> None:
    monkeypatch.setattr(json_whole, "CHUNK", 5)
    (folder / "d.json").write_text(json.dumps([{"text": one} for one in content], ensure_ascii=False, indent=1))
    file = json_whole.File(folder / "d.json", "d.json", ".json", 1)
    with opened.opened(file.path) as stream:
        found = list(json_whole._array(file, Fields(), stream, Decoding()))
    clean = [one.removeprefix("\ufeff") for one in content]
    assert [one.text for one in found] == [one if one.strip() else "" for one in clean]


def test_what_follows_a_broken_element_of_an_array_is_one_loss(folder: Path, store: Store) -> None:
    (folder / "d.json").write_text('[{"text": "one"}, {"text": oops}, {"text": "three"}]')
    docs = ingest([str(folder)], "domain", store=store)
    assert texts(docs) == ["one"]
    assert fates(docs)["dropped: not json"] == (1, len('{"text": oops}, {"text": "three"}]'))


def test_bad_lines_are_counted_one_by_one_with_their_place(folder: Path, store: Store) -> None:
    bad = [
        b'{"text": "cut off',
        b'{"text": "\xff\xfe"}',
        b'{"body": "x"}',
        b'{"text": 3}',
        b'{"text": "  \\n"}',
        b"[1]",
    ]
    (folder / "d.jsonl").write_bytes(b"\n".join([b'{"text": "good"}', b"", *bad, b'{"text": null}']))
    docs = ingest([str(folder)], "domain", store=store)
    assert fates(docs) == {
        "kept": (1, 4),
        "dropped: not json": (1, len(bad[0])),
        "dropped: undecodable": (1, len(bad[1])),
        "dropped: no text field": (3, len(bad[2]) + len(bad[5]) + len(b'{"text": null}')),
        "dropped: text field is not text": (1, len(bad[3])),
        "dropped: empty": (1, 3),
    }
    assert [row["parents"][0] for row in rows(docs)] == [f"d.jsonl#{line}" for line in (1, 3, 4, 5, 6, 7, 8, 9)]
    assert docs.facts["first_lost"]["dropped: undecodable"] == "d.jsonl#4"


@pytest.mark.parametrize(
    ("content", "size"),
    [("naïve ".encode() + b"caf\xe9", 11), (b"nul \0 byte", 10), ("words".encode("utf-16")[:-1], 11)],
    ids=["UTF-8 that is damaged", "NUL", "utf-16 that is cut off"],
)
def test_undecodable_files_are_dropped_never_repaired(folder: Path, store: Store, content: bytes, size: int) -> None:
    (folder / "bad.txt").write_bytes(content)
    (folder / "good.txt").write_text("good")
    docs = ingest([str(folder)], "domain", store=store)
    assert fates(docs) == {"dropped: undecodable": (1, size), "kept": (1, 4)}
    assert [row["text"] for row in rows(docs)] == ["", "good"]


def test_half_a_surrogate_pair_is_undecodable(folder: Path, store: Store) -> None:
    (folder / "d.jsonl").write_bytes(b'{"text": "a\\ud800"}\n{"text": "a\\ud83d\\ude00"}\n')
    docs = ingest([str(folder)], "domain", store=store)
    assert texts(docs) == ["a😀"] and fates(docs)["dropped: undecodable"] == (1, 4)


def test_byte_order_marks_and_line_ends_are_made_one(folder: Path, store: Store) -> None:
    (folder / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree")
    (folder / "b.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "x\\r\\ny"}\r\n{"text": "z"}\r\n')
    docs = ingest([str(folder)], "domain", store=store)
    assert texts(docs) == ["one\ntwo\nthree", "x\ny", "z"]
    assert [row["num_bytes"] for row in rows(docs)] == [13, 3, 1]


def test_other_scripts_come_through(folder: Path, store: Store) -> None:
    words = ["القانون المدني", "人工智能的历史", "ข้อความภาษาไทย", "हिन्दी पाठ", "🙂 emoji"]
    (folder / "d.jsonl").write_bytes(lines(*({"text": one} for one in words)))
    (folder / "e.jsonl").write_text("\n".join(json.dumps({"text": one + "!"}, ensure_ascii=False) for one in words))
    docs = ingest([str(folder)], "domain", store=store)
    assert texts(docs) == words + [one + "!" for one in words]
    assert rows(docs)[0]["num_bytes"] == len(words[0].encode())


@pytest.mark.parametrize("name", ["cut.txt.gz", "cut.txt.zst", "cut.jsonl.gz", "cut.jsonl.zst"])
def test_a_file_cut_off_is_a_loss_that_shows(folder: Path, store: Store, name: str) -> None:
    content = lines(*({"text": f"{i} " + str(i**7)} for i in range(40_000)))
    write(folder / name, content)
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2])
    (folder / "good.txt").write_text("good")
    docs = ingest([str(folder)], "domain", store=store)
    assert fates(docs)["dropped: undecodable"][0] == 1
    kept = fates(docs)["kept"][0]
    assert kept == 1 if "txt" in name else 1 < kept < 40_000
    assert docs.facts["first_lost"]["dropped: undecodable"] == (name if "txt" in name else f"{name}#{kept}")


def test_zstandard_frames_follow_each_other(folder: Path, store: Store) -> None:
    first, second = zstandard.compress(lines({"text": "one"})), zstandard.compress(lines({"text": "two"}))
    (folder / "d.jsonl.zst").write_bytes(first + second)
    assert texts(ingest([str(folder)], "domain", store=store)) == ["one", "two"]


@pytest.mark.parametrize("name", ["d.parquet", "with [1] {a,b} *.parquet"])
def test_parquet_rows_in_order(folder: Path, store: Store, name: str) -> None:
    content = [f"row {i}" for i in range(5000)] + [None, "", "last"]
    pq.write_table(pa.table({"text": content, "n": range(len(content))}), folder / name, row_group_size=512)
    docs = ingest([str(folder)], "domain", store=store)
    assert texts(docs) == [*content[:5000], "last"]
    assert fates(docs)["dropped: no text field"][0] == 1 and fates(docs)["dropped: empty"][0] == 1
    assert rows(docs)[-1]["parents"] == [f"{name}#5003"]


def test_a_broken_parquet_file_is_a_loss(folder: Path, store: Store) -> None:
    (folder / "a.parquet").write_bytes(b"PAR1 but nothing more")
    (folder / "b.txt").write_text("good")
    docs = ingest([str(folder)], "domain", store=store)
    assert fates(docs)["dropped: undecodable"] == (1, 21)


PAGE = """<!doctype html><html><head><meta charset="{charset}"><title>{title}</title></head><body>
<nav><a href="/">Home</a><a href="/b">Shop</a></nav><main><article><h1>{title}</h1>
<p>{first}</p><p>{second}</p></article></main><footer>Terms of use, all rights reserved</footer></body></html>"""
FIRST = "The court held that the statute, as amended, applies to every contract made after the day it came into force."
SECOND = (
    "Two judges dissented, and their opinion is the one that later courts have quoted at greater length ever since."
)


@pytest.mark.parametrize(("name", "charset"), [("p.html", "utf-8"), ("p.htm", "windows-1252"), ("p.html.gz", "utf-8")])
def test_html_gives_its_main_text_with_the_title_first(folder: Path, store: Store, name: str, charset: str) -> None:
    page = PAGE.format(charset=charset, title="The café case", first=FIRST, second=SECOND)
    write(folder / name, page.encode(charset))
    [text] = texts(ingest([str(folder)], "domain", store=store))
    assert text.split("\n")[0] == "The café case"
    assert FIRST in text and SECOND in text
    assert "Shop" not in text and "rights reserved" not in text


def test_html_of_which_nothing_can_be_told_is_undecodable(folder: Path, store: Store) -> None:
    page = PAGE.format(charset="utf-8", title="The case", first=FIRST, second=SECOND).encode() + b"\xff\xff"
    (folder / "p.html").write_bytes(page)
    (folder / "empty.html").write_text("<html><body></body></html>")
    (folder / "good.txt").write_text("good")
    docs = ingest([str(folder)], "domain", store=store)
    assert fates(docs)["dropped: undecodable"] == (1, len(page)) and fates(docs)["dropped: empty"] == (1, 26)


def test_text_field_decides_which_field_is_read(folder: Path, store: Store) -> None:
    (folder / "d.jsonl").write_bytes(lines({"text": "short", "body": "long"}))
    assert texts(ingest([str(folder)], "domain", store=store)) == ["short"]
    assert texts(ingest([str(folder)], "domain", Ingest(text_field="body"), store=store)) == ["long"]


def test_several_paths_are_read_one_after_the_other(folder: Path, store: Store) -> None:
    for name in ("b", "a"):
        (folder / name).mkdir()
        (folder / name / "x.txt").write_text(name)
    docs = ingest([str(folder / "b"), str(folder / "a")], "domain", store=store)
    assert texts(docs) == ["b", "a"]
    assert [row["parents"] for row in rows(docs)] == [["b/x.txt"], ["a/x.txt"]]


def test_the_same_files_are_found_again_and_changed_ones_read_anew(folder: Path, store: Store) -> None:
    (folder / "a.txt").write_text("one")
    first = ingest([str(folder)], "domain", store=store)
    assert ingest([str(folder)], "domain", store=store).path == first.path
    moved = folder.rename(folder.parent / "moved")
    assert ingest([str(moved)], "domain", store=store).path == first.path
    (moved / "a.txt").write_text("two")
    assert ingest([str(moved)], "domain", store=store).path != first.path


def test_row_groups_do_not_change_what_is_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "d.jsonl").write_bytes(lines(*({"text": f"document {i}"} for i in range(50))))
    whole = ingest([str(folder)], "domain", store=Store(tmp_path / "one"))
    monkeypatch.setattr("graft.data.ingest.BATCH_ROWS", 7)
    parts = ingest([str(folder)], "domain", store=Store(tmp_path / "two"))
    assert pq.ParquetFile(parts / "docs.parquet").num_row_groups == 8
    assert rows(whole) == rows(parts)


good_or_bad = st.sampled_from(
    [
        b'{"text": "good"}',
        b'{"text": ""}',
        b"{",
        b'{"text": "\xff"}',
        b'{"other": 1}',
        b"7",
        b"",
        b'{"text": "\\u0000"}',
    ]
)


@given(st.lists(st.lists(good_or_bad, max_size=8), min_size=1, max_size=4), st.binary(max_size=12))
@settings(deadline=None, max_examples=25)
def test_the_ledger_adds_up_for_any_mix_of_good_and_bad(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[bytes]], plain: bytes
) -> None:
    top = tmp_path_factory.mktemp("mix")
    (top / "in").mkdir()
    (top / "in" / "sure.txt").write_text("sure")
    (top / "in" / "plain.txt").write_bytes(plain)
    for number, content in enumerate(files):
        (top / "in" / f"{number}.jsonl").write_bytes(b"\n".join(content))
    docs = ingest([str(top / "in")], "domain", store=Store(top / "store"))
    docs.ledger.check()
    num_rows = 2 + sum(1 for content in files for line in content if line.strip())
    assert docs.ledger.read["domain"].documents == num_rows == len(rows(docs))
    by_fate: dict[str, Amount] = {}
    for row in rows(docs):
        fate = row["dropped"] or "kept"
        by_fate[fate] = by_fate.get(fate, Amount()) + Amount(1, row["num_bytes"])
    assert by_fate == docs.ledger.fates["domain"]
    assert all(row["text"].strip() for row in rows(docs) if not row["dropped"])


def said(error: pytest.ExceptionInfo[UsageError], *words: str) -> None:
    for word in words:
        assert word in str(error.value), f"{word!r} is not said in:\n{error.value}"


def test_a_missing_path_is_named_with_the_nearest_one(folder: Path, store: Store) -> None:
    (folder / "texts").mkdir()
    with pytest.raises(UsageError) as error:
        ingest([str(folder / "text")], "domain", store=store)
    said(error, str(folder / "text"), "no such file or folder", 'did you mean "texts"?', "embedded:prose")
    assert error.value.exit_code == 2


@pytest.mark.parametrize("path", ["x" * 300, "", "~no-such-user/texts"])
def test_an_odd_path_is_missing_like_any_other(store: Store, path: str) -> None:
    with pytest.raises(UsageError) as error:
        ingest([path], "domain", store=store)
    said(error, "no such file or folder")


def test_file_names_that_are_not_utf8(folder: Path, store: Store) -> None:
    odd = os.fsdecode(os.fsencode(folder) + b"/caf\xe9")
    Path(odd + ".txt").write_text("one")
    Path(odd + ".jsonl").write_bytes(lines({"text": "two"}))
    Path(odd + ".pd\udcff").write_text("no")
    Path(odd).mkdir()
    Path(odd, "a.txt").write_text("three")
    pq.write_table(pa.table({"text": ["four"]}), folder / "x.parquet")
    (folder / "x.parquet").rename(odd + ".parquet")
    docs = ingest([str(folder), odd], "domain", store=store)
    parents = [row["parents"] for row in rows(docs) if not row["dropped"]]
    names = [
        "my texts/caf\\xe9.jsonl#1",
        "my texts/caf\\xe9.parquet#1",
        "my texts/caf\\xe9.txt",
        "my texts/caf\\xe9/a.txt",
        "caf\\xe9/a.txt",
    ]
    assert sorted(parents) == sorted([name] for name in names)
    assert fates(docs)["dropped: unread kind: .pd\\xff"] == (1, 2) and docs.facts["skipped"] == {}
    assert docs.facts["paths"] == [str(folder), f"{folder}/caf\\xe9"]
    json.dumps(docs.manifest, ensure_ascii=False).encode()
    assert survey([str(folder)], budget_seconds=60).num_docs == 4
    assert ingest([str(folder), odd], "domain", store=store) == docs


def test_origins_name_the_paths_and_how_much_is_there(folder: Path, store: Store, monkeypatch) -> None:
    (folder / "a.txt").write_text("one")
    (folder / "b.txt").write_text("two")
    monkeypatch.chdir(folder)
    docs = ingest([".", "a.txt"], "domain", store=store)
    assert docs.origins == {"path 0": f"{folder} (2 files)", "path 1": f"{folder}/a.txt (1 file)"}


def test_results_in_a_source_are_passed_over_and_counted(folder: Path, store: Store) -> None:
    """The finding: `--domain . --out adapted` read its own report in the next run."""
    (folder / "a.txt").write_text("one")
    (folder / "report.html").write_text("of graft")
    first = ingest([str(folder / "a.txt")], "domain", store=store)
    put_out(folder / "adapted", {"report.html": folder / "report.html", "model": first.path})
    (folder / "report.html").rename(folder / "b.txt")
    docs = ingest([str(folder)], "domain", store=store)
    assert texts(docs) == ["one", "of graft"] and docs.facts["skipped"]["made by graft"] == 2
    with pytest.raises(UsageError) as error:
        ingest([str(folder / "adapted")], "domain", store=store)
    said(error, "no file here can be read as text", "2 x made by graft")


def test_no_path_at_all(store: Store) -> None:
    with pytest.raises(UsageError) as error:
        ingest([], "domain", store=store)
    said(error, "'domain' has no path", "allowed: a folder")


def test_an_empty_folder(folder: Path, store: Store) -> None:
    with pytest.raises(UsageError) as error:
        ingest([str(folder)], "domain", store=store)
    said(error, str(folder), "the folder is empty", ".jsonl", "to do:   put text files into it")


def test_a_folder_without_text_names_what_it_saw(folder: Path, store: Store) -> None:
    for name in ("a.pdf", "b.pdf", "c.docx"):
        (folder / name).write_bytes(b"x")
    with pytest.raises(UsageError) as error:
        ingest([str(folder)], "domain", store=store)
    said(error, "(2 .pdf, 1 .docx)", "allowed: .txt, .md, .jsonl", "convert")


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_no_row_with_the_text_field_names_the_fields_that_are_there(folder: Path, store: Store, kind: str) -> None:
    content = [{"texts": "x", "label": 1}, {"texts": "y", "label": 2}]
    if kind == "jsonl":
        (folder / "d.jsonl").write_bytes(lines(*content))
    else:
        pq.write_table(pa.Table.from_pylist(content), folder / "d.parquet")
    with pytest.raises(UsageError) as error:
        ingest([str(folder)], "domain", store=store)
    said(
        error, 'no row has a field "text"', f"d.{kind}#1", "texts, label", 'did you mean "texts"?', "2 x no text field"
    )


def test_nothing_but_empty_documents(folder: Path, store: Store) -> None:
    (folder / "a.txt").write_text(" \n")
    (folder / "b.txt").write_bytes(b"\xff")
    with pytest.raises(UsageError) as error:
        ingest([str(folder)], "domain", store=store)
    said(error, "no usable document for source 'domain'", "1 x empty", "1 x undecodable", "a.txt, b.txt", "UTF-8")


def test_files_without_rows(folder: Path, store: Store) -> None:
    (folder / "a.jsonl").write_text("\n\n")
    with pytest.raises(UsageError) as error:
        ingest([str(folder)], "domain", store=store)
    said(error, "no usable document", "the files have no rows")


def test_an_empty_text_field_is_refused() -> None:
    with pytest.raises(UsageError) as error:
        Ingest(text_field="")
    said(error, "text_field is empty", "allowed: the name of a field")


def test_survey_of_little_is_exact_and_of_much_is_near(folder: Path) -> None:
    (folder / "d.jsonl").write_bytes(lines(*({"text": f"{i} " * 20} for i in range(3000))))
    whole = survey([str(folder)], budget_seconds=60)
    size = sum(len(f"{i} " * 20) for i in range(3000))
    assert whole.exact and whole.share_seen == 1 and (whole.num_docs, whole.text_bytes) == (3000, size)
    assert len(whole.docs) == 3000 and whole.docs[2]["text"] == "2 " * 20
    part = survey([str(folder)], budget_seconds=60, budget_bytes=6000)
    assert not part.exact and 0.1 < part.share_seen < 0.5
    assert part.text_total == pytest.approx(size, rel=0.15)
    assert sum(len(one["text"]) for one in part.docs) <= 6600
    assert part == survey([str(folder)], budget_seconds=60, budget_bytes=6000)


def test_survey_reads_only_the_beginning_of_a_long_text(folder: Path) -> None:
    (folder / "long.txt").write_text("é" * 500_000)
    (folder / "other.txt").write_text("x" * 1_000_000)
    part = survey([str(folder)], budget_seconds=60, budget_bytes=10_001)
    assert part.files == 2 and not part.exact and {one["text"][0] for one in part.docs} <= {"é", "x"}
    assert part.text_bytes < 90_000 and part.text_total == pytest.approx(2_000_000, rel=0.01)


def test_survey_obeys_its_clock(folder: Path) -> None:
    (folder / "d.jsonl").write_bytes(lines(*({"text": "x"} for _ in range(1000))))
    assert not survey([str(folder)], budget_seconds=0).exact


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("hf://o/n", HubPath("o/n", None, "")),
        ("hf://datasets/o/n@v1/some/folder", HubPath("o/n", "v1", "some/folder")),
    ],
)
def test_paths_of_the_hub(path: str, expected: HubPath) -> None:
    assert HubPath.parse(path) == expected


def test_a_path_of_the_hub_without_a_name_is_refused(store: Store) -> None:
    with pytest.raises(UsageError) as error:
        ingest(["hf://squad"], "domain", store=store)
    said(error, '"hf://squad" names no data set', "hf://OWNER/NAME")


COMMIT = "0123456789abcdef0123456789abcdef01234567"
HUB_FILES = {
    "README.md": b"# card",
    "data/train.jsonl": lines({"text": "from the hub"}, {"text": "second"}),
    "data/raw.bin": b"no",
}


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub's interface as fetching a data set needs."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/api/datasets/me/mine/tree"):
            tree = [{"type": "file", "oid": "e" * 40, "size": len(c), "path": p} for p, c in HUB_FILES.items()]
            self.answer(json.dumps(tree).encode())
        elif path.startswith("/api/datasets/me/mine"):
            siblings = [{"rfilename": name} for name in HUB_FILES]
            self.answer(json.dumps({"id": "me/mine", "sha": COMMIT, "siblings": siblings}).encode())
        elif path.startswith("/datasets/me/mine/resolve/"):
            name = path.split(f"/{COMMIT}/")[-1]
            self.answer(HUB_FILES[name], {"ETag": f'"{len(name)}"', "X-Repo-Commit": COMMIT})
        else:
            self.answer(b"{}", {"X-Error-Code": "RepoNotFound"}, 404)

    def answer(self, content: bytes, headers: dict[str, str] | None = None, status: int = 200) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        del args


FROM_HUB = """
import json, sys
from pathlib import Path
import pyarrow.parquet as pq
from graft.core.store.artifact import DryStore, NotMade, Store
from graft.core.config.errors import GraftError
from graft.data.ingest import ingest
from graft.data.estimate_sizes import survey
try:
    if len(sys.argv) > 3:
        try:
            print(json.dumps(["found", ingest([sys.argv[1]], "domain", store=DryStore(Path(sys.argv[2]))).name]))
        except NotMade:
            print(json.dumps(["not made"]))
        sys.exit()
    look = survey([sys.argv[1]])
    docs = ingest([sys.argv[1]], "domain", store=Store(Path(sys.argv[2])))
    print(json.dumps([look.files, look.bytes_total, look.exact, pq.read_table(docs / "docs.parquet").to_pylist()]))
except GraftError as error:
    print(json.dumps([type(error).__name__, str(error)]))
"""


def from_hub(path: str, endpoint: str, tmp_path: Path, *more: str) -> list:
    environment = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": ":".join(sys.path)}
    environment |= {"HF_HUB_DISABLE_XET": "1", "PATH": "/usr/bin:/bin", "no_proxy": "*"}
    command = [sys.executable, "-c", FROM_HUB, path, str(tmp_path / "store"), *more]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.strip().splitlines()[-1])


def test_a_data_set_of_the_hub(tmp_path: Path) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        assert from_hub("hf://me/mine", endpoint, tmp_path, "dry") == ["not made"]
        assert not list((tmp_path / "hf").rglob("*.jsonl"))  # a plan fetches nothing
        files, size, exact, found = from_hub("hf://me/mine", endpoint, tmp_path)
        assert [row["text"] for row in found] == ["from the hub", "second"]
        assert [row["parents"] for row in found] == [["data/train.jsonl#1"], ["data/train.jsonl#2"]]
        assert (files, size, exact) == (1, len(HUB_FILES["data/train.jsonl"]), False)
        assert from_hub("hf://me/mine", endpoint, tmp_path, "dry")[0] == "found"
        assert from_hub("hf://me/mine/nowhere", endpoint, tmp_path, "dry") == ["not made"]
        kind, words = from_hub("hf://me/other", endpoint, tmp_path)
        assert kind == "UsageError" and 'no data set "me/other"' in words and "hf auth login" in words
    finally:
        server.shutdown()
        server.server_close()


def test_no_network_is_a_fault_that_says_what_to_do(tmp_path: Path) -> None:
    kind, words = from_hub("hf://me/mine", "http://127.0.0.1:9", tmp_path)
    assert kind == FaultError.__name__
    assert "hf://me/mine: cannot fetch the data set" in words and "run the same command again" in words
