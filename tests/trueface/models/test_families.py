"""Names of families and libraries: what a plan takes, refuses and suggests."""

import importlib.util
import subprocess
import sys

import pytest

from trueface.models import registry
from trueface.models.registry import (
    FAMILIES,
    LIBRARIES,
    Library,
    model_name,
    modules_of_model,
    names_of,
    renamed_by,
    spec_of,
    without_library,
)
from trueface.runtime.errors import UsageError

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


@pytest.mark.parametrize("name", ["tv/convnext_tiny", "patch/slim18", "linear/tv/vit_b_16"])
def test_a_name_with_a_family_is_taken_as_it_is(name: str) -> None:
    assert model_name(name) == name


def test_a_name_with_a_family_is_checked_without_torch() -> None:
    line = (
        "import sys; from trueface.models.registry import model_name; "
        "model_name('patch/tv/resnet18'); assert not {'torch', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", line], check=True)


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
    ],
)
def test_an_unknown_name_gets_the_nearest_with_its_family(name: str, meant: str) -> None:
    with pytest.raises(ValueError, match=f"unknown model .*, did you mean {meant}\\?"):
        model_name(name)


def test_a_name_that_is_no_networks_is_refused() -> None:
    for name in ("", "/", "tv/Res Net", "TV/resnet18", "tv/resnet18.v1", "../tv/resnet18"):
        with pytest.raises(ValueError, match="unknown model"):
            model_name(name)


@NEEDS_TIMM
def test_a_tag_and_an_earlier_name_of_timm_are_understood() -> None:
    assert model_name("timm/resnet18.a1_in1k") == "timm/resnet18.a1_in1k"
    with pytest.raises(ValueError, match="did you mean timm/legacy_xception"):
        model_name("timm/xception")


def test_names_of_a_library_are_those_that_it_lists_itself() -> None:
    from torchvision import models

    assert names_of("torchvision.models") == set(models.list_models(module=models))


def test_a_library_that_is_not_installed_is_named_with_its_extra_and_another_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not names_of(ABSENT.package)
    assert not renamed_by(ABSENT.package)
    sentence = r"pip install 'launcher-trueface\[absent\]', or take .* there, tv/resnet18$"
    monkeypatch.setattr(registry, "LIBRARIES", {"tv": LIBRARIES["tv"], "absent": ABSENT})
    with pytest.raises(ValueError, match=sentence):
        model_name("absent/resnet18d.tag")
    with pytest.raises(UsageError, match="absent"):
        registry.maker_of_model("absent/resnet18")
    assert without_library(ABSENT, "zzzzzz").endswith("'launcher-trueface[absent]'")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_declares_what_differs_from_the_inner_network(family: str) -> None:
    inner, spec = spec_of("squeezenet"), spec_of(f"{family}/squeezenet")
    assert (spec.inner, spec.head) == ("squeezenet", FAMILIES[family].head)
    assert (spec.solver, spec.raw_pixels) == (FAMILIES[family].solver, FAMILIES[family].raw_pixels)
    assert (spec.weights_url, spec.input_size) == (inner.weights_url, inner.input_size)
    assert spec.width == FAMILIES[family].widths.get("squeezenet")


def test_the_code_of_a_family_includes_that_of_the_inner_network() -> None:
    names = [module.rpartition(".")[2] for module in modules_of_model("patch/tv/resnet18")]
    assert names == ["patch", "torchvision_networks"]
