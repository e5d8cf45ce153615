"""The journal of an unfinished run: what is whole is found again, whatever became of the rest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from test_manifest import MANIFEST

from varfm.errors import DiskError
from varfm.journal import Chunk, Journal

PIECES = ([b"one\n", b"1"], [b"two\nthree\n", b""], [b"four\n", b"4444"])


def chunk(number: int) -> Chunk:
    return Chunk(number * 10, number, {"mini": {"OK": number}}, {"mini": 0}, {}, [], [])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A journal of three chunks and two parts, left by its process."""
    folder = tmp_path / "out.varfm-partial"
    with Journal(folder, 2) as journal:
        journal.begin(MANIFEST)
        for number, pieces in enumerate(PIECES, 1):
            journal.append(chunk(number), pieces)
    return folder


def found(folder: Path) -> list[int]:
    """Give the numbers of the chunks that are found, and see to it that their pieces are whole."""
    with Journal(folder, 2) as journal:
        assert journal.read_run() == MANIFEST
        journal.go_on()
        numbers = [item.n_records for item in journal.chunks]
        for part in (0, 1):
            assert list(journal.pieces(part)) == [PIECES[number - 1][part] for number in numbers]
            assert (folder / f"part-{part}").stat().st_size == sum(len(PIECES[n - 1][part]) for n in numbers)
    return numbers


def test_finished_chunks_are_found_again(folder: Path) -> None:
    assert found(folder) == [1, 2, 3]


def test_chunks_are_added_behind_those_that_were_found(folder: Path) -> None:
    with Journal(folder, 2) as journal:
        journal.go_on()
        journal.append(chunk(1), PIECES[0])
        assert b"".join(journal.pieces(0)) == b"one\ntwo\nthree\nfour\none\n"
    with Journal(folder, 2) as journal:
        journal.go_on()
        assert [item.n_records for item in journal.chunks] == [1, 2, 3, 1]


@pytest.mark.parametrize("n_bytes", range(1, 400, 13))
def test_a_torn_line_costs_its_chunk_alone(folder: Path, n_bytes: int) -> None:
    log = folder / "chunks"
    size = log.stat().st_size
    os.truncate(log, size - n_bytes)
    lines = log.read_bytes().count(b"\n")
    assert found(folder) == list(range(1, lines + 1))


@pytest.mark.parametrize(("size", "numbers"), [(18, [1, 2]), (14, [1, 2]), (13, [1]), (4, [1]), (3, []), (0, [])])
def test_a_torn_piece_costs_its_chunk_and_those_behind_it(folder: Path, size: int, numbers: list[int]) -> None:
    """What a machine that lost its power may leave: the line of a chunk whose piece never reached the disk."""
    os.truncate(folder / "part-0", size)
    assert found(folder) == numbers


def test_bytes_that_were_written_but_not_finished_are_cut_away(folder: Path) -> None:
    with (folder / "part-0").open("ab") as file:
        file.write(b"half a li")
    assert found(folder) == [1, 2, 3]


@pytest.mark.parametrize(("place", "numbers"), [(0, []), (5, [1]), (15, [1, 2])])
def test_a_flipped_byte_is_noticed(folder: Path, place: int, numbers: list[int]) -> None:
    part = folder / "part-0"
    data = bytearray(part.read_bytes())
    data[place] ^= 1
    part.write_bytes(data)
    assert found(folder) == numbers


def test_a_byte_that_flips_later_is_an_error_and_never_output(folder: Path) -> None:
    with Journal(folder, 2) as journal:
        journal.go_on()
        (folder / "part-0").write_bytes(b"one\nTWO\nthree\nfour\n")
        pieces = journal.pieces(0)
        assert next(pieces) == b"one\n"
        with pytest.raises(DiskError, match="does not come back"):
            next(pieces)


def test_a_journal_of_other_parts_is_not_gone_on_with(folder: Path) -> None:
    with Journal(folder, 1) as journal:
        journal.go_on()
        assert journal.chunks == []


def test_what_an_earlier_process_was_putting_together_is_removed(folder: Path) -> None:
    (folder / ".out.12-ab.varfm-tmp.vcf").write_text("half")
    (folder / ".varfm-tmp-xyz").mkdir()
    assert found(folder) == [1, 2, 3]
    assert {path.name for path in folder.iterdir()} == {"run.json", "chunks", "part-0", "part-1", "lock"}


def test_beginning_forgets_everything(folder: Path) -> None:
    with Journal(folder, 2) as journal:
        journal.begin(MANIFEST)
        assert journal.chunks == []
    assert found(folder) == []


def test_removing_leaves_nothing(folder: Path) -> None:
    with Journal(folder, 2) as journal:
        journal.go_on()
        journal.remove()
    assert not folder.exists()


@pytest.mark.parametrize("text", ["", "{", '{"format": 0}'])
def test_a_run_that_says_nothing_of_itself_is_no_run(folder: Path, text: str) -> None:
    (folder / "run.json").write_text(text)
    with Journal(folder, 2) as journal:
        assert journal.read_run() is None


def test_two_processes_do_not_write_one_journal(folder: Path) -> None:
    with Journal(folder, 2), pytest.raises(DiskError, match="another process is at work"), Journal(folder, 2):
        pass
    assert found(folder) == [1, 2, 3]


def test_a_full_disk_keeps_the_chunks_before(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.pwrite

    def fail(file: int, data: memoryview, place: int) -> int:
        if place > 20:
            raise OSError(28, "No space left on device")
        return write(file, data[:10], place)

    with Journal(folder, 2) as journal:
        journal.go_on()
        monkeypatch.setattr(os, "pwrite", fail)
        with pytest.raises(DiskError, match="No space left on device"):
            journal.append(chunk(4), [b"x" * 100, b""])
        monkeypatch.undo()
        assert (folder / "part-0").stat().st_size == 19
    assert found(folder) == [1, 2, 3]
