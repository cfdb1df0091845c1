"""The words of the original launcher and of its data, in the real laboratory."""

import pytest

from launcher.errors import Severity
from launcher.kinds import installed
from launcher.planning.plan import Plan
from tests.launcher.language import a_plan, job, marked, names, notes, refusal, refusals, setting

# --- names of the original launcher

TRUEFACE = installed()
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


def is_told(made: Plan, old: str, new: str) -> bool:
    return any(
        one.code == "old-name"
        and one.severity is Severity.WARNING
        and old in str(one)
        and new in str(one)
        for one in made.warnings
    )


@pytest.mark.parametrize(("old", "value", "new", "meant"), OLD_SETTINGS)
def test_old_names_of_settings_are_understood_wherever_a_setting_may_stand(
    old: str, value: str, new: str, meant: object
) -> None:
    entries = "train: [{model: null, data: gan:pre}]\nautotest: [real:pre]\n"
    paths = "split_path: s" if new == "data_root" else "data_root: d, split_path: s"
    for made in (
        a_plan(f"defaults: {{{paths}}}\n{old}: {value}\n{entries}", kinds=TRUEFACE),
        a_plan(f"defaults: {{{paths}, {old}: {value}}}\n{entries}", kinds=TRUEFACE),
        a_plan(f"defaults: {{{paths}}}\n{entries}", f"{old}={value}", kinds=TRUEFACE),
        a_plan(
            f"{DEFAULTS}train: [{{model: null, data: gan:pre, {old}: {value}}}]\n", kinds=TRUEFACE
        ),
    ):
        assert made.jobs[0].settings[new] == meant
        assert is_told(made, old, new)


def test_old_names_can_be_swept_and_the_models_have_the_names_of_today() -> None:
    made = a_plan(
        f"{DEFAULTS}matrix: {{learning_rate: [0.5, 0.25]}}\ntrain: [{{data: gan:pre}}]\n",
        kinds=TRUEFACE,
    )
    assert names(made) == ["train/gan:pre@lr=0.5", "train/gan:pre@lr=0.25"]
    assert is_told(made, "learning_rate", "lr")


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
def test_each_variable_of_the_original_is_understood_and_todays_word_is_told(
    line: str, new: str
) -> None:
    made = a_plan(f"{line}\n{ORIGINAL}", kinds=TRUEFACE)
    assert is_told(made, line.partition(":")[0], new)
    told = next(one for one in made.warnings if one.code == "old-name")
    assert marked(told) == ("x.yaml", 2, line.partition(":")[0])


def test_old_variables_do_what_they_did() -> None:
    def made(line: str) -> Plan:
        return a_plan(f"{line}\n{ORIGINAL}", kinds=TRUEFACE)

    assert made("device_override: 'cuda:1'").jobs[0].resources.device == "cuda:1"
    assert made("device_override: null").jobs[0].resources.device == "auto"
    assert made("min_vram: 16000").jobs[0].resources.min_vram == 16000 * 2**20
    assert made("clean_run: True").reuse == "nothing"
    assert made("clean_run: False").reuse == "weights"
    assert {made(f"{one}: True").wanted for one in ("only_list", "dry_run")} == {"list"}
    assert made("parse: True").wanted == "results"
    assert {made(f"{one}: False").wanted for one in ("only_list", "dry_run", "parse")} == {"run"}
    assert names(made("poison_rate: 0.2"), "train") == ["train/gan:pre%20"]
    assert setting(made("batch_size: 16"), "batch_size", "test") == {"gan:pre": 2}


def test_the_lists_of_the_original_are_train_and_autotest() -> None:
    made = a_plan(
        "run_name: first\ndataset_path: d\nsplit_path: s\n"
        "train_list:\n  - {'model': null, 'data': 'gan:pre'}\n"
        "  - {'model': 'gan:pre', 'data': 'gan:shr'}\ntest_list: ['real:pre', 'gan:pre']\n",
        kinds=TRUEFACE,
    )
    assert made.name == "first"
    assert names(made) == [
        *("train/gan:pre", "test/gan:pre/real:pre", "test/gan:pre/gan:pre"),
        *("train/gan:pre#gan:shr", "test/gan:pre#gan:shr/real:pre"),
        "test/gan:pre#gan:shr/gan:pre",
    ]
    for old, new in (("run_name", "name"), ("train_list", "train"), ("test_list", "autotest")):
        assert is_told(made, old, new)


def test_an_old_name_beside_the_one_of_today_is_refused() -> None:
    found = refusals(f"{ORIGINAL}train_list: [{{data: sd:pre}}]\n", kinds=TRUEFACE)
    assert [one.code for one in found] == ["duplicate-key"]


# --- the laboratory's words


def test_real_images_are_added_once_for_each_modifier_behind_the_first_part_that_has_it() -> None:
    made = a_plan(
        f"{DEFAULTS}train:\n  - {{data: 'gan2:pre&sdXL:fb&gan3:pre&sd2:tl'}}\n"
        "  - {data: 'gan2:shr'}\n  - {data: 'realFFHQ:pre&gan2:fb'}\n  - {data: 'gan:none'}\n",
        kinds=TRUEFACE,
    )
    assert [one.images for one in made.jobs] == [
        "gan2:pre&real:pre&sdXL:fb&real:fb&gan3:pre&sd2:tl&real:tl",
        "gan2:shr&real:shr",
        "realFFHQ:pre&gan2:fb",
        "gan:none&real:none",
    ]
    assert [one.data for one in made.jobs][1] == "gan2:shr"


def test_a_test_is_of_what_it_names_and_no_real_images_are_added() -> None:
    made = a_plan(f"{ORIGINAL}test: [{{model: gan:pre, data: gan2:fb}}]\n", kinds=TRUEFACE)
    assert job(made, "test/gan:pre/gan2:fb").images == "gan2:fb"


def test_unions_of_the_laboratory_are_the_same_as_their_members() -> None:
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


def test_subsets_and_modifiers_of_the_user_are_words_like_the_others() -> None:
    made = a_plan(
        "subsets: {mygan: MyGAN, many: [A, B-*]}\nmodifiers: {ig: Instagram}\n"
        f"{DEFAULTS}train: [{{data: 'mygan:ig&gan2:ig'}}, {{data: many:pre}}]\n"
        "autotest: ['mygan:pre']\n",
        kinds=TRUEFACE,
    )
    assert names(made, "train") == ["train/mygan:ig&gan2:ig", "train/many:pre"]
    assert made.jobs[0].images == "mygan:ig&real:ig&gan2:ig"
    assert made.jobs[0].words.subsets == {"mygan": ("MyGAN",)}
    assert made.jobs[0].words.modifiers == {"ig": ("Instagram",)}


def test_a_word_of_the_user_that_means_another_folder_is_another_job() -> None:
    text = f"{DEFAULTS}train: [{{data: mygan:pre}}]\n"
    first, second, same = (
        a_plan(f"subsets: {{mygan: {folder}}}\n{text}", kinds=TRUEFACE).jobs[0].hash
        for folder in ("One", "Two", "[One]")
    )
    assert first != second
    assert first == same


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
def test_a_word_that_exists_or_cannot_be_one_is_refused(line: str, caret: str) -> None:
    found = refusals(f"{line}\n{ORIGINAL}", kinds=TRUEFACE)
    assert [marked(one) for one in found] == [("x.yaml", 2, caret)]


def test_words_of_the_user_are_suggested() -> None:
    found = refusals(
        f"subsets: {{mygan: MyGAN}}\n{DEFAULTS}train: [{{data: mygna:pre}}]\n", kinds=TRUEFACE
    )
    assert [one.hint for one in found] == ["did you mean 'mygan'?"]


def test_words_that_a_laboratory_does_not_take_stay_unknown() -> None:
    problem = refusal("subsets: {mygan: MyGAN}\ntrain: [{data: mygan:pre}]\n")
    assert problem.message == "unknown subset 'mygan'"
    assert marked(problem) == ("x.yaml", 3, "mygan")


@pytest.mark.parametrize(
    "text",
    [
        "resources: {min_vram: 3GiB}\ntrain: [{data: dot:pre}]\n",
        "resources: {train: {min_vram: 3GiB}}\ntrain: [{data: dot:pre}]\n",
        "train: [{data: dot:pre, resources: {min_vram: 3GiB}}]\n",
    ],
)
def test_the_memory_of_a_gpu_goes_by_the_name_that_it_had_before(text: str) -> None:
    made = a_plan(text)
    assert made.jobs[0].resources.min_vram == 3 * 2**30
    assert [one.message for one in notes(made)] == ["min_vram is called vram today"]
    now = a_plan(text.replace("min_vram", "vram"))
    assert now.jobs[0].resources.min_vram == 3 * 2**30
    assert not notes(now)


def test_names_of_the_memory_meet_across_files_and_not_in_one() -> None:
    base = {"b.yaml": "name: b\nresources: {min_vram: 3GiB}\n"}
    made = a_plan(
        "include: b.yaml\nresources: {vram: 5GiB}\ntrain: [{data: dot:pre}]\n", files=base
    )
    assert made.jobs[0].resources.min_vram == 5 * 2**30
    said = a_plan("train: [{data: dot:pre}]\n", "resources.min_vram=1GiB")
    assert said.jobs[0].resources.min_vram == 2**30
    problem = refusal("resources: {min_vram: 3GiB, vram: 5GiB}\ntrain: [{data: dot:pre}]\n")
    assert problem.message == "'vram' is given twice, by its name of today and by an old one"
