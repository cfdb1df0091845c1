"""A setting that has the name of a kind: below defaults and matrix its value tells which is meant."""

from dataclasses import replace

from launcher.kind_interface import Kind, Settings
from tests.launcher.folder_toys import KINDS as TOYS
from tests.launcher.language import a_plan, job, names


class BlendSettings(Settings):
    """Settings of which one has the name of another kind."""

    source: str = "data/toys"
    bend: str = "left"


KINDS: dict[str, Kind] = {**TOYS, "blend": replace(TOYS["blend"], settings=BlendSettings)}  # type: ignore[type-var]  # toys


def test_a_value_is_that_of_the_setting_and_a_mapping_that_of_the_kind() -> None:
    made = a_plan("defaults: {bend: up}\nblend: [{}]\nbend: [{}]\n", kinds=KINDS)
    assert job(made, "blend/blend").settings["bend"] == "up"
    made = a_plan("defaults: {bend: {by: up}}\nblend: [{}]\nbend: [{}]\n", kinds=KINDS)
    assert job(made, "blend/blend").settings["bend"] == "left"
    assert job(made, "bend/bend").settings["by"] == "up"


def test_a_list_sweeps_the_setting_and_a_mapping_those_of_the_kind() -> None:
    made = a_plan("matrix: {bend: [up, down]}\nblend: [{}]\n", kinds=KINDS)
    assert names(made) == ["blend/blend@bend=up", "blend/blend@bend=down"]
    made = a_plan("matrix: {bend: {by: [up, down]}}\nbend: [{}]\n", kinds=KINDS)
    assert names(made) == ["bend/bend@by=up", "bend/bend@by=down"]
