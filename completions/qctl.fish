# Completion of qctl for fish: a file called qctl.fish in ~/.config/fish/completions.
function _qctl_completion
    set -l answer (env _QCTL_COMPLETE=fish_complete COMP_WORDS=(commandline -cp) \
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
