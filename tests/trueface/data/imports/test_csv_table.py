from pathlib import Path

import pytest

from tests.trueface.data.imports.conftest import Files
from trueface.data.imports.csv_table import CsvTable
from trueface.data.imports.registry import ImportedImage, LayoutOptions
from trueface.runtime.errors import DataError


def imported(path: Path) -> list[ImportedImage]:
    return list(CsvTable().images(path, LayoutOptions()))


def test_a_row_is_an_image_with_what_its_columns_say(files: Files) -> None:
    top = files(["x/a.png", "x/b.png"])
    table = top / "t.csv"
    table.write_text(
        "\ufeffFile,Label,generator,group,split,video\n"
        f"x/a.png,fake,sdxl,p1,valid,\n{top}/x/b.png,0,,,,v1\n"
    )
    first, second = imported(top)
    assert first == ImportedImage(
        str(top / "x/a.png"), 1, "sdxl", "x-a.png", "pre", ("group p1",), lists=("val",)
    )
    assert (second.label, second.source, second.is_frame) == (0, "t", True)
    assert second.below.startswith("v1/")
    assert CsvTable().fits(top)
    assert CsvTable().fits(table)


def test_the_first_faulty_rows_are_reported_with_their_lines_and_the_others_counted(
    files: Files,
) -> None:
    top = files(["a.png", "a.txt"])
    table = top / "t.csv"
    table.write_text("path,label,split\na.png,maybe\nb.png,1\na.txt,1\na.png,1,night\n,1\n")
    with pytest.raises(DataError) as caught:
        imported(table)
    message = str(caught.value)
    assert message.startswith(f"{table}:2: label 'maybe'")
    assert "; line 3: no file" in message
    assert "; line 4: a.txt is no image" in message
    assert message.endswith("; and 2 more rows")


def test_a_table_without_the_needed_columns_does_not_fit(files: Files) -> None:
    top = files(["a.png"])
    (top / "t.csv").write_text("name,size\na.png,1\n")
    assert not CsvTable().fits(top)
    with pytest.raises(DataError, match=r"t\.csv:1: no column path and label"):
        imported(top / "t.csv")
