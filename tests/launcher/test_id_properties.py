"""Properties of every ID of the grammar, and of the folder of every model."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from launcher.ids import canonical, model_folder_name, normalise, parse_data, parse_model

MOST_NAME_BYTES = 255  # length of a folder's name on the file systems of Linux

words = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,7}", fullmatch=True)
data_texts = st.lists(st.tuples(words, words).map(":".join), min_size=1, max_size=4).map("&".join)
kinds_of_poison = st.from_regex(r"[a-z][a-z0-9]{0,4}-", fullmatch=True)
canonical_percents = st.one_of(
    st.integers(1, 100).map(str),
    st.tuples(st.integers(0, 99), st.from_regex(r"[0-9]{0,3}[1-9]", fullmatch=True)).map(
        lambda pair: f"{pair[0]}.{pair[1]}"
    ),
)
keys = st.from_regex(r"[a-z_][a-z0-9_]{0,6}", fullmatch=True)
values = st.from_regex(r"[A-Za-z0-9_.+-]{1,8}", fullmatch=True)
toy_data = st.lists(
    st.tuples(st.sampled_from(["dot", "line", "ring"]), st.sampled_from(["pre", "fb", "tw"])),
    min_size=1,
    max_size=3,
    unique=True,
).map(lambda parts: "&".join(map(":".join, parts)))


@st.composite
def stage_texts(draw: st.DrawFn) -> str:
    """One stage of a model ID, as the grammar of the README allows it."""
    poison = draw(st.just("") | st.tuples(st.just("") | kinds_of_poison, canonical_percents))
    methods = "".join(f"~{one}" for one in draw(st.lists(words, max_size=3)))
    variant = draw(st.dictionaries(keys, values, max_size=3))
    return "".join(
        [
            draw(data_texts),
            f"%{''.join(poison)}" if poison else "",
            methods,
            "@" + ",".join(f"{key}={value}" for key, value in variant.items()) if variant else "",
        ]
    )


model_texts = st.lists(stage_texts(), min_size=1, max_size=4).map("#".join)


@given(model_texts)
def test_every_id_of_the_grammar_and_its_normal_form_round_trip(text: str) -> None:
    model = parse_model(text)
    assert str(model) == text
    assert parse_model(str(model)) == model
    once = normalise(model, canonical)
    assert normalise(once, canonical) == once
    assert parse_model(str(once)) == once


@given(data_texts)
def test_every_data_id_is_a_model_id_of_one_stage(text: str) -> None:
    assert str(parse_data(text)) == text
    assert parse_model(text).last.data == parse_data(text)


@given(toy_data, st.randoms(use_true_random=False))
def test_equivalent_unions_have_the_same_normal_form(text: str, dice: Random) -> None:
    parts = text.split("&")
    dice.shuffle(parts)
    first, second = parse_model(text), parse_model("&".join([*parts, parts[0]]))

    assert normalise(first, canonical) == normalise(second, canonical)


@given(canonical_percents, st.integers(1, 3), st.integers(0, 2), st.just("") | kinds_of_poison)
def test_percentage_has_one_canonical_form(percent: str, width: int, after: int, kind: str) -> None:
    whole, _, decimals = percent.partition(".")
    fraction = f"{decimals}{'0' * after}"
    padded = f"{whole:0>{width}}.{fraction}" if fraction else f"{whole:0>{width}}"
    assert str(parse_model(f"a:b%{kind}{padded}")) == f"a:b%{kind}{percent}"


@given(st.from_regex(r"0{1,3}(\.0{1,4})?", fullmatch=True), st.just("") | kinds_of_poison, words)
def test_zero_percent_is_removed_as_poison(zero: str, kind: str, method: str) -> None:
    assert str(parse_model(f"a:b%{kind}{zero}~{method}#c:d%{zero}")) == f"a:b~{method}#c:d"


STAGES = ("gan2:pre", "gan2:pre%50", "a:b~pgu", "gan1:shr&gan2:pre&real:pre%f2r-2.5@lr=1")


@given(
    st.lists(
        st.lists(st.sampled_from(STAGES), min_size=1, max_size=50).map("#".join),
        min_size=1,
        max_size=8,
        unique=True,
    )
)
def test_every_model_has_a_distinct_valid_folder_name(models: list[str]) -> None:
    folders = [model_folder_name(model) for model in models]
    assert len(set(folders)) == len(models)
    for model, folder in zip(models, folders, strict=True):
        assert 0 < len(folder.encode()) <= MOST_NAME_BYTES
        assert folder not in (".", "..")
        assert "/" not in folder
        assert "\0" not in folder
        assert folder == model_folder_name(model)
        if len(model.encode()) <= MOST_NAME_BYTES:
            assert folder == model


@given(st.integers(200, 400), st.integers(1, 9))
def test_long_models_with_different_ends_have_different_folders(length: int, last: int) -> None:
    stem = "#".join(["dot:pre"] * (length // 8))
    names = {model_folder_name(f"{stem}%{rate}") for rate in (last, last * 10)}
    assert len(names) == 2
    assert all(len(name.encode()) <= MOST_NAME_BYTES for name in names)
