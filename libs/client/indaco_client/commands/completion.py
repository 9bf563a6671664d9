"""``indaco completion``: what a shell needs to complete commands, options, ids and names."""

import click
from click.shell_completion import get_completion_class

_VARIABLE = "_INDACO_COMPLETE"


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(*, shell: str) -> None:
    """Print the completion script for a shell.

    Ids and names of your deployments are completed too; they are asked for once a minute.

    \b
    Examples:
      indaco completion bash > ~/.local/share/bash-completion/completions/indaco
      indaco completion zsh > ~/.zfunc/_indaco
      indaco completion fish > ~/.config/fish/completions/indaco.fish
    """  # noqa: D301 - click's mark for a paragraph that is not to be wrapped
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(click.get_current_context().find_root().command, {}, "indaco", _VARIABLE).source())
