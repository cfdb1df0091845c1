"""`launcher completion`: the scripts with which shells complete command lines.

The scripts use click's completion protocol (`_LAUNCHER_COMPLETE`, COMP_WORDS, COMP_CWORD). Unlike
click's scripts, they support IDs with `&`, `#`, `~`, `:`, `=` and `,`, which are special in a shell.
"""

import sys

import click

from launcher.frontends.cli.complete import VARIABLE
from launcher.frontends.cli.help_pages import launcher_command

# Readline splits a word at COMP_WORDBREAKS and replaces only its last part. The parts are joined
# for the request, and the text before the last part is removed from the answers.
_BASH = r"""%(complete_func)s() {
    local rest="$COMP_LINE" cur="${COMP_WORDS[COMP_CWORD]}" word="" index
    local line value before within="" quoted char
    local -a words=()
    for ((index = 0; index <= COMP_CWORD; index++)); do
        if [[ $index -gt 0 && $rest == [[:space:]]* ]]; then
            words+=("$word")
            word=""
        fi
        word+="${COMP_WORDS[index]}"
        rest="${rest#*"${COMP_WORDS[index]}"}"
    done
    words+=("$word")
    if [[ $cur == [\"\']* ]]; then
        within="${cur:0:1}"
    elif [[ -z ${cur//[$COMP_WORDBREAKS]/} ]]; then
        cur=""
    fi
    before="${word%%"$cur"}"
    before="${before//\\/}"
    COMPREPLY=()
    while IFS= read -r line; do
        value="${line#*,}"
        case "${line%%%%,*}" in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain)
                [[ $value == */ ]] && compopt -o nospace
                quoted="${value#"$before"}"
                if [[ $within == "'" ]]; then
                    quoted=${quoted//"'"/"'\\''"}
                elif [[ -n $within ]]; then
                    for char in "\\" '"' '$' '`'; do
                        quoted=${quoted//"$char"/"\\$char"}
                    done
                elif [[ -n $quoted ]]; then
                    printf -v quoted %%q "$quoted"
                fi
                COMPREPLY+=("$quoted")
                ;;
        esac
    done < <(env COMP_WORDS="${words[*]}" COMP_CWORD=$((${#words[@]} - 1)) \
        %(complete_var)s=bash_complete "$1" 2> /dev/null)
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""
_ZSH = r"""#compdef %(prog_name)s

%(complete_func)s() {
    local -a response open named told_of
    local type key told
    (( $+commands[%(prog_name)s] )) || return 1
    response=("${(@f)$(env COMP_WORDS="${(j: :)words[1,CURRENT]}" COMP_CWORD=$((CURRENT - 1)) \
        %(complete_var)s=zsh_complete %(prog_name)s 2> /dev/null)}")
    for type key told in "${response[@]}"; do
        case $type in
            dir) _path_files -/ ;;
            file) _path_files -f ;;
            plain)
                if [[ $told == _ ]]; then
                    told=""
                else
                    key="${key//\\:/:}"
                fi
                if [[ $key == */ ]]; then
                    open+=("$key")
                else
                    named+=("$key")
                    told_of+=("${key}${told:+  -- $told}")
                fi
                ;;
        esac
    done
    (( $#open )) && compadd -U -V open -S '' -a open
    (( $#named )) && compadd -U -l -V named -d told_of -a named
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }
    compdef %(complete_func)s %(prog_name)s
fi
"""
_FISH = r"""function %(complete_func)s
    set -l response (env %(complete_var)s=fish_complete COMP_WORDS=(commandline -cp) \
        COMP_CWORD=(commandline -ct) %(prog_name)s 2> /dev/null)
    for completion in $response
        set -l parts (string split -m 1 "," -- $completion)
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

complete --no-files --keep-order --command %(prog_name)s --arguments "(%(complete_func)s)"
"""
SHELLS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
_HINTS = {
    "bash": 'To load it in every new shell, add to ~/.bashrc:  eval "$(launcher completion bash)"',
    "zsh": 'To load it in every new shell, add to ~/.zshrc:  eval "$(launcher completion zsh)"',
    "fish": "To load it in every new shell, add to ~/.config/fish/config.fish:  "
    "launcher completion fish | source",
}


@launcher_command(
    heading="Reference",
    place=50,
    other_names={"bash": "completions autocomplete"},
)
@click.argument("shell", type=click.Choice(list(SHELLS)))
def completion(shell: str) -> None:
    """Print the completion script for your shell.

    The script completes commands, options, jobs, runs and files. Jobs to which a command applies come
    first: `launcher release` offers held jobs.

    \b
    Examples:
      launcher completion fish > ~/.config/fish/completions/launcher.fish
      eval "$(launcher completion bash)"
    """
    click.echo(script(shell), nl=False)
    if sys.stdout.isatty():  # without a terminal a shell reads the script, or a file keeps it
        click.echo(_HINTS[shell], err=True)


def script(shell: str) -> str:
    """Return the script for one of `SHELLS`."""
    from click.shell_completion import ShellComplete

    names = ShellComplete(completion, {}, "launcher", VARIABLE).source_vars()
    return SHELLS[shell] % names
