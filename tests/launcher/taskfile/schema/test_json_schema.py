import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import create_model

from launcher.experiments.kind_interface import Kind, Role, Settings
from launcher.experiments.kinds import COMMAND, installed_kinds
from launcher.experiments.taskfile.entries import TaskFile, kind_of_role
from launcher.experiments.taskfile.language import TOP, words_of
from launcher.experiments.taskfile.nodes import plain_value
from launcher.experiments.taskfile.parser import ParseContext, parse
from launcher.experiments.taskfile.schema.json_schema import task_schema
from launcher.experiments.taskfile.yaml_tree import read_document
from launcher.ids import parse_data, parse_model, parse_poison
from launcher.queue.job_options.registry import job_options
from launcher.queue.jobs.job import run_name_fault
from launcher.system.errors import Problems, UsageError
from launcher.system.units import parse_bytes, parse_seconds
from tests.launcher.conftest import Launcher
from tests.launcher.toylab import Toy, laboratory

TREE = Path(__file__).parents[4]
BROKEN = TREE / "tests" / "data" / "broken"
TASKS = sorted((TREE / "tasks").glob("*.yaml"))
TOYS: Mapping[str, Kind] = {**laboratory(), "command": COMMAND}
SCHEMA = task_schema(TOYS)
INSTALLED = task_schema(installed_kinds())
# Files with an invalid form. The other files of the folder are not YAML, or have an invalid meaning.
MISSHAPEN = (
    "a_list", "broken_ids", "empty", "entry_is_no_mapping", "name_begins_with_a_dash",
    "name_escapes", "no_name", "poison_section", "section_is_no_list", "unknown_section",
    "unknown_settings", "wrong_methods", "wrong_poison", "wrong_resources", "wrong_settings",
)  # fmt: skip
MISTAKEN = ("duplicates", "home_of_nobody", "no_jobs", "unknown_models")
GOOD = (
    "name: x\ntrain: [{data: dot:pre}]",
    "name: 2026\nabout: 5\ntrain:\ntest: [{model: dot:pre, data: [dot:pre, line:fb]}]",
    "name: x\nphases: test\nreuse: weights\ntrain: [{model: null, data: dot:pre, poison: f2r-2.5}]",
    "name: x\nphases: [train, test]\ncommand: [{name: 7, argv: [echo, 5, no, 1.5, true]}]",
    "name: x\ncommand: [{argv: [a], after: 7, after_any: [b, 'c*'], cwd: d/, env: {A: '1', B: b c}, cpus: 2, "
    "group: g, not_before: 18:00, tensorboard: logs, resources: {retries: 2}}]\n"
    "train: [{data: dot:pre, after: [a], after_any: null}]",
    "name: x\ndefaults: {lr: 1e-3, epochs: 2, train: {optimizer: adam}, test: {}}\ntrain: [{data: dot:pre}]",
    "name: x\nresources: {cpus: 2, ram: 0, vram: auto, gpus: 1, device: cuda:1, time_limit: 1h 30m, "
    "priority: -3, retries: 2, rerun: never, train: {cpus: 4}}\ntrain: [{data: dot:pre}]",
    "name: x\nmatrix: {lr: [0.1, 0.2], model: {small: tiny}, train: {epochs: [1, 2]}}\n"
    "train: [{data: dot:pre, matrix: {scale: {one: 1, two: [1, 2]}}}]",
    "name: x\nmatrix: [{lr: 1, epochs: [1, 2]}, {lr: 2, epochs: 3}]\n"
    "train: [{data: dot:pre, matrix: [{scale: {one: 1}, model: a}, {scale: {two: 2}, model: b}]}]",
    "name: x\nmatrix: {lr: [1, 2], train: [{epochs: 1, model: a}, {epochs: 2, model: b}]}\n"
    "train: [{data: dot:pre}]",
    "name: x\ntrain: [{data: dot:pre, poison: [0, 20, null], settings: {model: large}, resources: {cpus: 2}}]",
    "name: x\ntrain: [{data: dot:pre, poison: 20}]\nunlearn: [retrain, pgu]",
    "name: x\ncommand:\n"
    "  - {name: 't-{lr}', argv: [a, '{sweep}'], matrix: {lr: [0.1, x], data: {one: a/b, two: c/d}}}\n"
    "  - {argv: [a, '{sweep}'], matrix: [{lr: 1, n: 2}, {lr: 2, n: [3, 4]}]}\n"
    "  - {argv: [a, '{sweep}'], random: {lr: 0.0..1.0, n: [1, x], k: 7}, count: 10000, seed: 1}\n"
    "  - {argv: [a, '{lr}'], matrix: {lr: 1}}\n  - {argv: [b, '{lr}'], matrix: [{lr: 1}]}\n"
    "  - {argv: [a], matrix: null, random: null, count: null, seed: null}",
    "name: x\ntrain: [{data: dot:pre, poison: 5}]\nunlearn: [{model: poisoned, method: [pgu], strength: 1}]",
    "name: x\ntrain: [{data: '${DATA:-dot:pre}', lr: '${LR:-0.1}', frozen: '${F:-true}'}]",
    "run_name: x\ndevice_override: cpu\nmin_vram: 16\ntrain_list: [{data: dot:pre}]\ndata_list: [dot:pre]",
    "name: x\nlr: 0.1\ntrain: [{data: dot:pre, poison_rate: 0.2}]",
)
BAD = {
    "name: x\ntrain: [{data: dot:pre, epochs: many}]": ("train", 0, "epochs"),
    "name: x\ntrain: [{data: dot:pre, epochs: 0}]": ("train", 0, "epochs"),
    "name: x\ntrain: [{data: dot:pre, epochs: 2.5}]": ("train", 0, "epochs"),
    "name: x\ntrain: [{data: dot:pre, optimizer: adm}]": ("train", 0, "optimizer"),
    "name: x\ntrain: [{data: dot:pre, frozen: perhaps}]": ("train", 0, "frozen"),
    "name: x\ntrain: [{data: dot:pre, scale: [1, 2, 3]}]": ("train", 0, "scale"),
    "name: x\ntrain: [{data: dot:pre, model: tiny}]": ("train", 0, "model"),
    "name: x\ntrain: [{data: dot:pre, poison: 120}]": ("train", 0, "poison"),
    "name: x\ntrain: [{data: dot:pre, epoch: 3}]": ("train", 0),
    "name: x\ntrain: [{data: dot:pre, cpus: 3}]": ("train", 0),
    "name: x\ntrain: [{data: dot:pre, after: {a: b}}]": ("train", 0, "after"),
    "name: x\ncommand: [{argv: [a], env: {A: 1}}]": ("command", 0, "env", "A"),
    "name: x\ncommand: [{argv: [a], env: [A]}]": ("command", 0, "env"),
    "name: x\ncommand: [{argv: [a], cpus: many}]": ("command", 0, "cpus"),
    "name: x\ncommand: [{argv: [a], matrix: {lr: []}}]": ("command", 0, "matrix", "lr"),
    "name: x\ncommand: [{argv: [a], matrix: [{lr: 1}, 7]}]": ("command", 0, "matrix", 1),
    "name: x\ncommand: [{argv: [a], random: {lr: {a: 1}}, count: 1}]": ("command", 0, "random", "lr"),
    "name: x\ncommand: [{argv: [a], random: {n: 0.0..1.0}, count: 10001}]": (
        *("command", 0, "count"),
    ),
    "name: x\ntrain: [{data: dot:pre, settings: {epoch: 3}}]": ("train", 0, "settings"),
    "name: x\ntrain: [{data: dot:pre, matrix: {lr: []}}]": ("train", 0, "matrix", "lr"),
    "name: x\ntrain: [{data: dot:pre, resources: {cpus: 0}}]": ("train", 0, "resources", "cpus"),
    "name: x\ntrain: [{model: null}]": ("train", 0),
    "name: x\ntest: [{model: dot:pre, data: [dot]}]": ("test", 0, "data"),
    "name: x\nunlearn: [{model: dot:pre, method: forget}]": ("unlearn",),
    "name: x\ncommand: [{argv: []}]": ("command", 0, "argv"),
    "name: x\ncommand: [{argv: [true], name: a/b}]": ("command", 0, "name"),
    "name: x\nphases: [trian]": ("phases",),
    "name: x\nreuse: all": ("reuse",),
    "name: x\nsubsets: {'my set': Folder}": ("subsets",),
    "name: x\nsubsets: {mine: {a: b}}": ("subsets", "mine"),
    "name: x\ndefaults: {lr: fast}": ("defaults", "lr"),
    "name: x\ndefaults: {train: {crops: 3}}": ("defaults", "train"),
    "name: x\nresources: {gpus: 65}": ("resources", "gpus"),
    "name: x\nresources: {exclusive: 1}": ("resources", "exclusive"),
    "name: x\nresources: {train: {vram: 16}}": ("resources", "train", "vram"),
    "name: x\nmatrix: {crops: [1, 2]}": ("matrix",),
    "name: x\nmatrix: []": ("matrix",),
    "name: x\nmatrix: [{}]": ("matrix", 0),
    "name: x\nmatrix: [{lr: 1}, 7]": ("matrix", 1),
    "name: x\nmatrix: [{lr: 1, crops: 2}]": ("matrix", 0),
    "name: x\ntrain: [{data: dot:pre, matrix: [{lr: fast}]}]": ("train", 0, "matrix", 0, "lr"),
    "name: x\nautotest: dot": ("autotest",),
}  # fmt: skip


def values_of(text: str) -> Any:
    """Return a task file as an editor understands it."""
    problems = Problems()
    root = read_document(text, "x.yaml", problems)
    return None if root is None else plain_value(root)


def is_accepted_by_launcher(text: str) -> TaskFile:
    """Read a task file as the launcher does."""
    return parse(text, file="x.yaml", context=ParseContext(kinds=TOYS))


def faults(text: str, schema: Mapping[str, Any] = SCHEMA) -> list[tuple[str | int, ...]]:
    """Return where a task file is not as the schema wants it."""
    found = Draft202012Validator(schema).iter_errors(values_of(text))
    return [tuple(one.absolute_path) for one in found]


@cache
def validator_of(form: str) -> Draft202012Validator:
    """Return a validator of the values that the schema defines by a name."""
    return Draft202012Validator({"$ref": f"#/$defs/{form}", "$defs": SCHEMA["$defs"]})


def matches(form: str, text: object) -> bool:
    """Return whether a value is one of those that the schema defines by this name."""
    return bool(validator_of(form).is_valid(text))


def accepted(read: Any, text: str) -> bool:
    """Return whether a function of the launcher reads a text."""
    try:
        read(text)
    except UsageError:
        return False
    return True


def references(part: object) -> Iterator[str]:
    """Give every reference below a part of a schema."""
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"]
        for one in part.values():
            yield from references(one)
    elif isinstance(part, list):
        for one in part:
            yield from references(one)


# --- whole files


@pytest.mark.parametrize(
    ("kinds", "schema"), [(TOYS, SCHEMA), (installed_kinds(), INSTALLED)], ids=["toys", "installed"]
)
def test_schema_is_valid_and_all_references_resolve(kinds: Mapping[str, Kind], schema: Any) -> None:
    Draft202012Validator.check_schema(schema)
    names = {one.removeprefix("#/$defs/") for one in references(schema)}
    assert names <= set(schema["$defs"])
    unused = set(schema["$defs"]) - names
    assert not {one for one in unused if not one.startswith(tuple(kinds))}


@pytest.mark.parametrize("path", TASKS, ids=lambda path: path.name)
def test_every_example_is_valid_under_the_schema(path: Path) -> None:
    assert faults(path.read_text(), INSTALLED) == []


@pytest.mark.parametrize("text", GOOD)
def test_files_accepted_by_the_launcher_are_valid_under_the_schema(text: str) -> None:
    assert [
        str(one) for one in is_accepted_by_launcher(text).errors if one.code != "variable"
    ] == []
    assert faults(text) == []


@pytest.mark.parametrize(("text", "place"), BAD.items())
def test_schema_reports_wrong_forms_at_their_location(
    text: str, place: tuple[str | int, ...]
) -> None:
    assert is_accepted_by_launcher(text).errors, "the launcher would take it"
    assert faults(text) == [place]


@pytest.mark.parametrize("name", MISSHAPEN)
def test_broken_files_of_a_wrong_form_are_refused(name: str) -> None:
    assert faults((BROKEN / f"{name}.yaml").read_text())


@pytest.mark.parametrize("name", MISTAKEN)
def test_schema_accepts_files_with_faults_that_only_a_plan_detects(name: str) -> None:
    assert faults((BROKEN / f"{name}.yaml").read_text()) == []


def test_the_name_may_come_from_an_included_file() -> None:
    assert faults("include: common.yaml\ntrain: [{data: dot:pre}]") == []
    assert faults("train: [{data: dot:pre}]") == [()]


# --- the words of the language


@pytest.mark.parametrize("kind", [one for one in TOYS.values() if one.role is not Role.LABELS])
def test_entry_accepts_exactly_its_words_and_settings(kind: Kind) -> None:
    schema: Any = SCHEMA
    entry = schema["$defs"][f"{kind.name}.entry"]
    poisoner = kind_of_role(TOYS, kind, Role.LABELS) if kind.role is Role.TRAIN else None
    family = [one for one in (kind, poisoner) if one is not None]
    settings = {name for one in family for name in one.settings.model_fields}
    today = {name for name, one in entry["properties"].items() if not one.get("deprecated")}
    options = () if kind.entry else job_options()  # beside the words of a program
    assert today == {*words_of(kind), *settings, *options}
    assert entry["additionalProperties"] is False
    assert set(entry["properties"]["settings"]["properties"]) == settings


def test_file_accepts_every_word_and_section() -> None:
    schema: Any = SCHEMA
    today = {name for name, one in schema["properties"].items() if not one.get("deprecated")}
    assert today == {*TOP, *TOYS} - {"poison"}


def test_every_resource_is_described() -> None:
    schema: Any = SCHEMA
    told = schema["$defs"]["resources"]["properties"]
    today = {name: one for name, one in told.items() if "deprecated" not in one}
    assert {name: one["description"] for name, one in today.items()} == {
        name: option.summary for name, option in job_options().items()
    }
    assert told["min_vram"]["description"] == "old name; write vram"


def test_a_setting_has_its_description_default_and_choices() -> None:
    schema: Any = SCHEMA
    assert schema["$defs"]["train.optimizer"] == {
        "default": "sgd",
        "anyOf": [
            {"enum": ["adam", "sgd"], "type": "string"},
            {"$ref": "#/$defs/variable"},
        ],
    }
    told = schema["$defs"]["train.sleep_s"]
    assert (told["default"], told["description"]) == (0.0, "how long a job pretends to work")


def test_old_names_are_deprecated_and_name_their_replacement() -> None:
    class Renamed(Settings):
        aliases: ClassVar[Mapping[str, str]] = {"learning_rate": "lr"}
        lr: float = 0.1

    toys = {**TOYS, "train": replace(a_toy("train"), settings=Renamed)}
    schema: Any = task_schema(toys)
    for place in (
        schema["$defs"]["train.entry"]["properties"],
        schema["$defs"]["train.entry"]["properties"]["settings"]["properties"],
        schema["properties"]["defaults"]["properties"],
        schema["properties"]["matrix"]["properties"],
    ):
        assert place["learning_rate"]["deprecated"] is True
        assert place["learning_rate"]["description"] == "old name; write lr"
    top = schema["properties"]
    assert top["run_name"]["description"] == "old name; write name"
    assert top["learning_rate"]["description"] == "old name; write defaults: {lr: …}"
    assert faults("name: x\ntrain: [{data: dot:pre, learning_rate: 0.2}]", schema) == []
    wrong = "name: x\ntrain: [{data: dot:pre, learning_rate: fast}]"
    assert faults(wrong, schema) == [("train", 0, "learning_rate")]


def a_toy(name: str) -> Toy:
    """Return one of the toy kinds, to be changed."""
    kind = TOYS[name]
    assert isinstance(kind, Toy)
    return kind


def test_models_with_the_same_name_in_two_kinds_are_separate() -> None:
    def settings_with(size: type) -> type[Settings]:
        shape = create_model("Shape", size=(size, ...))
        return create_model(
            "Shaped", __base__=Settings, shape=(shape | None, None), shapes=(list[shape], [])
        )

    toys = {
        "first": replace(a_toy("shapes"), name="first", settings=settings_with(int)),
        "second": replace(a_toy("shapes"), name="second", settings=settings_with(bool)),
    }
    schema: Any = task_schema(toys)
    good = (
        "name: x\nfirst: [{shape: {size: 3}}]\nsecond: [{shapes: [{size: true}, {size: '${S}'}]}]"
    )
    assert faults(good, schema) == []
    assert faults("name: x\nfirst: [{shape: {size: big}}]", schema) == [("first", 0, "shape")]
    assert faults("name: x\nsecond: [{shape: {size: big}}]", schema) == [("second", 0, "shape")]


def test_range_accepts_one_number_if_its_kind_expands_it() -> None:
    for value, good in (("75", True), ("[30, 90]", True), ("best", False), ("[1, 2, 3]", False)):
        text = f"name: x\ntrain: [{{data: gan2:pre, jpeg_qual: {value}}}]"
        assert (faults(text, INSTALLED) == []) is good


def test_variable_is_accepted_for_every_single_value() -> None:
    schema: Any = SCHEMA
    for name in ("lr", "epochs", "optimizer", "frozen", "model", "scale", "fail"):
        assert matches(f"train.{name}", "${VALUE:-1}")
    for name in schema["$defs"]["resources"]["properties"]:
        assert faults(f"name: x\nresources: {{{name}: '${{VALUE}}'}}") == []
    assert not matches("train.lr", "$VALUE")


# --- patterns, against the functions that read the same

IDS = st.text("a1:&#%~@=,-.+_0 ", max_size=24) | st.from_regex(
    r"[a-c]:[a-c](&[a-c]:[a-c])?(%([a-z]-)?[0-9]{1,3}(\.[0-9]{1,2})?)?(~[a-c])?(@[a-c]=[0-9],[d-f]=[0-9])?(#a:b)?",
    fullmatch=True,
)


@given(IDS)
@example("a:b%100.0#c:d%007@x=1,y=-2")
@example("a:b%100.1")
def test_ids_follow_the_grammar(text: str) -> None:
    assert matches("data_id", text) == accepted(parse_data, text)
    assert matches("model_id", text) == accepted(parse_model, text)


@given(st.text("af2r-.0157 %", max_size=8))
def test_poisons_follow_the_grammar(text: str) -> None:
    assert matches("poison", text) == accepted(parse_poison, text)


@given(st.text("10. GgMmiKkTbBx", max_size=9) | st.from_regex(r"[0-9.]{1,3} ?[kKmMGT]i?[bB]"))
def test_memory_amounts_match_the_parser_of_the_launcher(text: str) -> None:
    assert matches("size", text) == accepted(parse_bytes, text)


@given(st.text("10. dhmsx", max_size=9) | st.from_regex(r"([0-9]{1,2} ?[dhms] ?){1,4}"))
def test_times_match_the_parser_of_the_launcher(text: str) -> None:
    assert matches("time", text) == accepted(parse_seconds, text)


@given(st.text("ab.-/\\ 1é", max_size=12) | st.just("a" * 101))
def test_names_match_the_rules_for_run_names(text: str) -> None:
    told = Draft202012Validator(SCHEMA).is_valid({"name": text})
    assert told == (run_name_fault(text) is None)


# --- the command


def test_the_command_prints_the_schema_or_writes_it(launcher: Launcher, tmp_path: Path) -> None:
    answer = launcher("schema")
    schema = json.loads(answer.out)
    assert schema == INSTALLED
    out = tmp_path / "task.schema.json"
    written = launcher.well("schema", "--out", str(out))
    assert (written.out, written.err) == ("", f"wrote {out}\n")
    assert json.loads(out.read_text()) == schema
    assert re.search(r'\n "properties": ', out.read_text()), "people can read it, too"


def test_unwritable_schema_is_a_machine_error(launcher: Launcher, tmp_path: Path) -> None:
    answer = launcher("schema", "--out", str(tmp_path / "absent" / "task.schema.json"))
    assert answer.code == 3
    assert answer.err.startswith("error: ")


def test_unwritable_schema_is_reported_with_its_path(launcher: Launcher) -> None:
    answer = launcher("schema", "--out", "/dev/null/task.schema.json")
    assert (answer.code, answer.out) == (3, "")
    assert (
        answer.err
        == "error: cannot write /dev/null/task.schema.json (Not a directory). Name another file with --out.\n"
    )
