"""The name of a test says on which data and under which condition a model is tested."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.experiments import draft
from launcher.ids import (
    DataId,
    ModelId,
    Part,
    Poison,
    Stage,
    canonical,
    find_word,
    is_word,
    normalise,
    parse_data,
    parse_model,
    parse_poison,
)
from launcher.system.errors import IdError

ALPHABET = "abcXYZ019"


words = st.builds(
    lambda head, rest: head + rest,
    st.sampled_from(ALPHABET),
    st.text(ALPHABET + "_.+-", max_size=6),
)


parts = st.builds(Part, words, words)


data_ids = st.lists(parts, min_size=1, max_size=4).map(lambda found: DataId(tuple(found)))


percents = st.builds(
    lambda whole, decimals: f"{whole}.{decimals}9" if decimals is not None else str(whole),
    st.integers(1, 99),
    st.none() | st.text("0123456789", max_size=5),
)


poisons = st.builds(
    Poison, percents, st.none() | st.from_regex(r"[a-z][a-z0-9]{0,4}", fullmatch=True)
)


keys = st.from_regex(r"[a-z_][a-z0-9_]{0,6}", fullmatch=True)


values = st.from_regex(r"[A-Za-z0-9_.+\-]{1,6}", fullmatch=True)


variants = st.dictionaries(keys, values, max_size=3).map(lambda found: tuple(found.items()))


stages = st.builds(
    Stage, data_ids, st.none() | poisons, st.lists(words, max_size=2).map(tuple), variants
)


model_ids = st.lists(stages, min_size=1, max_size=3).map(lambda found: ModelId(tuple(found)))


@given(data_ids)
def test_data_id_round_trips(data: DataId) -> None:
    assert parse_data(str(data)) == data
    assert str(parse_data(str(data))) == str(data)


@given(model_ids)
def test_model_id_round_trips(model: ModelId) -> None:
    assert parse_model(str(model)) == model
    assert str(parse_model(str(model))) == str(model)


@given(model_ids)
def test_normalisation_of_model_ids_is_idempotent(model: ModelId) -> None:
    once = normalise(model, canonical)
    assert normalise(once, canonical) == once


@given(st.permutations(["gan1:pre", "gan2:pre", "real:shr"]))
def test_normalised_union_is_independent_of_the_order(order: Sequence[str]) -> None:
    data = parse_data("&".join([*order, order[0]]))
    assert str(canonical(data)) == "gan1:pre&gan2:pre&real:shr"


@given(st.text("abc:&#%~@=,19 .-\n", max_size=12))
def test_text_is_an_id_or_refused_at_a_location_within_it(text: str) -> None:
    refused: IdError | None = None
    try:
        model = parse_model(text)
        assert parse_model(str(model)) == model
    except IdError as error:
        refused = error
    if refused is not None:
        assert refused.text == text
        assert 0 <= refused.offset <= len(text)
        assert refused.length >= 1


@pytest.mark.parametrize(
    "text",
    [
        "gan2:pre",
        "gan:pre&gan:shr",
        "gan:pre#gan:shr#sd:pre",
        "gan2:pre&gan3:pre&sdXL:pre&real:pre%50~pgu",
        "gan2:pre&real:pre%f2r-20",
        "gan2:pre%2.5~relabel~pgu@lr=0.001,seed=2#sd:pre@lr=1e-05",
        "all:all",
        "real:none",
    ],
)
def test_ids_of_the_original_code_and_this_project_are_canonical(text: str) -> None:
    assert str(parse_model(text)) == text


@pytest.mark.parametrize(
    ("text", "canonical_text"),
    [
        ("a:b%0", "a:b"),
        ("a:b%0.000", "a:b"),
        ("a:b%f2r-0", "a:b"),
        ("a:b%050", "a:b%50"),
        ("a:b%100.0", "a:b%100"),
        ("a:b%2.50", "a:b%2.5"),
        ("a:b%0~pgu", "a:b~pgu"),
    ],
)
def test_percentage_is_canonical_and_zero_is_omitted(text: str, canonical_text: str) -> None:
    assert str(parse_model(text)) == canonical_text


@pytest.mark.parametrize(
    ("text", "offset", "length", "message"),
    [
        ("", 0, 1, "expected subset:modifier, as in gan2:pre"),
        ("gan2", 0, 4, "expected subset:modifier, as in gan2:pre"),
        ("gan2:", 5, 1, "expected a modifier after ':'"),
        (":pre", 0, 1, "expected a subset before ':'"),
        ("a:b&", 4, 1, "expected subset:modifier, as in gan2:pre"),
        ("a:b#c", 4, 1, "expected subset:modifier, as in gan2:pre"),
        ("a:b&../x:c", 4, 4, "expected a subset before ':'"),
        ("a:b:c", 2, 3, "expected a modifier after ':'"),
        ("a:b c:d", 3, 1, "an ID cannot contain spaces"),
        ("a:b\n", 3, 1, "an ID cannot contain spaces"),
        ("a:b%", 4, 1, "expected a percentage from 0 to 100, or kind-percent as in f2r-20"),
        ("a:b%101", 4, 3, "expected a percentage from 0 to 100, or kind-percent as in f2r-20"),
        (
            "a:b%100.000001",
            4,
            10,
            "expected a percentage from 0 to 100, or kind-percent as in f2r-20",
        ),
        ("x:y#a:b%-5", 8, 2, "expected a percentage from 0 to 100, or kind-percent as in f2r-20"),
        ("a:b~", 4, 1, "expected an unlearning method after '~'"),
        ("a:b~m%5", 4, 3, "expected an unlearning method after '~'"),
        ("a:b~m~/", 6, 1, "expected an unlearning method after '~'"),
        ("a:b@", 4, 1, "expected key=value after '@'"),
        ("a:b@lr", 4, 2, "expected key=value after '@'"),
        ("a:b@lr=", 7, 1, "expected a value for 'lr'"),
        ("x:y#a:b@lr=1,lr=2", 13, 2, "'lr' is given twice"),
    ],
)
def test_invalid_id_is_refused_at_its_location(
    text: str, offset: int, length: int, message: str
) -> None:
    with pytest.raises(IdError) as caught:
        parse_model(text)
    error = caught.value
    assert (error.offset, error.length, error.message) == (offset, length, message)
    assert str(error) == f"{message} (in ID {text!r}, at character {offset + 1})"


def test_invalid_stage_is_located_at_its_first_occurrence() -> None:
    with pytest.raises(IdError) as caught:
        parse_model("a:b#bad#bad")
    assert caught.value.offset == 4


def test_poison_has_kind_and_rate() -> None:
    poison = parse_poison("f2r-20")
    assert poison == Poison("20", "f2r")
    assert poison is not None
    assert poison.rate == 0.2
    assert parse_poison("0") is None


def test_training_and_unlearning_append_stages_to_a_model() -> None:
    model = parse_model("gan2:pre%50")
    assert str(model.unlearned("pgu")) == "gan2:pre%50~pgu"
    assert str(model.then(Stage(parse_data("sd:pre")))) == "gan2:pre%50#sd:pre"
    assert str(model.unlearned("pgu").then(Stage(parse_data("sd:pre"))).unlearned("relabel")) == (
        "gan2:pre%50~pgu#sd:pre~relabel"
    )


def test_ids_built_in_code_are_checked_too() -> None:
    with pytest.raises(ValueError, match="is not a valid method name"):
        parse_model("a:b").unlearned("../escape")
    with pytest.raises(ValueError, match="at least one part"):
        DataId(())
    with pytest.raises(ValueError, match="at least one stage"):
        ModelId(())


@pytest.mark.parametrize(
    ("text", "word", "modifier", "found"),
    [
        ("gan2:pre&gna3:fb", "gna3", False, (9, 4)),
        ("gan2:pre#sd:prx%20~m@a=1", "prx", True, (12, 3)),
        ("pre:fb&a:pre", "pre", True, (9, 3)),
        ("gan2:pre", "sd", False, None),
    ],
)
def test_a_word_is_found_in_an_id(
    text: str, word: str, modifier: bool, found: tuple[int, int] | None
) -> None:
    assert find_word(text, word, modifier=modifier) == found


def test_words_contain_no_special_characters_of_ids_or_paths() -> None:
    assert is_word("sd1.5+x_y-z")
    assert not any(map(is_word, ["", "-a", ".a", "a/b", "a b", "a:b", "a&b", "a~b", "a@b", "é"]))


@pytest.mark.parametrize("condition", ["", "haze=2", "haze=0.5,tilt=a-b"])
def test_data_and_condition_are_parsed_from_a_test_name(condition: str) -> None:
    name = draft.tested("gan2:pre&real:pre", condition)
    assert draft.data_of_test(name) == "gan2:pre&real:pre"
    assert draft.condition_of_test(name) == condition


def test_default_settings_are_no_condition() -> None:
    assert draft.condition_name([("haze", 0, 0), ("tilt", None, 3)]) == ""


def test_condition_contains_changed_settings_in_their_order() -> None:
    assert draft.condition_name([("tilt", True, False), ("haze", 0.5, 0)]) == "tilt=true,haze=0.5"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a/b c", "a-b-c"),
        ("/", "none"),
        ("/a/", "a"),
        (("x", "y"), "x-y"),
        (-1, "-1"),
        ("a-", "a-"),
        ("-/b", "--b"),
    ],
)
def test_characters_invalid_in_ids_become_dashes(value: object, shown: str) -> None:
    assert draft.condition_name([("haze", value, "")]) == f"haze={shown}"
