"""The Bioconda recipe passes the checks that Bioconda's linter makes, and says what pyproject.toml says.

The linter needs conda, which no Python index has; those of its rules that such a recipe can break are written out here.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import tomllib
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from varfm import __version__

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONDA_NAMES = {"torch": "pytorch"}
SECTIONS = ["package", "source", "build", "requirements", "test", "about", "extra"]


def make(source: Path) -> str:
    spec = importlib.util.spec_from_file_location("make_recipe", ROOT / "recipe" / "make_recipe.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return str(module.recipe(source, "https://files.example.org/varfm", "https://varfm.example.org"))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Give a file named as the source archive of this version."""
    path = tmp_path / f"varfm-{__version__}.tar.gz"
    path.write_bytes(b"the release")
    return path


@pytest.fixture
def recipe(archive: Path) -> dict[str, Any]:
    """Render the recipe as conda-build does, without names that it does not define."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    text = environment.from_string(make(archive)).render(
        PYTHON="python", pin_subpackage=lambda name, max_pin: f"{name} {max_pin}"
    )
    rendered = yaml.safe_load(text)
    assert isinstance(rendered, dict)
    return rendered


def test_recipe_holds_version_and_digest_of_the_archive(recipe: dict[str, Any], archive: Path) -> None:
    assert recipe["package"] == {"name": "varfm", "version": __version__}
    assert recipe["source"]["sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert recipe["source"]["url"] == f"https://files.example.org/varfm/varfm-{__version__}.tar.gz"
    assert recipe["about"]["home"] == "https://varfm.example.org"
    assert f'{{% set version = "{__version__}" %}}' in (ROOT / "recipe" / "meta.yaml").read_text()


def test_recipe_is_complete(recipe: dict[str, Any]) -> None:
    assert list(recipe) == SECTIONS
    assert recipe["build"]["number"] == 0
    about = recipe["about"]
    assert about["home"] and about["license"] == PROJECT["project"]["license"]
    assert (ROOT / about["license_file"]).is_file()
    assert 0 < len(about["summary"]) <= 120 and not about["summary"].endswith(".")
    assert recipe["test"]["imports"] and recipe["test"]["commands"]
    assert recipe["extra"]["recipe-maintainers"]


def test_recipe_is_for_every_platform_and_compiles_nothing(recipe: dict[str, Any]) -> None:
    assert recipe["build"]["noarch"] == "python"
    assert "skip" not in recipe["build"]
    assert set(recipe["requirements"]) == {"host", "run"}
    # A selector in brackets behind a line would make the package differ between platforms.
    assert not re.search(r"# *\[", (ROOT / "recipe" / "meta.yaml").read_text())


def test_recipe_pins_what_is_built_on_it_to_the_minor_version(recipe: dict[str, Any]) -> None:
    assert recipe["build"]["run_exports"] == ["varfm x.x"]


def test_recipe_builds_from_an_archive_without_the_network(recipe: dict[str, Any]) -> None:
    assert set(recipe["source"]) == {"url", "sha256"}
    assert {"--no-deps", "--no-build-isolation"} <= set(recipe["build"]["script"].split())


def test_requirements_are_those_of_the_package(recipe: dict[str, Any]) -> None:
    expected = [re.fullmatch(r"([a-z0-9-]+)(.*)", line) for line in PROJECT["project"]["dependencies"]]
    listed = [f"{CONDA_NAMES.get(found[1], found[1])} {found[2]}" for found in expected if found]
    python = f"python {PROJECT['project']['requires-python']}"
    assert recipe["requirements"]["run"] == [python, *listed]
    assert recipe["requirements"]["host"] == [python, "pip", PROJECT["build-system"]["requires"][0].replace(">", " >")]
    for line in (*recipe["requirements"]["run"], *recipe["requirements"]["host"]):
        assert re.fullmatch(r"[a-z0-9-]+( >=[0-9.]+)?", line), line


def test_recipe_starts_the_command_that_the_package_starts(recipe: dict[str, Any]) -> None:
    scripts = PROJECT["project"]["scripts"]
    assert recipe["build"]["entry_points"] == [f"{name} = {target}" for name, target in scripts.items()]


def test_archive_of_another_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"other-1\.0\.0\.tar\.gz is not a source archive of varfm"):
        make(tmp_path / "other-1.0.0.tar.gz")
