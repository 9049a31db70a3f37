# Completion of NAME in bash. Profile ids hold colons, at which bash breaks words: they are joined again here before
# the command is asked, and what bash takes for words before the current one is cut off the answers.
_FUNCTION() {
    local IFS=$'\013'
    local -a words=()
    local i part prefix current glue=
    for ((i = 0; i <= COMP_CWORD; i++)); do
        part=${COMP_WORDS[i]}
        if [[ (-n $glue || $part == :*) && ${#words[@]} -gt 1 ]]; then
            words[${#words[@]}-1]+=$part
        else
            words+=("$part")
        fi
        glue=
        [[ $part == *: ]] && glue=1
    done
    current=${words[${#words[@]}-1]}
    COMPREPLY=( $( \
        _CLAP_IFS="$IFS" \
        _CLAP_COMPLETE_INDEX="$((${#words[@]} - 1))" \
        _CLAP_COMPLETE_COMP_TYPE="$COMP_TYPE" \
        VARIABLE="bash" \
        NAME -- "${words[@]}" 2> /dev/null \
    ) )
    if [[ $current == *:* ]]; then
        prefix=${current%"${current##*:}"}
        COMPREPLY=( "${COMPREPLY[@]#"$prefix"}" )
    fi
    if [[ "${COMPREPLY-}" =~ [=/:]$ ]]; then
        compopt -o nospace 2> /dev/null
    fi
}
complete -o bashdefault -F _FUNCTION NAME
