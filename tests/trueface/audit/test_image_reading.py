from pathlib import Path

from trueface.audit.image_reading import Surveyor


def _files(folder: Path, contents: dict[str, bytes]) -> dict[str, str]:
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: str(folder / name) for name in contents}


def test_equal_bytes_are_found_and_equal_sizes_are_not_enough(tmp_path: Path) -> None:
    at = _files(tmp_path, {"a": b"one", "b": b"two", "c": b"one", "d": b"six", "e": b"long"})
    trained = {at["a"]: 0, at["b"]: 1}
    survey = Surveyor(seconds=10).survey("set", trained, [at["c"], at["d"], at["e"]])
    assert survey.copies == ((at["a"], at["c"]),)
    assert (survey.trained, survey.tested, survey.left) == (2, 3, 0)


def test_what_the_time_did_not_suffice_for_is_counted(tmp_path: Path) -> None:
    at = _files(tmp_path, {"a": b"one", "b": b"one", "c": b"two", "d": b"six"})
    seconds = iter(range(100))
    surveyor = Surveyor(seconds=2.5, clock=lambda: float(next(seconds)))
    survey = surveyor.survey("set", {at["a"]: 0}, [at["b"], at["c"], at["d"]])
    assert survey.left == 2


def test_a_file_that_is_gone_or_the_same_file_is_no_copy(tmp_path: Path) -> None:
    at = _files(tmp_path, {"a": b"one"})
    gone = str(tmp_path / "gone")
    survey = Surveyor(seconds=10).survey("set", {at["a"]: 0, gone: 1}, [at["a"], gone])
    assert survey.copies == ()
    assert survey.unreadable == 2  # no image, and no file


def test_headers_are_read_of_the_formats_that_are_decoded_and_of_no_other(tmp_path: Path) -> None:
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
    at = _files(tmp_path, {"a.png": postscript})
    assert Surveyor(seconds=10).survey("set", {at["a.png"]: 0}, []).unreadable == 1
