import re
import subprocess
import sys
from pathlib import Path

import pytest

from launcher import ids
from launcher.ids import Words
from launcher.queue.home.paths import find_home
from launcher.system import config
from launcher.system.config import Configuration, configuration_file, read_configuration, read_table
from launcher.system.config_tables import CONFIG_TABLES, ConfigTable, Fault
from launcher.system.errors import UsageError

VERBS = ("add", "run", "wait")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the user's file lies."""
    return tmp_path / "config.toml"


def said(file: Path, text: str) -> Configuration:
    """Write the user's file and read it."""
    file.write_text(text)
    return read_configuration({"LAUNCHER_CONFIG": str(file)}, VERBS)


def complaints(file: Path, text: str) -> list[str]:
    """Return what is said of a broken file, a line for each fault, paths left out."""
    with pytest.raises(UsageError) as caught:
        said(file, text)
    return [line.strip().replace(str(file), "F") for line in str(caught.value).splitlines()]


def test_every_setting_of_the_file_is_read(file: Path) -> None:
    found = said(
        file,
        """\
home = "/fast/queue"  # local

[subsets]
wild = ["InTheWild", "SDXL-*"]
"sd.4" = 'SD4'

[modifiers]
mail = "Mail"

[run]
detach = true
wait.timeout = "1h"
""",
    )
    assert (found.file, found.exists, found.home) == (file, True, Path("/fast/queue"))
    assert found.subsets == {"wild": ("InTheWild", "SDXL-*"), "sd.4": ("SD4",)}
    assert found.modifiers == {"mail": ("Mail",)}
    assert found.options == {"run": {"detach": True, "wait": {"timeout": "1h"}}}
    words = Words(subsets=found.subsets, modifiers=found.modifiers)
    assert words.to_json() == {
        "subsets": {"wild": ["InTheWild", "SDXL-*"], "sd.4": ["SD4"]},
        "modifiers": {"mail": ["Mail"]},
    }


def test_every_key_has_its_line_number(file: Path) -> None:
    text = """\
home = "/q"
[ subsets ]  # mine
wild = [
    "InTheWild",
]
"sd.4" = "SD4"

[run]
dry_run = true
set.deep = 1
[service."install"]
print = true
"""
    found = said(file, text.replace("[service", "[wait"))
    places = {
        ("home",): 1,
        ("subsets",): 2,
        ("subsets", "wild"): 3,
        ("subsets", "sd.4"): 6,
        ("run", "dry_run"): 9,
        ("run", "dry-run"): 9,
        ("run", "set", "deep"): 10,
        ("wait", "install", "print"): 12,
        ("run", "absent"): 8,
    }
    assert {keys: found.place(*keys) for keys in places} == {
        keys: f"{file}:{line}" for keys, line in places.items()
    }
    assert found.place("absent") == str(file)


def test_file_is_found_by_variable_or_in_the_settings_folder(tmp_path: Path) -> None:
    assert configuration_file({"XDG_CONFIG_HOME": "/cfg"}) == Path("/cfg/launcher/config.toml")
    named = {"XDG_CONFIG_HOME": "/cfg", "LAUNCHER_CONFIG": str(tmp_path / "mine.toml")}
    assert configuration_file(named) == tmp_path / "mine.toml"
    usual = Path.home() / ".config" / "launcher" / "config.toml"
    assert configuration_file({}) == usual
    assert configuration_file({"XDG_CONFIG_HOME": "relative"}) == usual
    assert configuration_file({"LAUNCHER_CONFIG": "~/l.toml"}) == Path.home() / "l.toml"
    with pytest.raises(UsageError, match="LAUNCHER_CONFIG must be an absolute path"):
        configuration_file({"LAUNCHER_CONFIG": "here.toml"})


def test_all_errors_of_a_file_are_reported_at_once_in_file_order(file: Path) -> None:
    text = """\
hme = 3
home = "queue"
[substs]
wild = "InTheWild"
[modifiers]
"my mail" = "Mail"
post = []
fax = ["Fax", 3]
[rnu]
detach = true
"""
    assert complaints(file, text) == [
        "F:1: 'hme' is not a key of the configuration. Did you mean 'home'?",
        "F:2: home must be an absolute path, not 'queue'. Write a path that begins with / or ~.",
        "F:3: 'substs' is not a table of the configuration. Did you mean 'subsets'?",
        "F:6: 'my mail' is not a valid word of a data ID. Use letters, digits, _ . + and -.",
        'F:7: modifiers.post: expected "folder", or ["folder", "pattern-*"]',
        'F:8: modifiers.fax: expected "folder", or ["folder", "pattern-*"]',
        "F:9: 'rnu' is not a table of the configuration. Did you mean 'run'?",
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("home = 3", 'F:1: home: expected the path of a folder, such as "~/queue"'),
        ('home = ""', 'F:1: home: expected the path of a folder, such as "~/queue"'),
        (
            'home = "~nobody-has-this-name/q"',
            "F:1: home: '~nobody-has-this-name/q' begins with a home folder that does not exist. "
            "Write the whole path.",
        ),
        ("subsets = 3", 'F:1: subsets: expected a table with lines such as word = "folder"'),
        (
            "xyz = 1",
            "F:1: 'xyz' is not a key of the configuration (known: "
            "add, backends, home, log_limit, modifiers, notify, on, run, sharing, "
            "snapshot_file_limit, subsets, wait)",
        ),
        ("run = true", "F:1: run: expected a table of options, such as [run]"),
        ("\n[run\n", "F:2: not valid TOML: expected ']' at the end of a table declaration"),
        ("\n[run]\nx = ", "F:3: not valid TOML: invalid value"),
        ("a = 1\na = 2\n", "F:2: not valid TOML: cannot overwrite a value"),
    ],
)
def test_error_names_its_line_and_the_expected_value(file: Path, text: str, complaint: str) -> None:
    assert complaints(file, text) == [complaint]


def test_binary_file_is_refused(file: Path) -> None:
    file.write_bytes(b'home = "/q"\n# \xff\n')
    with pytest.raises(UsageError, match=r"config.toml:2: the byte 0xff is not UTF-8"):
        read_configuration({"LAUNCHER_CONFIG": str(file)})
    file.write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(UsageError, match="it has more than 1,048,576 bytes"):
        read_configuration({"LAUNCHER_CONFIG": str(file)})
    file.write_text("a = " + "[" * 100_000)
    with pytest.raises(UsageError, match=r"config.toml:1: not valid TOML"):
        read_configuration({"LAUNCHER_CONFIG": str(file)})


def test_unreadable_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the configuration .*: Is a directory"):
        read_configuration({"LAUNCHER_CONFIG": str(tmp_path)})
    with pytest.raises(UsageError, match=r"LAUNCHER_CONFIG names .*, which does not exist"):
        read_configuration({"LAUNCHER_CONFIG": str(tmp_path / "absent.toml")})


def test_world_writable_file_is_refused(file: Path) -> None:
    file.write_text("")
    file.chmod(0o666)
    assert complaints(file, "") == [
        "every user may write the configuration F. Remove this permission: chmod o-w F"
    ]


def test_windows_line_endings_are_accepted(file: Path) -> None:
    file.write_bytes(b'\xef\xbb\xbfhome = "/q"\r\n[run]\r\ndetach = true\r\n')
    found = read_configuration({"LAUNCHER_CONFIG": str(file)}, VERBS)
    assert (found.home, found.place("run", "detach")) == (Path("/q"), f"{file}:3")


def test_home_of_the_environment_overrides_that_of_the_file(file: Path) -> None:
    said(file, 'home = "~/queue"')
    environ = {"LAUNCHER_CONFIG": str(file)}
    assert find_home(environ).folder == Path.home() / "queue"
    assert find_home({**environ, "LAUNCHER_HOME": "/elsewhere"}).folder == Path("/elsewhere")
    assert find_home({**environ, "LAUNCHER_HOME": ""}).folder == Path.home() / "queue"


def test_a_table_has_its_default_unless_the_file_contains_it(file: Path) -> None:
    def read(value: object, faults: list[Fault]) -> int:
        if not isinstance(value, int):
            faults.append((("on",), "on: expected a number"))
            return 0
        return value

    table, environ = ConfigTable("on", read, 7), {"LAUNCHER_CONFIG": str(file)}
    file.write_text("")
    assert read_table(table, environ) == 7
    file.write_text("on = 9")
    assert read_table(table, environ) == 9
    file.write_text('on = "x"')
    with pytest.raises(UsageError, match=re.escape(f"{file}:1: on: expected a number")):
        read_table(table, environ)


def test_a_key_is_registered_by_the_module_that_reads_it(file: Path) -> None:
    file.write_text('log_limit = "2MiB"\n[sharing]\nreserve = "1GiB"\n')
    found = read_configuration({"LAUNCHER_CONFIG": str(file)})
    assert found.read(CONFIG_TABLES["log_limit"]) == 2 << 20
    assert found.read(CONFIG_TABLES["sharing"]).reserve == 1 << 30


def test_command_table_errors_do_not_prevent_finding_the_home(file: Path) -> None:
    file.write_text('home = "/q"\n[verb-of-a-newer-version]\nx = 1\n')
    assert find_home({"LAUNCHER_CONFIG": str(file)}).folder == Path("/q")


def test_words_of_data_ids_are_those_of_the_grammar() -> None:
    assert ids._WORD.pattern == config._WORD


def test_nothing_heavy_is_imported_without_a_file(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from launcher.system.config import read_configuration\n"
        f"read_configuration({{'XDG_CONFIG_HOME': {str(tmp_path)!r}}})\n"
        "print(*sorted({'tomllib', 'pydantic', 'launcher.ids', 'launcher.kinds'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "\n"
