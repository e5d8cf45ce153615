"""Rules that hold for every file: where things lie, what may import what, what no code may do."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from varfm import __version__, errors
from varfm.doctor import EXTRAS
from varfm.genome import encode
from varfm.normalise import normalise
from varfm.variants import Status, Variant
from varfm.windows import Gene, Haplotype, Site, left_fixed, right_fixed, tss_fixed

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "varfm"
MODULES = sorted(PACKAGE.rglob("*.py"))

LAYERS = (
    {"varfm.errors", "varfm.digits", "varfm.variants"},
    {"varfm.windows"},
    {"varfm.protocols"},
    # What knows one thing: a file format, a network's input, a comparison of answers.
    {
        "varfm.cache",
        "varfm.bgzf",
        "varfm.https",
        "varfm.partial",
        "varfm.fasta",
        "varfm.io",
        "varfm.readers",
        "varfm.encoding",
        "varfm.delta",
        "varfm.precision",
        "varfm.scorers",
        "varfm.svg",
    },
    {
        "varfm.plan",
        "varfm.pipeline",
        "varfm.download",
        "varfm.genome",
        "varfm.contigs",
        "varfm.annotation",
        "varfm.labels",
    },
    {
        "varfm.checkpoints",
        "varfm.converted",
        "varfm.overrides",
        "varfm.weights",
        "varfm.tracks",
        "varfm.normalise",
        "varfm.genes",
        "varfm.regions",
    },
    {"varfm.models", "varfm.conversion", "varfm.alleles"},
    # Scores as text and tables: the part of `io` that knows alleles.
    {
        "varfm.io.info",
        "varfm.io.columns",
        "varfm.io.rows",
        "varfm.io.parquet",
        "varfm.io.embeddings",
        "varfm.io.table",
        "varfm.changes",
        "varfm.runner",
    },
    {"varfm.engine"},
    {"varfm.session", "varfm.manifest", "varfm.journal"},
    {"varfm.account", "varfm.apart"},
    {"varfm.output", "varfm.doctor", "varfm.api", "varfm.ism", "varfm.picture", "varfm.fitting", "varfm.finetune"},
    {"varfm.shards", "varfm.resume", "varfm.multiqc", "varfm.forecast"},
    {"varfm.cli"},
)
"""From the bottom to the top. A module imports from its own layer and from those below; `varfm` itself
stands above them all. Of the names that fit a module, the longest counts."""

GENE = Gene("gene", "z", 7, "+", "gene")

MAX_LINES = {"models": 500}
N_LINES = 400
TOP_LEVEL = {
    "benchmarks", "CHANGELOG.md", "CITATION.cff", "Dockerfile", "LICENSE", "README.md", "docker", "docs",
    "example_data", "pyproject.toml", "tests", "recipe", "training", "varfm", "workflow", "nextflow",
}  # fmt: skip


def tracked() -> list[Path]:
    """List the files of the repository: those of git, or without git all that are not hidden."""
    try:
        command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
        return [ROOT / name for name in names if name and (ROOT / name).is_file()]
    except (OSError, subprocess.CalledProcessError):
        return [path for path in ROOT.rglob("*") if path.is_file() and "/." not in str(path.relative_to(ROOT))]


FILES = tracked()


def texts() -> Iterator[tuple[str, str]]:
    """Give every text file: its name from the root, and its text."""
    for path in FILES:
        try:
            yield path.relative_to(ROOT).as_posix(), path.read_text("utf-8")
        except UnicodeDecodeError:
            continue


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """Give the varfm modules that a file imports, inside functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import in line {node.lineno}"
            base = node.module or ""
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                found.add(whole if (ROOT / (whole.replace(".", "/") + ".py")).exists() else base)
    return {name for name in found if name.split(".")[0] == "varfm"}


def layer(name: str) -> int:
    """Give the number of a module's layer; of the names that fit, the longest decides."""
    fitting = [(len(top), number) for number, tops in enumerate(LAYERS) for top in tops if is_inside(name, top)]
    assert fitting, f"{name} stands in no layer. Add it to LAYERS in tests/test_repository.py."
    return max(fitting)[1]


def is_inside(name: str, top: str) -> bool:
    return name == top or name.startswith(top + ".")


def calls(path: Path) -> Iterator[tuple[int, str]]:
    """Give the line and the name of everything that is called, methods with a leading dot."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield node.lineno, f".{node.func.attr}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.lineno, node.func.id


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_go_one_way(path: Path) -> None:
    name = module_name(path)
    if name in {"varfm", "varfm.__main__"}:
        return
    for imported in imports(path):
        if imported == "varfm":  # the version, which imports nothing
            continue
        assert layer(imported) <= layer(name), f"{name} imports {imported}, which stands above it"


def test_no_module_imports_itself_over_others() -> None:
    edges = {module_name(path): imports(path) for path in MODULES}
    while leaves := {name for name, targets in edges.items() if not targets & edges.keys() - {name, "varfm"}}:
        edges = {name: targets for name, targets in edges.items() if name not in leaves}
    assert edges == {}


def test_the_interface_is_imported_by_nobody_but_for_the_version() -> None:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "varfm" and path.name != "__main__.py":
                taken = {alias.name for alias in node.names if not (PACKAGE / f"{alias.name}.py").exists()}
                taken = {name for name in taken if not (PACKAGE / name).is_dir()}
                assert taken <= {"__version__"}, f"{path}: {taken}"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_module_is_short(path: Path) -> None:
    limit = MAX_LINES.get(path.parent.name, N_LINES)
    assert len(path.read_text("utf-8").splitlines()) <= limit


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_functions_fit_on_a_screen(path: Path) -> None:
    long = {
        node.name: node.end_lineno - node.body[0].lineno + 1 - docstring_lines(node)
        for node in functions(ast.parse(path.read_text("utf-8")))
        if node.end_lineno is not None
    }
    assert {name: n_lines for name, n_lines in long.items() if n_lines > 40} == {}


def docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[0]
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return (first.end_lineno or first.lineno) - first.lineno + 1 if is_docstring else 0


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_whatever_is_public_says_what_it_does(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    if path.read_text("utf-8").strip():
        assert ast.get_docstring(tree), "the module has no docstring"
    for node in public_nodes(tree):
        assert ast.get_docstring(node), f"{node.name} has no docstring"


def public_nodes(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                methods = (item for item in node.body if isinstance(item, ast.FunctionDef))
                yield from (item for item in methods if not item.name.startswith("_") and not is_setter(item))


def is_setter(node: ast.FunctionDef) -> bool:
    return any(isinstance(decorator, ast.Attribute) and decorator.attr == "setter" for decorator in node.decorator_list)


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_library_neither_prints_nor_unpacks_whole_archives_nor_leaves(path: Path) -> None:
    forbidden = {"print", "exit", "quit", "eval", "exec", ".extractall"}
    in_commands = is_inside(module_name(path), "varfm.cli")
    for line, name in calls(path):
        assert name not in forbidden, f"line {line} calls {name}"
        assert in_commands or name not in {".exit", "._exit"}, f"line {line} calls {name}"


def test_nothing_is_loaded_that_can_run_code() -> None:
    for path in MODULES:
        tree = ast.parse(path.read_text("utf-8"))
        keywords = [keyword for node in ast.walk(tree) if isinstance(node, ast.Call) for keyword in node.keywords]
        for keyword in keywords:
            value = getattr(keyword.value, "value", None)
            assert keyword.arg != "trust_remote_code", path
            assert not (keyword.arg == "weights_only" and value is not True), path
            assert not (keyword.arg == "shell" and value is not False), path


def test_no_module_is_a_drawer_for_anything() -> None:
    names = {path.stem for path in MODULES}
    assert not names & {"utils", "util", "helpers", "common", "misc"}


def test_top_level_holds_what_it_should() -> None:
    found = {path.relative_to(ROOT).parts[0] for path in FILES}
    assert {name for name in found if not name.startswith(".")} <= TOP_LEVEL
    assert {"CHANGELOG.md", "CITATION.cff", "Dockerfile", "LICENSE", "README.md", "pyproject.toml"} <= found


def test_no_file_names_a_folder_of_one_machine() -> None:
    # Spelt in two parts, so that this file does not hold what it looks for.
    folders = (
        (r"/(?:home|Users)", r"/(?!varfm\b)\w"),
        (r"(?<![\w.~$}*])/work", r"/\w"),
        ("/opt/", "venv"),
        ("/tmp", r"/\w"),
    )
    pattern = re.compile("|".join(first + second for first, second in folders))
    found = [(name, match[0]) for name, text in texts() for match in pattern.finditer(text)]
    assert found == []


def test_text_files_end_with_one_newline_and_hold_no_stray_blanks() -> None:
    for name, text in texts():
        if name.endswith((".py", ".md", ".toml", ".cff", ".sh")):
            assert text == "" or (text.endswith("\n") and not text.endswith("\n\n")), name
            assert not re.search(r"[ \t]+$", text, re.MULTILINE), name


def test_citation_changelog_and_package_agree_on_the_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {__version__}\n" in citation
    assert "\nlicense: Apache-2.0\n" in citation
    assert f"\n## {__version__} " in (ROOT / "CHANGELOG.md").read_text()


def test_every_extra_brings_what_varfm_imports_and_doctor_looks_for() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(EXTRAS) == set(extras) - {"test", "all"}
    code = "\n".join(path.read_text() for path in MODULES)
    for extra, modules in EXTRAS.items():
        assert len(extras[extra]) == len(modules), extra
        for module in modules:
            assert re.search(rf"^ +(import|from) {module}\b", code, re.MULTILINE), (extra, module)


def test_licence_is_the_apache_licence_in_full() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_documentation_has_every_status_word_in_its_order() -> None:
    words = re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "docs" / "variants.md").read_text(), re.MULTILINE)
    assert words == [status.name for status in Status]


def test_documentation_has_every_exit_status() -> None:
    text = (ROOT / "docs" / "output.md").read_text()
    children = [value for value in vars(errors).values() if isinstance(value, type)]
    for child in children:
        if issubclass(child, errors.VarfmError):
            assert re.search(rf"^\| {child.exit_status} \|", text, re.MULTILINE), child


def test_links_between_documents_lead_somewhere() -> None:
    for name, text in texts():
        if name.endswith(".md"):
            for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text):
                assert ((ROOT / name).parent / target).exists(), f"{name} links to {target}"


def test_worked_examples_of_the_variant_rules_come_out_as_written() -> None:
    contig = "ACGTTTTGCA"
    left, right = normalise(Variant("z", 5, "TT", "T"), np.frombuffer(encode(contig), np.uint8))
    assert (str(left), str(right)) == ("z:4 T>-", "z:7 T>-")
    pairs = left_fixed(left, 7, 3), right_fixed(right, 7, 3), tss_fixed(Site(left, right, GENE), 7, 4)
    text = (ROOT / "docs" / "variants.md").read_text()
    written = re.findall(r"^    (?:reference|alternate)    ([ACGT]+) ", text, re.MULTILINE)
    assert [cut(haplotype, contig) for pair in pairs for haplotype in pair] == written


def cut(haplotype: Haplotype, contig: str) -> str:
    window, variant = haplotype.window, haplotype.variant
    if variant is None:
        return contig[window.start : window.end]
    return contig[window.start : variant.start] + variant.alt + contig[variant.end : window.end]
