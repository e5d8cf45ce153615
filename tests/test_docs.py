"""The texts hold what the program does."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from varfm.cli.main import COMMANDS, run

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("page", ["cli", "models"])
def test_a_page_made_from_the_program_is_what_the_program_says(page: str) -> None:
    spec = importlib.util.spec_from_file_location(f"make_{page}", ROOT / "docs" / f"make_{page}.py")
    assert spec and spec.loader
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    text = (ROOT / "docs" / f"{page}.md").read_text("utf-8")
    assert text == make.reference(), f"run: python docs/make_{page}.py > docs/{page}.md"


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_option_of_the_reference_stands_in_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs" / "cli.md").read_text("utf-8")
    section = re.search(rf"## varfm {command}\n(.*?)(?=\n## |\Z)", text, re.S)
    assert section
    assert run([command, "--help"]) == 0
    shown = capsys.readouterr().out
    for option in re.findall(r"^\| `(--[a-z-]+)`", section[1], re.M):
        assert option in shown


def test_links_between_the_texts_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_readme_fits_on_a_page() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 60
