# Completion of qctl for bash: source this file, or put it where bash-completion looks.
_qctl_completion() {
    local IFS=$'\n' line kind value
    COMPREPLY=()
    while IFS= read -r line; do
        kind=${line%%,*} value=${line#*,}
        case $kind in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done < <(COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD \
        _QCTL_COMPLETE=bash_complete "$1" 2>/dev/null)
}
complete -o nosort -F _qctl_completion qctl
