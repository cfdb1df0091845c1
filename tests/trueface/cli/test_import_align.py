"""`trueface import --align`: position of the eyes, pictures without a face, and the record of the data set."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from PIL import ExifTags

from launcher.api import install_command
from tests.trueface.commands import Command
from trueface.cli import import_set
from trueface.cli.main import run
from trueface.data.face_alignment import MARGIN, SIZE, DetectedFace, Geometry, face_models
from trueface.data.imports.alignment import find_faces
from trueface.data.splits.split_files import read_lists
from trueface.runtime.image_files import open_image

pytest.importorskip("dlib", reason="the extra `faces` is not installed")
FACES = Path(__file__).parents[4] / "shared/data/faces/PreSocial"
pytestmark = pytest.mark.skipif(not FACES.exists(), reason="../shared/data/faces is not here")
TOLERANCE = 0.03  # fraction of the side; landmarks of dlib are whole pixels and vary by one or two
UPRIGHT = (
    6.0  # degrees; the nose counts, too, and it is beside the middle of a face that looks aside
)
NOISE_SIDE = 80  # pixels; each of them costs time, as the second detector searches it, too
HALF, QUARTER = 3, 6  # EXIF: to be turned by 180 degrees, by 90 degrees clockwise


def photograph(number: int, source: str = "Real/FFHQ") -> PIL.Image.Image:
    file = sorted((FACES / source).glob("*.jpg"))[number]
    with open_image(file) as image:
        return image.convert("RGB")


def generated(number: int) -> PIL.Image.Image:
    return photograph(number, "Fake/StyleGAN")


def turned(image: PIL.Image.Image, degrees: float) -> PIL.Image.Image:
    return image.rotate(degrees, PIL.Image.Resampling.BICUBIC)


def noise(seed: int) -> PIL.Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (NOISE_SIDE, NOISE_SIDE, 3), np.uint8)
    return PIL.Image.fromarray(pixels)


def landscape() -> PIL.Image.Image:
    """Return a sky above a meadow."""
    high, wide = np.mgrid[0:240:3, 0:320:3]
    sky = np.stack([80 + high / 3, 130 + high / 3, 220 - high / 6], axis=-1)
    meadow = np.stack([60 + 10 * np.sin(wide / 7), 140 + wide / 16, 50 + high / 12], axis=-1)
    return PIL.Image.fromarray(np.where((high < 140)[..., None], sky, meadow).astype(np.uint8))


def two_faces() -> PIL.Image.Image:
    """Return a picture with photograph 0 in its own size, and a smaller photograph 1."""
    picture = PIL.Image.new("RGB", (700, 400), (90, 120, 90))
    picture.paste(photograph(0), (30, 40))
    picture.paste(photograph(1).resize((180, 180)), (450, 120))
    return picture


def save(folder: Path, **images: PIL.Image.Image) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in images.items():
        image.save(folder / f"{name}.png", compress_level=1)
    return folder


def pictures(top: Path) -> Path:
    """Write photographs and generated faces, a few of them turned, and pictures that need a report."""
    degrees = (0.0, 20.0, -30.0)
    save(
        top / "real/web",
        **{f"r{k}": turned(photograph(k), angle) for k, angle in enumerate(degrees)},
        crowd=two_faces(),
        noise=noise(0),
    )
    save(
        top / "fake/web",
        **{f"f{k}": turned(generated(k), angle) for k, angle in enumerate(degrees)},
        meadow=landscape(),
    )
    (top / "fake/web/cut.jpg").write_bytes(
        min((FACES / "Fake/StyleGAN").glob("*.jpg")).read_bytes()[:3000]
    )
    (top / "notes.txt").write_text("x")
    return top


def eyes_of(image: PIL.Image.Image) -> tuple[np.ndarray[Any, Any], float]:
    """Return the centers of the eyes on the left and on the right, in parts of the side, and their slope."""
    face = face_models().find(np.array(image))
    assert face is not None
    points = np.array(face.landmarks) / image.width
    left, right = points[2:4].mean(0), points[0:2].mean(0)
    across, down = right - left
    return np.stack([left, right]), float(np.degrees(np.arctan2(down, across)))


def read(file: Path) -> PIL.Image.Image:
    with open_image(file) as image:
        assert image.format == "PNG"
        return image.convert("RGB")


def aligned_files(root: Path) -> dict[str, Path]:
    return {file.stem: file for file in sorted((root / "PreSocial").rglob("*.png"))}


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `pictures`."""
    return pictures(tmp_path_factory.mktemp("pictures") / "set")


@pytest.fixture(scope="module")
def aligned(top: Path) -> Path:
    """The data root to which they are imported as by default."""
    root = top.with_name("root")
    assert run(["import", "folders", str(top), "--align", "--out", str(root)]) == 0
    return root


def test_eyes_are_at_the_template_and_level(
    tmp_path: Path, command: Command, top: Path, aligned: Path
) -> None:
    small = tmp_path / "small"
    words = ("--align-size", "128", "--align-margin", "1.1")
    command("import", "folders", top, "--align", *words, "--out", small)
    for root, geometry in ((aligned, Geometry()), (small, Geometry(128, 1.1))):
        faces = aligned_files(root)
        assert faces.keys() == {"r0", "r1", "r2", "f0", "f1", "f2", "crowd"}
        for file in faces.values():
            image = read(file)
            assert image.size == (geometry.size, geometry.size)
            eyes, slope = eyes_of(image)
            assert np.abs(eyes - np.array(geometry.eyes())).max() < TOLERANCE, file
            assert abs(slope) < UPRIGHT, file


def test_default_position_of_eyes_is_that_of_deepfakebench() -> None:
    # its formulas for 256 pixels, in order: shift, scale of 112 pixels, margin, scale back
    left, right = (30.2946 + 8, 51.6963), (65.5318 + 8, 51.5014)
    for (x, y), own in zip((left, right), Geometry().eyes(), strict=True):
        expected = [
            (value * 256 / 112 + 256 * 0.15) * 256 / (256 + 2 * 256 * 0.15) for value in (x, y)
        ]
        assert np.array(own) * 256 == pytest.approx(expected, abs=1e-9)


def test_pictures_without_a_face_and_with_several_are_reported(
    tmp_path: Path, command: Command
) -> None:
    top, root = pictures(tmp_path / "set"), tmp_path / "root"
    words: list[str | Path] = ["import", "folders", top, "--align", "--out", root]
    planned = command(*words, "--dry-run", "--json").json
    assert not root.exists()
    printed = command(*words)
    assert "7 images aligned, 0 existed already" in printed.out
    assert (
        "skipped: 1 .txt, 2 .png without a face, 1 .jpg that cannot be read\n"
        f"several faces: 1, such as {top}/real/web/crowd.png. The largest face was taken\n"
        f"images without a face or with several: {root}/alignment.json\n"
    ) in printed.out
    again = command(*words, "--json").json
    assert (again["new"], again["there"], again["several_faces"]) == (0, 7, 1)
    assert again["passed_over"] == planned["passed_over"]
    stored = json.loads((root / "alignment.json").read_text())
    assert stored["no_face"] == [f"{top}/fake/web/meadow.png", f"{top}/real/web/noise.png"]
    assert stored["several_faces"] == {f"{top}/real/web/crowd.png": 2}
    assert list(stored["unreadable"]) == [f"{top}/fake/web/cut.jpg"]
    assert stored["detector"].startswith("dlib ")
    assert (stored["size"], stored["margin"]) == (256, 1.3)
    assert sum(map(len, read_lists(root / "splits").values())) == 7


def test_narrow_pictures_have_no_face(tmp_path: Path, command: Command) -> None:
    top = tmp_path / "set"
    sizes = [(1, 1), (5000, 1), (1280, 12), (300, 9), (300, 8), (640, 9), (9, 640), (5000, 60)]
    strips = {
        f"strip{k}": PIL.Image.new("RGB", size, (90, 120, 90)) for k, size in enumerate(sizes)
    }
    save(top / "real/web", r=photograph(0), **strips)
    save(top / "fake/web", f=generated(0))
    printed = command("import", "folders", top, "--align", "--out", tmp_path / "root").out
    assert "2 images aligned, 0 existed already" in printed
    assert "skipped: 8 .png without a face\n" in printed


def test_picture_that_dlib_cannot_search_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing:
        def find(self, pixels: np.ndarray[Any, Any]) -> DetectedFace | None:
            if pixels.shape == (NOISE_SIDE, NOISE_SIDE, 3):
                raise RuntimeError("windows do not fit")
            return face_models().find(pixels)

    monkeypatch.setattr("trueface.data.imports.alignment.face_models", Failing)
    folder = save(tmp_path, good=photograph(0), bad=noise(0))
    files = [f"{folder}/bad.png", f"{folder}/good.png"]
    found = find_faces(files, Geometry(), None, lambda _: None, are_all=True, workers=1)
    assert found.record.unreadable == {files[0]: "dlib cannot search it: windows do not fit"}
    assert found.searches[files[1]].face is not None


def test_largest_of_two_faces_is_taken(tmp_path: Path, command: Command) -> None:
    top = tmp_path / "set"
    save(top / "real/web", crowd=two_faces(), large=photograph(0), small=photograph(1))
    save(top / "fake/web", f=generated(0))
    command("import", "folders", top, "--align", "--out", tmp_path / "root")
    crowd, large, small = (
        # without the edges, which the pasted pictures do not fill
        np.array(read(aligned_files(tmp_path / "root")[name]), dtype=float)[48:208, 48:208]
        for name in ("crowd", "large", "small")
    )
    assert np.abs(crowd - large).mean() < np.abs(crowd - small).mean() / 3


def test_rotation_flag_of_a_photograph_is_followed(tmp_path: Path, command: Command) -> None:
    top = tmp_path / "set"
    (top / "real/web").mkdir(parents=True)
    turns = PIL.Image.Transpose
    for flag, turn in ((1, None), (HALF, turns.ROTATE_180), (QUARTER, turns.ROTATE_90)):
        exif = PIL.Image.Exif()
        exif[ExifTags.Base.Orientation] = flag
        stored = photograph(0) if turn is None else photograph(0).transpose(turn)
        stored.save(top / f"real/web/r{flag}.jpg", quality=100, subsampling=0, exif=exif)
    save(top / "fake/web", f=generated(0))
    command("import", "folders", top, "--align", "--out", tmp_path / "root")
    faces = aligned_files(tmp_path / "root")
    upright, half, quarter = (
        np.array(read(faces[f"r{flag}"]), dtype=float) for flag in (1, HALF, QUARTER)
    )
    # compression and whole pixels of landmarks differ; another rotation of this picture differs by 60
    assert np.abs(upright - half).mean() < 10
    assert np.abs(upright - quarter).mean() < 10


def test_same_pictures_give_the_same_bytes(
    tmp_path: Path, command: Command, top: Path, aligned: Path
) -> None:
    command("import", "folders", top, "--align", "--out", tmp_path / "b")
    first, second = map(aligned_files, (aligned, tmp_path / "b"))
    assert {k: f.read_bytes() for k, f in first.items()} == {
        k: f.read_bytes() for k, f in second.items()
    }
    assert (aligned / "alignment.json").read_bytes() == (tmp_path / "b/alignment.json").read_bytes()


def test_number_of_processes_does_not_change_the_result(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sorted(map(str, top.rglob("*.*g")))
    monkeypatch.setattr("trueface.data.imports.alignment.CHUNK", 3)
    one, two = (
        find_faces(files, Geometry(), None, lambda _: None, are_all=True, workers=count)
        for count in (1, 2)
    )
    assert one == two


def test_groups_and_lists_of_a_table_stay_with_the_aligned_faces(
    tmp_path: Path, command: Command
) -> None:
    save(tmp_path / "a", **{f"r{k}": photograph(k) for k in range(6)}, empty=noise(0))
    save(tmp_path / "b", **{f"f{k}": generated(k) for k in range(6)})
    rows = [
        f"{folder}/{kind}{k}.png,{label},{'cam' if kind == 'r' else 'gan'},anna{k // 2},{name}"
        for folder, kind, label in (("a", "r", "real"), ("b", "f", "fake"))
        for k, name in enumerate(["train"] * 2 + ["val"] * 2 + ["test"] * 2)
    ]
    table = tmp_path / "table.csv"
    table.write_text(
        "\n".join(["path,label,source,group,split", *rows, "a/empty.png,real,cam,anna9,test", ""])
    )
    roots = [tmp_path / "linked", tmp_path / "aligned"]
    command("import", "csv", table, "--out", roots[0])
    command("import", "csv", table, "--align", "--out", roots[1])
    linked, aligned = (
        {name: set(keys) for name, keys in read_lists(r / "splits").items()} for r in roots
    )
    removed = linked["test"] - aligned["test"]
    assert [key.rpartition("/")[2] for key in removed] == ["a-empty"]
    assert linked | {"test": aligned["test"]} == aligned
    groups = [json.loads((root / "groups.json").read_text()) for root in roots]
    assert {key: group for key, group in groups[0].items() if key not in removed} == groups[1]


def test_later_import_adds_faces_and_never_mixes_settings(tmp_path: Path, command: Command) -> None:
    top, root = tmp_path / "set", tmp_path / "root"
    save(top / "real/web", r0=photograph(0), r1=photograph(1))
    save(top / "fake/web", f0=generated(0), f1=generated(1))
    words: list[str | Path] = ["import", "folders", top, "--out", root]
    command(*words, "--align")
    before = {name: file.read_bytes() for name, file in aligned_files(root).items()}
    save(top / "real/web", r2=photograph(2), none=landscape())
    assert "1 images aligned, 4 existed already" in command(*words, "--align").out
    after = {name: file.read_bytes() for name, file in aligned_files(root).items()}
    assert after.keys() - before.keys() == {"r2"}
    assert before.items() <= after.items()
    assert "contains faces with size 256 and margin 1.3" in command(*words, code=2).err
    smaller = command(*words, "--align", "--align-size", "128", code=2).err
    assert "use --align --align-size 256 --align-margin 1.3" in smaller
    record = root / "alignment.json"
    record.write_text(record.read_text().replace('"dlib ', '"dlib 1.'))
    save(top / "real/web", r3=photograph(3))
    assert "were aligned with dlib 1." in command(*words, "--align", code=2).err
    command("import", "folders", top, "--out", tmp_path / "linked")
    assert (
        "contains images that are not aligned"
        in command("import", "folders", top, "--align", "--out", tmp_path / "linked", code=2).err
    )


def test_wrong_input_is_rejected_before_any_output(tmp_path: Path, command: Command) -> None:
    empty = tmp_path / "empty"
    save(empty / "real/web", r=noise(0))
    save(empty / "fake/web", f=landscape())
    broken = tmp_path / "broken"
    for label in ("real", "fake"):
        (broken / label / "web").mkdir(parents=True)
        (broken / label / "web/x.png").write_bytes(b"no image")
    for top, words, message in (
        (empty, ["--align"], "finds no face in the 2 images that can be read, such as "),
        (empty, ["--align"], "Check that faces have at least 80 pixels and are upright, or import"),
        (broken, ["--align"], "none of the 2 images can be read, such as "),
        (empty, ["--align-size", "128"], "--align-size 128 has no effect without --align"),
        (empty, ["--align-margin", "1.5"], "--align-margin 1.5 has no effect without --align"),
        (empty, ["--align", "--copy"], "so --copy has no effect"),
        (empty, ["--align", "--align-size", "8"], "--align-size"),
        (empty, ["--align", "--align-margin", "0.5"], "--align-margin"),
    ):
        out = tmp_path / "root"
        assert message in command("import", "folders", top, *words, "--out", out, code=2).err
        assert not out.exists()
        assert not list(tmp_path.glob(".root*"))


@pytest.mark.parametrize(
    ("name", "missing"), [("dlib", "dlib"), ("face_recognition_models", "face-recognition-models")]
)
def test_missing_extra_is_named_with_its_command(
    name: str, missing: str, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = save(tmp_path / "set/real/web", r=photograph(0)).parents[1]
    save(top / "fake/web", f=generated(0))
    monkeypatch.setitem(sys.modules, name, None)
    error = command("import", "folders", top, "--align", "--out", tmp_path / "root", code=3).err
    assert f"--align needs {missing}" in error
    assert install_command("faces") in error
    assert not (tmp_path / "root").exists()


def test_import_without_align_does_not_load_the_detector(tmp_path: Path) -> None:
    top = save(tmp_path / "set/real/web", r=photograph(0)).parents[1]
    save(top / "fake/web", f=generated(0))
    program = (
        "import sys; from trueface.cli.main import run; "
        f"code = run(['import', 'folders', {str(top)!r}, '--out', {str(tmp_path / 'root')!r}]); "
        "sys.exit(code or 'dlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# an import that waits before it writes its third face
WAITING = """
import time
from trueface.cli.main import main
from trueface.data.imports import alignment

write, times = alignment.write_atomic, iter(range(3))

def write_or_wait(*given, **options):
    if next(times) == 2:
        print("waits", flush=True)
        time.sleep(3600)
    write(*given, **options)

alignment.write_atomic = write_or_wait
main()
"""


def test_killed_import_leaves_no_data_root(tmp_path: Path, command: Command) -> None:
    top, root = tmp_path / "set", tmp_path / "root"
    save(top / "real/web", **{f"r{k}": photograph(k) for k in range(2)})
    save(top / "fake/web", **{f"f{k}": generated(k) for k in range(2)})
    words = ["import", "folders", str(top), "--align", "--out", str(root)]
    program = [sys.executable, "-c", WAITING, *words]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "waits\n" in process.stdout, "it ended before it was killed"
        process.kill()
    (staged,) = tmp_path.glob(".root.*/PreSocial")
    assert len(list(staged.rglob("*.png"))) == 2
    assert not root.exists()
    assert "4 images aligned" in command(*words).out
    assert not staged.exists()


def test_uneven_black_parts_of_the_classes_are_reported(tmp_path: Path, command: Command) -> None:
    top = tmp_path / "set"
    wide = [PIL.Image.new("RGB", (512, 512), (120, 120, 120)) for _ in range(3)]
    for k, picture in enumerate(wide):
        picture.paste(generated(k), (128, 128))
    save(top / "fake/web", **{f"f{k}": picture for k, picture in enumerate(wide)})
    save(top / "real/web", **{f"r{k}": photograph(k).crop((40, 40, 216, 216)) for k in range(3)})
    warned = command("import", "folders", top, "--align", "--out", tmp_path / "root").err
    assert "100% of the real and 0% of the fake images, and that part is black" in warned
    # later pictures of one class alone cannot be compared
    save(top / "real/web", r3=photograph(3).crop((40, 40, 216, 216)))
    again = command("import", "folders", top, "--align", "--out", tmp_path / "root")
    assert "1 images aligned, 6 existed already" in again.out
    assert "that part is black" not in again.err


def test_help_prints_the_defaults() -> None:
    options = {option.name: option for option in import_set.import_set.params}
    for name, value in (("align_size", SIZE), ("align_margin", MARGIN)):
        assert f"[default: {value}]" in (getattr(options[name], "help", "") or "")
