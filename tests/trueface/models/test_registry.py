"""Networks and families by name: valid and invalid declarations."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

from launcher.api import install_command
from trueface.models import registry
from trueface.models.registry import (
    LIBRARIES,
    PACKAGE,
    RECIPES,
    SPECS,
    ClassifierShape,
    Library,
    load_classifier_maker,
    load_model_maker,
    model_name,
    modules_of_model,
    names_of,
    read_renamed_networks,
    register_model,
    spec_of,
    without_library,
)
from trueface.runtime.declarations import read_folder
from trueface.runtime.errors import DeclarationError, UsageError

NETWORK = """
from torch import nn
from trueface.models.registry import register_model

@register_model({name!r}, summary="tiny")
def tiny() -> nn.Module:
    return nn.Linear(1, 1)
"""
NEEDS_TIMM = pytest.mark.skipif(
    importlib.util.find_spec("timm") is None, reason="timm is not installed: the extra `timm`"
)
ABSENT = Library(
    name="absent",
    summary="a library",
    package="absent_library.models",
    extra="absent",
    has_tags=True,
)


@pytest.mark.parametrize("name", SPECS)
def test_declared_detector_is_built_with_its_declared_last_layer(name: str) -> None:
    with torch.device("meta"):
        network = load_model_maker(name)()
    head = spec_of(name).head
    assert head is None or isinstance(network.get_submodule(head), nn.Linear)


@pytest.mark.parametrize("name", RECIPES)
def test_declared_image_classifier_builds_network_of_shape(name: str) -> None:
    shape = ClassifierShape(model=name, stem="small", size=32, classes=3)
    with torch.device("meta"):
        network = load_classifier_maker(name)(shape)
    *_, last = (module for module in network.modules() if isinstance(module, nn.Linear))
    assert last.out_features == shape.classes


def test_name_declared_by_two_files_is_reported_with_both(tmp_path: Path) -> None:
    for file in ("first", "second"):
        (tmp_path / f"{file}.py").write_text(NETWORK.format(name="tiny"))
    with pytest.raises(DeclarationError, match=r"second\.py:5: .*'tiny'.*first\.py:5"):
        read_folder(tmp_path, "networks", "register_model", modules={PACKAGE})


def test_unknown_network_argument_is_refused_with_its_location(tmp_path: Path) -> None:
    text = NETWORK.format(name="tiny").replace("summary", "sumary")
    (tmp_path / "tiny.py").write_text(text)
    declared = read_folder(tmp_path, "networks", "register_model", modules={PACKAGE})
    with pytest.raises(DeclarationError, match=r"tiny\.py:5: .*sumary"):
        declared["tiny"].pass_to(register_model)


def test_training_code_includes_network_file() -> None:
    assert modules_of_model("nodown") == (f"{PACKAGE}.resnet",)


@pytest.mark.parametrize("name", ["tv/convnext_tiny", "patch/slim18", "linear/tv/vit_b_16"])
def test_name_with_family_is_accepted_unchanged(name: str) -> None:
    assert model_name(name) == name


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("tv/vitb16", "tv/vit_b_16"),
        ("patch/slm18", "patch/slim18"),
        ("linear/resnet50", "linear/baseline"),
        ("patch/tv/resnet19", "tv/resnet18"),
        ("patch/patch/slim18", "patch/slim18"),
        ("patch", "patch/NETWORK"),
        ("tv/", "tv/NETWORK"),
        ("resnet5", "baseline"),
        ("resnet50", "baseline"),
        ("resnet", "baseline18"),
        ("resnt50", "baseline"),
        ("vgg", "tv/vgg11"),
        ("patch/resnet5", "patch/baseline"),
        ("res", "residuals"),
    ],
)
def test_unknown_name_suggests_nearest_with_its_family(name: str, meant: str) -> None:
    with pytest.raises(ValueError, match=f"Did you mean '{meant}'\\?"):
        model_name(name)


def test_invalid_network_name_is_refused() -> None:
    for name in ("", "/", "tv/Res Net", "TV/resnet18", "tv/resnet18.v1", "../tv/resnet18"):
        with pytest.raises(ValueError, match="unknown model"):
            model_name(name)


@NEEDS_TIMM
def test_tag_and_earlier_timm_name_are_accepted() -> None:
    assert model_name("timm/resnet18.a1_in1k") == "timm/resnet18.a1_in1k"
    with pytest.raises(ValueError, match="Did you mean 'timm/legacy_xception'"):
        model_name("timm/xception")


def test_library_names_match_its_own_list() -> None:
    from torchvision import models

    assert names_of("torchvision.models") == set(models.list_models(module=models))


def test_missing_library_is_reported_with_its_extra_and_alternative_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not names_of(ABSENT.package)
    assert not read_renamed_networks(ABSENT.package)
    sentence = r"pip install .*\[absent\]'`, or use the .* network, tv/resnet18\.$"
    monkeypatch.setattr(registry, "LIBRARIES", {"tv": LIBRARIES["tv"], "absent": ABSENT})
    with pytest.raises(ValueError, match=sentence):
        model_name("absent/resnet18d.tag")
    with pytest.raises(UsageError, match="absent"):
        registry.load_model_maker("absent/resnet18")
    assert without_library(ABSENT, "zzzzzz").endswith(f"{install_command('absent')}`")


def test_unknown_model_suggests_similar_network_or_command() -> None:
    told = r"\(see all [0-9]+: launcher kinds train\)\. Did you mean 'baseline18'\?"
    with pytest.raises(ValueError, match=rf"{told} The model baseline18 is: ResNet-18\.$"):
        model_name("resnet19")
    with pytest.raises(
        ValueError, match=r"unknown model 'zzz' \(see all [0-9]+: launcher kinds train\)"
    ):
        model_name("zzz")


def test_family_code_includes_code_of_inner_network() -> None:
    names = [module.rpartition(".")[2] for module in modules_of_model("patch/tv/resnet18")]
    assert names == ["patch", "torchvision_networks"]
