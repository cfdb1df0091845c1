"""Findings on the images: in two lists at once, separable by file properties, groups of people."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial

from trueface.audit.check import check
from trueface.audit.finding import FAULT, WARNING, Finding, Gap, NotApplicable, Outcome
from trueface.audit.run_facts import (
    UNTESTED,
    AuditedTest,
    Evidence,
    GroupFacts,
    GroupTest,
    Model,
    cramers_v,
    read_mapping,
)
from trueface.data.attribute_table import FEW, UNKNOWN, AttributeCounts
from trueface.data.class_copies import IN_CLASSES, IN_TEST, read_equal_images
from trueface.data.image_headers import (
    CODING,
    COLOUR_MODE,
    COMPRESSION,
    DECIDING,
    FORMAT,
    LEAST,
    METADATA,
    ORIENTATION,
    RESOLUTION,
    SIZE,
    SOFTWARE,
    SUBSAMPLING,
    TABLES,
    Property,
    Shortcut,
    by_class,
    join_causes,
    shortcut,
)
from trueface.data.splits.split_files import keys_digest
from trueface.data.video_headers import VIDEO_PROPERTIES, video_shortcuts

EXAMPLES = 3
DEPENDENT = 0.1  # Cramér's V from which on a group predicts the class; a small effect by Cohen
BEYOND = 2.0  # times its floor: a gap that is near it may be one of other test images
MOST = 12  # groups that a finding names
BY_CONTENT = "a data set of classes has no split, and its images are compared by content"
UNCOMPARED = "provenance.json does not contain a comparison of the images. Run the training again."
NO_ATTRIBUTES = "the groups of its images are unknown, because the setting `attributes` is missing"


@check("train-test-overlap", "test images in the training list")
def trained_on_tests(model: Model) -> Iterator[Outcome]:
    """Find test images whose keys are in the training list."""
    lists = model.lists
    if model.is_of_classes:
        yield NotApplicable(BY_CONTENT)
        return
    tested = {key for test in model.tests for key in _keys(model, test)} or lists.test
    if tested:
        yield from _trained_ancestors(model, tested)
    if lists.train is None:
        yield Gap(f"no training list: {lists.missing_list_reason}")
        return
    if not tested:
        yield Gap("neither the scores nor a test list name images")
        return
    both = sorted(tested & lists.train)
    if both:
        yield Finding(
            FAULT,
            "test images are also in the training list",
            "make new splits (trueface splits), then train and test again",
            {
                "test images": len(tested),
                "of them in the training list": len(both),
                "such as": ", ".join(both[:EXAMPLES]),
                "lists": lists.path,
            },
        )


def _trained_ancestors(model: Model, test_keys: Collection[str]) -> Iterator[Outcome]:
    """Find bases and teachers that learned from test images which are not in the model's own training list."""
    own = model.lists.train or frozenset()
    for ancestor in model.ancestors:
        if ancestor.trouble:
            yield Gap(f"training images of {ancestor.description} are unknown: {ancestor.trouble}")
        both = sorted(ancestor.keys.intersection(test_keys) - own)
        if both:
            yield Finding(
                FAULT,
                f"test images are also training images of {ancestor.description}",
                "test on images that neither the model nor its bases and teachers learned from",
                {
                    "test images": len(test_keys),
                    f"of them in the training of {ancestor.name}": len(both),
                    "such as": ", ".join(both[:EXAMPLES]),
                },
            )


@check("validation-overlap", "validation images in another split")
def validated_on_training(model: Model) -> Iterator[Outcome]:
    """Find validation images that are in another list of the split."""
    lists = model.lists
    if model.is_of_classes:
        yield NotApplicable(BY_CONTENT)
        return
    if lists.val is None or (lists.train is None and lists.test is None):
        yield Gap(f"fewer than two splits are known: {lists.missing_list_reason}")
        return
    for name, other in (("training", lists.train), ("test", lists.test)):
        if other is None:
            yield Gap(f"no {name} list: {lists.missing_list_reason}")
        both = sorted(lists.val & (other or frozenset()))
        if both:
            yield Finding(
                FAULT,
                f"validation images are also in the {name} list",
                "make new splits, then train and test again, because the selected epoch or the test is not independent",
                {
                    "validation list": len(lists.val),
                    f"of them in the {name} list": len(both),
                    "such as": ", ".join(both[:EXAMPLES]),
                },
            )


@check("same-content", "test files with the same bytes as other files")
def find_equal_content(model: Model) -> Iterator[Outcome]:
    """Find test files whose bytes are those of a training file or of another test file."""
    if model.is_of_classes:
        yield from _recorded_copies(
            model,
            IN_TEST,
            "test images are copies of training images",
            "remove one file of each pair, then train and unlearn again, because the test and membership "
            "inference measure trained images",
        )
        return
    survey = model.survey
    if survey is None:
        yield Gap(model.survey_trouble)
        return
    if not survey.tested:
        yield Gap("no score file names a file in the data root")
        return
    if survey.uncompared:
        yield Gap(
            f"{survey.uncompared} of {survey.tested} test files were not compared within the time limit. Raise --seconds."
        )
    if survey.copies:
        yield Finding(
            FAULT,
            "test files have the same bytes as training files with other names",
            "remove one file of each pair, make new splits, then train and test again",
            {
                "training files": survey.trained,
                "test files compared": survey.tested - survey.uncompared,
                "same bytes": len(survey.copies),
                "such as": " = ".join(survey.copies[0]),
            },
        )
    if survey.repeated:
        yield Finding(
            WARNING,
            "test files have the same bytes as other test files, so images count several times and intervals are "
            "too narrow",
            "remove one file of each pair and test again",
            {
                "test files": survey.tested,
                "copies": len(survey.repeated),
                "such as": " = ".join(survey.repeated[0]),
            },
        )


@check("label-contradiction", "training files of several classes with the same bytes")
def contradicting_labels(model: Model) -> Iterator[Outcome]:
    """Find images that the training uses in two classes, such as real and fake."""
    if model.is_of_classes:
        yield from _recorded_copies(
            model,
            IN_CLASSES,
            "training images of several classes have the same content, so one label is wrong",
            "remove the wrong file of each pair and train again",
        )
        return
    survey = model.survey
    if survey is None:
        yield Gap(model.survey_trouble)
        return
    if not survey.all_compared:
        yield Gap("not all training files were compared within the time limit. Raise --seconds.")
    if survey.contradictions:
        real, fake = survey.contradictions[0]
        yield Finding(
            FAULT,
            "training files of both classes have the same bytes, so one label is wrong",
            "remove the wrong file of each pair, make new splits and train again",
            {
                "training files": survey.trained,
                "pictures in both classes": len(survey.contradictions),
                "such as": f"{real[0]} (real) = {fake[0]} (fake)",
            },
        )


@check("changed-split", "splits that changed later")
def changed_lists(model: Model) -> Iterator[Outcome]:
    """Find tests and trainings whose lists are not those of the split as it is now."""
    lists, digests = model.lists, read_mapping(model.provenance, "splits")
    marks = [
        ("train list", digests.get("train"), lists.train),
        ("val list", digests.get("val"), lists.val),
        *(
            (f"test list of {test.data}", test.metrics.get("split_sha256"), test.lists.test)
            for test in model.tests
        ),
    ]
    known = [
        (name, mark[:12], keys_digest(keys)[:12], mark == keys_digest(keys))
        for name, mark, keys in marks
        if isinstance(mark, str) and keys is not None
    ]
    evidence: Evidence = {
        f"{name} then, now": f"{then}, {now}" for name, then, now, same in known if not same
    }
    if evidence:
        yield Finding(
            WARNING,
            "the splits changed after the training or a test",
            "give the old splits with --split-path, or train and test again",
            evidence,
        )
    elif lists.train is None and lists.test is None:
        yield Gap(lists.missing_list_reason)
    elif not known:
        yield Gap("neither provenance.json nor the metrics contain the checksum of a split")


def _recorded_copies(model: Model, kind: str, sentence: str, advice: str) -> Iterator[Outcome]:
    """Find equal images of a data set of classes, which its job compared."""
    equal = read_equal_images(model.provenance, kind)
    if equal is None:
        yield Gap(UNCOMPARED)
    elif equal.images:
        evidence: Evidence = {"images": equal.images, "such as": equal.example}
        yield Finding(FAULT, sentence, advice, evidence)


def _keys(model: Model, test: AuditedTest) -> frozenset[str]:
    """Return the keys of a test's images; none if it names none, or they are elsewhere."""
    scores = test.scores
    if scores is None or not scores.names_images:
        return frozenset()
    root, roots = model.provenance.get("data_root"), test.settings.get("data_root")
    if isinstance(root, str) and isinstance(roots, str) and roots.startswith("/") and roots != root:
        return frozenset()  # the same key is another image there
    return frozenset(scores.keys)


def find_class_differences(model: Model, trait: Property) -> Iterator[Outcome]:
    """Find a property of image files that predicts the class of a training image.

    Args:
        model: with a survey of its training files.
        trait: the property.
    """
    survey = model.survey
    if survey is None:
        yield Gap(model.survey_trouble)
        return
    real, fake = by_class(survey.file_headers, trait)
    if trait.of_format and not (real and fake):
        yield NotApplicable("the classes have no files of a common format that have it")
        return
    if min(len(real), len(fake)) < LEAST:
        counts = f"only {len(real)} real and {len(fake)} fake headers"
        yield Gap(f"{counts}, but {LEAST} of each are needed")
        return
    if tells := shortcut(survey.file_headers, trait):
        yield _finding(tells)


def _finding(tells: Shortcut, same_cause: Sequence[Shortcut] = ()) -> Finding:
    also = {"of the same cause": ", ".join(each.name for each in same_cause)} if same_cause else {}
    return Finding(
        FAULT if tells.accuracy >= DECIDING and tells.shapes_pixels else WARNING,
        tells.sentence,
        tells.remedy,
        {
            "balanced accuracy": round(tells.accuracy, 3),
            "real": tells.real,
            "fake": tells.fake,
            **also,
        },
    )


in_format = check("class-differs-in-format", "a class with another file format")(
    partial(find_class_differences, trait=FORMAT)
)
in_size = check("class-differs-in-size", "a class with another image size")(
    partial(find_class_differences, trait=SIZE)
)
in_tables = check("class-differs-in-jpeg-tables", "a class with other JPEG tables")(
    partial(find_class_differences, trait=TABLES)
)
in_orientation = check("class-differs-in-orientation", "a class with another EXIF orientation")(
    partial(find_class_differences, trait=ORIENTATION)
)
in_colour_mode = check("class-differs-in-colour-mode", "a class with another colour mode")(
    partial(find_class_differences, trait=COLOUR_MODE)
)
in_subsampling = check("class-differs-in-chroma-subsampling", "a class with another subsampling")(
    partial(find_class_differences, trait=SUBSAMPLING)
)
in_compression = check("class-differs-in-compression", "a class of lossy or lossless files")(
    partial(find_class_differences, trait=COMPRESSION)
)
in_coding = check("class-differs-in-coding", "a class of progressive or interlaced files")(
    partial(find_class_differences, trait=CODING)
)
in_metadata = check("class-differs-in-metadata", "a class with other kinds of metadata")(
    partial(find_class_differences, trait=METADATA)
)
in_resolution = check("class-differs-in-resolution", "a class with another recorded resolution")(
    partial(find_class_differences, trait=RESOLUTION)
)
in_software = check("class-differs-in-software", "a class from another camera or software")(
    partial(find_class_differences, trait=SOFTWARE)
)


@check("class-differs-in-videos", "a class of videos with another compression or origin")
def find_video_differences(model: Model) -> Iterator[Outcome]:
    """Find traits of video files that predict the class of the training frames."""
    survey = model.survey
    if survey is None:
        yield Gap(model.survey_trouble)
        return
    videos = survey.videos
    if videos.unknown_reason:
        yield Gap(videos.unknown_reason)
    elif not videos.headers:
        yield NotApplicable("the training images are not frames of video files")
        return
    real, fake = ([each for each in videos.headers if each.label == label] for label in (0, 1))
    if videos.headers and min(len(real), len(fake)) < LEAST:
        counts = f"only {len(real)} real and {len(fake)} fake videos are known"
        yield Gap(f"{counts}, but {LEAST} of each are needed")
    found = video_shortcuts(videos.headers)
    for tells, *same_cause in join_causes(found, videos.headers, VIDEO_PROPERTIES):
        yield _finding(tells, same_cause)


@check("group-tells-label", "labels that depend on the group in training")
def dependent_labels(model: Model) -> Iterator[Outcome]:
    """Find training images whose group predicts their class: the detector may learn the group."""
    groups = model.groups
    if groups is None or not groups.train:
        yield _explain_missing_groups(groups)
        return
    values = {by: cramers_v(cells) for by, cells in groups.train.items()}
    clear = {by: value for by, value in values.items() if value > DEPENDENT}
    if not clear:
        return
    strongest = max(clear, key=lambda word: clear[word])
    yield Finding(
        WARNING,
        f"in the training data, the class depends on the group {strongest} (Cramér's V "
        f"{clear[strongest]:.2f})",
        "balance the training data by group and class, or weight it (fair: reweight), then compare "
        "the gaps (trueface fairness)",
        {
            **{f"Cramér's V, {by}": round(value, 3) for by, value in clear.items()},
            **_table(groups.train[strongest]),
        },
    )


@check("few-of-a-group", f"fewer than {FEW} test images of a class in a group")
def few_of_a_group(model: Model) -> Iterator[Outcome]:
    """Find groups of a test whose rates are hardly known."""
    yield from _find_group_faults(
        model,
        lambda test: _describe_group_counts(_find_small_groups(test.subgroup_counts)),
        f"the test has groups with fewer than {FEW} images of a class, so the error of their rates is up to ± 18 points",
        "test more images of these groups, or use the intervals of their rates",
    )


@check("gap-above-floor", f"an FPR gap of more than {BEYOND:g} times its floor")
def gap_above_floor(model: Model) -> Iterator[Outcome]:
    """Find gaps between groups that shuffled groups do not have."""

    def describe_excess_gap(test: GroupTest) -> str | Gap:
        if test.gap is None or test.floor is None:
            few = f"fewer than two groups of {test.by} have real images with finite logits"
            return Gap(f"{test.data}: {few}")
        shown = f"{test.gap:.1f} points; 95 % of shuffles are below {test.floor:.1f}"
        return shown if test.gap > BEYOND * test.floor else ""

    yield from _find_group_faults(
        model,
        describe_excess_gap,
        "real images of some groups are classified as fake far more often than those of others",
        "check the groups (trueface fairness) and their labels in the training data",
    )


@check("untrained-group", "test images of a group without training images")
def untrained_group(model: Model) -> Iterator[Outcome]:
    """Find groups of a test of which the training had no image."""
    groups = model.groups
    if groups is None or not groups.train:
        yield _explain_missing_groups(groups)
        return

    def untrained_groups_text(test: GroupTest) -> str:
        known = {UNKNOWN, *groups.train.get(test.by, test.subgroup_counts).counts}
        there = test.subgroup_counts.counts.items()
        return _describe_group_counts({name: counts for name, counts in there if name not in known})

    yield from _find_group_faults(
        model,
        untrained_groups_text,
        "some groups of the test have no training images",
        "add training images of these groups, or report that the model was not trained on them",
        partly=False,
    )


def _find_group_faults(
    model: Model,
    find_fault: Callable[[GroupTest], str | Gap],
    sentence: str,
    advice: str,
    *,
    partly: bool = True,
) -> Iterator[Outcome]:
    """Find faults in tests by groups.

    Args:
        model: with its tests.
        find_fault: returns the fault of a test, "" if there is none, or a gap if it cannot be known.
        sentence: of the finding.
        advice: the recommended action.
        partly: also report why some of several tests could not be checked.
    """
    groups = model.groups
    if groups is None or not groups.tests:
        yield _explain_missing_gap(model)
        return
    if partly and groups.test_trouble:
        yield Gap(groups.test_trouble)
    evidence: Evidence = {}
    for test in groups.tests:
        found = find_fault(test)
        if isinstance(found, Gap):
            yield found
        elif found:
            evidence[f"{test.by}, {test.data}"] = found
    if evidence:
        yield Finding(WARNING, sentence, advice, evidence)


def _explain_missing_groups(groups: GroupFacts | None) -> Outcome:
    if groups is None:
        return NotApplicable(NO_ATTRIBUTES)
    return Gap(groups.train_trouble or "the table of attributes has no group column")


def _explain_missing_gap(model: Model) -> Outcome:
    if model.groups is None:
        return NotApplicable(NO_ATTRIBUTES)
    if not model.tests:
        return Gap(UNTESTED)
    return Gap(model.groups.test_trouble or "no test names images with known groups")


def _find_small_groups(cells: AttributeCounts) -> dict[str, tuple[int, int]]:
    """Return the groups with fewer than `FEW` images of a class that the test has at all."""
    there = [any(column) for column in zip(*cells.counts.values(), strict=True)]
    return {
        name: counts
        for name, counts in cells.counts.items()
        if name != UNKNOWN
        and min(count for count, any_ in zip(counts, there, strict=True) if any_) < FEW
    }


def _table(cells: AttributeCounts) -> dict[str, str]:
    """Return a row for each group; of many the largest."""
    rows = sorted(cells.counts.items(), key=lambda row: -sum(row[1]))
    shown = {name: f"{real} real, {fake} fake" for name, (real, fake) in rows[:MOST]}
    left = len(rows) - len(shown)
    return {**shown, **({"further groups": str(left)} if left > 0 else {})}


def _describe_group_counts(cells: Mapping[str, tuple[int, int]]) -> str:
    texts = [f"{name} {real} real and {fake} fake" for name, (real, fake) in cells.items()]
    more = f" and {len(texts) - MOST} more" if len(texts) > MOST else ""
    return f"{', '.join(texts[:MOST])}{more}"
