"""Cutting a file into shards: every record in exactly one of them, wherever lines, blocks and cuts fall."""

from __future__ import annotations

import gzip
import io
import random
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from varfm.errors import InputError, OptionError
from varfm.io.cut import Shard, lines_between
from varfm.io.deflate import BgzfWriter
from varfm.io.inflate import BGZF_EOF
from varfm.io.vcf import VcfReader

HEADER = b"##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"


def records(n: int, seed: int = 1, longest: int = 90) -> bytes:
    draw = random.Random(seed)
    return b"".join(b"1\t%d\t.\tA\tC\t.\t.\tX=%s\n" % (k + 1, b"G" * draw.randint(1, longest)) for k in range(n))


def blocks(text: bytes, sizes: list[int]) -> bytes:
    """Pack text as BGZF with blocks of the given sizes in turn; 0 is an empty block, -1 an end marker."""
    parts, place, turn = [], 0, 0
    while place < len(text):
        size = sizes[turn % len(sizes)]
        turn += 1
        out = io.BytesIO()
        with BgzfWriter(out, threads=1) as writer:
            writer.write(text[place : place + max(size, 0)])
        packed = out.getvalue()
        parts.append(BGZF_EOF if size < 1 else packed[: -len(BGZF_EOF)])
        place += max(size, 0)
    return b"".join([*parts, BGZF_EOF])


def of_shard(path: Path, shard: Shard) -> bytes:
    with VcfReader(str(path), shard) as reader:
        return b"".join(block.data for block in reader.blocks(3))


def of_all(path: Path, total: int) -> list[bytes]:
    return [of_shard(path, Shard(number, total)) for number in range(1, total + 1)]


@pytest.mark.parametrize("text", ["1/1", "3/40", "64/64"])
def test_a_shard_is_written_as_it_was_read(text: str) -> None:
    assert str(Shard.parse(text)) == text


@pytest.mark.parametrize("text", ["", "1", "0/3", "4/3", "1/0", "-1/3", "1/3/5", "a/b", "1 /3", "1/3 ", "٣/٤"])
def test_what_is_no_shard_is_a_usage_error(text: str) -> None:
    with pytest.raises(OptionError, match="give I/N"):
        Shard.parse(text)


@given(st.integers(0, 10**12), st.integers(1, 100))
def test_spans_lie_side_by_side(size: int, total: int) -> None:
    spans = [Shard(number, total).span(size) for number in range(1, total + 1)]
    assert spans[0][0] == 0 and spans[-1][1] == size
    assert all(left[1] == right[0] for left, right in pairwise(spans))


@pytest.mark.parametrize("total", [1, 2, 7, 150])
@pytest.mark.parametrize("end", [b"\n", b""], ids=["line end", "no line end"])
@pytest.mark.parametrize("packing", ["plain", "gzip", "bgzf"])
def test_shards_are_the_file(tmp_path: Path, packing: str, end: bytes, total: int) -> None:
    body = records(100)[:-1] + end
    pack = {"plain": bytes, "gzip": gzip.compress, "bgzf": lambda text: blocks(text, [61, 300, 90, 0, 7])}[packing]
    path = tmp_path / "in.vcf"
    path.write_bytes(pack(HEADER + body))
    found = of_all(path, total)
    assert b"".join(found) == body
    assert all(shard.endswith(b"\n") for shard in [*filter(None, found)][:-1])


@given(
    n=st.integers(0, 12),
    seed=st.integers(0, 99),
    longest=st.sampled_from([1, 40, 400]),
    sizes=st.lists(st.sampled_from([-1, 1, 2, 17, 60, 61, 62, 200, 5000]), min_size=1, max_size=5),
    total=st.integers(1, 9),
    is_packed=st.booleans(),
)
def test_no_record_is_lost_or_doubled_wherever_cuts_fall(
    tmp_path_factory: pytest.TempPathFactory,
    n: int,
    seed: int,
    longest: int,
    sizes: list[int],
    total: int,
    is_packed: bool,
) -> None:
    body = records(n, seed, longest)
    path = tmp_path_factory.mktemp("cut") / "in.vcf"
    path.write_bytes(blocks(HEADER + body, [*sizes, 30]) if is_packed else HEADER + body)
    found = of_all(path, total)
    assert b"".join(found) == body
    assert all(shard.endswith(b"\n") for shard in found if shard)


def test_a_record_belongs_to_the_bytes_in_which_it_begins(tmp_path: Path) -> None:
    lines = [b"1\t1\t.\tA\tC\t.\t.\tX=%s\n" % (b"G" * n) for n in (3, 63, 3)]
    path = tmp_path / "in.vcf"
    path.write_bytes(HEADER + b"".join(lines))
    # Of 120 bytes the first 60 hold the beginnings of the first two records.
    assert sum(map(len, lines)) == 120
    assert of_all(path, 2) == [lines[0] + lines[1], lines[2]]


def test_a_record_belongs_to_the_block_in_which_it_begins(tmp_path: Path) -> None:
    body = records(4, longest=1)
    size = len(body) // 4
    path = tmp_path / "in.vcf"
    # Two blocks of equal size: the second begins inside the third record, which stays with the first.
    path.write_bytes(
        b"".join(part.removesuffix(BGZF_EOF) for part in (blocks(HEADER, [999]), blocks(body, [2 * size + 5])))
        + BGZF_EOF
    )
    found = of_all(path, 1)
    assert found == [body]
    halves = [shard for shard in of_all(path, 40) if shard]
    assert halves == [body[: 3 * size], body[3 * size :]]


def test_plain_gzip_is_cut_by_count(tmp_path: Path) -> None:
    path = tmp_path / "in.vcf.gz"
    path.write_bytes(gzip.compress(HEADER + records(10)))
    assert [shard.count(b"\n") for shard in of_all(path, 4)] == [2, 3, 2, 3]


def test_a_block_that_data_only_look_like_is_passed_over(tmp_path: Path) -> None:
    """Compressed data may hold the first bytes of a block by chance."""
    lure = b"\x1f\x8b\x08\x04\x00\x00\x00\x00\x00\xff\x06\x00BC\x02\x00\x30\x00"
    body = records(30)
    block = bytearray(blocks(HEADER + body, [200]))
    edges = [place for place in range(len(block)) if block.startswith(BGZF_EOF[:4], place)]
    # A comment of the gzip header does not exist in BGZF, so the lure goes into another subfield of the header.
    place = edges[5]
    extra = b"XX" + len(lure).to_bytes(2, "little") + lure
    size = int.from_bytes(block[place + 16 : place + 18], "little") + len(extra)
    block[place + 16 : place + 18] = size.to_bytes(2, "little")
    block[place + 10 : place + 12] = (6 + len(extra)).to_bytes(2, "little")
    block[place + 18 : place + 18] = extra
    path = tmp_path / "in.vcf.gz"
    path.write_bytes(block)
    for total in (2, 3, 50, len(block)):
        assert b"".join(of_all(path, total)) == body


@pytest.mark.parametrize("keep", [-1, -28, -40])
def test_a_cut_file_is_noticed_by_the_last_shard(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "in.vcf.gz"
    path.write_bytes(blocks(HEADER + records(60), [500])[:keep])
    with pytest.raises(InputError, match="truncated"):
        of_shard(path, Shard(3, 3))


def test_numbers_of_lines_in_errors_are_those_of_the_shard(tmp_path: Path) -> None:
    body = records(10).splitlines(keepends=True)
    body[7] = b"nonsense\n"
    path = tmp_path / "in.vcf.gz"
    path.write_bytes(gzip.compress(HEADER + b"".join(body)))
    with pytest.raises(InputError, match=r"in\.vcf\.gz, shard 2/2, line 3:"):
        of_shard(path, Shard(2, 2))


@given(st.lists(st.integers(0, 5), max_size=8), st.integers(1, 9), st.data())
def test_lines_are_counted_over_pieces_of_any_size(lengths: list[int], step: int, data: st.DataObject) -> None:
    lines = [b"x" * n + b"\n" for n in lengths]
    first = data.draw(st.integers(0, len(lines)))
    last = data.draw(st.integers(first, len(lines)))
    text = b"".join(lines)
    pieces = [text[start : start + step] for start in range(0, len(text), step)]
    assert b"".join(lines_between(pieces, first, last)) == b"".join(lines[first:last])
    assert b"".join(lines_between(pieces, first)) == b"".join(lines[first:])


def test_skipped_records_still_count(tmp_path: Path) -> None:
    path = tmp_path / "in.vcf"
    path.write_bytes(HEADER + records(5))
    with VcfReader(str(path)) as reader:
        reader.skip(3)
        (block,) = reader.blocks()
    assert (block.data.count(b"\n"), block.first_record, block.first_line) == (2, 3, 6)
