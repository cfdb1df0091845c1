"""`trueface import`: link a real data set into TrueFace's shape, with words and splits."""

import json
import shlex
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from launcher.api import Json, MachineError, UsageError, install_command
from trueface.cli.splits import progress_bar, shares_of
from trueface.cli.text_tables import align_columns, escape_unprintable
from trueface.data.attributes import class_of
from trueface.data.dataset_file import DATASET
from trueface.data.imports import registry
from trueface.data.imports.arrangement import (
    Arrangement,
    arrange,
    make_import_lists,
    vocabulary_word,
)
from trueface.data.imports.people import people_of_video
from trueface.data.imports.registry import FAKE, REAL
from trueface.data.imports.writing import (
    ALIGNMENT,
    GROUPS,
    LANDMARK_RECORD,
    PAIRS,
    ImportDifference,
    ImportRecord,
    Origin,
    compare_with_record,
    extend_record,
    frame_staging,
    hold_data_root,
    read_record,
    write_root,
)
from trueface.data.splits.equal_files import LabelledFile, contradictions
from trueface.data.splits.split_files import NAMES, keys_digest, read_lists, split_files
from trueface.data.splits.splitting import SHARES, Lists, describe_lacking_classes
from trueface.runtime.errors import DataError
from trueface.runtime.files import write_atomic

if TYPE_CHECKING:
    from trueface.data.face_alignment import Geometry
    from trueface.data.image_headers import Shortcut
    from trueface.data.imports.alignment import FoundFaces
    from trueface.data.imports.landmark_search import FoundLandmarks, PointVideo
    from trueface.data.imports.pairs import Pairing
    from trueface.data.imports.passed_over import PassedOver, Reason
    from trueface.data.imports.video_frames import VideoSet
    from trueface.data.video_traits import VideoTraits
    from trueface.data.videos import ChosenFrames, FrameChoice

SCHEMA = 1
FRAMES = 32  # frames of a video, as DeepfakeBench reads them
MOST_FRAMES = 100_000
VIDEO = "video"  # the format of video files in messages
MOST_REASONS = 3  # in the warning about broken videos
MANY_SOURCES = 100
SHOWN = 10  # sources in a message
MIN_SIZE, MAX_SIZE = 32, 1024  # pixels; FFHQ has 1,024
MAX_MARGIN = 3.0
MOST_UNEVEN = 0.1  # difference of the classes in the fraction of crops with a black part
COMPARE_S = 30.0  # seconds to compare files, as `trueface audit` takes; slow disks would take hours


class ImportRequest(NamedTuple):
    """The arguments of a command line; see its help."""

    layout: str
    folder: Path  # absolute, as are the others
    out: Path
    splits: Path
    seed: int
    shares: tuple[float, float]
    redraw: bool
    real: tuple[str, ...]
    videos: bool
    align: bool
    align_size: int | None
    align_margin: float | None
    landmarks: bool
    pairs: bool
    choice: "FrameChoice"  # frames of each video file
    copy: bool
    dry_run: bool


class ImportOutcome(NamedTuple):
    """Result of an import or of its dry run."""

    request: ImportRequest
    layout: str
    arrangement: Arrangement
    difference: ImportDifference
    record: ImportRecord
    lists: Lists
    passed_over: tuple["PassedOver", ...]
    several_faces: tuple[str, ...] | None  # files; None if the images are not aligned
    paired: int | None  # fakes with their real frames; None without --pairs
    videos: int  # files whose frames are in the arrangement
    broken_videos: Mapping[str, str]  # video file → why it gives no frames
    remarks: tuple[str, ...]


LAYOUTS = "\n".join(
    [
        *(f"  {spec.name:<14} {spec.summary}" for spec in registry.LAYOUTS.values()),
        f"  {registry.AUTO:<14} the layout that fits",
    ]
)
HELP = f"""Link a real data set into the layout of trueface.

DIR is the folder of the data set, OUT the folder to make. Images of one video, prompt or person stay
in one list. OUT/dataset.yaml defines the words for the sources of the set. Include it in a task file.
If OUT exists, new images are added. Changed images are refused.

\b
LAYOUT is one of
{LAYOUTS}

\b
Examples:
  trueface import folders pictures --out data/pictures
  trueface import auto FaceForensics++ --videos --out data/ff --dry-run
"""


@click.command("import", help=HELP)
@click.argument("layout", metavar="LAYOUT")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path), required=False)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Data set to make, or to add images to.",
)
@click.option(
    "--splits",
    type=click.Path(path_type=Path),
    help="Folder or .json file for the lists.  [default: OUT/splits]",
)
@click.option("--seed", default=42, show_default=True, help="Random seed of the lists.")
@click.option(
    "--shares",
    metavar="TRAIN,VAL",
    help="Fractions for training and validation. The rest is for the test.  [default: 0.8,0.1]",
)
@click.option(
    "--redraw", is_flag=True, help="Draw new lists instead of using the published lists of the set."
)
@click.option(
    "--real",
    multiple=True,
    metavar="CLASS",
    help="A class or source of real images, if its name does not show it. Repeatable.",
)
@click.option(
    "--videos",
    is_flag=True,
    help="Read frames from video files (layouts folders, imagefolder, faceforensics, dfdc). Each folder with "
    "images is also a video (folders, imagefolder). Frames of a video stay in one list. So do videos whose names show the same person: "
    "000_001, id0_id1_0000.",
)
@click.option(
    "--frames",
    type=click.IntRange(1, MOST_FRAMES),
    metavar="INTEGER",
    help=f"Frames to read from each video file, evenly spaced.  [default: {FRAMES}]",
)
@click.option(
    "--clips",
    type=click.IntRange(1, MOST_FRAMES),
    metavar="INTEGER",
    help="Runs of consecutive frames to read from each video file, evenly spread, in place of single frames. With "
    "--frames, both.",
)
@click.option(
    "--length",
    type=click.IntRange(2, MOST_FRAMES),
    metavar="INTEGER",
    help="Frames of each run of --clips.",
)
@click.option(
    "--align",
    is_flag=True,
    help="Detect the largest face of each image, turn it upright, crop it and write it as PNG.",
)
@click.option(
    "--align-size",
    type=click.IntRange(MIN_SIZE, MAX_SIZE),
    help="Width and height of aligned faces in pixels.  [default: 256]",
)
@click.option(
    "--align-margin",
    type=click.FloatRange(1, MAX_MARGIN),
    help="Side of aligned faces, relative to a crop from chin to eyebrows.  [default: 1.3]",
)
@click.option(
    "--landmarks",
    is_flag=True,
    help="Find 68 landmarks of the face in consecutive frames of videos, calibrate them along the video, and store them "
    "next to the frames. For detectors of landmarks, such as lrnet.",
)
@click.option(
    "--pairs",
    is_flag=True,
    help="For each frame of a fake video, write the same frame of the real video that it was made of, cropped alike. "
    "OUT/pairs.json names the pairs. For detectors that learn from pairs, such as caddm.",
)
@click.option("--copy", is_flag=True, help="Copy the images instead of linking them.")
@click.option("--dry-run", is_flag=True, help="Print the result and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def import_set(
    layout: str,
    folder: Path | None,
    out: Path | None,
    splits: Path | None,
    shares: str | None,
    frames: int | None,
    clips: int | None,
    length: int | None,
    *,
    as_json: bool,
    **option_values: Any,
) -> None:
    """Do what the help says."""
    if folder is None or out is None:
        raise UsageError(_missing_words(layout, folder, out))
    root = out.absolute()
    for option, value in (("--frames", frames), ("--clips", clips)):
        if value is not None and not option_values["videos"]:
            raise UsageError(f"{option}: only video files have frames to choose. Add --videos.")
    if (clips is None) != (length is None):
        lacking = "--length 8" if length is None else "--clips 4"
        raise UsageError(f"--clips and --length belong together. Add {lacking}.")
    if option_values["landmarks"] and not option_values["videos"]:
        raise UsageError("--landmarks: only videos have landmarks. Add --videos.")
    if option_values["pairs"] and not option_values["videos"]:
        raise UsageError("--pairs: only frames of videos have pairs. Add --videos.")
    request = ImportRequest(
        layout=layout,
        folder=folder.absolute(),
        out=root,
        splits=root / "splits" if splits is None else splits.absolute(),
        shares=SHARES if shares is None else shares_of(shares),
        choice=_choice(frames, clips, length),
        **option_values,
    )
    outcome = _import(request)
    for remark in outcome.remarks:
        click.echo(f"warning: {remark}", err=True)
    if as_json:
        click.echo(json.dumps(_record(outcome), ensure_ascii=False))
    else:
        click.echo("\n".join(_lines(outcome)))


def _choice(frames: int | None, clips: int | None, length: int | None) -> "FrameChoice":
    # numpy takes a while to import; help must not wait for it
    from trueface.data.videos import FrameChoice

    if frames is None and clips is None:
        frames = FRAMES
    return FrameChoice(frames or 0, clips or 0, length or 0)


def _missing_words(layout: str, folder: Path | None, out_folder: Path | None) -> str:
    """Return what is missing in a command line, and a line with everything."""
    names = {registry.AUTO, *registry.LAYOUTS}
    missing = "--out OUT" if folder is not None else "DIR" if layout in names else "LAYOUT"
    named = folder or Path("DIR" if layout in names else layout)
    kind = layout if layout in names else "folders"
    line = [
        "trueface",
        "import",
        kind,
        str(named),
        "--out",
        str(out_folder or f"data/{named.name}"),
    ]
    return f"missing {missing}. Write: {shlex.join(line)}"


def _import(request: ImportRequest) -> ImportOutcome:
    # Pillow takes a while to import; help must not wait for it
    from trueface.data.imports.alignment import check_alignment, name_aligned
    from trueface.data.imports.passed_over import find_passed_over

    _refuse_other_pictures(request)
    geometry = _geometry(request)
    _require_landmarks(request)
    layout = registry.resolve_layout(request.layout, request.folder)
    if request.out.resolve().is_relative_to(request.folder.resolve()):
        raise UsageError(f"--out {request.out} is in {request.folder}. Choose a folder outside it.")
    if request.pairs and not registry.LAYOUTS[layout].reads_videos:
        raise UsageError(
            f"--pairs: the layout {layout} reads no videos. Import the videos of the set, or leave out --pairs."
        )
    with hold_data_root(request.out, dry=request.dry_run), ExitStack() as stack:
        before = read_record(request.out)
        check_alignment(request.out, geometry, is_new=not before.files)
        _check_landmarks(request, is_new=not before.files)
        _check_pairs(request, is_new=not before.files)
        listed = _list_images(request, layout, before, stack)
        arrangement = arrange(listed.images if geometry is None else name_aligned(listed.images))
        difference = compare_with_record(before, arrangement, listed.videos)
        faces = None if geometry is None else _find_faces(request.out, geometry, difference, listed)
        faceless = list[str]()  # first frames of clips that are left out
        if faces is not None:
            faces, faceless = faces.with_shared_crops(listed.runs)
        unaligned = faces.left_out() if faces else {}
        difference = difference.without_files(unaligned)
        arrangement = arrangement.without_files((*difference.missing, *unaligned))
        origin = (layout, str(request.folder))
        record = extend_record(before, arrangement, difference, origin, listed.traits)
        earlier = _read_earlier_lists(request, before)
        lists, remarks = make_import_lists(
            arrangement,
            record.groups,
            earlier_lists=earlier,
            use_published=not request.redraw,
            shares=request.shares,
            seed=request.seed,
        )
        pairs_text = _pairs_text(request, record, lists, listed.pairing)
        done = (
            record == before
            and _are_same_lists(earlier, lists)
            and (request.out / DATASET).exists()
            and (faces is None or faces.is_recorded(request.out))
            and (pairs_text is None or _is_written(request.out / PAIRS, pairs_text))
        )
        landmarks = None
        if request.landmarks and not (done or request.dry_run):
            landmarks = _find_landmarks(request, arrangement, difference, listed, faces)
        if not (done or request.dry_run):
            write_root(
                request.out,
                record,
                difference.new,
                split_path=request.splits,
                lists=None if _are_same_lists(earlier, lists) else lists,
                copy=request.copy,
                decoded_files=listed.decoded,
                write_faces=None
                if faces is None
                else partial(_write_faces, difference.new, faces, listed),
                write_landmarks=None if landmarks is None else landmarks.write,
                write_pairs=None
                if pairs_text is None
                else partial(_write_pairs, request, difference.new, faces, listed, pairs_text),
            )
    left_out = find_passed_over(
        request.folder,
        layout,
        taken_files=arrangement.files.values(),
        unread_files=listed.unread,
        missing=difference.missing,
        dropped_files=unaligned | _unpaired_files(listed.pairing),
        videos=listed.videos,
        broken_files=listed.broken,
        doubles=listed.doubles,
    )
    return ImportOutcome(
        request=request,
        layout=layout,
        arrangement=arrangement,
        difference=difference,
        record=record,
        lists=lists,
        passed_over=tuple(left_out),
        several_faces=None
        if faces is None
        else faces.files_with_several_faces(arrangement.files.values()),
        paired=None
        if listed.pairing is None
        else sum(image.label == FAKE for image in arrangement.images),
        videos=len(listed.videos),
        broken_videos=listed.broken,
        remarks=(
            *_unread_sentences(listed.unread),
            *_video_remarks(listed, request, layout),
            *_faceless_remarks(listed, faceless),
            *_pair_remarks(listed.pairing),
            *_landmark_remarks(landmarks),
            *_remarks(request.folder, difference, arrangement, lists, left_out),
            *(_warn_of_black_edges(arrangement, faces) if faces else ()),
            *_doubts(record, request.out),
            *remarks,
        ),
    )


def _geometry(request: ImportRequest) -> "Geometry | None":
    """Return size and margin of aligned faces, or None if the import does not align."""
    if not request.align:
        for option, value in (
            ("--align-size", request.align_size),
            ("--align-margin", request.align_margin),
        ):
            if value is not None:
                raise UsageError(f"{option} {value:g} has no effect without --align. Add --align.")
        return None
    if request.copy:
        raise UsageError("--align writes new images, so --copy has no effect. Leave out --copy.")
    # Pillow and numpy take a while to import; help must not wait for them
    from trueface.data.face_alignment import MARGIN, SIZE, Geometry, require_faces

    require_faces("--align")
    size, margin = request.align_size, request.align_margin
    return Geometry(SIZE if size is None else size, MARGIN if margin is None else margin)


def _require_landmarks(request: ImportRequest) -> None:
    if request.landmarks:
        # Pillow and numpy take a while to import; help must not wait for them
        from trueface.data.face_points import require_landmarks

        require_landmarks("--landmarks")


def _check_landmarks(request: ImportRequest, *, is_new: bool) -> None:
    if request.landmarks or (request.out / LANDMARK_RECORD).exists():
        from trueface.data.imports.landmark_search import check_landmarks

        check_landmarks(request.out, with_landmarks=request.landmarks, is_new=is_new)


def _check_pairs(request: ImportRequest, *, is_new: bool) -> None:
    if request.pairs or (request.out / PAIRS).exists():
        # Pillow and numpy take a while to import; help must not wait for them
        from trueface.data.imports.pairs import check_pairs

        check_pairs(request.out, with_pairs=request.pairs, is_new=is_new)


def _match_frames(
    request: ImportRequest,
    images: Sequence[registry.ImportedImage],
    videos: "VideoSet",
    earlier_record: ImportRecord,
) -> "Pairing | None":
    """Return the real frames of the fakes, or None without --pairs."""
    if not request.pairs:
        return None
    from trueface.data.imports.pairs import match_frames, read_left_out

    folders = {file.rpartition("/")[0] for file, _, _ in earlier_record.files.values()}
    earlier = {
        file: lack
        for file, lack in read_left_out(request.out).items()
        if file.rpartition("/")[0] in folders
    }
    return match_frames(images, videos.chosen, earlier)


def _frames_to_decode(
    images: Sequence[registry.ImportedImage],
    waiting: Sequence[str],
    videos: "VideoSet",
    earlier_record: ImportRecord,
    pairing: "Pairing | None",
) -> dict[str, "ChosenFrames"]:
    """Return the frames to decode of each video: its own, and those that new fakes are paired with."""
    chosen = {video: videos.chosen[video] for video in waiting}
    if pairing is None:
        return chosen
    before = {file for file, _, _ in earlier_record.files.values()}
    new = {
        image.file
        for image in images
        if (above := image.file.rpartition("/")[0]) in chosen
        or (above not in videos.chosen and image.file not in before)
    }
    for video, numbers in pairing.real_numbers(new).items():
        own = chosen[video].numbers if video in chosen else ()
        chosen[video] = videos.chosen[video]._replace(numbers=tuple(sorted({*own, *numbers})))
    return chosen


def _pairs_text(
    request: ImportRequest, record: ImportRecord, lists: Lists, pairing: "Pairing | None"
) -> str | None:
    """Return the content of pairs.json, or None without --pairs."""
    if pairing is None:
        return None
    from trueface.data.imports.pairs import pairs_text, read_left_out

    files = [file for file, _, _ in record.files.values()]
    imported = {*files, *(file.rpartition("/")[0] for file in files)}
    left_out = {**read_left_out(request.out), **pairing.left_out}
    return pairs_text(
        record.files,
        lists,
        {file: lack for file, lack in left_out.items() if file not in imported},
    )


def _is_written(path: Path, text: str) -> bool:
    with suppress(OSError):
        return path.read_bytes() == text.encode(errors="backslashreplace")  # as it is written
    return False


def _write_pairs(
    request: ImportRequest,
    new_images: Mapping[str, Origin],
    faces: "FoundFaces | None",
    listing: "_Listed",
    text: str,
    folder: Path,
) -> None:
    from trueface.data.imports.pairs import write_sources

    assert listing.pairing is not None
    write_sources(
        folder,
        new_images,
        listing.pairing.real_frames,
        decoded_files=listing.decoded,
        faces=faces,
        copy=request.copy,
    )
    write_atomic(folder / PAIRS, text)


def _unpaired_files(pairing: "Pairing | None") -> dict[str, "Reason"]:
    from trueface.data.imports.passed_over import Reason

    return {} if pairing is None else dict.fromkeys(pairing.left_out, Reason.NO_REAL_IMAGE)


def _pair_remarks(pairing: "Pairing | None") -> Iterator[str]:
    if pairing is not None and pairing.left_out:
        from trueface.data.imports.pairs import left_out_sentence

        yield left_out_sentence(pairing.left_out)


def _find_landmarks(
    request: ImportRequest,
    arrangement: Arrangement,
    difference: ImportDifference,
    listing: "_Listed",
    faces: "FoundFaces | None",
) -> "FoundLandmarks":
    """Return the landmarks of the videos that have new frames."""
    from trueface.data.imports.landmark_search import find_landmarks, read_landmark_record

    videos = list(_point_videos(arrangement, difference, listing, faces))
    with progress_bar(sum(len(each.frames) for each in videos), "searching landmarks") as progress:
        return find_landmarks(videos, read_landmark_record(request.out), progress)


def _point_videos(
    arrangement: Arrangement,
    difference: ImportDifference,
    listing: "_Listed",
    faces: "FoundFaces | None",
) -> Iterator["PointVideo"]:
    """Yield the videos that have new frames, with all their frames."""
    from trueface.data.imports.landmark_search import PointFrame, PointVideo

    changed = {path.rpartition("/")[0] for path in difference.new}
    folders: dict[str, list[str]] = defaultdict(list)  # folder below the data root → paths
    for image in arrangement.images:
        folder = image.file.rpartition("/")[0]
        if image.method in arrangement.video_folders and folder in changed:
            folders[folder].append(image.file)
    for folder, paths in folders.items():
        frames = []
        for path in paths:
            file = arrangement.files[path]
            face = None if faces is None else faces.searches[file].face
            crop = None if face is None or faces is None else (face, faces.record.geometry)
            name = path.rpartition("/")[2].rpartition(".")[0]
            frames.append(PointFrame(name, file, crop))
        above = arrangement.files[paths[0]].rpartition("/")[0]
        chosen = listing.chosen.get(above)
        yield PointVideo(folder, tuple(frames), "" if chosen is None else above, chosen)


def _landmark_remarks(landmarks: "FoundLandmarks | None") -> Iterator[str]:
    if landmarks is not None:
        from trueface.data.face_points import LICENCE

        yield LICENCE
        yield from landmarks.remarks


def _pictures_without_face(request: ImportRequest) -> Collection[str]:
    """Return the pictures that an earlier import into the data root could not align."""
    if not request.align:
        return ()
    from trueface.data.imports.alignment import read_alignment

    earlier = read_alignment(request.out)
    return () if earlier is None else earlier.left_out


def _find_faces(
    root: Path, geometry: "Geometry", difference: ImportDifference, listing: "_Listed"
) -> "FoundFaces":
    from trueface.data.imports.alignment import find_faces, read_alignment

    files = sorted({file for file, _, _ in difference.new.values()})
    with progress_bar(len(files), "searching faces") as progress:
        return find_faces(
            files,
            geometry,
            read_alignment(root),
            progress,
            are_all=not difference.there,
            decoded_files=listing.decoded,
            videos=listing.videos,
        )


def _write_faces(
    new_images: Mapping[str, Origin], faces: "FoundFaces", listing: "_Listed", folder: Path
) -> None:
    from trueface.data.imports.alignment import write_faces

    with progress_bar(len(new_images), "writing faces") as progress:
        write_faces(folder, new_images, faces, progress, decoded_files=listing.decoded)


def _warn_of_black_edges(arrangement: Arrangement, faces: "FoundFaces") -> Iterator[str]:
    """Yield a warning if more crops of one class have a black part."""
    by_class: dict[int, list[str]] = {REAL: [], FAKE: []}
    for image in arrangement.images:
        by_class[image.label].append(arrangement.files[image.file])
    real, fake = (faces.fraction_beyond_edge(by_class[label]) for label in (REAL, FAKE))
    if real is not None and fake is not None and abs(real - fake) > MOST_UNEVEN:
        yield (
            f"the crop reaches beyond the picture in {real:.0%} of the real and {fake:.0%} of the fake "
            "images, and that part is black. A detector can learn it. Use a smaller --align-margin."
        )


class _Listed(NamedTuple):
    """The images of a data set that can be read, before they are arranged."""

    images: list["registry.ImportedImage"]
    unread: Mapping[str, str]  # file → its format, which has no reader here
    videos: Mapping[str, int]  # video file with frames among the images → all frames that it has
    broken: Mapping[str, str]  # video file → why it gives no frames
    doubles: list[str]  # video files that are left out for a folder of frames
    decoded: Mapping[str, str]  # frame → its picture, which was decoded now
    traits: Mapping[str, "VideoTraits"]  # video file → its traits
    runs: tuple[tuple[str, ...], ...]  # frames of clips that follow each other
    chosen: Mapping[str, "ChosenFrames"]  # video file → the frames that are read
    pairing: "Pairing | None"  # None without --pairs


def _list_images(
    request: ImportRequest, layout: str, earlier_record: ImportRecord, stack: ExitStack
) -> _Listed:
    """List the images of the data set, and decode the frames that were not imported before.

    The pictures of frames are removed with the stack, unless they were moved.

    Raises:
        DataError, MachineError: nothing can be read.
    """
    # Pillow and numpy take a while to import; help must not wait for them
    from trueface.data.imports import video_frames
    from trueface.data.imports.alignment import name_aligned
    from trueface.data.imports.passed_over import without_reader

    found = video_frames.NO_VIDEOS
    if request.videos and registry.LAYOUTS[layout].reads_videos:
        found = video_frames.find_frames(request.folder, request.choice)
        if request.landmarks and found.chosen and not request.choice.clips:
            raise UsageError(
                "--landmarks needs consecutive frames of video files. Add --clips 4 --length 30."
            )
    options = registry.LayoutOptions(
        real=frozenset(request.real), videos=request.videos, frames=found.frames
    )
    images, formats = without_reader(registry.load(layout).images(request.folder, options))
    unread = formats | dict.fromkeys(found.unread, VIDEO)
    images, doubles = video_frames.without_doubles(images, found)
    pairing = _match_frames(request, images, found, earlier_record)
    left_out = set(_pictures_without_face(request))
    if pairing is not None:
        images = _drop_unpaired(images, pairing)
        left_out |= pairing.left_out.keys()
    waiting = video_frames.videos_to_decode(images, found, earlier_record, left_out)
    to_decode = _frames_to_decode(images, waiting, found, earlier_record, pairing)
    broken, decoded = dict(found.broken), dict[str, str]()
    if to_decode and (request.align or not request.dry_run):  # only pixels show a face
        arrange(name_aligned(images) if request.align else images)  # refuses names before the work
        folder = stack.enter_context(frame_staging(request.out, dry=request.dry_run))
        decoded, damaged = video_frames.decode_videos(
            list(to_decode), to_decode, folder, of_clips=request.choice.clips > 0
        )
        broken |= damaged
        images = [image for image in images if image.file.rpartition("/")[0] not in damaged]
    if pairing is not None:
        pairing = pairing.drop_unfit(decoded, broken)
        images = _drop_unpaired(images, pairing)
    if registry.LAYOUTS[layout].makes_pictures:
        decoded, damaged = _make_pictures(request, layout, images, earlier_record, stack)
        broken |= damaged
        images = [image for image in images if image.file.rpartition("/")[0] not in damaged]
    if not images:
        _refuse_nothing(request, unread, broken)
    if not (unread or broken):  # a class may have no other images
        _refuse_unused_real(request.real, images, layout)
    used = {image.file.rpartition("/")[0] for image in images}
    totals = {video: chosen.total for video, chosen in found.chosen.items() if video in used}
    traits = video_frames.collect_traits(found, decoded)
    runs = found.runs if request.choice.clips else ()
    return _Listed(
        images, unread, totals, broken, doubles, decoded, traits, runs, found.chosen, pairing
    )


def _drop_unpaired(
    images: Sequence[registry.ImportedImage], pairing: "Pairing"
) -> list[registry.ImportedImage]:
    """Return the images without fakes that have no real frame.

    Raises:
        DataError: no fake has one.
    """
    from trueface.data.imports.pairs import left_out_sentence

    kept = pairing.without_left_out(images)
    if pairing.left_out and not any(image.label == FAKE for image in kept):
        raise DataError(
            f"--pairs: no fake is left. {left_out_sentence(pairing.left_out)}. Name the videos as FaceForensics++ does, "
            "such as 000 and 000_003, or leave --pairs out."
        )
    return kept


def _refuse_other_pictures(request: ImportRequest) -> None:
    spec = registry.LAYOUTS.get(request.layout)
    if spec is None or not spec.makes_pictures:
        return
    for option, is_given in (("--align", request.align), ("--landmarks", request.landmarks)):
        if is_given:
            raise UsageError(
                f"{option}: the layout {spec.name} makes its own pictures. Leave {option} out."
            )


def _make_pictures(
    request: ImportRequest,
    layout: str,
    images: Sequence[registry.ImportedImage],
    earlier_record: ImportRecord,
    stack: ExitStack,
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the pictures that a layout makes of new files, and why damaged videos have none."""
    maker = registry.load(layout)
    assert isinstance(maker, registry.PictureLayout)
    before = {file for file, _, _ in earlier_record.files.values()}
    new = [image.file for image in images if image.file not in before]
    if request.dry_run or not new:
        return {}, {}
    arrange(images)  # refuses names before the work
    return maker.write_pictures(new, stack.enter_context(frame_staging(request.out, dry=False)))


def _refuse_unused_real(
    real_names: Sequence[str], images: Sequence["registry.ImportedImage"], layout: str
) -> None:
    """Refuse a class or source that is named as real and gives no real images; a class folder may be named."""
    reals = [image for image in images if image.label == REAL]
    real = {image.source for image in reals}
    if not real.issuperset(real_names):
        real |= {folder for image in reals for folder in image.file.split("/")[:-1]}
    if unused := [name for name in real_names if name not in real]:
        sources = sorted({image.source for image in images})
        shown = ", ".join(sources[:SHOWN]) + (", …" if len(sources) > SHOWN else "")
        reason = (
            f"the folders of the layout {layout} say which images are real"
            if unused[0] in sources
            else f"it is none of the {len(sources)} sources: {shown}"
        )
        raise UsageError(f"--real {unused[0]} has no effect: {reason}")


def _refuse_nothing(
    request: ImportRequest, unread_files: Mapping[str, str], broken_files: Mapping[str, str]
) -> None:
    """Raise an error that says why no image of the data set can be read, if that is known."""
    if unread_files:
        raise MachineError(f"no image can be read. {' '.join(_unread_sentences(unread_files))}")
    if broken_files:
        raise DataError(f"no image can be read. {_broken_sentence(broken_files)}")
    if not request.videos and (videos := registry.video_files(request.folder)):
        raise DataError(
            f"{request.folder} has no images in this layout, but {len(videos)} video files, such as "
            f"{videos[0]}. Use --videos to read their frames."
        )


def _read_earlier_lists(
    request: ImportRequest, earlier_record: ImportRecord
) -> dict[str, list[str]]:
    """Return the lists of an earlier import. Reject lists of any other origin."""
    if not any(path.exists() for path in split_files(request.splits)):
        return {}
    lists = read_lists(request.splits)
    own = {
        path.split("/Real/", 1)[-1].split("/Fake/", 1)[-1].rpartition(".")[0].replace("\\", "/")
        for path in earlier_record.files
    }
    if own.isdisjoint(key for keys in lists.values() for key in keys):
        raise UsageError(
            f"{request.splits} contains another split. Choose another folder with --splits."
        )
    if request.redraw:
        raise UsageError(
            f"{request.splits} already contains lists that models may have been trained on. "
            "With --redraw, choose another folder with --splits."
        )
    return lists


def _are_same_lists(earlier_lists: dict[str, list[str]], lists: Lists) -> bool:
    return {name: keys_digest(keys) for name, keys in earlier_lists.items()} == {
        name: keys_digest(keys) for name, keys in lists.items()
    }


def _unread_sentences(unread_files: Mapping[str, str]) -> Iterator[str]:
    """Yield in words which files have no reader here, and what installs it."""
    videos = [file for file, form in unread_files.items() if form == VIDEO]
    for files, extra in ((videos, "video"), (unread_files.keys() - videos, "heif")):
        if not files:
            continue
        formats = " and ".join(sorted({unread_files[file] for file in files}))
        count = f"{len(files)} {formats} file{'s' if len(files) > 1 else ''}"
        yield (
            f"{count} cannot be read here, such as {min(files)}. Install the reader and import "
            f"again: {install_command(extra)}"
        )


def _broken_sentence(broken_files: Mapping[str, str]) -> str:
    """Return in words which video files give no frames."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for file, reason in sorted(broken_files.items()):
        by_reason[reason].append(file)
    count = f"{len(broken_files)} video file{'s' if len(broken_files) > 1 else ''}"
    often = sorted(by_reason.items(), key=lambda item: -len(item[1]))
    shown = "; ".join(
        f"{files[0]}: {reason}{f' ({len(files)})' if len(often) > 1 else ''}"
        for reason, files in often[:MOST_REASONS]
    )
    return (
        f"{count} cannot be read, such as {shown}{'; …' * (len(often) > MOST_REASONS)}. Repair or "
        f"remove {'them' if len(broken_files) > 1 else 'it'}."
    )


def _video_remarks(listing: _Listed, request: ImportRequest, layout: str) -> Iterator[str]:
    if request.videos and not registry.LAYOUTS[layout].reads_videos:
        yield f"--videos has no effect: the layout {layout} reads no video files"
    if listing.broken:
        yield _broken_sentence(listing.broken)
    frames, length = request.choice.frames, request.choice.length
    for least, effect in ((frames, "All their frames are used."), (length, "They give no clip.")):
        if short := {video: total for video, total in listing.videos.items() if total < least}:
            first = min(short)
            yield (
                f"{len(short)} of {len(listing.videos)} videos have fewer than {least} frames, such as "
                f"{first} with {short[first]}. {effect}"
            )


def _faceless_remarks(listing: _Listed, faceless: Sequence[str]) -> Iterator[str]:
    if faceless:
        yield (
            f"{len(faceless)} of {len(listing.runs)} runs of consecutive frames are left out, because a frame has no "
            f"face, such as the run from {faceless[0]}"
        )


def _remarks(
    folder: Path,
    difference: ImportDifference,
    arrangement: Arrangement,
    lists: Lists,
    left_out: Sequence["PassedOver"],
) -> Iterator[str]:
    others = [each for each in left_out if each.reason == "outside_layout"]
    if others:
        yield (
            f"{sum(each.files for each in others)} image files in {folder} are not part of the set in "
            f"this layout, such as {others[0].example}"
        )
    if difference.missing:
        yield (
            f"skipped {len(difference.missing)} listed images that do not exist, such as "
            f"{difference.missing[0]}"
        )
    yield from arrangement.remarks
    if not arrangement.video_folders and (swaps := _folders_of_swaps(arrangement)):
        yield (
            f"{len(swaps)} folders have names of face swaps, such as {swaps[0]}. Use --videos to keep "
            "the frames of a person in one list."
        )
    if len(arrangement.sources) > MANY_SOURCES:
        yield (
            f"{len(arrangement.sources)} sources, each with its own word. If each source is a video, "
            "use --videos to keep its frames together under one word."
        )
    for label, word in ((0, "real"), (1, "fake")):
        if label not in arrangement.sources.values():
            yield f"no {word} images. A detector needs both classes for its training."
    for name in NAMES:
        if not lists[name]:
            yield f"the list {name} is empty"
    yield from describe_lacking_classes(
        lists, arrangement.images, do_shares_help=not arrangement.groups
    )


def _doubts(record: ImportRecord, root: Path) -> Iterator[str]:
    """Yield what makes results on the data root doubtful: equal files, and forms of files that reveal the class."""
    # Pillow and numpy take a while to import; help must not wait for them
    from trueface.data.image_headers import (
        PROPERTIES,
        header_fault,
        join_causes,
        sample_headers,
        shortcuts_in,
    )

    files = list(_labelled_files(record, root))
    headers, unreadable = sample_headers({each.file: each.label for each in files})
    if unreadable:
        yield (
            f"{len(unreadable)} of {len(headers) + len(unreadable)} sampled images cannot be read, such "
            f"as {unreadable[0]}: {header_fault(unreadable[0])}"
        )
    yield from map(_shortcut_sentence, join_causes(shortcuts_in(headers), headers, PROPERTIES))
    yield from _video_doubts(record)
    until = time.monotonic() + COMPARE_S
    if found := contradictions(files, is_over=lambda: time.monotonic() > until):
        real, fake = found[0]
        yield (
            f"{len(found)} images are both real and fake: {real[0]} (real) and {fake[0]} (fake) have "
            "equal bytes. Remove the wrong file of each pair."
        )
    if time.monotonic() > until:
        yield (
            f"comparing the files of both classes stopped after {COMPARE_S:.0f} s. After a training, "
            "compare all its images: trueface audit RUN --seconds 3600"
        )


def _video_doubts(record: ImportRecord) -> Iterator[str]:
    """Yield the traits of the videos that reveal the class, and how many videos are not known."""
    # Pillow and numpy take a while to import; help must not wait for them
    from trueface.data.image_headers import join_causes
    from trueface.data.video_headers import VIDEO_PROPERTIES, survey_videos, video_shortcuts

    if not record.video_traits:
        return
    labels = {path: label for path in record.files if (label := class_of(path)) is not None}
    videos = survey_videos(labels, record.video_traits, record.video_folders)
    found = video_shortcuts(videos.headers)
    yield from map(_shortcut_sentence, join_causes(found, videos.headers, VIDEO_PROPERTIES))
    if videos.unknown_reason:
        yield videos.unknown_reason


def _shortcut_sentence(shortcuts: Sequence["Shortcut"]) -> str:
    """Return a warning about traits of one cause."""
    tells, *same = shortcuts
    also = f" Of the same cause: {', '.join(each.name for each in same)}." if same else ""
    return (
        f"{tells.sentence} (real: {tells.real}; fake: {tells.fake}).{also} "
        f"{tells.remedy[0].upper()}{tells.remedy[1:]}."
    )


def _labelled_files(record: ImportRecord, root: Path) -> Iterator[LabelledFile]:
    """Yield the image files of a data root; a frame is in the root, and a dry run has none yet."""
    for path, (file, size, _) in record.files.items():
        label = class_of(path)
        if label is None:
            continue
        if registry.is_video(file.split("/")[-2]):
            with suppress(OSError):
                frame = root / path
                yield LabelledFile(str(frame), frame.stat().st_size, label)
        else:
            yield LabelledFile(file, size, label)


def _folders_of_swaps(arrangement: Arrangement) -> list[str]:
    """Return the folders of images whose names are those of videos with two people, sorted."""
    folders = {image.key.rpartition("/")[0] for image in arrangement.images}
    return sorted(
        folder for folder in folders if len(people_of_video(folder.rpartition("/")[2])) > 1
    )


def _rows(outcome: ImportOutcome) -> Iterator[dict[str, Json]]:
    """Yield each source of this set with its images by modifier and by list."""
    of_key = {key: name for name, keys in outcome.lists.items() for key in keys}
    modifiers: dict[str, Counter[str]] = defaultdict(Counter)
    in_lists: dict[str, Counter[str]] = defaultdict(Counter)
    for image in outcome.arrangement.images:
        modifiers[image.method][image.modifier] += 1
        in_lists[image.method][of_key[image.key]] += 1
    for source, label in outcome.arrangement.sources.items():
        yield {
            "word": vocabulary_word(source, outcome.record.words),
            "folder": source,
            "label": "fake" if label else "real",
            "modifiers": dict(sorted(modifiers[source].items())),
            **{name: in_lists[source][name] for name in NAMES},
        }


def _record(outcome: ImportOutcome) -> dict[str, Json]:
    return {
        "schema": SCHEMA,
        "layout": outcome.layout,
        "root": str(outcome.request.out),
        "splits": str(outcome.request.splits),
        "dry_run": outcome.request.dry_run,
        "videos": outcome.videos,
        "broken_videos": dict(sorted(outcome.broken_videos.items())),
        "new": len(outcome.difference.new),
        "there": outcome.difference.there,
        "missing": len(outcome.difference.missing),
        "groups": len(set(outcome.arrangement.groups.values())),
        "sources": list(_rows(outcome)),
        "lists": {name: len(keys) for name, keys in outcome.lists.items()},
        "passed_over": [each._asdict() for each in outcome.passed_over],
        **_alignment_record(outcome),
        **_pairs_record(outcome),
        "remarks": list(outcome.remarks),
    }


def _alignment_record(outcome: ImportOutcome) -> dict[str, Json]:
    if outcome.several_faces is None:
        return {}
    return {
        "alignment": str(outcome.request.out / ALIGNMENT),
        "several_faces": len(outcome.several_faces),
    }


def _pairs_record(outcome: ImportOutcome) -> dict[str, Json]:
    if outcome.paired is None:
        return {}
    return {"pairs": str(outcome.request.out / PAIRS), "paired": outcome.paired}


def _lines(outcome: ImportOutcome) -> Iterator[str]:
    request, rows = outcome.request, list(_rows(outcome))
    table: list[tuple[str, ...]] = [("data ID", "class", *NAMES)]
    for row in rows:
        ids = "&".join(f"{row['word']}:{modifier}" for modifier in _names(row["modifiers"]))
        table.append(
            (escape_unprintable(ids), str(row["label"]), *(str(row[name]) for name in NAMES))
        )
    yield from align_columns(table, left_columns=range(2))
    yield ""
    done = "would be " if request.dry_run else ""
    how = "aligned" if request.align else "copied" if request.copy else "linked"
    taken = outcome.arrangement.files.values()
    frames = sum(registry.is_video(file.split("/")[-2]) for file in taken)
    if frames and not request.align:
        how = "written" if frames == len(taken) else f"{how} or written"
    yield (
        f"{len(outcome.difference.new)} images {done}{how}, {outcome.difference.there} existed already; "
        f"{len(set(outcome.arrangement.groups.values()))} groups, each in one list"
    )
    if outcome.passed_over:
        yield f"skipped: {', '.join(map(str, outcome.passed_over))}"
    if outcome.several_faces:
        yield (
            f"several faces: {len(outcome.several_faces)}, such as "
            f"{escape_unprintable(outcome.several_faces[0])}. The largest face was taken"
        )
    if request.align and not request.dry_run:
        yield f"images without a face or with several: {escape_unprintable(str(request.out / ALIGNMENT))}"
    if outcome.paired is not None:
        where = escape_unprintable(str(request.out / PAIRS))
        yield f"pairs: {outcome.paired} fakes with their real frames, {done}in {where}"
    if not request.dry_run:
        words = ["trueface", "splits", str(request.out), "--check", str(request.splits)]
        words += ["--data", _join_modifiers(rows)]
        words += ["--group-by", str(request.out / GROUPS)] if outcome.record.groups else []
        yield f"in a task file: include: {escape_unprintable(str(request.out / DATASET))}"
        yield f"check for leaks: {escape_unprintable(shlex.join(words))}"


def _names(modifiers: Json) -> list[str]:
    return list(modifiers) if isinstance(modifiers, dict) else []


def _join_modifiers(rows: list[dict[str, Json]]) -> str:
    names = dict.fromkeys(name for row in rows for name in _names(row["modifiers"]))
    return "&".join(f"all:{name}" for name in names)
