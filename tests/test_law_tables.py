"""Tables of runs: every format gives the same trials, and every bad table is refused by row, column and value."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from graft.core.config.errors import UsageError
from graft.scaling.tables.table import stack
from graft.scaling.tables.table_file import read_table
from graft.scaling.tables.trials import Columns, TableReading, read_trials

READS = ("size", "tokens", "ratio")
ROWS: list[dict[str, Any]] = [
    {"size": 1e9, "tokens": tokens, "ratio": ratio, "loss": 2.0 + 0.1 * ratio - tokens / 1e11}
    for ratio in (0.1, 0.3, 0.9)
    for tokens in (1e9, 2e9)
]


def write_csv(path: Path, rows: list[dict[str, Any]], sign: str = ",") -> Path:
    with path.open("w", newline="") as out:
        writer = csv.DictWriter(out, list(rows[0]), delimiter=sign)
        writer.writeheader()
        writer.writerows(rows)
    return path


def changed(row: int, **cells: Any) -> list[dict[str, Any]]:
    """The table with some cells of one row, counted from 1, replaced."""
    return [{**one, **cells} if number == row else dict(one) for number, one in enumerate(ROWS, 1)]


def read(path: Path, reads: tuple[str, ...] = READS, law: str = "d_cpt", **settings: Any) -> TableReading:
    return read_trials(read_table(path), Columns(**settings), reads, law=law)


def refused(path: Path, reads: tuple[str, ...] = READS, law: str = "d_cpt", **settings: Any) -> str:
    with pytest.raises(UsageError) as raised:
        read(path, reads, law, **settings)
    return str(raised.value)


def test_every_format_gives_the_same_trials(tmp_path):
    columns = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    write_csv(tmp_path / "a.csv", ROWS)
    write_csv(tmp_path / "semicolon.csv", ROWS, ";")
    write_csv(tmp_path / "a.tsv", ROWS, "\t")
    (tmp_path / "bom.csv").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "a.csv").read_bytes())
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    (tmp_path / "rows.json").write_text(json.dumps(ROWS))
    (tmp_path / "columns.json").write_text(json.dumps(columns))
    (tmp_path / "indexed.json").write_text(json.dumps({n: dict(enumerate(cells)) for n, cells in columns.items()}))
    (tmp_path / "a.jsonl").write_text("\n\n".join(json.dumps(row) for row in ROWS))
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    for path in sorted(tmp_path.iterdir()):
        trials = read(path).trials
        assert trials.loss_T.tolist() == columns["loss"], path
        assert all(trials.columns[name].tolist() == columns[name] for name in READS), path


def test_numbers_as_people_write_them(tmp_path):
    path = write_csv(tmp_path / "a.csv", changed(1, size="1B", tokens="1000M") + changed(1)[1:2])
    with pytest.raises(UsageError, match="repeats"):
        read(path)
    assert read(path, repeats="keep").trials.columns["size"].tolist() == [1e9] * 7


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"ratio": ""}, ('row 2 (line 3), column "ratio" is blank', "0 to 1", "--where")),
        ({"loss": ""}, ('row 2 (line 3), column "loss" is blank', "above 0")),
        ({"ratio": 30}, ('row 2 (line 3), column "ratio" is 30, a percentage', "0 to 1", "write 0.3")),
        ({"ratio": "30%"}, ('column "ratio" is "30%", no number', "write 0.3")),
        ({"ratio": -0.1}, ('column "ratio" is -0.1', "0 to 1")),
        ({"ratio": 130}, ('column "ratio" is 130', "0 to 1")),
        ({"ratio": "0,3"}, ('"0,3", no number', "write 0.3")),
        ({"tokens": "2,000,000"}, ('"2,000,000", no number', "write 2000000")),
        ({"tokens": "many"}, ('column "tokens" is "many", no number', "such as 0.3, 1e9 or 1.5B")),
        ({"tokens": 0}, ('column "tokens" is 0', "above 0", "not trained yet")),
        ({"size": -1}, ('column "size" is -1', "above 0")),
        ({"loss": "nan"}, ('column "loss" is nan', "a run that failed is no point")),
        ({"loss": "inf"}, ('column "loss" is inf', "--where")),
        ({"loss": 0}, ('column "loss" is 0', "above 0")),
    ],
)
def test_a_bad_cell_is_named_with_row_column_value_and_what_to_do(tmp_path, cells, words):
    said = refused(write_csv(tmp_path / "runs.csv", changed(2, **cells)))
    assert said.startswith("runs.csv: ")
    for word in words:
        assert word in said


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "loss,size,loss\n1,2,3\n", ('the column "loss" stands twice, as column 1 and column 3',)),
        ("a.json", '[{"loss": 1, "loss": 2}]', ('the column "loss" stands twice',)),
        ("a.csv", "loss,size\n1,2\n1,2,3\n", ("row 2 (line 3) has 3 cells", "2, one per column")),
        ("a.csv", "loss,size\n", ("no rows",)),
        ("a.csv", 'loss,size\n"1,2\n', ("is not CSV",)),
        ("a.json", '{"loss": [1, 2], "size": [1]}', ("different lengths: loss 2, size 1",)),
        ("a.json", "3", ("this JSON is no table", '[{"loss": 2.1, ...}')),
        ("a.json", "[1]", ("row 1 is '1'", "an object")),
        ("a.json", "[", ("not JSON",)),
        ("a.jsonl", '{"loss": 1}\n{"loss"\n', ("row 2 (line 2): not JSON",)),
        ("a.parquet", "no", ("no Parquet file",)),
        ("a.xlsx", "no", ("no table that can be read", ".csv, .tsv, .parquet")),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    with pytest.raises(UsageError) as raised:
        read_table(tmp_path / name)
    assert str(tmp_path / name) in str(raised.value)
    for word in words:
        assert word in str(raised.value)


def test_text_that_is_not_utf8_and_a_missing_file_are_refused(tmp_path):
    (tmp_path / "runs.csv").write_bytes(b"loss\n\xff\xfe\n")
    with pytest.raises(UsageError, match="not UTF-8"):
        read_table(tmp_path / "runs.csv")
    with pytest.raises(UsageError, match='no such file[\\s\\S]*did you mean "runs.csv"'):
        read_table(tmp_path / "rums.csv")


def test_a_column_is_found_by_its_noun_or_named_and_an_unknown_one_gets_the_nearest(tmp_path):
    rows = [
        {"n_params": row["size"], "Tokens": row["tokens"], "ratio": row["ratio"], "val": row["loss"]} for row in ROWS
    ]
    path = write_csv(tmp_path / "runs.csv", rows)
    assert 'd_cpt reads "size"' in (said := refused(path, named={"loss": "val"})) and "--size n_params" in said
    reading = read(path, named={"loss": "val", "size": "n_params"})
    assert reading.used == {"loss": "val", "size": "n_params", "tokens": "Tokens", "ratio": "ratio"}
    said = refused(path, named={"loss": "val", "size": "n_parms"})
    assert 'no column "n_parms"' in said and 'did you mean "n_params"' in said and "--size n_parms" in said
    assert "chinchilla does not read ratio" in refused(path, ("size", "tokens"), "chinchilla", named={"ratio": "ratio"})
    assert 'did you mean "injected"' in refused(path, named={"injcted": "val"})


def test_repeated_points_are_refused_averaged_or_kept(tmp_path):
    rows = [*ROWS, {**ROWS[1], "loss": ROWS[1]["loss"] + 0.2}]
    path = write_csv(tmp_path / "runs.csv", rows)
    said = refused(path)
    assert "row 7 (line 8) repeats row 2 (line 3): size 1e+09, tokens 2e+09, ratio 0.1" in said
    assert "--repeats mean" in said and "--repeats keep" in said
    mean = read(path, repeats="mean")
    assert len(mean.trials) == 6 and mean.trials.loss_T[1] == pytest.approx(ROWS[1]["loss"] + 0.1)
    assert any("7 rows are 6 points" in note for note in mean.notes)
    kept = read(path, repeats="keep")
    assert len(kept.trials) == 7 and any("1 rows repeat a point" in note for note in kept.notes)
    assert len(read(write_csv(path, [{**row, "run": k} for k, row in enumerate(rows)])).trials) == 7  # other runs


def test_repeats_that_a_column_of_text_tells_apart_name_it(tmp_path):
    rows = [{**row, "text": text} for text in ("law", "code") for row in ROWS]
    assert "--where text=code" in refused(write_csv(tmp_path / "runs.csv", rows))
    kept = read(tmp_path / "runs.csv", where=("text=law",))
    assert len(kept.trials) == 6 and kept.notes[0] == "6 of 12 rows are taken (text=law)"
    named = read(tmp_path / "runs.csv", named={"domain": "text"})
    assert named.label_T == ("law",) * 6 + ("code",) * 6 and set(named.trials.run_T.tolist()) == set(range(6))
    rows = [{**row, "id": f"r{k}"} for k, row in enumerate([*ROWS, *ROWS])]
    assert "--run id" in refused(write_csv(tmp_path / "ids.csv", rows))


def test_a_column_that_is_read_already_or_holds_numbers_names_no_domains(tmp_path):
    rows = [{**{name: row[name] for name in READS}, "domain": row["loss"], "general": 9 - row["loss"]} for row in ROWS]
    path = write_csv(tmp_path / "pilots.csv", rows)
    for loss in ("domain", "general"):
        reading = read(path, named={"loss": loss})
        assert reading.label_T == () and reading.trials.run_T.tolist() == [0, 0, 1, 1, 2, 2]


def test_conditions_take_rows_and_say_so(tmp_path):
    path = write_csv(tmp_path / "runs.csv", ROWS)
    for condition, count in {
        "tokens=1B": 3,
        "ratio!=0.1": 4,
        "ratio>0.1": 4,
        "ratio <= 0.3": 4,
        "ratio<0.3": 2,
    }.items():
        reading = read(path, where=(condition,))
        assert len(reading.trials) == count and reading.notes[0] == f"{count} of 6 rows are taken ({condition})"
    assert read(path, where=("ratio=0.9",)).places == ("row 5 (line 6)", "row 6 (line 7)")
    assert "no row of 6 has ratio" in (said := refused(path, where=("ratio=0.5",))) and "0.1, 0.3, 0.9" in said
    assert "is no condition" in refused(path, where=("ratio",))
    assert 'did you mean "ratio"' in refused(path, where=("rato=1",))


def curve(rates: list[float], **more: Any) -> list[dict[str, Any]]:
    return [
        {"size": 1e9, "tokens": 1e9 * (k + 1), "ratio": 0.5, "lr": rate, "loss": 2.0 - 0.1 * k, **more}
        for k, rate in enumerate(rates)
    ]


def test_a_decaying_run_is_no_table_of_token_counts(tmp_path):
    path = write_csv(tmp_path / "runs.csv", curve([1e-4, 3e-4, 3e-4, 1e-4]))
    said = refused(path)
    assert 'row 4 (line 5), column "lr": the rate of this run falls from 0.0003' in said
    assert "3e+09 tokens, row 3 (line 4)" in said and "--schedule accept" in said and "multi_power" in said
    accepted = read(path, schedule="accept")
    assert len(accepted.trials) == 4 and "decaying run" in accepted.warnings[0]
    assert not read(path, where=("tokens<4e9",)).warnings  # warm-up is no decay
    assert not read(path, ("step", "rate"), "multi_power", named={"step": "tokens", "rate": "lr"}).warnings


def test_one_checkpoint_per_decayed_run_is_fine_and_runs_may_be_named(tmp_path):
    ends = [{**row, "run": k} for k, row in enumerate(curve([3e-4, 2e-4, 1e-4]))]
    assert len(read(write_csv(tmp_path / "ends.csv", ends)).trials) == 3
    assert "falls" in refused(tmp_path / "ends.csv", run="ratio")
    words = curve([3e-4, 3e-4], schedule="cosine", run="a")
    assert "this run's schedule is cosine" in refused(write_csv(tmp_path / "words.csv", words))
    assert read(write_csv(tmp_path / "held.csv", curve([3e-4, 3e-4], schedule="constant", run="a"))).trials


def test_shares_must_sum_to_one_but_for_rounding_to_three_decimals(tmp_path):
    def table(*shares: float, count: int = 3) -> Path:
        rows = [dict(zip("abc", shares, strict=True)) | {"loss": 2.0 + k} for k in range(count)]
        return write_csv(tmp_path / "mixtures.csv", rows)

    def weights(path: Path) -> TableReading:
        return read(path, ("weights",), "regmix", weights=("a", "[bc]"), repeats="keep")

    for shares in ((0.5, 0.3, 0.2), (0.333, 0.333, 0.333), (0.5, 0.5015, 0.0)):  # three roundings of 0.0005
        assert weights(table(*shares)).trials.weights_TK[0].tolist() == list(shares)
    for shares in ((0.5, 0.3, 0.1), (0.5, 0.502, 0.0)):
        with pytest.raises(UsageError, match="row 1 \\(line 2\\): the 3 shares sum to") as raised:
            weights(table(*shares))
        assert "to within 0.0015 (three decimals each)" in str(raised.value)
    with pytest.raises(UsageError, match='percentages[\\s\\S]*write shares: 0.5 for 50 in "a"'):
        weights(table(50, 30, 20))
    with pytest.raises(UsageError, match='column "b" is -0.2'):
        weights(table(0.9, -0.2, 0.3))
    assert "none are named" in refused(table(0.5, 0.3, 0.2), ("weights",), "regmix")
    assert 'no column matches "x_*"' in refused(table(0.5, 0.3, 0.2), ("weights",), "regmix", weights=("x_*",))
    assert "repeats row 1" in refused(table(0.5, 0.3, 0.2), ("weights",), "regmix", weights=("a", "b", "c"))
    assert "does not read shares" in refused(write_csv(tmp_path / "r.csv", ROWS), weights=("size",))


def test_the_ratio_of_the_other_text_is_turned_around(tmp_path):
    path = write_csv(tmp_path / "runs.csv", ROWS)
    other = read(path, ratio_of="other")
    assert other.trials.columns["ratio"].tolist() == [0.9, 0.9, 0.7, 0.7, 0.1, 0.1]
    assert "the law is fitted against 1 - ratio" in other.notes
    assert "reads no ratio" in refused(path, ("size", "tokens"), "chinchilla", ratio_of="other", repeats="mean")


def test_runs_are_named_guessed_and_told(tmp_path):
    path = write_csv(tmp_path / "runs.csv", [{**row, "seed": k % 2} for k, row in enumerate(ROWS)])
    guessed = read(path)
    assert guessed.trials.run_T.tolist() == [0, 0, 1, 1, 2, 2] and "checkpoints of 3 runs" in guessed.notes[-1]
    assert read(path, run="row").trials.run_T.tolist() == list(range(6)) and not read(path, run="row").notes
    assert read(path, run="seed").trials.run_T.tolist() == [0, 1] * 3
    two = stack([read_table(path), read_table(write_csv(tmp_path / "more.csv", [{**ROWS[0], "tokens": 5, "seed": 1}]))])
    assert read_trials(two, Columns(run="file"), READS, law="d_cpt").trials.run_T.tolist() == [0] * 6 + [1]
    assert "more.csv, row 1" in two.rows[-1]
    with pytest.raises(UsageError, match="do not have the same columns: seed"):
        stack([read_table(path), read_table(write_csv(tmp_path / "more.csv", ROWS))])


def test_tables_are_joined_on_what_both_have(tmp_path):
    mixtures = read_table(write_csv(tmp_path / "m.csv", [{"index": k, "a": 0.5, "b": 0.5} for k in (1, 2, 3)]))
    losses = write_csv(tmp_path / "l.csv", [{"index": f"{k}.0", "loss": k} for k in (3, 1, 2)])
    assert mixtures.join(read_table(losses)).columns["loss"] == ["1", "2", "3"]
    for rows, words in (
        ([{"index": k, "loss": 1} for k in (1, 2)], "row 3 \\(line 4\\) has index 3"),
        ([{"index": k, "loss": 1} for k in (1, 2, 3, 4)], "1 of 4 rows belong to no row"),
        ([{"index": 1, "loss": 1}] * 2, "has the same index as row 1"),
        ([{"number": 1, "loss": 1}], "share no column"),
    ):
        with pytest.raises(UsageError, match=words):
            mixtures.join(read_table(write_csv(tmp_path / "l.csv", rows)))


def test_the_loss_of_the_base_is_read_by_size(tmp_path):
    rows = [{**row, "base_loss": 2.5, "size": size} for size in (1e9, 2e9) for row in ROWS]
    assert read(write_csv(tmp_path / "runs.csv", rows)).base_loss == {1e9: 2.5, 2e9: 2.5}
    rows[3]["base_loss"] = 2.6
    assert "the base's loss is 2.6, and 2.5 in an earlier row" in refused(write_csv(tmp_path / "runs.csv", rows))


def test_columns_that_a_law_may_read_are_read_where_they_are(tmp_path):
    table = read_table(write_csv(tmp_path / "runs.csv", [{**row, "stop": k % 2} for k, row in enumerate(ROWS)]))
    assert "stop" not in read_trials(table, Columns(), READS, law="x").trials.columns
    there = read_trials(table, Columns(), READS, law="x", may_read=("stop", "more")).trials
    assert there.columns["stop"].tolist() == [0, 1] * 3 and "more" not in there.columns


def test_sizes_in_billions_are_questioned(tmp_path):
    rows = [{**row, "size": 7} for row in ROWS]
    assert "size is at most 7, read as 7 parameters: write 7B" in read(write_csv(tmp_path / "a.csv", rows)).warnings[0]
    assert not read(write_csv(tmp_path / "b.csv", ROWS)).warnings


def test_places_to_be_predicted_need_no_losses_and_may_repeat(tmp_path):
    rows = [{name: row[name] for name in READS} for row in [*ROWS, *ROWS]]
    table = read_table(write_csv(tmp_path / "places.csv", rows))
    asked = read_trials(table, Columns(), READS, law="d_cpt", measured=False).trials
    assert len(asked) == 12 and np.isnan(asked.loss_T).all()
