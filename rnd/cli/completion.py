"""The command completion: scripts for bash, zsh and fish, made by walking the parser, so that they are never behind.

Options, commands and choices are completed from the script alone; names of services and workflows and ids of
executions are asked of the daemon at that moment, and left out where none answers.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from rnd.cli import lookup, words
from rnd.cli.failures import OK, usage
from rnd.cli.parser import build_parser
from rnd.cli.session import Session

# What a word stands for, by its metavar.
KINDS: Final = {
    "FILE": "files",
    "PATH": "files",
    "EXECUTABLE": "files",
    "DIR": "folders",
    "WORKFLOW": "workflows",
    "SERVICE": "services",
    "EXECUTION": "executions",
    "PEER": "peers",
    "JOB | EXECUTION NODE": "executions",
    "METHOD": "methods",
}
CANDIDATES: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option: its spellings, what it means, and what follows it (`None`: nothing, "": anything)."""

    flags: tuple[str, ...]
    summary: str
    follows: str | None
    choices: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One command of the tree: its words (`service add data`), what may follow, and what its arguments stand for."""

    words: str
    summary: str
    commands: tuple[tuple[str, str], ...]
    options: tuple[Option, ...]
    arguments: str
    choices: tuple[str, ...]


def completion(session: Session) -> int:
    """Print the script of a shell, or the candidates that its script asks for."""
    arguments = session.arguments
    if arguments.candidates:
        for candidate in _candidates(session, arguments.candidates):
            # A name that is not safe to print is not safe to complete either.
            if candidate == words.safe(candidate):
                session.terminal.line(candidate)
        return OK
    if arguments.shell is None:
        raise usage("which shell?", hint="rnd completion bash, zsh or fish")
    nodes = list(walk(build_parser(), "", ""))
    writer = {"bash": bash_script, "zsh": zsh_script, "fish": fish_script}[arguments.shell]
    session.terminal.text(writer(nodes))
    return OK


def _candidates(session: Session, kind: str) -> list[str]:
    """Return what a word of this kind could be here and now."""
    match kind:
        case "executions":
            newest, _ = lookup.list_newest(session, "execution.list", CANDIDATES)
            return [lookup.LAST, *(str(execution["id"]) for execution in newest)]
        case "methods":
            return [str(method["name"]) for method in session.call("rpc.discover")["methods"]]
        case "peers":
            own = session.call("node.status")["peer_id"]
            # A short id ends in a sign that says so; only a whole one can be typed on.
            return [
                peer if name == lookup.short_peer_id(peer) else name
                for peer, name in lookup.peer_names(session).items()
                if peer != own
            ]
        case _:
            return [str(item["name"]) for item in lookup.list_all(session, f"{kind.removesuffix('s')}.list")]


def walk(parser: argparse.ArgumentParser, path: str, summary: str) -> Iterator[Node]:
    """Yield every command of the tree, the root first."""
    # argparse has no public way to look at its tree; these names are as old as the module.
    actions = parser._actions
    children = next((action for action in actions if isinstance(action, argparse._SubParsersAction)), None)
    helps: dict[str, str] = {}
    if children is not None:
        helps = {choice.dest: choice.help or "" for choice in children._choices_actions}
    positionals = [a for a in actions if not a.option_strings and a is not children]
    choices = next((a.choices for a in positionals if a.choices), ())
    yield Node(
        words=path,
        summary=summary,
        commands=tuple(helps.items()),
        options=tuple(_option(action) for action in actions if action.option_strings),
        arguments=next((KINDS[str(a.metavar)] for a in positionals if str(a.metavar) in KINDS), ""),
        choices=tuple(str(choice) for choice in choices or ()),
    )
    if children is not None:
        for name, child in children.choices.items():
            yield from walk(child, f"{path} {name}".strip(), helps.get(name, ""))


def _option(action: argparse.Action) -> Option:
    takes = action.nargs != 0
    summary = "" if action.help in {None, argparse.SUPPRESS} else str(action.help)
    return Option(
        flags=tuple(action.option_strings),
        summary=summary,
        follows=KINDS.get(str(action.metavar), "") if takes else None,
        choices=tuple(str(choice) for choice in action.choices or ()),
    )


# ---------------------------------------------------------------- bash

_BASH: Final = """\
# bash completion of rnd; to use it now: source <(rnd completion bash)
_rnd() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} path="" i=1 skip=""
    local commands="" options="" takes="" kind="" choices=""
    COMPREPLY=()
    _rnd_facts
    while ((i < COMP_CWORD)); do
        if [[ -n $skip ]]; then
            skip=""
        elif [[ ${{COMP_WORDS[i]}} == -* ]]; then
            [[ " $takes " == *" ${{COMP_WORDS[i]}} "* ]] && skip=1
        elif [[ " $commands " == *" ${{COMP_WORDS[i]}} "* ]]; then
            path="${{path:+$path }}${{COMP_WORDS[i]}}"
            _rnd_facts
        fi
        i=$((i + 1))
    done
    if [[ -n $skip ]]; then
        _rnd_value "$path" "$before"
    elif [[ $word == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$word"))
        return
    elif [[ -n $commands ]]; then
        choices=$commands
        kind=""
    fi
    _rnd_kind "$word"
}}
_rnd_kind() {{
    case $kind in
        files) compopt -o filenames 2>/dev/null; local IFS=$'\\n'; COMPREPLY=($(compgen -f -- "$1")) ;;
        folders) compopt -o filenames 2>/dev/null; local IFS=$'\\n'; COMPREPLY=($(compgen -d -- "$1")) ;;
        "") COMPREPLY=($(compgen -W "$choices" -- "$1")) ;;
        *)
            local name IFS=$'\\n'
            for name in $("${{COMP_WORDS[0]}}" completion --candidates "$kind" 2>/dev/null) ${{choices// /$'\\n'}}; do
                [[ $name == "$1"* ]] && COMPREPLY+=("$(printf %q "$name")")
            done
            if [[ $kind == workflows ]]; then
                compopt -o filenames 2>/dev/null
                COMPREPLY+=($(compgen -f -- "$1"))
            fi ;;
    esac
}}
_rnd_facts() {{
    kind="" choices=""
    case $path in
{facts}
    esac
}}
_rnd_value() {{
    kind="" choices=""
    case "$1 $2" in
{values}
    esac
}}
complete -F _rnd rnd
"""


def bash_script(nodes: list[Node]) -> str:
    """Return the script for bash (4.0 or later; it needs no bash-completion package)."""
    facts, values = [], []
    for node in nodes:
        options = " ".join(flag for option in node.options for flag in option.flags)
        takes = " ".join(flag for option in node.options if option.follows is not None for flag in option.flags)
        commands = " ".join(name for name, _ in node.commands)
        told = [f'commands="{commands}"', f'options="{options}"', f'takes="{takes}"']
        if node.arguments:
            told.append(f"kind={node.arguments}")
        if node.choices:
            told.append(f'choices="{" ".join(node.choices)}"')
        facts.append(f'        "{node.words}") {" ".join(told)} ;;')
        values += [f"        {line}" for line in _bash_values(node)]
    return _BASH.format(facts="\n".join(facts), values="\n".join(values))


def _bash_values(node: Node) -> Iterator[str]:
    for option in node.options:
        known = f"kind={option.follows}" if option.follows else f'choices="{" ".join(option.choices)}"'
        if option.follows or option.choices:
            patterns = "|".join(f'"{node.words} {flag}"' for flag in option.flags)
            yield f"{patterns}) {known} ;;"


# ---------------------------------------------------------------- zsh

_ZSH: Final = """\
#compdef rnd
# zsh completion of rnd; put it as _rnd into a folder of $fpath, or: source <(rnd completion zsh)
_rnd() {{
    local path="" i=2 skip="" word commands options takes
    local -a described
    _rnd_facts
    while ((i < CURRENT)); do
        word=${{words[i]}}
        if [[ -n $skip ]]; then
            skip=""
        elif [[ $word == -* ]]; then
            [[ " $takes " == *" $word "* ]] && skip=$word
        elif [[ " $commands " == *" $word "* ]]; then
            path="${{path:+$path }}$word"
            _rnd_facts
        fi
        i=$((i + 1))
    done
    if [[ -n $skip ]]; then
        _rnd_value "$path $skip"
    elif [[ ${{words[CURRENT]}} == -* ]]; then
        described=("${{(@f)options}}")
        _describe option described
    elif [[ -n $commands ]]; then
        _rnd_commands
    else
        _rnd_arguments
    fi
}}
_rnd_facts() {{
    case $path in
{facts}
    esac
}}
_rnd_commands() {{
    case $path in
{commands}
    esac
    _describe command described
}}
_rnd_arguments() {{
    case $path in
{arguments}
    esac
}}
_rnd_value() {{
    case $1 in
{values}
    esac
}}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _rnd "$@"
else
    compdef _rnd rnd
fi
"""


def zsh_script(nodes: list[Node]) -> str:
    """Return the script for zsh."""
    facts, commands, arguments, values = [], [], [], []
    for node in nodes:
        names = " ".join(name for name, _ in node.commands)
        takes = " ".join(flag for option in node.options if option.follows is not None for flag in option.flags)
        told = "\n".join(_zsh_item(flag, option.summary) for option in node.options for flag in option.flags)
        facts.append(f'        "{node.words}") commands="{names}" takes="{takes}" options={_quote(told)} ;;')
        if node.commands:
            items = " ".join(_quote(_zsh_item(name, summary)) for name, summary in node.commands)
            commands.append(f'        "{node.words}") described=({items}) ;;')
        if node.arguments or node.choices:
            arguments.append(f'        "{node.words}") {_zsh_kind(node.arguments, node.choices)} ;;')
        for option in node.options:
            if option.follows or option.choices:
                patterns = "|".join(f'"{node.words} {flag}"' for flag in option.flags)
                values.append(f"        {patterns}) {_zsh_kind(option.follows or '', option.choices)} ;;")
    return _ZSH.format(
        facts="\n".join(facts), commands="\n".join(commands), arguments="\n".join(arguments), values="\n".join(values)
    )


def _zsh_item(word: str, summary: str) -> str:
    return f"{word}:{summary}".replace("\n", " ")


def _zsh_kind(kind: str, choices: tuple[str, ...]) -> str:
    match kind:
        case "files":
            return "_files"
        case "folders":
            return "_files -/"
        case "":
            return f"compadd -- {' '.join(choices)}"
        case _:
            asked = f'compadd -- "${{(@f)$(rnd completion --candidates {kind} 2>/dev/null)}}" {" ".join(choices)}'
            return f"{asked.rstrip()}; _files" if kind == "workflows" else asked.rstrip()


# ---------------------------------------------------------------- fish


def fish_script(nodes: list[Node]) -> str:
    """Return the script for fish."""
    lines = [
        "# fish completion of rnd; to use it now: rnd completion fish | source",
        "function __rnd_at",
        "    # Tell whether the words typed so far, options left out, begin with these.",
        "    set -l typed (commandline -opc)",
        "    set -l plain",
        "    for word in $typed[2..-1]",
        "        string match -q -- '-*' $word; or set -a plain $word",
        "    end",
        "    set -l wanted (count $argv)",
        "    test $wanted -eq 0; and return 0",
        "    test (count $plain) -ge $wanted; or return 1",
        '    test "$plain[1..$wanted]" = "$argv"',
        "end",
        "function __rnd_exactly",
        "    set -l plain",
        "    for word in (commandline -opc)[2..-1]",
        "        string match -q -- '-*' $word; or set -a plain $word",
        "    end",
        '    test "$plain" = "$argv"',
        "end",
        "complete -c rnd -f",
    ]
    for node in nodes:
        for name, summary in node.commands:
            lines.append(
                f"complete -c rnd -n {_quote(f'__rnd_exactly {node.words}'.strip())} -a {name} -d {_quote(summary)}"
            )
        here = _quote(f"__rnd_at {node.words}".strip())
        kind = _fish_kind(node.arguments, node.choices)
        if kind and not node.commands:
            lines.append(f"complete -c rnd -n {here} {kind}")
        # Options that every command has are said once, at the root.
        options = [option for option in node.options if not node.words or option not in nodes[0].options]
        lines += [_fish_option(option, here) for option in options]
    return "\n".join(lines) + "\n"


def _fish_option(option: Option, here: str) -> str:
    spelt = [f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in option.flags]
    follows = ""
    if option.follows is not None:
        follows = " -r " + (_fish_kind(option.follows, option.choices) or "-f")
    return f"complete -c rnd -n {here} {' '.join(spelt)}{follows} -d {_quote(option.summary)}"


def _fish_kind(kind: str, choices: tuple[str, ...]) -> str:
    match kind:
        case "files":
            return "-F"
        case "folders":
            return "-f -a '(__fish_complete_directories)'"
        case "":
            return f"-f -a '{' '.join(choices)}'" if choices else ""
        case _:
            asked = f"-a '(rnd completion --candidates {kind} 2>/dev/null) {' '.join(choices)}'"
            return f"{'-F' if kind == 'workflows' else '-f'} {asked}"


def _quote(text: str) -> str:
    """Quote for any of the three shells: single quotes, one within is said by leaving them for a moment."""
    return "'" + text.replace("'", "'\\''") + "'"
