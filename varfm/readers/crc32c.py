"""The checksum CRC-32C (Castagnoli), at about a second per gigabyte without a compiled module.

A CRC is linear: the register after a word is the old register pushed on by the word's length, XOR the word. So many
registers run side by side, each over every n-th word, and are put together at the end.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

_POLYNOMIAL = 0x82F63B78  # bits reversed, as the register holds them
_N_LANES = 1 << 16
_ONES = 0xFFFFFFFF
_SHORT = 64


def crc32c(content: NDArray[np.uint8] | bytes | memoryview) -> int:
    """Give the CRC-32C of bytes.

    Args:
        content: Any buffer of bytes; an array must be one-dimensional and contiguous.
    """
    data = np.frombuffer(content, np.uint8)
    if len(data) <= _SHORT:
        return _of_short(data.tobytes())
    n_lanes = min(_N_LANES, 1 << ((len(data) + 3) // 4 - 1).bit_length())
    width = 4 * n_lanes
    n_first = (len(data) - 4) % width + 4
    first = np.zeros(-(-n_first // width) * width, np.uint8)  # zeros in front of a message leave a register of zeros
    start = len(first) - n_first
    first[start:] = data[:n_first]
    first[start : start + 4] ^= 0xFF  # which stands for a register that begins with ones
    lanes = first[:width].view("<u4").astype(np.uint32)
    lanes = _run(lanes, first[width:].reshape(-1, width))
    lanes = _run(lanes, data[n_first:].reshape(-1, width))
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = _pushed(lanes[:half], 4 * half) ^ lanes[half:]
    return int(_pushed(lanes, 4)[0]) ^ _ONES


def masked(crc: int) -> int:
    """Give a CRC as TensorFlow and LevelDB store it: rotated, plus a constant."""
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & _ONES


def _of_short(content: bytes) -> int:
    register = _ONES
    for byte in content:
        register ^= byte
        for _ in range(8):
            register = (register >> 1) ^ (_POLYNOMIAL if register & 1 else 0)
    return register ^ _ONES


def _run(lanes: NDArray[np.uint32], rows: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Take rows of as many words as there are lanes into the lanes, one row after the other."""
    if not len(rows):
        return lanes
    low, high = _wide_tables(4 * len(lanes))
    halves = lanes.view(np.uint16).reshape(-1, 2)  # low half first: every system that runs torch is little-endian
    from_low, from_high = np.empty_like(lanes), np.empty_like(lanes)
    for row in rows:
        np.take(low, halves[:, 0], out=from_low, mode="clip")  # "clip" lets NumPy write into `out` directly
        np.take(high, halves[:, 1], out=from_high, mode="clip")
        np.bitwise_xor(from_low, from_high, out=lanes)
        np.bitwise_xor(lanes, row.view("<u4"), out=lanes)
    return lanes


def _pushed(registers: NDArray[np.uint32], n_bytes: int) -> NDArray[np.uint32]:
    """Give the registers after `n_bytes` zero bytes, a power of two."""
    tables = _tables(n_bytes)
    pushed: NDArray[np.uint32] = tables[0][registers & 0xFF]
    for number in range(1, 4):
        pushed ^= tables[number][(registers >> (8 * number)) & 0xFF]
    return pushed


@cache
def _tables(n_bytes: int) -> NDArray[np.uint32]:
    """Give what each value of each byte of a register becomes after that many zero bytes, (4, 256)."""
    return _spanned(_images(n_bytes).reshape(4, 8))


@cache
def _wide_tables(n_bytes: int) -> NDArray[np.uint32]:
    """Give the same for each half of a register, (2, 65536)."""
    return _spanned(_images(n_bytes).reshape(2, 16))


def _spanned(images: NDArray[np.uint32]) -> NDArray[np.uint32]:
    n_tables, n_bits = images.shape
    tables = np.zeros((n_tables, 1 << n_bits), np.uint32)
    for bit in range(n_bits):
        tables[:, 1 << bit : 2 << bit] = tables[:, : 1 << bit] ^ images[:, bit : bit + 1]
    return tables


@cache
def _images(n_bytes: int) -> NDArray[np.uint32]:
    """Give what each single bit of a register becomes after `n_bytes` zero bytes, a power of two; (32,)."""
    if n_bytes == 1:
        registers: NDArray[Any] = np.uint32(1) << np.arange(32, dtype=np.uint32)
        for _ in range(8):
            registers = (registers >> 1) ^ np.where(registers & 1, np.uint32(_POLYNOMIAL), np.uint32(0))
        return registers
    return _pushed(_images(n_bytes // 2), n_bytes // 2)
