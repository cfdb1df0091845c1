"""Which words of a command line look like secrets. They do not count as parameters, and screens print *** instead."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from launcher.system.lazy_regex import compile_lazily
from launcher.system.remembered_variables import is_likely_secret, is_secret_value

HIDDEN = "***"

_SHORTEST_SECRET = 6  # characters of a value that looks like one by itself
_TOKEN = "token"

_OPTION = compile_lazily(r"--?([A-Za-z_][\w.-]*)(?:=(.*))?", re.DOTALL)
_PAIR = compile_lazily(r"\+{0,2}([^\W\d][\w.-]*)=(.*)", re.DOTALL)
_PARTS = compile_lazily(r"[_.-]+|(?<=[a-z])(?=[A-Z])")
_SECRET_PARTS = frozenset(
    {"apikey", "credential", "credentials", "passphrase", "passwd", "password", "pwd", "secret", "webhook"}
)  # fmt: skip
_KEYS = frozenset({"access", "api", "auth", "encryption", "license", "private", "secret", "wandb"})
# a token of a text model: --pad-token '[PAD]'
_MODEL_TOKENS = frozenset(
    {
        "additional", "bos", "class", "cls", "dist", "distill", "end", "eos", "image", "mask", "new", "next", "pad",
        "per", "register", "sep", "special", "start", "stop", "target", "unk",
    }
)  # fmt: skip
_NUMBER = compile_lazily(r"[-+]?[0-9.]+(?:e[-+]?[0-9]+)?", re.IGNORECASE)
_BOOLEANS = frozenset({"true", "false", "yes", "no", "none", "null", ""})
# a place where a secret is stored
_PLACES = frozenset({"dir", "env", "file", "folder", "name", "path"})


def is_secret_option(name: str, value: str) -> bool:
    """Return whether an option of a program looks like a secret, by its name or its value.

    Numbers of tokens, and the special tokens of a text model, are parameters: `--max-tokens 512`, `--pad-token x`.
    """
    if len(value) >= _SHORTEST_SECRET and is_secret_value(value):
        return True
    if not (kind := _kind_of_name(name)) or value.lower() in _BOOLEANS:
        return False
    return kind != _TOKEN or _NUMBER.fullmatch(value) is None


@lru_cache(maxsize=4096)  # the programs of a sweep have the same options
def _kind_of_name(name: str) -> str:
    """Return `secret` or `token` for the name of an option that looks like one, '' for others."""
    parts = [part.lower() for part in _PARTS.split(name) if part]
    if not parts or parts[-1] in _PLACES:
        return ""
    before = parts[-2] if len(parts) > 1 else ""
    if _SECRET_PARTS.intersection(parts) or (parts[-1] == "key" and before in _KEYS):
        return "secret"
    return _TOKEN if parts[-1] == _TOKEN and before not in _MODEL_TOKENS else ""


def secret_options(argv: Sequence[str]) -> list[str]:
    """Return the options of a command line whose values look like secrets, as typed; a word without option is ''."""
    return [option for _, option, is_secret in _mark_secrets(argv) if is_secret]


def hide_secrets(argv: Sequence[str]) -> list[str]:
    """Return a command line with *** in place of values that look like secrets."""
    return [
        _hide_secret(word, option) if is_secret else word
        for word, option, is_secret in _mark_secrets(argv)
    ]


def hide_secret_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """Return variables with *** in place of values that look like secrets."""
    return {
        name: HIDDEN if is_likely_secret(name, value) else value
        for name, value in variables.items()
    }


def _hide_secret(word: str, option: str) -> str:
    return f"{option}={HIDDEN}" if option and word.startswith(f"{option}=") else HIDDEN


def _mark_secrets(argv: Sequence[str]) -> Iterator[tuple[str, str, bool]]:
    """Yield each word, the option of which it is or contains the value, and whether it looks like a secret."""
    option = ""  # option whose value may be the next word
    for at, word in enumerate(argv):
        match = (_OPTION.fullmatch(word) or _PAIR.fullmatch(word)) if at else None
        if match is None:
            name = option.lstrip("-")
            yield word, option, is_secret_option(name, word) if name else is_secret_value(word)
            option = ""
        elif match[2] is None:
            option = word
            yield word, "", False
        else:
            option = ""
            yield word, word.partition("=")[0], is_secret_option(match[1], match[2])
