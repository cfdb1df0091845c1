from typing import Any, ClassVar

from launcher.job import Spec
from launcher.results.rows import Models
from tests.build import a_spec
from tests.launcher.toylab import Toy, TrainSettings, laboratory


class NamedSettings(TrainSettings):
    """A toy training whose network has a column of its own."""

    columns: ClassVar[dict[str, str]] = {"architecture": "model"}


TRAIN = laboratory()["train"]
assert isinstance(TRAIN, Toy)
NAMED = Toy(name="train", role=TRAIN.role, entry="", settings=NamedSettings)
KINDS = {**laboratory(), "train": NAMED}


def training(model: str, base: str | None = None, /, **settings: Any) -> Spec:
    return a_spec(
        name=f"train/{model}", kind="train", role="train", model=model, base=base, settings=settings
    )


def unlearning(model: str, base: str, /, **settings: Any) -> Spec:
    return a_spec(
        name=f"unlearn/{model}",
        kind="unlearn",
        role="unlearn",
        model=model,
        base=base,
        settings=settings,
    )


def test_a_models_id_and_its_settings_say_what_it_is_made_of() -> None:
    models = Models(
        [
            training("dot:pre%f2r-20@lr=0.1,seed=1", model="tiny", lr=0.1, seed=1),
            training("dot:pre%f2r-20@lr=0.2,seed=1", model="tiny", lr=0.2, seed=1),
            unlearning(
                "dot:pre%f2r-20~pgu@lr=0.2,seed=1", "dot:pre%f2r-20@lr=0.2,seed=1", method="pgu"
            ),
        ],
        KINDS,
    )
    assert models.swept == ("lr",)
    assert models.columns("dot:pre%f2r-20~pgu@lr=0.2,seed=1") == {
        "architecture": "tiny",
        "training_data": "dot:pre",
        "poison": 20.0,
        "poison_kind": "f2r",
        "method": "pgu",
        "seed": 1,
        "lr": 0.2,
    }


def test_of_a_fine_tuned_model_all_stages_count_and_the_last_settings() -> None:
    base, model = "dot:pre", "dot:pre#ring:fb"
    models = Models(
        [training(base, model="tiny", lr=0.1), training(model, base, model="", lr=0.01)], KINDS
    )
    columns = models.columns(model)
    assert columns["training_data"] == "dot:pre#ring:fb"
    assert (columns["architecture"], columns["lr"]) == ("tiny", 0.01)
    assert (columns["poison"], columns["method"]) == (0.0, "train")


def test_what_is_no_id_and_was_made_elsewhere_is_not_known() -> None:
    columns = Models([], KINDS).columns("my old model")
    assert set(columns.values()) == {None}


def test_a_model_that_is_its_own_base_comes_to_an_end() -> None:
    models = Models([training("a:b", "c:d", lr=1), training("c:d", "a:b", lr=2)], KINDS)
    assert models.columns("a:b")["lr"] == 1
