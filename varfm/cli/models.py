"""`varfm models`: list, describe, download, verify and find the weights of models."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import rich_click as click
from click.shell_completion import CompletionItem

from varfm import weights
from varfm.apart import check_apart
from varfm.digits import counted
from varfm.download import RemoteFile
from varfm.errors import ModelError, OptionError, printable
from varfm.https import Progress, Transport
from varfm.models import catalog, describe
from varfm.overrides import local_copy
from varfm.protocols import Column
from varfm.weights import Checkpoint


def _complete_name(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    names = (checkpoint.name for checkpoint in catalog.listed())
    return [CompletionItem(name) for name in names if name.startswith(incomplete.lower())]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def models() -> None:
    """List, download and verify models.

    \b
    Example:
      varfm models list
      varfm models info mini
    """


@models.command("list")
def list_command() -> None:
    """List the models: window, outputs, scores, licence, size, presence.

    A table on a terminal; elsewhere tab-separated, with one header line.
    Window and index are in bases; the index, from 0, is where the first
    changed base (or the TSS) stands in the window. A dot is a number that
    nobody published.

    \b
    Example:
      varfm models list
      varfm models list | cut -f 1
    """
    listed = catalog.listed()
    if sys.stdout.isatty():
        _print_table([_row(checkpoint) for checkpoint in listed])
        return
    click.echo("name\twindow\tindex\toutputs\treads\tscores\tlicence\tsize_bytes\tparameters\there")
    for checkpoint in listed:
        name, window, index, outputs, scores, licence, _, _, here = _row(checkpoint)
        size = "." if checkpoint.size is None else str(checkpoint.size)
        parameters = str(checkpoint.parameters or ".")
        click.echo("\t".join([name, window, index, outputs, checkpoint.reads, scores, licence, size, parameters, here]))


def _row(checkpoint: Checkpoint) -> list[str]:
    return [
        checkpoint.name,
        str(checkpoint.window),
        str(checkpoint.index),
        str(checkpoint.n_outputs or "."),
        checkpoint.scores,
        _licence(checkpoint),
        checkpoint.readable_size,
        _readable_count(checkpoint.parameters),
        weights.presence(checkpoint),
    ]


def _readable_count(n: int) -> str:
    if n < 1_000_000:
        return f"{n / 1000:.0f} k" if n else "."
    return f"{n / 1e6:.1f} M" if n < 10_000_000 else f"{n / 1e6:.0f} M"


def _licence(checkpoint: Checkpoint) -> str:
    return checkpoint.licence if checkpoint.commercial else f"{checkpoint.licence} (not for commercial use)"


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    for title in ("name", "window", "index", "outputs", "scores", "licence", "size", "parameters", "here"):
        numeric = title in ("window", "index", "outputs", "size", "parameters")
        table.add_column(title, justify="right" if numeric else "left", overflow="fold", no_wrap=title == "name")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


@models.command()
@click.argument("name", shell_complete=_complete_name)
def info(name: str) -> None:
    """Say all that is known of model NAME, one line each.

    Files with address and sha256, licence and paper; and per score its
    formula, sign and unit, and how large it is over a stated set of variants.

    \b
    Example:
      varfm models info mini
    """
    checkpoint = catalog.get(name)
    lines = [*_facts(checkpoint), *_file_facts(checkpoint), *_score_facts(checkpoint)]
    width = max(len(key) for key, _ in lines) if sys.stdout.isatty() else 0
    for key, value in lines:
        click.echo(f"{key:<{width}}  {printable(value)}" if width else f"{key.strip()}\t{printable(value)}")


def _facts(checkpoint: Checkpoint) -> Iterator[tuple[str, str]]:
    yield "name", checkpoint.name
    yield "reads", checkpoint.reads
    yield "scores", checkpoint.scores
    if checkpoint.n_outputs:
        yield "outputs", str(checkpoint.n_outputs)
    if checkpoint.parameters:
        yield "parameters", str(checkpoint.parameters)
    yield "window", f"{checkpoint.window} bases"
    yield "index", f"{checkpoint.index}, counted from 0"
    yield "strands", checkpoint.strands
    if checkpoint.likelihood and checkpoint.adaptable:
        yield "adapters", "LoRA by --adapter; one of varfm finetune brings the score FINETUNED"
    yield "assembly", checkpoint.assembly or "any"
    yield "licence", _licence(checkpoint)
    yield "paper", checkpoint.paper
    yield "source", checkpoint.source
    yield "size", checkpoint.readable_size
    yield "memory", checkpoint.memory or "not measured"
    yield "verified", checkpoint.verified or "not yet"
    yield "here", weights.presence(checkpoint)


def _file_facts(checkpoint: Checkpoint) -> Iterator[tuple[str, str]]:
    if checkpoint.packaged:
        yield "file", checkpoint.packaged
        yield "sha256", checkpoint.packaged_sha256 or "not known"
    alike: dict[str, list[RemoteFile]] = {}
    for file in checkpoint.files:
        alike.setdefault(file.name.rpartition("/")[0] if file.role == "listed" else file.name, []).append(file)
    for folder, files in alike.items():
        if len(files) > 1:
            yield "files", f"{len(files)} in {folder}/, of which the first is"
        yield "file", files[0].name
        yield "  size", weights.readable_size(files[0].size)
        yield from _origin(files[0])
    for file in checkpoint.copies:
        yield "same weights", file.name
        yield from _origin(file)


def _origin(file: RemoteFile) -> Iterator[tuple[str, str]]:
    if file.sha256 or not file.md5:
        yield "sha256", file.sha256 or "not published"
    if file.md5:
        yield "md5", file.md5
    if file.member:
        yield "member", file.member
        yield "archive sha256", file.archive_sha256 or "not published"
    for url in file.urls:
        yield "address", url


def _score_facts(checkpoint: Checkpoint) -> Iterator[tuple[str, str]]:
    quantiles = _quantiles(checkpoint)
    for column in describe(checkpoint.name):
        yield "score", column.name
        yield "  meaning", column.description
        yield "  formula", column.formula
        yield "  sign", _sign(column)
        yield "  unit", column.unit
        if column.name in quantiles:
            yield "  quantiles", quantiles[column.name]


def _sign(column: Column) -> str:
    return "signed: swapping ref and alt gives minus the score" if column.signed else "unsigned"


def _quantiles(checkpoint: Checkpoint) -> dict[str, str]:
    """Give for each score that was measured a line such as `1% -0.8, 50% 0, 99% 0.7 (n = 28998, ...)`."""
    measured = resources.files("varfm").joinpath("models", "data", f"{checkpoint.name}_quantiles.json")
    if not measured.is_file():
        return {}
    content = json.loads(measured.read_text("utf-8"))
    lines = {}
    for score, values in content["scores"].items():
        ordered = sorted(values.items(), key=lambda item: float(item[0]))
        shown = ", ".join(f"{percent}% {value:.4g}" for percent, value in ordered)
        lines[score] = f"{shown} (n = {content['n']}, {content['set']})"
    return lines


@models.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=_complete_name)
@click.option("--tables", is_flag=True, help="Only the small tables that name the outputs, for `varfm tracks`.")
@click.option("--offline", is_flag=True, envvar="VARFM_OFFLINE", help="Open no connection: say what is missing.")
def download(names: tuple[str, ...], tables: bool, offline: bool) -> None:
    """Download the weights of models into the cache and verify them.

    The cache is VARFM_CACHE, else the user's cache folder. What is there and
    right is kept; a download that broke off goes on where it stopped. Weights
    of large models are then also written as safetensors in varfm's own names,
    which load faster; the published file is kept.

    \b
    Example:
      varfm models download mpra-dragonn
    """
    for checkpoint in [catalog.get(name) for name in names]:
        if not checkpoint.files:
            click.echo(f"{checkpoint.name} ships with varfm; there is nothing to download.", err=True)
        elif tables:
            _download_tables(checkpoint, offline)
        else:
            _download_all(checkpoint, offline)


def _download_all(checkpoint: Checkpoint, offline: bool) -> None:
    if not offline:
        with _shown_progress() as transport:
            weights.download(checkpoint, transport=transport, announce=_tell)
    found = weights.locate(checkpoint, offline=True)
    if checkpoint.converts and not offline:
        from varfm.conversion import convert_cached  # torch comes with it

        if (made := convert_cached(checkpoint)) is not None:
            _tell(f"{checkpoint.name}: {counted(made.n_tensors, 'tensor')} converted to {made.path}")
            found = weights.locate(checkpoint, offline=True)
    size = checkpoint.readable_size
    _tell(f"{checkpoint.name}: {size}, {_known_digest(checkpoint)}, in {found.path}")


def _download_tables(checkpoint: Checkpoint, offline: bool) -> None:
    if not checkpoint.tables:
        _tell(f"{checkpoint.name}: its outputs have their names in varfm; there is no table to download.")
        return
    if offline:
        weights.fetch_small(checkpoint, checkpoint.tables, offline=True)
    else:
        with _shown_progress() as transport:
            weights.download(checkpoint, files=checkpoint.tables, transport=transport, announce=_tell)
    for file in checkpoint.tables:
        _tell(f"{checkpoint.name}: {weights.cache_folder(checkpoint) / file.name}")


def _tell(line: str) -> None:
    click.echo(printable(line), err=True)


def _known_digest(checkpoint: Checkpoint) -> str:
    """Say by what the files were known to be the published ones."""
    without = [file.name for file in checkpoint.files if file.digest is None]
    kinds = sorted({"sha256" if file.sha256 else "md5" for file in checkpoint.files if file.digest})
    as_published = f"{' and '.join(kinds)} as published" if kinds else ""
    unknown = f"no digest was published for {', '.join(without)}" if without else ""
    return "; ".join(text for text in (as_published, unknown) if text)


@models.command()
@click.argument("name", shell_complete=_complete_name)
@click.argument("source", metavar="SOURCE", type=click.Path(path_type=Path))
@click.argument("target", metavar="TARGET.safetensors", type=click.Path(path_type=Path))
@click.option(
    "--model-config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Sizes of a network that is not the published one, a JSON object. Default: config.json beside SOURCE if that "
    "is a folder, else the published sizes.",
)
@click.option("--force", is_flag=True, help="Replace TARGET if it is there.")
def convert(name: str, source: Path, target: Path, model_config: Path | None, force: bool) -> None:
    """Convert weights of model NAME to safetensors in varfm's own names.

    SOURCE is a file in a format of the upstream (Torch7, Keras, TensorFlow,
    PyTorch), or a folder with it. The result is taken by `--weights`; since
    a converted file cannot prove what it was made from, its scores are never
    marked as those of the published file.

    \b
    Example:
      varfm models convert basset retrained.pth basset.safetensors
    """
    if target.suffix != ".safetensors":
        raise OptionError(f"TARGET {target}: the name must end with .safetensors.")
    if target.exists() and not force:
        raise OptionError(f"TARGET {target}: exists. Give another name, or --force to replace it.")
    checkpoint = catalog.get(name)
    copy = local_copy(checkpoint, source)
    check_apart([target], [source, copy.main, *copy.shards])
    from varfm.conversion import convert_file  # torch comes with it

    made = convert_file(checkpoint, source, target, model_config=model_config)
    judged = "the published file" if made.published else "not known as the published file"
    _tell(f"{checkpoint.name}: {counted(made.n_tensors, 'tensor')} in {target}, from {source} ({judged})")


@contextmanager
def _shown_progress() -> Iterator[Transport]:
    """Give a transport that draws a bar on a terminal, and nothing elsewhere."""
    if not sys.stderr.isatty():
        yield Transport()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Bars(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def show(progress: Progress) -> None:
            if progress.name not in tasks:
                tasks[progress.name] = bars.add_task(progress.name, total=progress.total)
            unfinished = progress.total is None or progress.done < progress.total  # some models have hundreds of files
            bars.update(tasks[progress.name], completed=progress.done, visible=unfinished)

        yield Transport(progress=show)


@models.command()
@click.argument("names", nargs=-1, metavar="[NAME...]", shell_complete=_complete_name)
def verify(names: tuple[str, ...]) -> None:
    """Hash the weights that are here and compare with the catalogue.

    Without NAME, all models that are here. Prints name, file, state (ok,
    wrong, missing, unknown where no digest was published) and sha256;
    ends with 4 if a file is wrong, or is missing for a NAME that was given.

    \b
    Example:
      varfm models verify mini
    """
    chosen = [catalog.get(name) for name in names]
    if not names:
        chosen = [checkpoint for checkpoint in catalog.listed() if weights.presence(checkpoint) != "no"]
    click.echo("name\tfile\tstate\tsha256")
    bad: list[str] = []
    for checkpoint in chosen:
        for status in weights.verify(checkpoint):
            click.echo(f"{checkpoint.name}\t{printable(str(status.path))}\t{status.state}\t{status.sha256 or '.'}")
            if status.state in ("wrong", "missing") and checkpoint.name not in bad:
                bad.append(checkpoint.name)
    if bad:
        raise ModelError(
            f"The weights of {', '.join(bad)} are not right. Mend with: varfm models download {' '.join(bad)}"
        )


@models.command()
@click.argument("name", shell_complete=_complete_name)
def path(name: str) -> None:
    """Print where the weights of model NAME are; 4 if they are not here.

    \b
    Example:
      varfm models path mini
    """
    found = weights.path(catalog.get(name))
    click.echo(printable(str(found)) if sys.stdout.isatty() else os.fsencode(found))
