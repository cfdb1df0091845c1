"""Values that a task file takes from other files, the environment and the command line."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from launcher.experiments.kinds import installed_kinds
from launcher.experiments.planning.plan import Plan
from launcher.system.errors import Severity
from tests.launcher.language import (
    a_plan,
    blamed,
    job,
    marked,
    names,
    notes,
    read,
    refusal,
    refusals,
    setting,
    told,
)

# --- files that include others


def test_included_file_comes_first_and_the_including_file_overrides_it() -> None:
    more = "defaults: {lr: 0.5, epochs: 2}\nresources: {cpus: 3}\ntrain: [{data: ring:pre}]\n"
    made = a_plan(
        "train: [{data: dot:pre}]\ninclude: more.yaml\ndefaults: {lr: 0.25}\n",
        files={"more.yaml": more},
    )
    assert names(made) == ["train/ring:pre", "train/dot:pre"]
    assert set(setting(made, "lr").values()) == {0.25}
    assert set(setting(made, "epochs").values()) == {2}
    assert [one.resources.cpus for one in made.jobs] == [3, 3]


def test_paths_of_included_files_are_relative_to_the_including_file() -> None:
    files = {
        "sub/one.yaml": "include: [two.yaml, ../three.yaml]\n",
        "sub/two.yaml": "train: [{data: dot:pre}]\n",
        "three.yaml": "train: [{data: ring:pre}]\n",
    }
    task = read("include: sub/one.yaml\n", files=files)
    assert task.files == ("x.yaml", "sub/one.yaml", "sub/two.yaml", "three.yaml")
    assert names(a_plan("include: sub/one.yaml\n", files=files)) == [
        "train/dot:pre",
        "train/ring:pre",
    ]


def test_file_included_twice_is_read_once() -> None:
    files = {"a.yaml": "train: [{data: dot:pre}]\n", "b.yaml": "include: a.yaml\n"}
    made = a_plan("include: [a.yaml, ./a.yaml, b.yaml]\n", files=files)
    assert names(made) == ["train/dot:pre"]
    assert not notes(made)


@pytest.mark.parametrize(
    ("files", "place", "circle"),
    [
        ({"x.yaml": ""}, ("x.yaml", 2, "x.yaml"), "x.yaml → x.yaml"),
        (
            {"a.yaml": "include: b.yaml\n", "b.yaml": "about: x\ninclude: [a.yaml]\n"},
            ("b.yaml", 2, "a.yaml"),
            "a.yaml → b.yaml → a.yaml",
        ),
    ],
)
def test_circular_include_is_refused_where_it_closes(
    files: Mapping[str, str], place: tuple[str, int, str], circle: str
) -> None:
    problem = refusal(f"include: {next(iter(files))}\n", files=files)
    assert problem.code == "include-circle"
    assert marked(problem) == place
    assert circle in problem.message


def test_errors_of_all_files_are_reported_together() -> None:
    found = refusals(
        "include: [a.yaml, b.yaml]\ntrain: [{data: dto:pre}]\n",
        files={
            "a.yaml": "about: one\ntrain:\n  - {data: dot:pre, lr: fast}\n",
            "b.yaml": "trian: []\n",
        },
    )
    assert [marked(one) for one in found] == [
        ("x.yaml", 3, "dto"),
        ("a.yaml", 3, "fast"),
        ("b.yaml", 1, "trian"),
    ]


def test_duplicate_entry_is_reported_with_both_files() -> None:
    made = a_plan(
        "include: a.yaml\ntrain: [{data: ring:pre}]\n",
        files={"a.yaml": "\ntrain: [{data: ring:pre}]\n"},
    )
    assert told(notes(made)[0]).endswith("= first in a.yaml, line 2\n@x.yaml:3 ring:pre\n")


# --- the environment

PLACES = {"ROOT": "/data", "RATE": "20", "NOTHING": "", "WORD": "dot", "NO": "no"}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("${ROOT}", "/data"),
        ("${ROOT}/toys", "/data/toys"),
        ("a/${WORD}/${RATE}", "a/dot/20"),
        ("${UNSET:-toys}", "toys"),
        ("${NOTHING:-toys}", "toys"),
        ("${ROOT:-toys}", "/data"),
        ("${UNSET:-a:b/c}", "a:b/c"),
        ("a${UNSET:-}b", "ab"),
        ("$${ROOT}", "${ROOT}"),
        ("$${ROOT}${WORD}", "${ROOT}dot"),
        ("$ROOT", "$ROOT"),
        ("100$", "100$"),
        ("'${ROOT}'", "/data"),
        ('"${ROOT}"', "/data"),
        ("~/${WORD}", "~/dot"),
        ("${NO}", "no"),
    ],
)
def test_environment_variables_are_expanded_in_values(written: str, value: str) -> None:
    text = f"defaults:\n  data_root: {written}\ntrain: [{{data: dot:pre}}]\n"
    assert setting(a_plan(text, environment=PLACES), "data_root") == {"dot:pre": value}


def test_expanded_variable_can_be_a_number_boolean_or_id() -> None:
    made = a_plan(
        "name: at-${WORD}\nabout: on ${WORD}\nreuse: ${MODE}\n"
        "defaults:\n  lr: ${RATE}\n  frozen: ${NO}\n  scale: [1, '${RATE}']\n"
        "train:\n  - data: ${WORD}:pre\n    poison: ${RATE}\n"
        "    matrix:\n      epochs: ['${RATE}', 3]\n"
        "autotest: ['${WORD}:pre']\n",
        environment={**PLACES, "MODE": "weights"},
    )
    assert (made.name, made.about, made.reuse) == ("at-dot", "on dot", "weights")
    first = job(made, "train/dot:pre%20@epochs=20")
    assert (first.settings["lr"], first.settings["frozen"]) == (20.0, False)
    assert first.settings["scale"] == [1.0, 20.0]
    assert "test/dot:pre%20@epochs=3/dot:pre" in names(made)


def test_unset_variable_is_reported_with_the_nearest_name() -> None:
    said = blamed("command:\n  - {argv: [echo, '${WRD}']}\n", environment=PLACES)
    assert ": the environment variable WRD is not set\n" in said
    assert said.endswith("^ did you mean WORD?\n@x.yaml:3 ${WRD}\n")


def test_variables_in_comments_and_programs_are_not_expanded() -> None:
    made = a_plan("# ${UNSET}\ncommand: [{name: a, argv: [sh, -c, 'echo $HOME $${HOME}']}]\n")
    assert made.jobs[0].settings["argv"] == ["sh", "-c", "echo $HOME ${HOME}"]


# --- the command line


@pytest.mark.parametrize(
    ("setting_", "caret"),
    [
        ("lr", "lr"),
        ("=3", "=3"),
        ("lr=", ""),
        ("lrr=3", "lrr"),
        ("train.lrr=3", "lrr"),
        ("lr=fast", "fast"),
        ("train.lr=fast", "fast"),
        ("lr=[1", "["),
        ("phases=[trian]", "trian"),
        ("reuse=all", "all"),
        ("resources.cpus=no", "no"),
        ("resources.cpsu=1", "cpsu"),
        ("matrix.lrr=[1, 2]", "lrr"),
        ("matrix.lr=[1, fast]", "fast"),
        ("name=a/b", "a/b"),
        ("epochs=2.5", "2.5"),
        ("optimizer=adm", "adm"),
    ],
)
def test_invalid_command_line_setting_is_reported_in_its_own_text(
    setting_: str, caret: str
) -> None:
    problem = refusal("train: [{data: dot:pre}]\n", setting_)
    assert problem.place is not None
    assert (problem.place.file, problem.place.line) == ("--set", 1)
    assert problem.place.text == setting_
    assert setting_[problem.place.column - 1 :].startswith(caret)


def test_all_invalid_settings_are_reported_with_those_of_the_file() -> None:
    found = refusals("train: [{data: dto:pre}]\n", "lrr=3", "epochs=x")
    assert {one.place.file for one in found if one.place} == {"x.yaml", "--set"}
    assert len(found) == 3


def test_command_line_sets_any_key_of_the_file() -> None:
    made = a_plan(
        "train: [{data: dot:pre, resources: {cpus: 3}}]\nautotest: [dot:pre]\n",
        *("name=other", "about=a b", "phases=[train]", "resources.cpus=2", "test.crops=4"),
        *("fail=a=b", "optimizer=adam", "frozen=yes", "scale=[1, 2]"),
    )
    assert (made.name, made.about) == ("other", "a b")
    assert names(made) == ["train/dot:pre"]
    assert made.jobs[0].resources.cpus == 2
    values = made.jobs[0].settings
    assert [values[key] for key in ("fail", "optimizer", "frozen", "scale")] == [
        *("a=b", "adam", True, [1.0, 2.0])
    ]


# --- The words of the original launcher and of its data, in the real laboratory


# --- names of the original launcher

TRUEFACE = installed_kinds()


GOLDEN = Path(__file__).parents[2] / "data" / "golden"
LISTS = {"data_root": "", "split_path": ""}  # required settings
DEFAULTS = "defaults: {data_root: d, split_path: s}\n"


ORIGINAL = f"{DEFAULTS}train: [{{model: null, data: gan:pre}}]\nautotest: [real:pre]\n"


OLD_SETTINGS = [
    ("training_epochs", "7", "num_epochs", 7),
    ("learning_rate", "1e-3", "lr", 0.001),
    ("learning_dropoff", "3", "lr_decay_epochs", 3),
    ("model_flag", "baseline", "model", "baseline"),
    ("model_freeze", "True", "freeze", True),
    ("dataset_path", "/media/NAS", "data_root", "/media/NAS"),
]


def reports_new_name(made: Plan, old: str, new: str) -> bool:
    return any(
        old in str(one) and new in str(one)
        for one in made.warnings
        if (one.code, one.severity) == ("old-name", Severity.WARNING)
    )


@pytest.mark.parametrize(("old", "value", "new", "meant"), OLD_SETTINGS)
def test_old_setting_names_are_accepted_everywhere(
    old: str, value: str, new: str, meant: object
) -> None:
    train = "train: [{model: null, data: gan:pre}]\n"
    paths = "split_path: s" if new == "data_root" else "data_root: d, split_path: s"
    for text, said in (
        (f"defaults: {{{paths}}}\n{old}: {value}\n{train}", ()),
        (f"defaults: {{{paths}, {old}: {value}}}\n{train}", ()),
        (f"defaults: {{{paths}}}\n{train}", (f"{old}={value}",)),
        (f"{DEFAULTS}train: [{{model: null, data: gan:pre, {old}: {value}}}]\n", ()),
    ):
        made = a_plan(text, *said, kinds=TRUEFACE)
        assert made.jobs[0].settings[new] == meant
        assert reports_new_name(made, old, new)


@pytest.mark.parametrize(
    ("line", "new"),
    [
        ("device_override: 'cuda:1'", "device"),
        ("min_vram: 16000", "min_vram"),
        ("clean_run: True", "reuse"),
        ("clean_run: False", "reuse"),
        ("only_list: True", "--dry-run"),
        ("dry_run: True", "--dry-run"),
        ("parse: True", "launcher results"),
        ("merge_real: True", "launcher results"),
        ("features: False", "no effect"),
        ("save_weights: True", "save_weights"),
        ("save_scores: True", "save_scores"),
        ("poison_rate: 0.2", "percent"),
        ("resize_prob: .2", "resize_prob"),
        ("resize_scale: [.2, 1]", "resize_scale"),
        ("blur_sigma: [1e-6, 3]", "blur_sigma"),
        ("jpeg_qual: [30, 100]", "jpeg_qual"),
        ("patch_size: 96", "patch_size"),
        ("dropout: 0", "dropout"),
        ("batch_size: 16", "batch_size"),
    ],
)
def test_every_variable_of_the_original_is_accepted_with_its_new_name(line: str, new: str) -> None:
    made = a_plan(f"{line}\n{ORIGINAL}", kinds=TRUEFACE)
    assert reports_new_name(made, line.partition(":")[0], new)
    told = next(one for one in made.warnings if one.code == "old-name")
    assert marked(told) == ("x.yaml", 2, line.partition(":")[0])


def test_plan_with_every_variable_of_the_original_is_as_recorded() -> None:
    made = a_plan((GOLDEN / "original.yaml").read_text(), kinds=TRUEFACE, exists=lambda _: True)
    assert describe(made) == (GOLDEN / "original.txt").read_text()


def describe(made: Plan) -> str:
    """Return a plan as text: the action, notes, resources, jobs, and settings with other values than the defaults."""
    lines = [f"action: {made.wanted}", f"reuse: {made.reuse}"]
    lines += [text for one in made.warnings for text in (f"{one.code}: {one.message}", *one.notes)]
    for planned in made.jobs:
        lines += [f"{planned.name} after {' '.join(planned.needs) or 'nothing'}"]
        if planned in (made.jobs[0], made.jobs[1]):  # the others of a kind have the same settings
            usual = TRUEFACE[planned.kind].settings.model_validate(LISTS).model_dump(mode="json")
            lines += [
                f"  {name}: {json.dumps(value)}"
                for name, value in sorted(planned.settings.items())
                if value != usual.get(name)
            ]
            lines += [f"  device {planned.resources.device}, vram {planned.resources.vram}"]
    return "\n".join([*lines, ""])


def test_old_variables_have_their_old_effect() -> None:
    def made(line: str) -> Plan:
        return a_plan(f"{line}\n{ORIGINAL}", kinds=TRUEFACE)

    assert made("device_override: 'cuda:1'").jobs[0].resources.device == "cuda:1"
    assert made("device_override: null").jobs[0].resources.device == "auto"
    assert made("min_vram: 16000").jobs[0].resources.vram == 16000 * 2**20
    assert made("clean_run: True").reuse == "nothing"
    assert made("clean_run: False").reuse == "weights"
    assert {made(f"{one}: True").wanted for one in ("only_list", "dry_run")} == {"list"}
    assert made("parse: True").wanted == "results"
    assert {made(f"{one}: False").wanted for one in ("only_list", "dry_run", "parse")} == {"run"}
    assert names(made("poison_rate: 0.2"), "train") == ["train/gan:pre%20"]
    assert setting(made("batch_size: 16"), "batch_size", "test") == {"gan:pre": 2}


def test_lists_of_the_original_are_train_and_autotest() -> None:
    made = a_plan(
        "run_name: first\ndataset_path: d\nsplit_path: s\ntrain_list:\n"
        "  - {'model': null, 'data': 'gan:pre'}\n  - {'model': 'gan:pre', 'data': 'gan:shr'}\n"
        "test_list: ['real:pre', 'gan:pre']\n",
        kinds=TRUEFACE,
    )
    assert made.name == "first"
    assert names(made) == [
        one
        for model in ("gan:pre", "gan:pre#gan:shr")
        for one in (f"train/{model}", f"test/{model}/real:pre", f"test/{model}/gan:pre")
    ]
    for old, new in (("run_name", "name"), ("train_list", "train"), ("test_list", "autotest")):
        assert reports_new_name(made, old, new)


# --- the laboratory's words


def test_unions_of_the_plugin_package_equal_their_members() -> None:
    made = a_plan(
        f"{DEFAULTS}train:\n  - {{data: 'gan:shr'}}\n"
        "  - {data: 'gan3:tw&gan1:shr&gan2:fb&gan2:tl&gan2:tw&gan3:fb&gan3:tl&real:shr'}\n"
        "  - {data: 'sd:pre'}\n  - {data: 'sdXL:pre&sd15:pre&sd2:pre&sd3:pre'}\n",
        kinds=TRUEFACE,
    )
    assert names(made) == ["train/gan:shr", "train/sd:pre"]


def test_every_key_of_the_original_is_known() -> None:
    subsets = "gan1 gan2 gan3 sd15 sd2 sd3 sdXL flux realFFHQ realRAISE realFORLAB extra"
    both = [f"{one}:{two}" for one in f"{subsets} all gan sd real".split() for two in MODIFIERS]
    made = a_plan(f"{ORIGINAL}test: [{{model: gan:pre, data: {both}}}]\n", kinds=TRUEFACE)
    assert {f"test/gan:pre/{one}" for one in both} <= set(names(made))


MODIFIERS = ("pre", "fb", "tl", "tw", "none", "all", "shr")


@pytest.mark.parametrize(
    ("line", "caret"),
    [
        ("subsets: {gan2: MyGAN}", "gan2"),
        ("subsets: {gan: MyGAN}", "gan"),
        ("modifiers: {pre: Foo}", "pre"),
        ("modifiers: {all: Foo}", "all"),
        ("subsets: {'a/b': Foo}", "'a/b'"),
        ("subsets: {mine: Foo, mine: Bar}", "mine"),
    ],
)
def test_existing_or_invalid_word_is_refused(line: str, caret: str) -> None:
    assert f"@x.yaml:2 {caret}\n" in blamed(f"{line}\n{ORIGINAL}", kinds=TRUEFACE)


def test_user_words_are_suggested_where_allowed() -> None:
    text = f"subsets: {{mygan: MyGAN}}\n{DEFAULTS}train: [{{data: mygna:pre}}]\n"
    assert "^ did you mean 'mygan'?\n" in blamed(text, kinds=TRUEFACE)
    said = blamed("subsets: {mygan: MyGAN}\ntrain: [{data: mygan:pre}]\n")
    assert ": unknown subset 'mygan'\n" in said
    assert said.endswith("@x.yaml:3 mygan\n")


@pytest.mark.parametrize(
    "text",
    [
        "resources: {min_vram: 3GiB}\ntrain: [{data: dot:pre}]\n",
        "resources: {train: {min_vram: 3GiB}}\ntrain: [{data: dot:pre}]\n",
        "train: [{data: dot:pre, resources: {min_vram: 3GiB}}]\n",
    ],
)
def test_old_name_of_gpu_memory_is_accepted(text: str) -> None:
    made = a_plan(text)
    assert made.jobs[0].resources.vram == 3 * 2**30
    assert [one.message for one in notes(made)] == ["min_vram is now called vram"]
    now = a_plan(text.replace("min_vram", "vram"))
    assert now.jobs[0].resources.vram == 3 * 2**30
    assert not notes(now)


def test_gpu_memory_names_merge_across_files_but_not_within_one() -> None:
    base = {"b.yaml": "name: b\nresources: {min_vram: 3GiB}\n"}
    train = "train: [{data: dot:pre}]\n"
    made = a_plan(f"include: b.yaml\nresources: {{vram: 5GiB}}\n{train}", files=base)
    assert made.jobs[0].resources.vram == 5 * 2**30
    assert a_plan(train, "resources.vram=1GiB").jobs[0].resources.vram == 2**30
    both = blamed(f"resources: {{min_vram: 3GiB, vram: 5GiB}}\n{train}")
    assert ": 'vram' is given twice, under its name and an old name\n" in both
