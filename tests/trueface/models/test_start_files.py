"""Published files of networks with a part in a file of its own, and files in the wrong place."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from launcher.api import JobError
from tests.trueface.models.build import no_draws
from trueface.models.architectures.ict import WIDTH, IctWithReferences
from trueface.models.assembly import BuildOptions, assemble, fitting_networks
from trueface.models.blocks.caddm import Caddm
from trueface.models.published_checkpoints import read_published
from trueface.models.published_settings import PublishedSettings
from trueface.models.registry import SPECS, ModelSpec
from trueface.runtime.declarations import Declaration
from trueface.runtime.errors import WeightsError

State = dict[str, Tensor]
NAME, START = "begun", "the first layer, in a file"


class Begun(nn.Module):
    """A small network whose first layer is in a file of its own."""

    start_parts = ("begin",)

    def __init__(self) -> None:
        super().__init__()
        self.begin, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, 1) of images (B, 3, H, W)."""
        return self.fc(self.norm(self.begin(images)).mean((2, 3)))  # type: ignore[no-any-return]  # torch


def make_begun() -> nn.Module:
    return Begun()


@pytest.fixture(autouse=True)
def begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Declare the network `begun`."""
    declaration = Declaration(
        name=NAME,
        arguments={},
        module=__name__,
        attribute="make_begun",
        path=Path(__file__),
        line=1,
    )
    monkeypatch.setitem(SPECS.declared, NAME, declaration)
    spec = ModelSpec(NAME, summary="begun", start_file=START, raw_pixels=True)
    monkeypatch.setitem(SPECS._built, NAME, spec)


def part(is_start: bool) -> State:
    state = Begun().state_dict()
    return {name: each for name, each in state.items() if name.startswith("begin.") == is_start}


def test_number_of_parameters_leaves_out_statistics(tmp_path: Path) -> None:
    torch.save(part(False), tmp_path / "a.pth")
    torch.save(part(True), tmp_path / "b.pth")
    settings = PublishedSettings(architecture=NAME, weights="a.pth", base_weights="b.pth")
    kept = read_published(tmp_path / "a.pth", settings, tmp_path / "b.pth")
    assert kept.provenance["parameters"] == 3 * 4 * 9 + 4 + 2 * 4 + 5


@pytest.mark.parametrize(
    ("weights", "base", "message"),
    [
        (part(False), None, "2 missing (begin.weight, begin.bias). Set base_weights to the file of {start}."),
        (part(True), None, "a.pth: the file is that of {start}. Set base_weights to it, and weights to"),
        (part(True), part(False), "a.pth: the file is that of {start}. Set base_weights to it, and weights to"),
        (part(False), part(False), "b.pth: the file has no tensor that weights lacks. Give the file of {start}."),
        (Begun().state_dict(), part(True), "b.pth: the file has no tensor that weights lacks. Leave base_weights out."),
        (part(False), {"begin.weight": torch.zeros(4, 3, 3, 3)},
         "its tensors do not fit this model: 1 missing (begin.bias). Give the file of {start}."),
        (part(False), part(True) | {"begin.bias": torch.zeros(5)},
         "do not fit this model: 1 with another shape (begin.bias (5,) instead of (4,)). Give"),
        (part(False), part(True) | {"begin.bias": torch.full((4,), torch.nan)},
         "base_weights b.pth: 4 of 4 numbers of begin.bias are not finite (nan or inf), because their training diverged. "
         "Give the file of {start}."),
        (part(False), [1], "base_weights b.pth: the file is not a state dict (names and tensors). Give the file of {start}."),
        (part(False) | {"old.weight": torch.zeros(2)}, part(True), "set ignore: old."),
    ],
)  # fmt: skip
def test_file_in_the_wrong_place_is_refused_with_the_setting_and_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: State, base: object, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(weights, "a.pth")
    torch.save(base, "b.pth")
    given = {} if base is None else {"base_weights": "b.pth"}
    settings = PublishedSettings(architecture=NAME, weights="a.pth", **given)
    with pytest.raises(WeightsError) as refused:
        read_published(Path("a.pth"), settings, None if base is None else Path("b.pth"))
    assert message.format(start=START) in str(refused.value)
    assert "--weights" not in str(refused.value)


def test_training_from_another_file_names_the_file_that_it_needs(tmp_path: Path) -> None:
    torch.save(part(False), tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=f"2 missing .*Give the file of {START}"):
        assemble(NAME, BuildOptions(weights=str(tmp_path / "a.pth")))


@pytest.mark.parametrize("shapes", [((3, WIDTH), (4, WIDTH)), ((0, WIDTH),) * 2, ((3, 512),) * 2])
def test_references_that_are_not_pairs_are_refused(shapes: tuple[tuple[int, int], ...]) -> None:
    with no_draws():
        network = IctWithReferences()
    inner, outer = map(torch.zeros, shapes)
    with pytest.raises(WeightsError, match=r"inner \(.* and outer \(.*as many rows in both"):
        network.take_sizes({"inner": inner, "outer": outer})
    network.take_sizes({"inner": torch.zeros(3, WIDTH), "outer": torch.zeros(3, WIDTH)})
    assert network.inner.shape == network.outer.shape == (3, WIDTH)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_file_with_parts_that_are_not_computed_is_recognized(prefix: str) -> None:
    with torch.device("meta"):
        state = Caddm().state_dict() | {"base_model.fc.weight": torch.empty(1000, 512)}
    named = {f"{prefix}{name}": each for name, each in state.items()}
    assert fitting_networks("ict", named) == ["caddm"]


def test_network_that_needs_its_first_stride_says_so() -> None:
    with no_draws(), pytest.raises(JobError, match=r"keeps the resolution. Leave nodown out"):
        assemble("caddm", BuildOptions(weights="none", nodown=True))


def test_normalization_of_a_network_with_its_own_has_no_effect() -> None:
    idle = PublishedSettings.without_effect({"architecture": "caddm", "resize": 224})
    assert idle == dict.fromkeys(("mean", "std"), "caddm normalizes pixels itself")
    assert not PublishedSettings.without_effect({"architecture": "tv/resnet18", "resize": 224})
