"""Rules for `reftrace lint`: every Nextflow module has the shape that nf-core asks for."""

from pathlib import Path

from reftrace import Module  # type: ignore[import-not-found]
from reftrace.linting import LintError, LintResults, rule  # type: ignore[import-not-found]

LABELS = {"process_single", "process_low", "process_medium", "process_high", "process_long", "process_high_memory"}


@rule
def has_one_process_named_after_its_folder(module: Module, results: LintResults) -> None:
    """The process is named by the two folders around main.nf."""
    tool, command = Path(module.path).resolve().parts[-3:-1]
    names = [process.name for process in module.processes]
    if names != [f"{tool}_{command}".upper()]:
        results.errors.append(LintError(1, f"{module.path} has the processes {names}"))


@rule
def has_its_directives(module: Module, results: LintResults) -> None:
    """One tag, one of nf-core's labels, a Conda file beside it, a container."""
    for process in module.processes:
        labels = [label.value for label in process.labels]
        if len(labels) != 1 or labels[0] not in LABELS:
            results.errors.append(LintError(process.line, f"{process.name} has the labels {labels}"))
        for name in ("tags", "condas", "containers"):
            if len(getattr(process, name)) != 1:
                results.errors.append(LintError(process.line, f"{process.name} has not one of {name}"))
