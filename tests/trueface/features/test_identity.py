"""What stored features depend on."""

from pathlib import Path

import trueface
from launcher.system.code_digests import CodeIndex
from trueface.features.store import CODE

PACKAGE = Path(trueface.__file__).parent


def test_the_code_of_everything_that_transforms_images_counts() -> None:
    modules = {
        ".".join(("trueface", *path.relative_to(PACKAGE).with_suffix("").parts))
        for path in PACKAGE.rglob("*.py")
        if "TransformId(" in path.read_text(encoding="utf-8")
    }
    assert {"trueface.data.transforms", "trueface.data.quality_feed"} <= modules
    assert modules <= set(CodeIndex().closure([name.partition(":")[0] for name in CODE]))
