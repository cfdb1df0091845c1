"""Declarations are read from files that cannot be imported here: each begins with `import absent`."""

from pathlib import Path

import pytest

from trueface.runtime.declarations import Declaration, read_declarations, read_folder
from trueface.runtime.errors import DeclarationError

MODULES = frozenset({"pydantic", "typing", "trueface.runtime.field_types"})
HEAD = """\
import absent
from typing import Annotated
from pydantic import BaseModel, Field
from trueface.runtime import field_types
from trueface.runtime.field_types import Count as Whole
from elsewhere import register, heavy
"""


def declared(folder: Path, text: str, name: str = "tool.py") -> dict[str, Declaration]:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEAD + text)
    return read_folder(folder, "tools", "register", modules=MODULES)


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(DeclarationError) as caught:
        declared(folder, text)
    return str(caught.value)


def test_declaration_is_read_without_importing_its_file(tmp_path: Path) -> None:
    text = '@register("saw", summary="cuts", needs={"wood"}, size=2 ** 3)\ndef saw(): ...\n'
    read = declared(tmp_path, text, "sub/hand.py")
    assert read == {
        "saw": Declaration(
            name="saw",
            arguments={"summary": "cuts", "needs": {"wood"}, "size": 8},
            module="tools.sub.hand",
            attribute="saw",
            path=tmp_path / "sub" / "hand.py",
            line=7,
        )
    }


def test_constants_and_classes_of_the_file_are_evaluated_with_what_they_use(tmp_path: Path) -> None:
    read = declared(
        tmp_path,
        "TEETH = 12\n"
        "COUNTS = (TEETH, len('ab'))\n"
        "class Base(BaseModel):\n    own: 'Base | None' = None\n"
        "class Options(Base):\n"
        "    teeth: Whole = Field(TEETH)\n"
        "    share: field_types.Probability = 0.5\n"
        "@register('saw', options=Options, counts=COUNTS)\nclass Saw: ...\n",
    )
    arguments = read["saw"].arguments
    assert arguments["counts"] == (12, 2)
    assert arguments["options"](teeth=3).model_dump() == {"own": None, "teeth": 3, "share": 0.5}
    assert arguments["options"].__module__ == "tools.tool"
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        arguments["options"](teeth=0)


def test_code_after_the_last_declaration_is_ignored(tmp_path: Path) -> None:
    first = '@register("saw")\ndef saw(\n    edge,\n):\n    """Cuts.\n\n# wood\n'
    for below in ('"""\n', '"""\n\ndef rest():\n    heavy()\n', 'and\nmore"""\n\nLATER = 1\n'):
        assert list(declared(tmp_path, first + below)) == ["saw"]


def test_files_are_sorted_by_name_and_may_contain_several_declarations(tmp_path: Path) -> None:
    declared(tmp_path, "@register('c')\ndef c(): ...\n", "b.py")
    read = declared(tmp_path, "@register('z')\n@register('y')\ndef z(): ...\n", "a.py")
    assert [(name, one.attribute) for name, one in read.items()] == [
        ("z", "z"),
        ("y", "z"),
        ("c", "c"),
    ]


def test_name_declared_twice_is_rejected_with_both_locations(tmp_path: Path) -> None:
    declared(tmp_path, "@register('saw')\ndef saw(): ...\n", "a.py")
    with pytest.raises(DeclarationError) as caught:
        declared(tmp_path, "\n@register('saw')\ndef saw(): ...\n", "b.py")
    assert str(caught.value).startswith(f"{tmp_path / 'b.py'}:8: register('saw')")
    assert f"{tmp_path / 'a.py'}:7" in str(caught.value)


ABOVE, NAMED = "register is read only above a function", "register takes a name: @register("
FOUND = "declarations are found by the name"


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("@register('saw', size=heavy.SIZE)\ndef saw(): ...", 7, "'heavy' is imported from another"),
        ("\nSIZE = heavy(3)\n@register('saw', size=SIZE)\ndef saw(): ...", 8, "'heavy' is imported"),
        ("@register('saw', make=saw)\ndef saw(): ...", 7, "the value of 'saw' is unknown without"),
        ("@register('saw', size=missing)\ndef saw(): ...", 7, "NameError: name 'missing'"),
        ("@register('saw', size=1 + 'a')\ndef saw(): ...", 7, "TypeError"),
        ("@register('saw', size={}['k'])\ndef saw(): ...", 7, "KeyError: 'k'"),
        ("class Options(BaseModel):\n    teeth = 3\n@register('saw', o=Options)\ndef saw(): ...", 7,
         "PydanticUserError"),
        ("@register()\ndef saw(): ...", 7, "register takes the name first"),
        ("@register('saw', 3)\ndef saw(): ...", 7, "everything else by keyword"),
        ("@register(3)\ndef saw(): ...", 7, "register takes a name first, not 3"),
        ("@register('saw', **heavy)\ndef saw(): ...", 7, "everything else by keyword"),
        ("@register('saw'\ndef saw(): ...\n", 7, ""),  # no Python
        ("if True:\n    @register('saw')\n    def saw(): ...\n", 8, ABOVE),
        ("@register('saw')\nasync def saw(): ...\n", 7, ABOVE),
        ("register('saw')(heavy)\n", 7, ABOVE),
        ("@register('axe')\ndef axe(): ...\n\nif True:\n    @register('saw')\n    def saw(): ...\n",
         11, ABOVE),
        ("class Saw: ...\n\nSaw = register('saw')(Saw)\n", 9, ABOVE),
        ("class Saw: ...\n\nSaw = register('saw')(Saw)\n\ndef rest(): ...\n\nLATER = 1\n", 9, ABOVE),
        ("def axe(): ...\n\nTOOLS = [\n    heavy.register('axe')(axe),\n]\n", 10, ABOVE),
        ("@register\ndef saw(): ...\n", 7, NAMED),
        ("def rest(): ...\n\nLATER = 1\n\n@heavy.register\nclass Saw: ...\n\nMORE = 1\n", 11, NAMED),
        ("@register('axe')\n@register\ndef axe(): ...\n", 8, NAMED),
        ("@register  # as it is\nasync def saw(): ...\n", 7, NAMED),
        ("if True:\n    @register\n    def saw(): ...\n", 8, NAMED),
        ("from elsewhere import register as reg\n\n@reg('saw')\ndef saw(): ...\n", 7, FOUND),
        ("def rest(): ...\n\nLATER = 1\n\nfrom elsewhere import (\n    heavy,\n    register as reg,\n)\n"
         "\n@reg('saw')\ndef saw(): ...\n\nMORE = 1\n", 11, FOUND),
        ("try:\n    from elsewhere import register as reg\nexcept ImportError: ...\n\n"
         "@reg('saw')\ndef saw(): ...\n", 8, FOUND),
    ],
)  # fmt: skip
def test_unreadable_declaration_is_rejected_with_file_line_and_allowed_syntax(
    tmp_path: Path, text: str, line: int, reason: str
) -> None:
    message = refusal(tmp_path, text)
    place = f"{tmp_path / 'tool.py'}:{line}: "
    assert message.startswith(place)
    assert reason in message
    if reason in {ABOVE, NAMED, FOUND}:
        assert message.startswith(f"{place}{reason}")
    elif reason and "register takes" not in message:
        assert "trueface.runtime.field_types" in message


def test_file_that_is_not_utf_8_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "tool.py").write_bytes(b"# caf\xe9\n@register('saw')\ndef saw(): ...\n")
    with pytest.raises(DeclarationError, match=r"tool\.py:1: not in UTF-8"):
        read_folder(tmp_path, "tools", "register", modules=MODULES)


def test_unknown_arguments_are_rejected_with_file_and_line(
    tmp_path: Path,
) -> None:
    def build(name: str, *, size: int) -> tuple[str, int]:
        return name, size

    read = declared(tmp_path, "@register('saw', size=3)\ndef saw(): ...\n")
    assert read["saw"].pass_to(build) == ("saw", 3)
    read = declared(tmp_path, "@register('saw', length=3)\ndef saw(): ...\n")
    with pytest.raises(
        DeclarationError, match=r"tool.py:7: .*unexpected keyword argument 'length'"
    ):
        read["saw"].pass_to(build)


def test_package_is_found_by_its_name() -> None:
    assert read_declarations("trueface.runtime", "nothing_is_called_so", modules=()) == {}
    with pytest.raises(ModuleNotFoundError, match=r"no package trueface\.absent"):
        read_declarations("trueface.absent", "register", modules=())
