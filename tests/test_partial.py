"""Tests of varfm.partial: whose a temporary file is."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from varfm import partial


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_piece_in_work_belongs_to_one_call_alone(tmp_path: Path) -> None:
    target = tmp_path / "w.h5"
    first = partial.claim(target)
    first.write_bytes(b"abc")
    second = partial.claim(target)
    assert second != first and not second.exists() and first.read_bytes() == b"abc"


def test_longest_piece_that_was_left_is_taken_up_by_one_call(tmp_path: Path) -> None:
    target = tmp_path / "w.h5"
    claimed = [partial.claim(target) for _ in range(3)]
    for path, content in zip(claimed, (b"a", b"abcd", b"ab"), strict=True):
        path.write_bytes(content)
    for path in claimed:
        partial.leave(path, target)
    assert len(names(tmp_path)) == 1, "of several pieces the longest is enough"
    assert partial.claim(target).read_bytes() == b"abcd"
    assert not partial.claim(target).exists()


def test_empty_piece_is_not_left(tmp_path: Path) -> None:
    piece = partial.claim(tmp_path / "w.h5")
    piece.touch()
    partial.leave(piece, tmp_path / "w.h5")
    assert names(tmp_path) == []


CLAIM = """
import os, sys, time
from pathlib import Path
from varfm import partial
piece = partial.claim(Path(sys.argv[1]))
piece.write_bytes(b"abc")
print("ready", flush=True)
time.sleep(60)
"""


def test_piece_of_a_running_process_is_left_alone_and_of_a_killed_one_taken(tmp_path: Path) -> None:
    target = tmp_path / "w.h5"
    with subprocess.Popen([sys.executable, "-c", CLAIM, target], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        partial.clear(target)
        assert not partial.claim(target).exists() and len(names(tmp_path)) == 1
        process.kill()
    assert partial.claim(target).read_bytes() == b"abc"


def test_piece_of_another_machine_is_never_taken(tmp_path: Path) -> None:
    target = tmp_path / "w.h5"
    piece = tmp_path / ".w.h5.0123456789ab.0-00.part"
    piece.write_bytes(b"abc")
    assert not partial.claim(target).exists()
    partial.clear(target)
    assert piece.exists()


def test_clear_removes_what_is_left_of_this_file_and_what_is_old(tmp_path: Path) -> None:
    target, other = tmp_path / "w.h5", tmp_path / "v.h5"
    for place in (target, other):
        piece = partial.claim(place)
        piece.write_bytes(b"abc")
        partial.leave(piece, place)
    old = [tmp_path / name for name in (".w.h5.0123456789ab.0-00.part", ".w.h5.1-ab.tmp", ".w.1-ab.varfm-tmp.h5")]
    for path in old:
        path.write_bytes(b"abc")
        os.utime(path, (time.time() - 4 * 86400,) * 2)
    (tmp_path / ".w.2-ab.varfm-tmp.h5").write_bytes(b"young")
    partial.clear(target)
    left = names(tmp_path)
    assert len(left) == 2 and left[0].startswith(".v.h5.") and left[1] == ".w.2-ab.varfm-tmp.h5"
