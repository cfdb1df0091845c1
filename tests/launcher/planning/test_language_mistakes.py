"""Errors in a task file, and their messages: one cause, one message, one remedy."""

from importlib.util import find_spec

import pytest

from launcher.experiments.kinds import installed_kinds
from launcher.experiments.taskfile.legacy_names import LegacyAction
from tests.launcher.language import (
    Made,
    a_plan,
    blamed,
    marked,
    names,
    notes,
    read,
    refusal,
    refusals,
    setting,
)

WHERE = "defaults: {data_root: d, split_path: s}\n"
ONE = "train: [{data: dot:pre}]\n"
MISTAKES = [
    (
        "train: [{data: any:pre}, {data: 'dot:pre&line:pre&ring:pre', lr: 0.5}]\n"
        "test: [{model: 'ring:pre&line:pre&dot:pre', data: dot:fb}]",
        *("error[ambiguous-model]", "= matching models: any:pre, dot:pre&line:pre&ring:pre\n"),
    ),
    (f"{ONE}\n--set trian.lr=3", "^ did you mean 'train'?\n", "@--set:1 trian\n"),
    (
        f"{ONE}test: [{{model: dot:pre, data: dot:fb}}, {{model: dot:pre, data: dot:fb, crops: 2}}]",
        *("= first in line 3\n", "= crops: 1 and 2\n"),
    ),
    (f"defaults: {{lr: '${{UNSET}}'}}\n{ONE}", "error[variable]", " ${UNSET}\n"),
    ("train: [{data: '${UNSET}:pre'}]", "error[variable]", " ${UNSET}\n"),
    (f"resources: {{cpus: '${{UNSET}}'}}\n{ONE}", "error[variable]", " ${UNSET}\n"),
    (f"{ONE}\n--set vram=3GiB", "^ write --set resources.vram=…\n"),
    (f"{ONE}\n--set cpus=3", "^ write --set resources.cpus=…\n"),
    (f"{ONE}\n--set matrix=[1]", "^ set one key of it: --set matrix.KEY=VALUE\n"),
    (f"{ONE}\n--set train=3", "^ set one key of it: --set train.KEY=VALUE\n"),
    (f"defaults: {{vram: 3}}\n{ONE}", "^ write it below resources: {vram: …}\n"),
    *(
        (
            f"defaults: {{{word}: 3}}\n{ONE}",
            "^ it is not a setting; write it at the top of the file\n",
        )
        for word in ("matrix", "name", "autotest")
    ),
    ("train: [{data: dot:pre, hold: true}]", "^\n"),  # programs know this key
    ("train: [{data: dot:pre, group: x}]", "^ write it below resources: {group: …}\n"),
    ("train: [{data: dot:pre, cwd: x}]", "^ it is a setting of command\n"),
    (f"resources: {{gpus: 1, device: cpu}}\n{ONE}", "contradict each other"),
    (f"resources: {{device: cuda:1, gpus: 0}}\n{ONE}", "contradict each other"),
]


@pytest.mark.parametrize("case", MISTAKES)
def test_single_mistake_is_reported_with_place_and_advice(case: tuple[str, ...]) -> None:
    said = blamed(case[0])
    assert [piece for piece in case[1:] if piece not in said] == []


PLANS = {
    "a variant that is another model by its settings": Made(
        "train: [{data: dot:pre}, {data: dot:pre, matrix: {lr: [0.1, 0.3]}}]\n"
        "test: [{model: 'dot:pre@lr=0.1', data: dot:fb}]",
        ["test/dot:pre/dot:fb"],
        ["test"],
        ["same-model"],
    ),
    "the same images in a test": Made(
        f"{ONE}autotest: ['dot:fb&line:fb', 'line:fb&dot:fb', 'dot:fb&dot:fb&line:fb']",
        ["test/dot:pre/dot:fb&line:fb"],
        ["test"],
        ["same-data", "same-data"],
    ),
    "a model of a poisoned file with its data in another order": Made(
        "defaults: {poison: 20}\ntrain: [{data: 'dot:pre&line:pre'}]\n"
        "test: [{model: 'line:pre&dot:pre', data: dot:fb}]",
        ["test/dot:pre&line:pre%20/dot:fb"],
        ["test"],
    ),
    "rates of the original": Made(
        f"poison_rate: [0, 0.2]\n{ONE}",
        ["train/dot:pre", "train/dot:pre%20"],
        ["train"],
        ["old-name"],
    ),
    "a rate of the original": Made(
        "train: [{data: dot:pre, poison_rate: 0.025}]",
        ["train/dot:pre%2.5"],
        ["train"],
        ["old-name"],
    ),
}


@pytest.mark.parametrize("case", PLANS.values(), ids=PLANS)
def test_tolerant_spellings_are_accepted(case: Made) -> None:
    case.check()


def test_phases_without_jobs_are_refused() -> None:
    problem = refusal(f"phases: [unlearn]\n{ONE}")
    assert problem.code == "no-jobs"
    assert "phases selects only unlearn" in problem.message


def test_gpu_setting_of_a_kind_overrides_that_of_the_file() -> None:
    text = f"resources: {{gpus: 0, train: {{gpus: 1}}}}\n{ONE}autotest: [dot:fb]\n"
    assert [one.resources.device for one in a_plan(text).jobs] == ["auto", "cpu"]


def test_top_level_setting_is_kept_with_an_empty_section() -> None:
    made = a_plan(f"defaults:\nlr: 0.25\nresources:\nmin_vram: 16\n{ONE}")
    assert setting(made, "lr") == {"dot:pre": 0.25}
    assert made.jobs[0].resources.vram == 16 * 2**20


def test_quoted_variable_can_be_a_number_or_name_a_file() -> None:
    environment = {"CORES": "3", "WHICH": "a"}
    files = {"a.yaml": "train: [{data: dot:pre}]\n"}
    text = "include: '${WHICH}.yaml'\nresources: {cpus: '${CORES}'}\n"
    made = a_plan(text, files=files, environment=environment)
    assert made.jobs[0].resources.cpus == 3


@pytest.mark.parametrize("section", ["defaults", "matrix"])
def test_setting_given_by_both_names_is_refused(section: str) -> None:
    kinds = installed_kinds()
    value = "[0.1, 0.2]" if section == "matrix" else "0.1"
    text = (
        "defaults: {data_root: d, split_path: s}\n"
        if section == "matrix"
        else "resources: {cpus: 1}\n"
    )
    text += f"{section}: {{lr: {value}, learning_rate: {value}, data_root: d, split_path: s}}\n"
    found = refusals(f"{text}train: [{{data: 'gan2:pre'}}]\n", kinds=kinds)
    assert "'lr' is given twice, under its name and an old name" in [one.message for one in found]


@pytest.mark.parametrize("word", ["clean_run", "only_list", "dry_run", "parse", "features"])
@pytest.mark.parametrize("value", ["maybe", "3", "null", "[true]"])
def test_switch_of_the_original_is_a_boolean(word: str, value: str) -> None:
    problem = refusal(f"{word}: {value}\ntrain: [{{data: dot:pre}}]\n")
    assert problem.message == f"{word}: expected true or false"


def test_default_poison_applies_to_trainings_without_their_own() -> None:
    text = "train: [{data: dot:pre}, {data: line:pre, poison: 5}]\n"
    wanted = ["train/dot:pre%20", "train/line:pre%5"]
    for said in (
        "defaults: {poison: 20}\n",
        "defaults: {poison_rate: 0.2}\n",
        "poison_rate: 0.2\n",
    ):
        assert names(a_plan(said + text), "train") == wanted
    assert names(a_plan(text, "poison=[0, 50]"), "train") == [
        f"train/{one}" for data in ("dot:pre", "line:pre") for one in (data, f"{data}%50")
    ]
    assert names(a_plan(text, "poison_rate=0.5"), "train") == [
        "train/dot:pre%50",
        "train/line:pre%50",
    ]


def test_old_words_are_accepted_on_the_command_line() -> None:
    made = a_plan(ONE, "run_name=y", "min_vram=2000", "device_override=None", "clean_run=true")
    assert (made.name, made.reuse) == ("y", "nothing")
    assert made.jobs[0].resources.vram == 2000 * 2**20
    assert len(notes(made)) == 1


@pytest.mark.parametrize(
    ("text", "said", "wanted"),
    [
        (ONE, ("only_list=true",), LegacyAction.LIST),
        (ONE, ("parse=true",), LegacyAction.RESULTS),
        (ONE, ("dry_run=false",), LegacyAction.RUN),
        # a switch is undone by its opposite only
        (f"dry_run: true\n{ONE}", ("device_override=cpu",), LegacyAction.LIST),
        (f"dry_run: true\n{ONE}", ("dry_run=false",), LegacyAction.RUN),
        (ONE, ("dry_run=true", "clean_run=false"), LegacyAction.LIST),
    ],
)
def test_switches_of_the_original_select_the_jobs(
    text: str, said: tuple[str, ...], wanted: LegacyAction
) -> None:
    assert read(text, *said).wanted is wanted


@pytest.mark.parametrize(
    ("sweep", "said"),
    [
        ("lr: [0.1, 1e-1]", "matrix: lr has this value twice"),
        ("seed: []", "'seed' is not a setting"),
        ("data_root: [a/b, a-b]", "two values of data_root would both be called 'a-b'"),
        ("fail: ['ü', '']", "two values of fail would both be called 'none'"),
        ("lr: {'a/b': 0.1}", "a label becomes part of model IDs"),
        ("threads: [1, 2]", "threads does not change results"),
    ],
)
def test_invalid_sweep_is_reported_once_at_its_place(sweep: str, said: str) -> None:
    for text in (
        f"matrix: {{{sweep}}}\ntrain: [{{data: dot:pre}}]\n",
        f"train: [{{data: dot:pre, matrix: {{{sweep}}}}}]\n",
    ):
        problem = refusals(text)[0]
        assert said in problem.message
        assert problem.place is not None
        assert "matrix" in problem.place.text


@pytest.mark.parametrize(
    "line", ["test: [{model: dot:pre, data: []}]", "unlearn: [{model: poisoned, method: []}]"]
)
def test_empty_list_is_refused_where_a_value_is_required(line: str) -> None:
    found = refusals(f"train: [{{data: dot:pre, poison: [0, 20]}}]\n{line}\n")
    assert found[0].message.startswith("expected at least one")


def test_resources_and_sweeps_of_one_kind_can_be_set_on_the_command_line() -> None:
    text = "train: [{data: dot:pre, resources: {cpus: 2}}]\nautotest: [dot:fb]\n"
    for said in ("resources.train.cpus=5", "train.resources.cpus=5"):
        assert [one.resources.cpus for one in a_plan(text, said).jobs] == [5, 1]
    made = a_plan(text, "matrix.train.lr=[1, 2]", "train.epochs=3")
    assert setting(made, "lr") == {"dot:pre@lr=1.0": 1.0, "dot:pre@lr=2.0": 2.0}
    assert set(setting(made, "epochs").values()) == {3}


def test_autotest_without_a_model_is_reported_at_its_key() -> None:
    made = a_plan("command: [{argv: [a]}]\nautotest: [dot:pre]\n")
    (note,) = notes(made)
    assert (note.code, marked(note)[2]) == ("no-models", "autotest")


def test_chain_cut_by_yaml_at_a_space_is_reported() -> None:
    made = a_plan(
        "train:\n  - data: dot:pre #ring:pre\n  - data: line:pre # a remark: with a colon\n"
    )
    assert [(one.code, marked(one)) for one in notes(made)] == [
        ("comment", ("x.yaml", 3, "#ring:pre"))
    ]


@pytest.mark.parametrize(
    ("text", "word", "hint"),
    [
        ("train: [{data: dot:pre, cpus: 2}]", "cpus", "write it below resources: {cpus: …}"),
        (
            "train: [{data: dot:pre, device_override: x}]",
            "device_override",
            "write resources: {device: …}",
        ),
        (
            "test: [{model: dot:pre, data: dot:pre, poison: 2}]",
            "poison",
            "write it in the entry of a training",
        ),
        ("train: [{data:null}]", "data:null", "write a space after ':', as in data: …"),
        (
            "resources: {trian: {cpus: 1}}\ntrain: [{data: dot:pre}]",
            "trian",
            "did you mean 'train'?",
        ),
        ("defaults: {trian: {lr: 1}}\ntrain: [{data: dot:pre}]", "trian", "did you mean 'train'?"),
        (
            "train: [{data: dot:pre, poison: 2}]\nunlearn: [{model: poisned, method: pgu}]",
            "poisned",
            "did you mean 'poisoned'",
        ),
        ("train: [{model: NONE, data: dot:pre}]", "NONE", "write null for a new model"),
        ("poison: 20\ntrain: [{data: dot:pre}]", "20", "write poison: 50 in the training's entry"),
        ("train: [{data: dot:pre, resources: {device: 'cuda:01'}}]", "'cuda:01'", ""),
    ],
)
def test_misplaced_word_is_reported_with_its_right_place(text: str, word: str, hint: str) -> None:
    found = refusals(f"{text}\n")
    problem = next(one for one in found if marked(one)[2] == word)
    assert problem.hint.startswith(hint)


def test_spelling_of_a_new_model_in_the_original_is_accepted() -> None:
    made = a_plan("train: [{'model': None, 'data': 'dot:pre'}]\n")
    assert names(made) == ["train/dot:pre"]
    assert [one.message for one in notes(made)] == ["write null instead of None"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("matrix: {poison: [0, 20]}", "matrix: poisons are not swept in a matrix"),
        ("matrix: {test: {crops: [1, 2]}}", "matrix: test jobs do not make models"),
        (
            "matrix: {lr: [1, 2], train: {lr: [3]}}",
            "matrix: lr is swept for all job types and for train",
        ),
        ("matrix: {epochs: [1, 1.0]}", "matrix: epochs has this value twice"),
        ("lr: 1\ndefaults: {lr: 2}", "'lr' is given twice, here and in line 3"),
        (
            "poison_rate: 0.2\ndefaults: {poison: 50}",
            "'poison' is given twice, here and in line 3",
        ),
        (
            "min_vram: 16\nresources: {min_vram: 1GiB}",
            "'vram' is given twice, here and in line 3",
        ),
        ("defaults: {run_name: y}", "'run_name' is not a setting of any job type"),
    ],
)
def test_contradictory_settings_are_refused(line: str, said: str) -> None:
    assert said in [one.message for one in refusals(f"{line}\ntrain: [{{data: dot:pre}}]\n")]


def test_including_file_overrides_old_and_new_names() -> None:
    text = "include: a.yaml\nlearning: 1\ntrain: [{data: dot:pre}]\n"
    for included, own in (
        ("defaults: {lr: 0.5}\n", "lr: 0.25\n"),
        ("lr: 0.5\n", "defaults: {lr: 0.25}\n"),
    ):
        made = a_plan(text.replace("learning: 1\n", own), files={"a.yaml": included})
        assert setting(made, "lr") == {"dot:pre": 0.25}


def test_errors_in_excluded_phases_are_ignored() -> None:
    text = (
        "defaults: {data_root: d, split_path: s, save_weights: false}\n"
        "train: [{data: 'gan2:pre'}]\nautotest: ['gan2:pre']\n"
    )
    kinds = installed_kinds()
    (problem,) = refusals(text, kinds=kinds)
    assert (problem.message, problem.hint) == (
        "the training of gan2:pre does not save the weights that this job needs",
        "set save_weights: true in the training",
    )
    assert names(a_plan(text, "phases=[train]", kinds=kinds)) == ["train/gan2:pre"]


# --- hints


@pytest.mark.parametrize(
    ("wrong", "hint", "mended"),
    [
        (
            "train: [{model: resnet50, data: 'gan2:pre'}]",
            "write an architecture below settings: {model: baseline}",
            "train: [{settings: {model: baseline}, data: 'gan2:pre'}]",
        ),
        (
            "train: [{model: slim18, data: 'gan2:pre'}]",
            "write an architecture below settings: {model: slim18}",
            "train: [{settings: {model: slim18}, data: 'gan2:pre'}]",
        ),
        pytest.param(
            "train: [{model: xception, data: 'gan2:pre'}]",
            "write an architecture below settings: {model: timm/xception41}",
            "train: [{settings: {model: timm/xception41}, data: 'gan2:pre'}]",
            marks=pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed"),
        ),
        (
            "train: [{settings: {model: MobileNet_v2}, data: 'gan2:pre'}]",
            "did you mean 'mobilenet'?",
            "train: [{settings: {model: mobilenet}, data: 'gan2:pre'}]",
        ),
        (
            "unlearn: [{model: poisoned, method: relable}]\n"
            "train: [{data: 'gan2:pre', poison: 20}]",
            "did you mean 'relabel'?",
            "unlearn: [{model: poisoned, method: relabel}]\n"
            "train: [{data: 'gan2:pre', poison: 20}]",
        ),
        (
            "train: [{data: 'gan2:pre', vram: 3GiB}]",
            "write it below resources: {vram: …}",
            "train: [{data: 'gan2:pre', resources: {vram: 3GiB}}]",
        ),
        (
            "vram: 3GiB\ntrain: [{data: 'gan2:pre'}]",
            "write it below resources: {vram: …}",
            "resources: {vram: 3GiB}\ntrain: [{data: 'gan2:pre'}]",
        ),
        (
            "resources: {vrm: 3GiB}\ntrain: [{data: 'gan2:pre'}]",
            "did you mean 'vram'?",
            "resources: {vram: 3GiB}\ntrain: [{data: 'gan2:pre'}]",
        ),
    ],
)
def test_following_a_hint_leads_to_no_other_error(wrong: str, hint: str, mended: str) -> None:
    (problem,) = refusals(f"{WHERE}{wrong}\n", kinds=installed_kinds())
    assert problem.hint == hint
    assert a_plan(f"{WHERE}{mended}\n", kinds=installed_kinds()).jobs


@pytest.mark.parametrize(
    ("text", "said", "where"),
    [
        ("defaults: {lrr: 1}\ntrain: [{data: gan2:pre}]", (), "launcher schema --markdown"),
        ("train: [{data: gan2:pre, lrr: 1}]", (), "launcher kinds train poison"),
        ("matrix: {train: {lrr: [1]}}\ntrain: [{data: gan2:pre}]", (), "launcher kinds train"),
        ("train: [{data: gan2:pre}]", ("lrr=1",), "launcher schema --markdown"),
        ("train: [{data: gan2:pre}]", ("train.lrr=1",), "launcher kinds train"),
        ("resources: {lrr: 1}\ntrain: [{data: gan2:pre}]", (), "launcher schema --markdown"),
        ("lrr: 1\ntrain: [{data: gan2:pre}]", (), "launcher schema --markdown"),
        (
            "train: [{data: gan2:pre}]\ntest: [{model: x:pre, data: gan9:pre}]",
            (),
            "launcher help ids",
        ),
    ],
)
def test_up_to_five_nearest_words_are_suggested(
    text: str, said: tuple[str, ...], where: str
) -> None:
    found = refusals(f"{text}\n", *said, kinds=installed_kinds())
    notes = [note for one in found for note in one.notes]
    (note,) = [note for note in notes if note.startswith(("closest of ", "see all "))]
    listed, _, all_of_them = note.rpartition(": ")
    words = listed.removesuffix("; see all").partition(": ")[2].split(", ")
    assert note.startswith("see all ") or 1 <= len(words) <= 5
    assert all_of_them.startswith(where)


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("defaults: {min_vram: 1GiB}", "write resources: {vram: …}"),
        ("defaults: {learningrat: 1}", "did you mean 'lr'?"),
        (
            "matrix: {train: [{seed: 1, poison_seed: 7}, {seed: 2, poison_seed: 8}]}",
            "tie settings of several job types directly below matrix: [{seed: 1, poison_seed: 7}, …]",
        ),
    ],
)
def test_misplaced_setting_is_reported_with_its_right_place(line: str, hint: str) -> None:
    found = refusals(f"{line}\ntrain: [{{data: gan2:pre}}]\n", kinds=installed_kinds())
    assert hint in {one.hint for one in found}


def test_settings_without_effect_on_results_are_reported_once() -> None:
    found = refusals(
        "matrix: [{seed: 1, num_threads: 1}, {seed: 2, num_threads: 2}]\n"
        "train: [{data: gan2:pre}]\n",
        kinds=installed_kinds(),
    )
    assert len([one for one in found if "num_threads" in one.message]) == 1


@pytest.mark.parametrize("kind", ["", "train."])
def test_resource_set_by_two_names_is_refused(kind: str) -> None:
    both = (f"{kind}resources.vram=4GiB", f"{kind}resources.min_vram=2GiB")
    for said in (both, both[::-1]):
        found = refusals("train: [{data: dot:pre}]\n", *said)
        assert "'vram' is given twice, under its name and an old name" in [
            one.message for one in found
        ]
    twice = ("resources.vram=4GiB", "resources.vram=2GiB")  # the last word holds
    made = a_plan("train: [{data: dot:pre}]\n", *twice)
    assert made.jobs[0].resources.vram == 2 << 30


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("depends: prep", "did you mean 'after'?"),
        ("aftr: prep", "did you mean 'after'?"),
        ("not-before: '22:00'", "did you mean 'not_before'?"),
        ("begin: '22:00'", "did you mean 'not_before'?"),
        ("hold: true", "launcher add --hold -- PROGRAM"),
        ("workdir: /tmp", "did you mean 'cwd'?"),
        ("environment: {A: b}", "did you mean 'env'?"),
        ("min_vram: 3GiB", "write resources: {vram: …}"),
    ],
)
def test_invalid_program_entry_is_reported_with_advice(word: str, hint: str) -> None:
    problem = refusal(f"command: [{{name: a, argv: [echo], {word}}}]\n")
    assert problem.code == "unknown-key"
    assert hint in problem.hint


@pytest.mark.parametrize(
    ("text", "setting", "hint"),
    [
        ("command: [{name: a, argv: [x]}]", "lr=1", "it is a setting of train"),
        ("command: [{name: a, argv: [x]}]", "train.lr=1", "remove it"),
        ("command: [{name: a, argv: [x]}]", "resources.train.cpus=2", "remove it"),
        ("command: [{name: a, argv: [x]}]", "resources.command.cpus=2", None),
        ("command: [{name: a, argv: [x]}]", "resources.cpus=2", None),
        ("command: [{name: a, argv: [x]}]", "cwd=/tmp", None),
        ('command: [{name: a, argv: [x, "{lr}"], matrix: {lr: [1, 2]}}]', "command.lr=3", None),
        ('command: [{name: a, argv: [x, "{lr}"], matrix: {lr: [1, 2]}}]', "lr=3", None),
        ("train: [{model: null, data: ring:pre}]", "lr=1", None),
        ("train: [{model: null, data: ring:pre}]", "train.lr=1", None),
        ("train: [{model: null, data: ring:pre}]", "argv=[ls]", "it is a setting of command"),
    ],
)
def test_option_for_a_setting_that_no_job_has_is_reported(
    text: str, setting: str, hint: str | None
) -> None:
    found = [one for one in read(text, setting).problems if one.code == "no-effect"]
    assert [one.hint.startswith(hint or "") for one in found] == [True] * (hint is not None)


@pytest.mark.parametrize("name", ["ä", "e ü", "1st run", "a" * 100, "t{lr}", "7", "x.y+z-1"])
def test_program_can_have_a_name_of_any_language_as_in_add(name: str) -> None:
    entry = f'{{name: "{name}", argv: [x, "{{lr}}"], matrix: {{lr: [1]}}}}'
    told = name.replace("{lr}", "1") if "{" in name else f"{name}@lr=1"
    assert names(a_plan(f"command: [{entry}]")) == [f"command/{told}"]


@pytest.mark.parametrize(
    "name",
    ["a@b", "a/b", "a,b", "a:b", "a*", "[a", "-a", ".a", " a", "a ", "a'", "ä" * 51, "a\\tb"],
)
def test_name_with_a_character_of_sweeps_or_patterns_is_refused(name: str) -> None:
    found = refusal(f'command: [{{name: "{name}", argv: [x]}}]')
    assert (found.code, "expected a name" in found.message) == ("name", True)
