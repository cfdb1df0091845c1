"""Jobs that make folders: their names, what they read, their order, their hashes."""

from functools import partial

from tests.launcher import language
from tests.launcher.folder_toys import KINDS
from tests.launcher.language import job, names

a_plan = partial(language.a_plan, kinds=KINDS)
refusals = partial(language.refusals, kinds=KINDS)

CHAIN = """\
train: [{model: null, data: dot:pre}]
blend: [{name: mended, source: bent}]
bend: [{name: bent, source: data/toys, model: dot:pre}]
"""


def test_a_folder_is_named_by_its_entry_and_read_by_that_name() -> None:
    made = a_plan(CHAIN)
    assert names(made) == ["train/dot:pre", "bend/bent", "blend/mended"]
    assert job(made, "bend/bent").needs == ("train/dot:pre",)
    assert job(made, "blend/mended").needs == ("bend/bent",)
    assert job(made, "blend/mended").settings["source"] == "runs/x/made/bent"
