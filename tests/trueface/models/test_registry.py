"""Networks by name: what is declared, and what may not be."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from trueface.models.registry import (
    PACKAGE,
    RECIPES,
    SPECS,
    Shape,
    maker_of_classifier,
    maker_of_model,
    model_name,
    modules_of_model,
    register_model,
    spec_of,
)
from trueface.runtime.declarations import read_folder
from trueface.runtime.errors import DeclarationError, UnknownName

NETWORK = """
from torch import nn
from trueface.models.registry import register_model

@register_model({name!r}, summary="tiny")
def tiny() -> nn.Module:
    return nn.Linear(1, 1)
"""


@pytest.mark.parametrize("name", SPECS)
def test_a_declared_detector_is_made_and_has_the_last_layer_that_it_names(name: str) -> None:
    with torch.device("meta"):
        network = maker_of_model(name)()
    assert isinstance(network.get_submodule(spec_of(name).head), nn.Linear)


@pytest.mark.parametrize("name", RECIPES)
def test_a_declared_image_classifier_makes_a_network_of_a_shape(name: str) -> None:
    shape = Shape(model=name, stem="small", size=32, classes=3)
    with torch.device("meta"):
        network = maker_of_classifier(name)(shape)
    *_, last = (module for module in network.modules() if isinstance(module, nn.Linear))
    assert last.out_features == shape.classes


def test_names_are_known_without_torch_and_without_the_networks_files() -> None:
    line = (
        "import sys, trueface.models.registry as registry; "
        "assert 'slim18' in registry.SPECS; "
        "assert not {'torch', 'trueface.models.architectures'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", line], check=True)


def test_a_name_that_two_files_declare_names_both(tmp_path: Path) -> None:
    for file in ("first", "second"):
        (tmp_path / f"{file}.py").write_text(NETWORK.format(name="tiny"))
    with pytest.raises(DeclarationError, match=r"second\.py:5: .*'tiny'.*first\.py:5"):
        read_folder(tmp_path, "networks", "register_model", modules={PACKAGE})


def test_an_argument_that_no_network_has_is_refused_with_its_place(tmp_path: Path) -> None:
    text = NETWORK.format(name="tiny").replace("summary", "sumary")
    (tmp_path / "tiny.py").write_text(text)
    declared = read_folder(tmp_path, "networks", "register_model", modules={PACKAGE})
    with pytest.raises(DeclarationError, match=r"tiny\.py:5: .*sumary"):
        declared["tiny"].pass_to(register_model)


def test_the_code_of_a_training_includes_the_file_of_its_network() -> None:
    assert modules_of_model("nodown") == (f"{PACKAGE}.resnet",)


def test_a_networks_usual_name_suggests_ours() -> None:
    with pytest.raises(ValueError, match="did you mean baseline"):
        model_name("resnet50")
    with pytest.raises(UnknownName, match="did you mean nodown"):
        spec_of("nodwn")
