"""Shell completion: the scripts, and live names of workers, tasks and queues.

In:  a shell's name, or an incomplete word.  Out: a script, or candidates.
The scripts call `qctl` with click's completion protocol. After this: completion_values.py.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from qctl.cli.session import session_of

if TYPE_CHECKING:
    import click

BASH = """\
# Completion of qctl for bash: source this file, or put it where bash-completion looks.
_qctl_completion() {
    local IFS=$'\\n' kind value text=${COMP_LINE:0:COMP_POINT} breaks=${COMP_WORDBREAKS//[^@:=]/} typed= skip=
    # bash replaces only what stands behind the last of these characters.
    typed=${text##*[[:space:]]}
    [[ -n $breaks ]] && skip=${typed%"${typed##*[$breaks]}"}
    COMPREPLY=()
    while IFS= read -r value; do
        kind=${value%%,*} value=${value#*,}
        case $kind in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain)
                [[ $value == *[:~\\>=] ]] && compopt -o nospace
                COMPREPLY+=("${value#"$skip"}") ;;
        esac
    done < <(_QCTL_LINE=$text _QCTL_COMPLETE=bash_complete "$1" 2>/dev/null)
}
complete -o nosort -F _qctl_completion qctl
"""

ZSH = """\
#compdef qctl
# Completion of qctl for zsh: a file called _qctl in a directory of $fpath.
_qctl() {
    local -a plain described answer
    local kind value help
    answer=("${(@f)$(COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT-1)) \\
        _QCTL_COMPLETE=zsh_complete qctl 2>/dev/null)}")
    for kind value help in $answer; do
        case $kind in
            plain)
                if [[ $help == _ ]]; then plain+=("$value")
                else described+=("${value//:/\\\\:}:$help"); fi ;;
            dir) _path_files -/ ;;
            file) _path_files -f ;;
        esac
    done
    [[ -n $described ]] && _describe -V unsorted described -U
    [[ -n $plain ]] && compadd -U -V unsorted -a plain
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _qctl "$@"; else compdef _qctl qctl; fi
"""

FISH = """\
# Completion of qctl for fish: a file called qctl.fish in ~/.config/fish/completions.
function _qctl_completion
    set -l answer (env _QCTL_COMPLETE=fish_complete COMP_WORDS=(commandline -cp) \\
        COMP_CWORD=(commandline -t) qctl 2>/dev/null)
    for line in $answer
        set -l parts (string split -m 1 "," -- $line)
        switch $parts[1]
            case dir
                __fish_complete_directories $parts[2]
            case file
                __fish_complete_path $parts[2]
            case plain
                echo $parts[2]
        end
    end
end
complete --no-files --command qctl --arguments "(_qctl_completion)"
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
FILES = {"bash": "qctl.bash", "zsh": "_qctl", "fish": "qctl.fish"}


def take_line(env: MutableMapping[str, str]) -> None:
    """Set click's completion variables from the line up to the cursor. bash also splits words at `@`, `:` and
    `=`, which occur in worker names, so its script passes the whole line."""
    from click.shell_completion import split_arg_string

    line = env.get("_QCTL_LINE")
    if line is None:
        return
    words = split_arg_string(line)
    on_new_word = line[-1:].isspace() and (not words or not words[-1][-1:].isspace())
    env["COMP_WORDS"], env["COMP_CWORD"] = line, str(len(words) if on_new_word else len(words) - 1)


def live_values(ctx: click.Context, what: str, incomplete: str) -> list[Any]:
    """Names of workers ('nodes'), 'tasks' or 'queues' that start with `incomplete`, which may be a list
    separated by commas."""
    from click.shell_completion import CompletionItem

    from qctl.cli.completion_values import known

    head, comma, last = incomplete.rpartition(",")
    names = known(session_of(ctx), what)
    return [CompletionItem(f"{head}{comma}{n}") for n in names if str(n).startswith(last)]
