"""`qexp completion`: scripts that let a shell complete the words of qexp, and the replies that they ask for."""

from collections.abc import Sequence
from contextlib import suppress

from qexp.cli.parser import Parser
from qexp.utils.errors import UsageError
from qexp.utils.text import suggest

SCRIPTS = {
    "bash": r"""# eval "$(qexp completion bash)"
_qexp() {
    local line=${COMP_LINE:0:COMP_POINT} breaks= kept= reply
    local word=${line##*[[:space:]]}
    # bash takes what is behind the last of these signs for the word, and replaces that alone
    [[ $COMP_WORDBREAKS == *=* ]] && breaks+="="
    [[ $COMP_WORDBREAKS == *:* ]] && breaks+=":"
    [[ -n $breaks && $word == *["$breaks"]* ]] && kept=${word%"${word##*["$breaks"]}"}
    COMPREPLY=()
    while IFS= read -r reply; do
        COMPREPLY+=("${reply#"$kept"}")
    done < <("${COMP_WORDS[0]}" completion reply "$line" 2>/dev/null)
    [[ ${COMPREPLY[0]} == *[=.] ]] && compopt -o nospace 2>/dev/null
    return 0
}
complete -o default -F _qexp qexp
""",
    "zsh": r"""#compdef qexp
# source <(qexp completion zsh)     behind compinit
_qexp() {
    local -a replies open closed
    replies=("${(@f)$(${words[1]} completion reply "${(j: :)words[1,CURRENT-1]} $PREFIX" 2>/dev/null)}")
    open=(${(M)replies:#*[=.]})
    closed=(${replies:#*[=.]})
    (( $#open )) && compadd -Q -S '' -- $open
    (( $#closed )) && compadd -Q -- $closed
    (( $#open + $#closed )) || _files
}
compdef _qexp qexp
""",
    "fish": r"""# qexp completion fish | source
complete -c qexp -f -a '(qexp completion reply (commandline -cp | string collect) 2>/dev/null)'
""",
}
EXAMPLES = """\
examples, for the file that the shell reads when it starts:
  eval "$(qexp completion bash)"       ~/.bashrc
  source <(qexp completion zsh)        ~/.zshrc, behind compinit
  qexp completion fish | source        ~/.config/fish/config.fish

Completed are commands, flags, groups and their choices, options and their values, tables, and the hashes of runs.
"""


def main(words: Sequence[str], *, debug: bool = False) -> int:
    """Print the script of a shell, or what a shell asked for; return the exit code."""
    if len(words) == 2 and words[0] == "reply":
        from qexp.cli.candidates import candidates

        with suppress(Exception):  # a shell that asks has nowhere to show why there is no answer
            print("".join(f"{one}\n" for one in candidates(words[1])), end="")
        return 0
    parser = Parser("qexp completion", "Print what lets a shell complete the words of qexp.", epilog=EXAMPLES)
    parser.add_argument("shell", metavar="SHELL", help=", ".join(SCRIPTS))
    shell = parser.parse(words).shell
    if shell not in SCRIPTS:
        raise UsageError(f"{shell}: must be {', '.join(SCRIPTS)}{suggest(shell, SCRIPTS)}")
    print(SCRIPTS[shell], end="")
    return 0
