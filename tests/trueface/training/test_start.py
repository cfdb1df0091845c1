"""What a provenance says of a network's library and of the licence of its weights."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.trueface.training.test_trainer import slim
from trueface.models.detectors import Detector
from trueface.runtime import paths
from trueface.runtime.files import write_json
from trueface.training.checkpointing import Start, of_network

LICENCE = "cc-by-nc-4.0"


@pytest.fixture(scope="module")
def model() -> Detector:
    """A network with what a library would declare of it."""
    made = slim()
    made.spec = replace(made.spec, library="library 1.0", licence=LICENCE)
    return made


@pytest.mark.parametrize(("weights", "licence"), [("default", LICENCE), ("none", None)])
def test_the_licence_is_that_of_the_weights_that_were_taken(
    model: Detector, weights: str, licence: str | None
) -> None:
    facts = of_network(model, Start(model=None, folder=None, weights=weights))
    assert facts["library"] == "library 1.0"
    assert facts.get("weights_licence") == licence


@pytest.mark.parametrize("licence", [LICENCE, None])
def test_what_is_made_of_a_model_is_bound_as_that_is(
    model: Detector, licence: str | None, tmp_path: Path
) -> None:
    write_json(paths.provenance(tmp_path), {"weights_licence": licence})
    facts = of_network(model, Start(model="gan1:pre", folder=tmp_path, weights="none"))
    assert facts.get("weights_licence") == licence


def test_a_network_of_our_own_needs_no_mention() -> None:
    own = slim()
    assert of_network(own, Start(model=None, folder=None, weights="default")) == {}
