# Completion of qctl for bash: source this file, or put it where bash-completion looks.
_qctl_completion() {
    local IFS=$'\n' kind value text=${COMP_LINE:0:COMP_POINT} breaks=${COMP_WORDBREAKS//[^@:=]/} typed= skip=
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
                [[ $value == *[:~\>=] ]] && compopt -o nospace
                COMPREPLY+=("${value#"$skip"}") ;;
        esac
    done < <(_QCTL_LINE=$text _QCTL_COMPLETE=bash_complete "$1" 2>/dev/null)
}
complete -o nosort -F _qctl_completion qctl
