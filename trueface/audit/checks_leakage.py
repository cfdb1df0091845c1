"""Findings on images that stand on two sides: training and test, training and validation."""

from collections.abc import Iterator

from trueface.audit.check import check
from trueface.audit.finding import FAULT, WARNING, Finding, Gap, Outcome
from trueface.audit.run_facts import Model, Tested
from trueface.data.splits import digest

EXAMPLES = 3


@check("train-test-overlap", "test images in the training list")
def trained_on_tests(model: Model) -> Iterator[Outcome]:
    """Find test images whose keys stand in the training list."""
    lists = model.lists
    if lists.train is None:
        yield Gap(reason=f"no training list: {_why(model)}")
        return
    tested = {key for test in model.tests for key in _keys(model, test)} or lists.test
    if not tested:
        yield Gap(reason="neither scores nor a test list name images")
        return
    both = sorted(tested & lists.train)
    if both:
        yield Finding(
            severity=FAULT,
            sentence="images of the test stand in the training list",
            advice="make the lists anew (trueface splits), train and test again",
            evidence={
                "test images": len(tested),
                "of them in the training list": len(both),
                "such as": ", ".join(both[:EXAMPLES]),
                "lists": lists.path,
            },
        )


@check("validation-overlap", "validation images in another list")
def validated_on_training(model: Model) -> Iterator[Outcome]:
    """Find validation images that stand in another list of the split."""
    lists = model.lists
    if lists.val is None or (lists.train is None and lists.test is None):
        reason = f"fewer than two lists of the split: {_why(model)}"
        yield Gap(reason=reason)
        return
    for name, other in (("training", lists.train), ("test", lists.test)):
        if other is None:
            yield Gap(reason=f"no {name} list: {_why(model)}")
        both = sorted(lists.val & (other or frozenset()))
        if both:
            yield Finding(
                severity=FAULT,
                sentence=f"images of the validation list stand in the {name} list, too",
                advice="the chosen epoch or the test is not independent; make the lists anew",
                evidence={
                    "validation list": len(lists.val),
                    f"of them in the {name} list": len(both),
                    "such as": ", ".join(both[:EXAMPLES]),
                },
            )


@check("same-content", "test files with the bytes of training files")
def same_content(model: Model) -> Iterator[Outcome]:
    """Find test files whose bytes are those of a training file."""
    survey = model.survey
    if survey is None:
        yield Gap(reason=model.survey_trouble)
        return
    if not survey.tested:
        reason = "no score file names a file below the data root"
        yield Gap(reason=reason)
        return
    if survey.left:
        reason = f"no time was left for {survey.left} of {survey.tested} test files; give --seconds"
        yield Gap(reason=reason)
    if survey.copies:
        yield Finding(
            severity=FAULT,
            sentence="test files have the same bytes as training files, under other names",
            advice="take one of each pair out, make the lists anew, train and test again",
            evidence={
                "training files": survey.trained,
                "test files compared": survey.tested - survey.left,
                "same bytes": len(survey.copies),
                "such as": " = ".join(survey.copies[0]),
            },
        )


@check("changed-split", "lists that have changed since")
def changed_lists(model: Model) -> Iterator[Outcome]:
    """Find tests and trainings whose lists are not those of the split as it is now."""
    lists, provenance = model.lists, model.provenance or {}
    digests = provenance.get("splits")
    evidence: dict[str, int | float | str] = {}
    marks = 0
    for name, keys in (("train", lists.train), ("val", lists.val)):
        mark = digests.get(name) if isinstance(digests, dict) else None
        marks += isinstance(mark, str) and keys is not None
        if isinstance(mark, str) and keys is not None and mark != digest(keys):
            evidence[f"{name} list then, now"] = f"{mark[:12]}, {digest(keys)[:12]}"
    for test in model.tests:
        mark = test.metrics.get("split_sha256")
        own = (test.lists or lists).test
        marks += isinstance(mark, str) and own is not None
        if isinstance(mark, str) and own is not None and mark != digest(own):
            evidence[f"test list of {test.data} then, now"] = f"{mark[:12]}, {digest(own)[:12]}"
    if evidence:
        yield Finding(
            severity=WARNING,
            sentence="lists of the split have changed since the training or a test",
            advice="give the old ones with --split-path, or train and test again",
            evidence=evidence,
        )
    elif lists.train is None and lists.test is None:
        yield Gap(reason=_why(model))
    elif not marks:
        reason = "neither provenance.json nor metrics hold the checksum of a list as it was then"
        yield Gap(reason=reason)


def _keys(model: Model, test: Tested) -> frozenset[str]:
    """Return the keys of a test's images; none where it names none, or they lie elsewhere."""
    scores = test.scores
    if scores is None or not scores.names_images:
        return frozenset()
    root = (model.provenance or {}).get("data_root")
    settings = test.metrics.get("settings")
    place = settings.get("data_root") if isinstance(settings, dict) else None
    if isinstance(root, str) and isinstance(place, str) and place.startswith("/") and place != root:
        return frozenset()  # the same key is another picture there
    return frozenset(scores.keys)


def _why(model: Model) -> str:
    return model.lists.trouble or "the split is not known; give --split-path"
