"""`varfm completion`: what a shell needs to complete commands, options and model names."""

from __future__ import annotations

import rich_click as click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of SHELL: bash, zsh or fish.

    \b
    Load it in the shell's start file:
      bash   eval "$(varfm completion bash)"          in ~/.bashrc
      zsh    eval "$(varfm completion zsh)"           in ~/.zshrc, after compinit
      fish   varfm completion fish | source           in ~/.config/fish/config.fish

    \b
    Example:
      varfm completion bash > varfm-completion.bash
    """
    completer_class = get_completion_class(shell)
    if completer_class is None:
        raise click.UsageError(f"There is no completion for {shell}; take bash, zsh or fish.")
    completer = completer_class(ctx.find_root().command, {}, "varfm", "_VARFM_COMPLETE")
    # The template itself: `source()` for bash would start a bash to ask for its version.
    click.echo(completer.source_template % completer.source_vars())
