"""The entry point: the group of commands, loaded one at a time, and the one place where errors become exit statuses."""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any, NoReturn

import rich_click as click
from click.exceptions import Exit

from varfm import __version__
from varfm.cli.config import Settings, config_path, default_map, fit_settings
from varfm.cli.log import start_log, stderr_log
from varfm.errors import DiskError, OptionError, VarfmError, printable

COMMANDS = {
    "score": ("varfm.cli.score", "Score the variants of a VCF with DNA sequence models."),
    "classes": ("varfm.cli.classes", "Score variants by Sei's 40 sequence classes, or list these."),
    "ism": ("varfm.cli.ism", "Score every substitution of a region, as table and picture."),
    "merge": ("varfm.cli.merge", "Join the outputs of the shards of a run."),
    "embed": ("varfm.cli.embed", "Write a language model's embeddings of both alleles."),
    "finetune": ("varfm.cli.finetune", "Fit a LoRA adapter to a table of labelled variants."),
    "models": ("varfm.cli.models", "List, download and verify models."),
    "tracks": ("varfm.cli.tracks", "Search the names of a model's tracks."),
    "doctor": ("varfm.cli.doctor", "Show versions, devices and caches, or what a run would take."),
    "completion": ("varfm.cli.completion", "Print the completion script of a shell."),
}
"""Name -> module and first line of help. The line stands here so that listing the commands imports none of them."""

INTERNAL_ERROR = 70
BROKEN_PIPE = 141
_STOPPED = "nothing was left under the output's name."
_WITH_RESUME = " A run with --resume keeps what is finished."
_RESUMABLE = ("score", "classes", "embed")


class _ReaderGone(Exception):
    """The reader of stdout went away."""


class LazyGroup(click.RichGroup):
    """A group that imports a command's module when the command is called, not when it is listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Give the names in the order in which users meet them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Give a stand-in that can be listed."""
        if cmd_name not in COMMANDS:
            return None
        return click.RichCommand(name=cmd_name, short_help=COMMANDS[cmd_name][1], help=COMMANDS[cmd_name][1])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Import the command that is called."""
        name, command, rest = super().resolve_command(ctx, args)
        if name in COMMANDS:
            command = getattr(importlib.import_module(COMMANDS[name][0]), name)
            fit_settings(name, command, ctx.default_map or {})
        return name, command, rest

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; keep a closed pipe from click, which would end with status 1."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise _ReaderGone from error


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="varfm", message="%(prog)s %(version)s")
@click.option(
    "--versions",
    type=click.Choice(["yaml"]),
    metavar="yaml",
    is_eager=True,
    expose_value=False,
    callback=lambda ctx, parameter, value: _show_versions(ctx) if value else None,
    help="Print the versions of varfm and of what its numbers depend on as YAML, and end.",
)
def varfm() -> None:
    """Score the variants of a VCF with published DNA sequence models.

    Example:

        varfm score example_data/ntng1.vcf -f example_data/ntng1.fa.gz -o out.vcf
    """


def _show_versions(ctx: click.Context) -> None:
    """Print what nf-core collects as versions.yml."""
    from varfm.manifest import software_versions

    lines = [f"    {name}: '{version}'" for name, version in software_versions(__version__).items()]
    click.echo("\n".join(["varfm:", *lines]))
    ctx.exit()


def main(args: list[str] | None = None) -> NoReturn:
    """Run the command line and end the process with the status of DESIGN, 5."""
    signal.signal(signal.SIGTERM, _stop_on_sigterm)
    # Read when torch is loaded. Threads that spin while they wait for others take the CPU from them on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(run(args))


def run(args: list[str] | None = None) -> int:
    """Run the command line in this process and give its exit status; nothing is raised.

    Args:
        args: Without the program's name; None: those of the process.
    """
    start_log()
    typed: Sequence[str] = ()
    try:
        typed = sys.argv[1:] if args is None else args
        status = varfm.main(typed, "varfm", standalone_mode=False, default_map=_settings(), obj=tuple(typed))
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except Exit as error:
        return error.exit_code
    except click.ClickException as error:
        if stderr_log().style != "text":
            return _fail(error.format_message(), error.exit_code)
        error.__dict__["message"] = _printable_lines(error.message)  # final for others; it may quote a file's name
        error.show()
        return error.exit_code
    except VarfmError as error:
        return _fail(str(error), error.exit_status)
    except (KeyboardInterrupt, click.Abort) as error:
        return _fail(f"stopped by Ctrl-C; {_left(error, typed)}", 130)
    except _Terminated as error:
        return _fail(f"stopped by SIGTERM; {_left(error, typed)}", 143)
    except (_ReaderGone, BrokenPipeError):
        _silence_stdout()
        return BROKEN_PIPE
    except Exception as error:
        return _unexpected(error)


def _settings() -> Settings:
    settings = default_map()
    unknown = sorted(settings.keys() - COMMANDS.keys())
    if unknown:
        raise OptionError(f"{config_path()}: [{unknown[0]}] is no command of varfm. Name one of {', '.join(COMMANDS)}.")
    return settings


class _Terminated(BaseException):
    """SIGTERM came; unwinds like Ctrl-C, so that temporary files go away."""


def _stop_on_sigterm(number: int, frame: FrameType | None) -> NoReturn:
    raise _Terminated


def _left(error: BaseException, typed: Sequence[str]) -> str:
    """Say what a stopped command left: what the run itself noted, if it keeps anything."""
    seen = error, error.__context__  # click raises Abort in the place of KeyboardInterrupt
    notes = [note for one in seen for note in getattr(one, "__notes__", ())]
    if notes:
        return f"{_STOPPED} {' '.join(notes)}"
    return _STOPPED + (_WITH_RESUME if typed and typed[0] in _RESUMABLE else "")


def _printable_lines(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


def _fail(message: str, status: int) -> int:
    stderr_log().tell("error", "error", f"varfm: error: {message}", message=message, status=status)
    if status == VarfmError.exit_status or os.environ.get("VARFM_DEBUG") == "1":
        _trace()
    return status


def _unexpected(error: Exception) -> int:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return _fail(
            f"no space left to write {error.filename or 'the output'}. Free some, then run again.",
            DiskError.exit_status,
        )
    if isinstance(error, MemoryError):
        return _fail("memory ran out. Use a smaller --batch-size, or a machine with more memory.", 5)
    return _fail(
        f"internal error: {type(error).__name__}: {error}. This is a fault of varfm; please report it with the "
        "traceback that VARFM_DEBUG=1 shows.",
        INTERNAL_ERROR,
    )


def _trace() -> None:
    if os.environ.get("VARFM_DEBUG") == "1":
        import traceback

        click.echo(_printable_lines(traceback.format_exc()), err=True)


def _silence_stdout() -> None:
    # The interpreter flushes stdout once more at its end; without a reader that would print a second error.
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        pass
