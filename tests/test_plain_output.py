"""Nothing that a file is called or holds steers the terminal: control characters are shown as escapes."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table

import graft
from command import call, call_process
from conftest import WORDS, write_texts
from graft.core.config.errors import UsageError
from graft.core.config.plain_text import STEERING, TerminalStream, plain
from graft.core.process.console import Screen
from graft.core.process.notes import say, tell_notes
from graft.core.process.progress import Progress
from graft.core.store.artifact import Store

HOUSE = Path(graft.__file__).parent
TITLE = "\x1b]0;owned\x07"  # sets the title of a terminal
EVIL = [TITLE, "\x1b[2J", "\x1b[8m", "\x9b31m", "\x7f", "a\rb", "\u202egnp.exe", "\udcff"]


def steers(text: str) -> list[str]:
    """What of a text steers a terminal beside colours and the line that progress draws again."""
    return STEERING.findall(re.sub(r"\x1b\[[\d;]*m|\r\x1b\[2K", "", text))


@pytest.mark.parametrize("evil", EVIL)
def test_every_way_to_the_terminal_is_plain(evil, capsys, monkeypatch):
    error = str(UsageError(f"bad {evil}", where=f"here {evil}\nforged", allowed=evil, do=evil))
    assert not steers(error) and "here" in error.splitlines()[0] and "forged" in error.splitlines()[0]
    tell_notes([f"note {evil}"])
    say(evil)
    progress = Progress(f"reading {evil}", 10, note=evil, started=-100.0)
    progress.advance()
    out = io.StringIO()
    table = Table(f"head {evil}")
    table.add_row(f"cell {evil}")
    Screen(file=out).print(table, f"line {evil}")
    Screen(file=out).print_json('{"a": "\x9b"}')
    said = capsys.readouterr().err
    assert "note" in said and "reading" in said and "cell" in out.getvalue()
    assert not steers(said) and not steers(out.getvalue())
    whole = io.StringIO()
    TerminalStream(whole).write(f"words {evil}\n")
    left = re.sub(r"\x1b\[[\d;]*m|\r", "", whole.getvalue())  # what libraries draw with
    assert "words" in left and not STEERING.search(left)


def test_plain_text_stays_as_it_is():
    assert plain("Größe\t5 €\n日本語 🙂") == "Größe\t5 €\n日本語 🙂"
    assert plain("\x1b[1m\x9b\udcfe\ud800") == "\\x1b[1m\\x9b\\xfe\\ud800"


@pytest.mark.parametrize("evil", ["\x1b]0;owned\x07", "a\x9bb", "x\x1b[8my"])
def test_file_names_are_shown_and_not_obeyed(tmp_path, evil):
    """A whole real process each: an error, a note, a listing, and what the parser of words says."""
    folder = write_texts(tmp_path / "texts", WORDS, 3, seed=1)
    (folder / f"{evil}.pdf").write_bytes(b"no text")
    (folder / f"{evil}.txt").write_bytes(b"\xff\xfe\xfa broken \x81")
    store = tmp_path / f"store{evil}"
    out = ("--out", tmp_path / "out", "--store", store, "--set", "train.tokens=100")
    for words in (
        ("adapt", "embedded", "--domain", folder / f"no{evil}", *out),
        ("adapt", "embedded", "--domain", folder / f"{evil}.txt", *out),
        ("ls", evil),
        ("ls", "artifacts", "--store", store),
        ("show", evil, "--store", store),
        ("run", tmp_path / evil),
        (evil,),
        ("ls", f"--{evil}"),
        ("law", "fit", tmp_path / f"{evil}.csv"),
    ):
        done = call(*words, cwd=tmp_path)
        assert (done.returncode, words[:2]) in ((2, words[:2]), (0, ("ls", "artifacts")))
        assert done.stderr + done.stdout and not steers(done.stderr + done.stdout), (words, done.stderr)


def test_artifacts_of_such_names_are_listed_plainly(tmp_path):
    store = Store(tmp_path)
    for name in (f"docs{TITLE}-0123456789ab", f"{TITLE}corpus-0123456789ab"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text("{")
    (tmp_path / "drafts" / TITLE).mkdir(parents=True)
    made = store.make(
        "tokens",
        {"a": TITLE},
        {"x\x9b": TITLE},
        "graft.core.stats.random_streams",
        lambda _: None,
        origins={"o": TITLE},
    )
    for words in (("ls", "artifacts"), ("show", made.name), ("why", made.name), ("clean",)):
        done = call(*words, "--store", tmp_path)
        assert done.returncode == 0, done.stderr
        assert not steers(done.stdout + done.stderr), (words, done.stdout)


def test_what_was_not_foreseen_is_shown_plainly_too(tmp_path):
    """A traceback and a warning of a library, in a real process."""
    code = f"""
import sys, warnings
import graft.cli.app as cli
@cli.app.command()
def broken(): warnings.warn({TITLE!r}); print({TITLE!r}); raise RuntimeError({TITLE!r})
sys.argv = ["graft", "broken"]
cli.main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 1 and "RuntimeError" in done.stderr and "owned" in done.stdout
    assert not steers(done.stderr + done.stdout)


def test_colours_reach_a_terminal(tmp_path):
    done = call_process("ls", FORCE_COLOR="1", TERM="xterm-256color", COLUMNS="100")
    assert done.returncode == 0 and "\x1b[1m" in done.stdout and "\\x1b" not in done.stdout
    asked = call_process("adapt", "--help", FORCE_COLOR="1", TERM="xterm-256color", COLUMNS="100")
    assert asked.returncode == 0 and "\x1b[" in asked.stdout and "\\x1b" not in asked.stdout


def test_there_is_no_other_way_to_the_terminal():
    """Whoever shows something uses the few places that make it plain."""
    allowed = {
        "core/process/notes.py",
        "core/process/progress.py",
        "core/config/plain_text.py",
        "core/process/console.py",
        "core/process/processes.py",
        "training/signals.py",
    }
    direct = re.compile(
        r"sys\.std(?:out|err)\.write|os\.write\(|(?<![\w.])print\(|\bConsole\(|typer\.echo\((?!plain\(|f\"graft )"
    )
    found = {
        f"{path.relative_to(HOUSE)}: {line.strip()}"
        for path in HOUSE.rglob("*.py")
        if path.relative_to(HOUSE).as_posix() not in allowed
        for line in path.read_text(encoding="utf-8").splitlines()
        if direct.search(line.partition("#")[0])
    }
    assert not found
