"""The commands of docs/pipelines.md, as the tests that run them need them."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import NamedTuple

import pysam
from golden import differences

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "pipelines.md").read_text("utf-8")
EXPECTED = (ROOT / "example_data" / "ntng1.expected.vcf").read_text()
NOT_RUN = "Not run by the tests, "


class Block(NamedTuple):
    """A piece of code: its language, its text, and whether the page says that no test runs it."""

    language: str
    text: str
    is_run: bool


def sections() -> dict[str, list[Block]]:
    """Give the blocks of each section by its title; what stands before the first is in ''."""
    parts = re.split(r"^## (.+)$", PAGE, flags=re.MULTILINE)
    return {title: blocks(text) for title, text in zip(["", *parts[1::2]], parts[::2], strict=True)}


def blocks(text: str) -> list[Block]:
    """Give the fenced blocks of a text, in order. What stands before a block decides whether it is run."""
    before, *rest = re.split(r"^```(\w+)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    found = []
    for language, code, after in zip(rest[::3], rest[1::3], rest[2::3], strict=True):
        found.append(Block(language, code, not before.rstrip("\n").split("\n")[-1].startswith(NOT_RUN)))
        before = after
    return found


def commands(section: str) -> list[str]:
    """Give the commands of a section that are run, block by block."""
    return [block.text for block in sections()[section] if block.language == "sh" and block.is_run]


def lay_out(folder: Path) -> None:
    """Put the files that the page speaks of into a folder."""
    pysam.tabix_compress(str(ROOT / "example_data" / "ntng1.vcf"), str(folder / "in.vcf.gz"))
    (folder / "ref.fa").write_bytes(gzip.decompress((ROOT / "example_data" / "ntng1.fa.gz").read_bytes()))
    (folder / "workflow").symlink_to(ROOT / "workflow")


def assert_expected(path: Path) -> None:
    """Check a scored file against the expected output of the example."""
    assert list(differences(EXPECTED, gzip.decompress(path.read_bytes()).decode())) == []
