"""``prefect-lume completion``: let the shell complete commands, options and names."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import (
    BashComplete,
    FishComplete,
    ShellComplete,
    ZshComplete,
)

_NAME: Final = "prefect-lume"
_VARIABLE: Final = "_PREFECT_LUME_COMPLETE"
_SHELLS: Final[dict[str, type[ShellComplete]]] = {
    "bash": BashComplete,
    "fish": FishComplete,
    "zsh": ZshComplete,
}
#: To bash "@" ends a word unless told otherwise, which would tear MODEL@ALIAS apart.
_WHOLE_WORDS: Final = "COMP_WORDBREAKS=${COMP_WORDBREAKS//@/}\n"
#: Click's script adds names to bash's answer as they are. Here blanks and quotes in
#: them are escaped, and the cursor stays behind what is to be completed further.
_PLAIN: Final = "COMPREPLY+=($value)"
_ESCAPED: Final = """COMPREPLY+=("$(printf '%q' "$value")")
            [[ $value == */ ]] && compopt -o nospace"""


@click.command("completion")
@click.argument("shell", type=click.Choice(list(_SHELLS)))
def command(shell: str) -> None:
    """Print the script that lets a shell complete this command.

    In ~/.bashrc: eval "$(prefect-lume completion bash)".
    In ~/.zshrc: eval "$(prefect-lume completion zsh)".
    In ~/.config/fish/config.fish: prefect-lume completion fish | source.
    """
    root = click.get_current_context().find_root().command
    made = _SHELLS[shell](root, {}, _NAME, _VARIABLE)
    # Not made.source(): for bash that would start one, to ask for its version.
    script = made.source_template % made.source_vars()
    if shell == "bash":
        script = _WHOLE_WORDS + script.replace(_PLAIN, _ESCAPED)
    click.echo(script, nl=False)
