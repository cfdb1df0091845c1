"""Functions, parameters and modules are not named by a participle or a preposition alone."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TREE = Path(__file__).parents[1]

PREPOSITIONS = frozenset(
    [
        "about",
        "above",
        "across",
        "after",
        "against",
        "along",
        "amid",
        "among",
        "around",
        "at",
        "before",
        "behind",
        "below",
        "beneath",
        "beside",
        "between",
        "beyond",
        "by",
        "despite",
        "down",
        "during",
        "for",
        "from",
        "in",
        "inside",
        "into",
        "near",
        "of",
        "off",
        "on",
        "onto",
        "out",
        "outside",
        "over",
        "past",
        "per",
        "since",
        "than",
        "through",
        "throughout",
        "toward",
        "towards",
        "under",
        "until",
        "up",
        "upon",
        "via",
        "with",
        "within",
        "without",
    ]
)
IRREGULAR_PARTICIPLES = frozenset(
    [
        "asked",
        "begun",
        "bent",
        "bought",
        "bound",
        "broken",
        "brought",
        "built",
        "caught",
        "chosen",
        "come",
        "done",
        "drawn",
        "driven",
        "fallen",
        "felt",
        "forgotten",
        "found",
        "frozen",
        "given",
        "gone",
        "got",
        "grown",
        "heard",
        "held",
        "hidden",
        "kept",
        "known",
        "laid",
        "learnt",
        "led",
        "left",
        "lent",
        "lit",
        "lost",
        "made",
        "meant",
        "met",
        "paid",
        "risen",
        "said",
        "seen",
        "sent",
        "shaken",
        "shown",
        "sought",
        "sold",
        "spelt",
        "spent",
        "spoken",
        "stolen",
        "stuck",
        "sunk",
        "swept",
        "taken",
        "taught",
        "thought",
        "thrown",
        "told",
        "torn",
        "understood",
        "undone",
        "unread",
        "won",
        "worn",
        "wound",
        "woven",
        "written",
    ]
)
NOUNS_AND_VERBS = frozenset(["bed", "embed", "feed", "need", "red", "seed", "shed", "speed"])
OPTION_DECORATORS = (
    "click.",
    "command(",
    "flag(",
)  # such a function is a command: its names are what users type

# names that plugins, other packages or users write, each with its reason
STAYING = {
    "launcher": {
        "chosen": "a parameter of launcher.api",
        "added": "a parameter of settings, which job types of plugins define",
        "after": "a parameter of launcher.api",
        "done": "a method of submitit's jobs",
        "followed": "a method of settings, which job types of plugins define",
        "given": "the parameter of `followed`",
        "kept": "a method of job types, which plugins define",
        "meant": "a function of launcher.api",
        "on": "a parameter of launcher.api",
        "out": "a parameter of joblib's backends",
        "shared": "a parameter of settings, which job types of plugins define",
        "tested": "a function of drafts, which plugins call",
        "unlearned": "a method of launcher.ids",
        "used": "bytes in use, as NVML names them",
    },
    "trueface": {
        "distributed": "the subject is torch.distributed",
        "followed": "a method of settings, which launcher defines",
        "kept": "a method of job types, which launcher calls",
        "perturbed": "a method of losses, which plugins define (contributing/extending.md)",
        "stepped": "a method of losses, which plugins define (contributing/extending.md)",
        "unshared": "a parameter of augmentations, which plugins define (contributing/extending-jobs.md)",
    },
}


def is_alone(name: str) -> bool:
    """Return whether a name is one participle or preposition."""
    word = name.strip("_")
    if word in PREPOSITIONS | IRREGULAR_PARTICIPLES:
        return True
    return word.isalpha() and word.endswith("ed") and word not in NOUNS_AND_VERBS


def names_of_functions(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and name of functions and parameters, except of commands."""
    methods = {
        id(each) for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for each in node.body
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if not isinstance(node, ast.Lambda):
            decorators = map(ast.unparse, node.decorator_list)
            if any(text.startswith(OPTION_DECORATORS) for text in decorators):
                continue
            if not (node.name == "to" and id(node) in methods):  # as in PyTorch
                yield node.lineno, node.name
        every = node.args
        for each in (*every.posonlyargs, *every.args, *every.kwonlyargs, every.vararg, every.kwarg):
            if each is not None:
                yield each.lineno, each.arg


@pytest.mark.parametrize("package", STAYING)
def test_no_participle_or_preposition_alone_is_a_name(package: str) -> None:
    found = set[str]()
    stays = set[str]()
    for file in sorted((TREE / package).rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for line, name in ((1, file.stem), *names_of_functions(tree)):
            if not is_alone(name):
                continue
            if name in STAYING[package]:
                stays.add(name)
            else:
                found.add(f"{file.relative_to(TREE)}:{line} {name}")
    assert not found
    assert stays == set(STAYING[package])  # the list has no name that went


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("kept", True),
        ("_drawn", True),
        ("beside", True),
        ("compared", True),
        ("seed", False),
        ("embed", False),
        ("read_kept", False),
        ("kept_files", False),
        ("from_dict", False),
    ],
)
def test_a_word_is_alone(name: str, expected: bool) -> None:
    assert is_alone(name) is expected
