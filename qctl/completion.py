"""Completion: the scripts of the shells, and live names of workers and tasks.

In:  a shell's name, or a word being typed.  Out: a script, or candidates.
The scripts call `qctl` with click's completion protocol. Live names come from a cache of 30 seconds
and may cost 150 ms; when the broker is away there are none, silently.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qctl.session import Session, session_of

if TYPE_CHECKING:
    import click

BUDGET_S = 0.15
CACHE_S = 30.0

BASH = """\
# Completion of qctl for bash: source this file, or put it where bash-completion looks.
_qctl_completion() {
    local IFS=$'\\n' line kind value
    COMPREPLY=()
    while IFS= read -r line; do
        kind=${line%%,*} value=${line#*,}
        case $kind in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done < <(COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD \\
        _QCTL_COMPLETE=bash_complete "$1" 2>/dev/null)
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


def live_values(ctx: click.Context, what: str, incomplete: str) -> list[Any]:
    """Names of workers ('nodes') or tasks ('tasks') that start with `incomplete`."""
    from click.shell_completion import CompletionItem

    head, comma, last = incomplete.rpartition(",")
    try:
        names = _names(session_of(ctx), what)
    except Exception:  # whatever is wrong, a shell that is being typed in must not show it
        return []
    return [CompletionItem(f"{head}{comma}{n}") for n in names if n.startswith(last)]


def _names(session: Session, what: str) -> list[str]:
    session.settle()
    key = f"{session.options.app}|{session.options.broker or os.environ.get('QCTL_BROKER_URL', '')}|{what}"
    cached = _read_cache()
    found = cached.get(key)
    if found and time.time() - found[0] < CACHE_S:
        return list(found[1])
    app = session.app
    app.conf["broker_connection_timeout"] = BUDGET_S
    if what == "nodes":
        answers = app.control.ask("ping", timeout_s=BUDGET_S)
        names = sorted({*answers.replies, *(s.node for s in answers.silent)})
    else:
        answers = app.control.ask("registered", timeout_s=BUDGET_S)
        replies = [r for r in answers.replies.values() if isinstance(r, list)]
        names = sorted({str(line).split(" [")[0] for reply in replies for line in reply})
    cached[key] = [time.time(), names]
    _write_cache({k: v for k, v in cached.items() if time.time() - v[0] < CACHE_S})
    return names


def _cache_file() -> Path:
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("qctl")) / "completion.json"


def _read_cache() -> dict[str, Any]:
    try:
        found = json.loads(_cache_file().read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write_cache(values: dict[str, Any]) -> None:
    path = _cache_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = path.with_suffix(f".{os.getpid()}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(values, file)
        fresh.replace(path)
    except OSError:
        return
