"""What stored features depend on."""

from trueface.features.identity import CODE, PACKAGE


def test_the_code_of_everything_that_transforms_images_counts() -> None:
    folders = {
        path.parent.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if "TransformId(" in path.read_text(encoding="utf-8")
    }
    assert {"data", "data/qualities"} <= folders <= {*CODE}
