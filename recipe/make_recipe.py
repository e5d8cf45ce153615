"""Print the Bioconda recipe of a release: `python recipe/make_recipe.py varfm-0.1.0.tar.gz URL HOME > meta.yaml`."""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

TEMPLATE = Path(__file__).with_name("meta.yaml")


def recipe(source: Path, url: str, home: str) -> str:
    """Give the recipe for a source archive.

    Args:
        source: `varfm-VERSION.tar.gz`, as it was uploaded.
        url: Where it was uploaded to, without its name.
        home: The page of the project.

    Raises:
        SystemExit: If the file has another name.
    """
    named = re.fullmatch(r"varfm-(\d+\.\d+\.\d+)\.tar\.gz", source.name)
    if named is None:
        raise SystemExit(f"{source.name} is not a source archive of varfm. Give varfm-VERSION.tar.gz.")
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    text = TEMPLATE.read_text("utf-8")
    text = text[text.index("{% set name") :]
    for key, value in (("version", named[1]), ("sha256", digest), ("url", url), ("home", home)):
        text, count = re.subn(rf'(?<={{% set {key} = ")[^"]*', value, text)
        if count != 1:
            raise SystemExit(f"{TEMPLATE.name} sets {key} {count} times.")
    return text


if __name__ == "__main__":
    sys.stdout.write(recipe(Path(sys.argv[1]), *sys.argv[2:4]))
