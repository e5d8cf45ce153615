"""`varfm finetune`: from a table of labelled variants to an adapter, and what it reaches on held-out contigs."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from varfm import __version__
from varfm.apart import check_apart, input_paths
from varfm.digits import counted
from varfm.errors import InputError, OptionError, VarfmError
from varfm.io.atomic import disk_errors
from varfm.io.whole_folder import check_folder, whole_folder
from varfm.labels import Labels, Split, read_labels, split_rows
from varfm.manifest import describe_fasta, describe_file, software_versions
from varfm.models import catalog
from varfm.protocols import Row
from varfm.scorers.embedding import EmbeddingScorer
from varfm.session import Session, SessionOptions
from varfm.variants import Status
from varfm.windows import Site

if TYPE_CHECKING:
    from varfm.fitting import Fit, LinearHead, Schedule
    from varfm.models.language import LanguageNetwork

REPORT = "varfm_finetune.json"
FILES = frozenset({"adapter_config.json", "adapter_model.safetensors", "varfm_head.safetensors", REPORT})
"""What the folder of an adapter holds."""

_PACKAGES = ("peft", "scikit-learn", "scipy")

Advance = Callable[[int, float | None], None]


@dataclass(frozen=True, slots=True)
class FinetuneOptions:
    """What is learned from, how, and where it goes.

    Attributes:
        table: Path of a table of labelled variants.
        session: What `varfm embed` would be told; its VCF is not looked at.
        schedule: How to train.
        output: The adapter's folder.
        held_out: Contigs that are looked at once, at the end.
        validation: Contigs that say when to stop; none: a tenth of the other positions.
        force: Replace the folder of an earlier run.
        command: As typed, for the report.
    """

    table: str
    session: SessionOptions
    schedule: Schedule
    output: Path
    held_out: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    force: bool = False
    command: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """What a run reached; the content of `REPORT`.

    Attributes:
        model: Name in the catalogue.
        labels: `binary` or `real`.
        alleles: Rows of the parts `training`, `validation` and `held_out`.
        status: Status word to rows that could not be read.
        metrics: Part to `frozen` (the head on the model as it is) and `adapted` to metric to value; None where a part
            has one label only.
        losses: Mean loss in training and validation after each epoch; the first is that of the frozen model's head.
        best_epoch: The one that was kept; 0: the adapter did not help.
        seconds: From the start to the end of training.
        device: Where the network ran.
    """

    model: str
    labels: str
    alleles: dict[str, int]
    status: dict[str, int]
    metrics: dict[str, dict[str, dict[str, float | None]]]
    losses: list[tuple[float | None, float]]
    best_epoch: int
    seconds: float
    device: str


@dataclass
class _Examples:
    """The rows of a table as a model reads them.

    Attributes:
        sites: By row; None where it cannot be read.
        features: (n, 2 * width): e(ref), then e(alt) - e(ref), of the model as it is; zeros where it cannot be read.
        status: Rows by status.
    """

    sites: list[Site | None]
    features: NDArray[np.float32]
    status: Counter[Status] = field(default_factory=Counter)

    @property
    def usable(self) -> NDArray[np.bool_]:
        return np.array([site is not None for site in self.sites], np.bool_)

    @property
    def unread(self) -> dict[str, int]:
        """Rows that cannot be read, by the word for why."""
        return {status.name: n for status, n in sorted(self.status.items()) if not status.is_scored}


def finetune(options: FinetuneOptions, advance: Advance) -> Report:
    """Fit an adapter and a head, and write them.

    Args:
        options: What from, how, and where to.
        advance: Told after each step how many alleles were read, and the share of the work that is done at most.

    Raises:
        VarfmError: One of its children; then nothing was written.
    """
    from varfm.fitting import require_packages

    require_packages()
    _check_models(options.session.models)
    check_folder(options.output, FILES, options.force)
    check_apart([options.output / name for name in FILES], [Path(options.table), *input_paths(options.session)])
    labels = read_labels(options.table)
    split_rows(labels, np.ones(len(labels.values), np.bool_), options.held_out, options.validation, 0)
    started = time.monotonic()
    with _opened(labels, options) as session:
        # Reading everything once as it is takes about as long as an epoch.
        n_epochs = options.schedule.epochs
        examples = _read(session, len(labels.values), _share_of(advance, 0, 1 / (1 + n_epochs)))
        split = _split(labels, examples, options)
        learning = _share_of(advance, 1 / (1 + n_epochs), 1)
        fit, metrics, config = _fitted(session, examples, labels, split, options.schedule, learning)
        report = Report(
            model=session.models[0].name,
            labels="binary" if labels.is_binary else "real",
            alleles={name: int(rows.sum()) for name, rows in _parts(split).items()},
            status=examples.unread,
            metrics=metrics,
            losses=fit.losses,
            best_epoch=fit.best_epoch,
            seconds=round(time.monotonic() - started, 1),
            device=session.plan.device,
        )
        _write(options, session, fit, config, report)
    return report


def _check_models(names: Sequence[str]) -> None:
    for name in names:
        checkpoint = catalog.get(name)
        if not checkpoint.likelihood or not checkpoint.adaptable:
            raise OptionError(
                f"{checkpoint.name} takes no LoRA adapter. `varfm models info NAME` says which models do."
            )


@contextmanager
def _opened(labels: Labels, options: FinetuneOptions) -> Iterator[Session]:
    """Open a session on the table's variants; its errors name the table."""
    chosen = replace(options.session.model_options, embeddings=True)
    with tempfile.TemporaryDirectory() as folder:
        vcf = Path(folder, "table.vcf")
        labels.write_vcf(vcf)
        try:
            with Session(replace(options.session, vcf=str(vcf), model_options=chosen)) as session:
                yield session
        except InputError as error:
            raise type(error)(str(error).replace(str(vcf), labels.name)) from error


def _share_of(advance: Advance, start: float, end: float) -> Advance:
    """Tell of one part of the work as a share of all of it."""
    return lambda n_alleles, share: advance(n_alleles, start + (end - start) * (share or 0))


def _read(session: Session, n_rows: int, advance: Advance) -> _Examples:
    """Embed both alleles of every row with the model as it is."""
    scorer = session.models[0].scorer
    width = scorer.n_values // 2
    found = _Examples([None] * n_rows, np.zeros((n_rows, 2 * width), np.float32))
    for item in session:
        scored = item.scored[0]
        rows = item.block.first_record + item.alleles.record  # a row has one ALT
        found.status.update(Status(word) for word in scored.status.tolist())
        kept = np.flatnonzero(scored.status[scored.site_allele] >= Status.PADDED)
        for allele, numbers in zip(scored.site_allele[kept].tolist(), scored.scores[kept], strict=True):
            ref, alt = np.split(numbers, 2)
            found.features[rows[allele]] = np.concatenate([ref, alt - ref])
            found.sites[rows[allele]] = Site(*item.alleles.aligned(allele))
        advance(len(item.alleles), found.status.total() / n_rows)
    if found.status.total() != n_rows:
        raise VarfmError("internal error: a row of the table was lost. Please report this.")
    return found


def _split(labels: Labels, examples: _Examples, options: FinetuneOptions) -> Split:
    """Divide the rows that were read; where they are too few, those that were not say why."""
    try:
        return split_rows(labels, examples.usable, options.held_out, options.validation, options.schedule.seed)
    except InputError as error:
        reasons = ", ".join(f"{n:,} {word}" for word, n in examples.unread.items())
        if not reasons:
            raise
        unread = f"{counted(sum(examples.unread.values()), 'row')} of {len(examples.sites):,} could not be read"
        raise InputError(f"{error} {unread} ({reasons}): is this the FASTA of the table?") from error


def _fitted(
    session: Session, examples: _Examples, labels: Labels, split: Split, schedule: Schedule, advance: Advance
) -> tuple[Fit, dict[str, dict[str, dict[str, float | None]]], Any]:
    from varfm.fitting import Fit, Task, fit_head, inject

    task = Task.of(labels.values[split.training], labels.is_binary)
    targets = task.targets(labels.values)
    head = fit_head(examples.features, targets, (split.training, split.validation), task)
    frozen = _frozen_answers(head, examples.features)
    network = cast("LanguageNetwork", session.models[0].network)
    config = inject(network.network, schedule)
    fit = Fit(network, head, task, lambda number: rows_of_site(session, examples.sites[number]), schedule)
    fit.run(np.flatnonzero(split.training), np.flatnonzero(split.validation), targets, advance)
    return fit, _metrics(fit, frozen, labels, split), config


def _frozen_answers(head: LinearHead, features: NDArray[np.float32]) -> NDArray[np.float64]:
    import torch

    with torch.no_grad():
        return np.asarray(head(torch.from_numpy(features)).double().numpy())


def rows_of_site(session: Session, site: Site | None) -> list[Row]:
    """Give the rows that embed a site: ref, strand by strand, then alt."""
    assert site is not None
    model = session.models[0]
    assert model.network is not None
    rows: list[Row] = []
    for haplotype in model.scorer.haplotypes(site):
        rows += model.network.rows(session.genome.sequence(haplotype), haplotype)
    return rows


def _parts(split: Split) -> Mapping[str, NDArray[np.bool_]]:
    return {"training": split.training, "validation": split.validation, "held_out": split.held_out}


def _metrics(
    fit: Fit, frozen: NDArray[np.float64], labels: Labels, split: Split
) -> dict[str, dict[str, dict[str, float | None]]]:
    from varfm.fitting import metrics

    found = {}
    for name, rows in _parts(split).items():
        if name == "training" or not rows.any():
            continue
        adapted = fit.answers(np.flatnonzero(rows)).double().cpu().numpy()
        answers = {"frozen": frozen[rows], "adapted": adapted}
        found[name] = {kind: metrics(values, labels.values[rows], labels.is_binary) for kind, values in answers.items()}
    return found


def _write(options: FinetuneOptions, session: Session, fit: Fit, config: Any, report: Report) -> None:
    from varfm.fitting import adapter_state
    from varfm.models.adapted_head import TrainedHead, write_head
    from varfm.models.lora import CONFIG, PREFIX, WEIGHTS, hub_name
    from varfm.readers.safetensors import write_safetensors

    model = session.models[0]
    scorer = cast(EmbeddingScorer, model.scorer)
    described = config.to_dict() | {"base_model_name_or_path": hub_name(catalog.get(model.name))}
    described |= {"target_modules": sorted(config.target_modules), "inference_mode": True}
    with whole_folder(options.output, FILES, options.force) as folder:
        arrays = {PREFIX + name: value.numpy() for name, value in adapter_state(fit.network.network).items()}
        write_safetensors(folder / WEIGHTS, arrays, {"format": "pt"})
        _write_json(folder / CONFIG, described)
        sha256 = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
        head = fit.head.folded(fit.task)
        write_head(folder, TrainedHead(head, model.name, model.origin.weights_sha256, sha256, scorer.length))
        _write_json(folder / REPORT, _described(options, session, report))


def _described(options: FinetuneOptions, session: Session, report: Report) -> dict[str, Any]:
    model = session.models[0]
    given = Path(options.table)
    return {
        "format": 1,
        "versions": software_versions(__version__, _PACKAGES),
        "command": list(options.command),
        "inputs": [
            asdict(describe_file("table", given)),
            asdict(describe_fasta(session.genome.path, session.genome.contigs)),
        ],
        "weights_sha256": model.origin.weights_sha256,
        "options": dict(model.origin.options),
        "schedule": asdict(options.schedule),
        "held_out": list(options.held_out),
        "validation": list(options.validation),
        **asdict(report),
    }


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with disk_errors(str(path)):
        path.write_text(json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n", "utf-8")
