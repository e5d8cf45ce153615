"""Decompression of gzip and BGZF that notices every damage: cut files, bad checksums, bytes after the end."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

import deflate

from varfm.errors import InputError

Read = Callable[[int], bytes]
"""Gives at most n further bytes of the compressed file; no bytes at the end."""

READ_BYTES = 1 << 20
_MOST_BLOCKS = 256
BGZF_EOF = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
"""The empty block that ends every complete BGZF file (SAM specification, 4.1.2)."""

_GZIP = b"\x1f\x8b"
_BGZF = b"\x1f\x8b\x08\x04"
BGZF_MAX = 65536
"""Bytes that a block may have, packed or not."""
_AS_GZIP_MEMBER = 31  # zlib's wbits: header, deflate data, CRC-32 and size, all checked


def is_bgzf(start: bytes) -> bool:
    """Tell whether the first bytes of a file (18 are enough as a rule) are those of a BGZF block."""
    return _block_size(start, 0) is not None


def inflate_bgzf(name: str, read: Read, start: bytes) -> Iterator[bytes]:
    """Give the uncompressed bytes of a BGZF file in pieces of about a megabyte.

    Args:
        name: As errors call the file.
        read: Gives the bytes that follow `start`.
        start: What was read already.

    Raises:
        InputError: If the file is cut (also at the edge of a block), damaged, or goes on after its end marker.
    """
    for blocks in bgzf_blocks(name, read, start):
        yield b"".join([content for _, content in blocks])


def bgzf_blocks(name: str, read: Read, start: bytes, offset: int = 0) -> Iterator[list[tuple[int, bytearray]]]:
    """Give the blocks of a BGZF file, at most a megabyte of the file or 256 at a time, without end markers.

    Args:
        name: As errors call the file.
        read: Gives the bytes that follow `start`.
        start: What was read already, from the beginning of a block.
        offset: Where `start` lies in the file.

    Returns:
        Where each block begins in the file, and its uncompressed bytes; some may have none.

    Raises:
        InputError: As `inflate_bgzf`.
    """
    data, last_was_marker = start, False
    while True:
        blocks: list[tuple[int, bytearray]] = []
        used = 0
        while (end := _block_end(name, data, used, offset, last_was_marker)) is not None:
            block = data[used:end]
            last_was_marker = block == BGZF_EOF
            if not last_was_marker:
                blocks.append((offset + used, _inflate_block(name, block, offset + used)))
            used = end
            if len(blocks) == _MOST_BLOCKS:  # a megabyte of the smallest blocks unpacks to two gigabytes
                yield blocks
                blocks = []
        if blocks:
            yield blocks
        offset += used
        data = data[used:]
        more = read(READ_BYTES)
        if not more:
            break
        data += more
    if data:
        if last_was_marker and not _BGZF.startswith(data[:4]):
            raise _bytes_after_end(name, offset)
        raise _truncated(name, f"it ends inside the block at byte {offset:,}")
    if not last_was_marker:
        raise _truncated(name, f"the end-of-file marker of BGZF is missing after byte {offset:,}")


def _block_end(name: str, data: bytes, start: int, offset: int, after_marker: bool) -> int | None:
    """Find the end of the block that begins at `start`; None if `data` does not hold all of it."""
    if len(data) - start < 18:
        return None
    if data.startswith(_BGZF, start) and _header_end(data, start) > len(data):
        return None
    size = _block_size(data, start)
    if size is None:
        if after_marker:
            raise _bytes_after_end(name, offset + start)
        raise InputError(f"{name}: there is no BGZF block at byte {offset + start:,}, but other bytes. {_DAMAGED}")
    return start + size if start + size <= len(data) else None


def _header_end(data: bytes, start: int) -> int:
    return start + 12 + int.from_bytes(data[start + 10 : start + 12], "little")


def _block_size(data: bytes, start: int) -> int | None:
    """Read the size of a BGZF block from the subfield BC of its gzip header; None if it has none."""
    if not data.startswith(_BGZF, start):
        return None
    place, end = start + 12, _header_end(data, start)
    while place + 4 <= min(end, len(data)):
        length = int.from_bytes(data[place + 2 : place + 4], "little")
        if data[place : place + 2] == b"BC" and length == 2:
            size = int.from_bytes(data[place + 4 : place + 6], "little") + 1
            return size if place + 6 <= len(data) and start + size >= end + 8 else None
        place += 4 + length
    return None


def find_block(data: bytes) -> int | None:
    """Find the first whole block in a piece of a BGZF file, by its header, its checksum and its size.

    Args:
        data: Any bytes of the file; twice `BGZF_MAX` hold a whole block.

    Returns:
        Its place in `data`; None if there is none.
    """
    place = data.find(_BGZF)
    while place >= 0:
        size = _block_size(data, place)
        if size is not None and place + size <= len(data):
            try:
                _inflate_block("", data[place : place + size], place)
                return place
            except InputError:
                pass  # a match by chance, inside compressed data
        place = data.find(_BGZF, place + 1)
    return None


def _inflate_block(name: str, block: bytes, offset: int) -> bytearray:
    check, size = int.from_bytes(block[-8:-4], "little"), int.from_bytes(block[-4:], "little")
    if size > BGZF_MAX:  # so that a crafted block cannot fill the memory
        raise _corrupt(name, offset, "it states more bytes than a block may hold")
    try:
        # One byte of room even for an empty block: with none, libdeflate's wrapper does not look at the data.
        content = deflate.deflate_decompress(block[_header_end(block, 0) : -8], max(size, 1))
    except deflate.DeflateError:
        raise _corrupt(name, offset, "it cannot be decompressed to the stated size") from None
    if len(content) != size:
        raise _corrupt(name, offset, "its size is not the stated one")
    if deflate.crc32(content) != check:
        raise _corrupt(name, offset, "its checksum is not the stated one")
    return content


def inflate_gzip(name: str, read: Read, start: bytes) -> Iterator[bytes]:
    """Give the uncompressed bytes of a gzip file of one or more members, in pieces of at most a megabyte.

    Args:
        name: As errors call the file.
        read: Gives the bytes that follow `start`.
        start: What was read already.

    Raises:
        InputError: If a member is cut or damaged, or other bytes follow the last one.
    """
    data = start
    offset = 0  # of the first byte of `data` in the file
    while data:
        if not _GZIP.startswith(data[:2]):
            raise _bytes_after_end(name, offset)
        inflater, member = zlib.decompressobj(_AS_GZIP_MEMBER), offset
        while not inflater.eof:
            if not data:
                raise _truncated(name, f"it ends inside the gzip member that begins at byte {member:,}")
            try:
                piece = inflater.decompress(data, READ_BYTES)
            except zlib.error as error:
                raise _corrupt(name, member, error) from None
            if piece:
                yield piece
            rest = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
            offset += len(data) - len(rest)
            data = rest or read(READ_BYTES)
        if len(data) == 1:
            data += read(READ_BYTES)


_DAMAGED = "The file is damaged: copy or download it again."


def _truncated(name: str, what: str) -> InputError:
    return InputError(f"{name}: the file is truncated: {what}. Copy or download it again.")


def _bytes_after_end(name: str, offset: int) -> InputError:
    return InputError(f"{name}: bytes after the end of the compressed data, from byte {offset:,} on. {_DAMAGED}")


def _corrupt(name: str, offset: int, why: object) -> InputError:
    return InputError(f"{name}: the compressed block at byte {offset:,} is corrupt ({why}). {_DAMAGED}")
