"""Findings on flipped labels: in which list they are, and from which images they were chosen."""

from collections.abc import Iterator

from trueface.audit.check import check
from trueface.audit.checks_training import idle_settings
from trueface.audit.finding import FAULT, Finding, Gap, NotApplicable, Outcome
from trueface.audit.run_facts import Model, number

TWO_SIDED = "flip"  # the kind of poison that draws from both classes


@check("poisoned-validation", "flipped labels in the validation list")
def poisoned_validation(model: Model) -> Iterator[Outcome]:
    """Find flipped labels in the validation list: the best epoch was then chosen by them."""
    record = model.record
    flipped = number(model.provenance or {}, "flipped_val")
    if flipped:
        yield Finding(
            severity=FAULT,
            sentence="validation labels were flipped, so the best epoch was chosen by wrong ones",
            advice="train again: poison belongs into the training list only",
            evidence={"flipped validation labels": int(flipped), **_of_validation(model)},
        )
        return
    if record is None:
        if flipped is None:
            reason = "neither a provenance.json nor a poison record tells which labels were flipped"
            yield Gap(reason=model.record_trouble or reason)
        return
    if model.lists.val is None:
        if flipped is None:
            yield Gap(reason=f"no validation list: {_why(model)}")
        return
    train = model.lists.train or frozenset()
    inside = sum(key in model.lists.val and key not in train for key in record.keys)
    if inside:
        yield Finding(
            severity=FAULT,
            sentence="the poison record names images of the validation list",
            advice="poison the training list only, train again, and choose the epoch by true labels",
            evidence={
                "recorded keys": len(record.keys),
                "of them in the validation list": inside,
                "validation list": len(model.lists.val),
                "record": record.path,
            },
        )


@check("record-of-another-split", "a poison record of other images than the training's")
def other_record(model: Model) -> Iterator[Outcome]:
    """Find a record that was drawn from another set than the training images."""
    record = model.record
    if record is None:
        yield _unrecorded(model)
        return
    evidence: dict[str, int | float | str] = {}
    provenance = model.provenance or {}
    trained, mark = number(provenance, "train_images"), provenance.get("train_images_sha256")
    if trained is not None and trained != record.total:
        evidence |= {"record's total": record.total, "training images": int(trained)}
    if record.images_sha256 and isinstance(mark, str) and mark != record.images_sha256:
        evidence |= {
            "record's set (sha256)": record.images_sha256[:12],
            "training set (sha256)": mark[:12],
        }
    then = provenance.get("poison_record_sha256")
    # an unlearning writes its base's record anew, maybe in a newer form
    if isinstance(then, str) and not model.unlearned and model.record_sha256 not in {None, then}:
        evidence |= {
            "record of the training (sha256)": then[:12],
            "record that lies there (sha256)": str(model.record_sha256)[:12],
        }
    if model.misplaced:
        evidence["indices that are not the place of their key"] = model.misplaced
    lists = model.lists
    if lists.train is not None:
        outside = sum(key not in lists.train for key in record.keys)
        if outside:
            evidence |= {
                "recorded keys": len(record.keys),
                "not in the training list": outside,
                "training list": len(lists.train),
            }
    elif lists.val is not None:
        evidence |= _of_other_lists(record.total, record.keys, lists.val, lists.test)
    elif trained is None and not isinstance(mark, str):
        yield Gap(reason=f"no training list: {_why(model)}")
    if evidence:
        yield Finding(
            severity=FAULT,
            sentence="the poison record is not one of this model's training images",
            advice="do not unlearn by it; poison again and train on that record",
            evidence={**evidence, "record": record.path},
        )


@check("flag-without-effect", "poison or settings that changed nothing")
def without_effect(model: Model) -> Iterator[Outcome]:
    """Find poison and settings that were asked for and did nothing."""
    yield from _no_flips(model)
    yield from idle_settings(model)


def _no_flips(model: Model) -> Iterator[Outcome]:
    """Find poison that was asked for and never reached the labels."""
    record = model.record
    flipped = number(model.provenance or {}, "flipped_train")
    if model.unlearned:
        reason = "its last job learned from the labels of an unlearning"
        yield NotApplicable(reason=reason)
        return
    if model.rate is None:
        if record is None:
            yield _unrecorded(model)
        elif flipped is None:
            reason = "no provenance.json records how many labels were flipped in the training"
            yield Gap(reason=reason)
        elif flipped == 0 and record.keys:
            yield _idle(model, "there is a poison record, and no label was flipped", flipped)
        return
    if record is None:
        if model.record_trouble.startswith("cannot"):
            yield Gap(reason=model.record_trouble)
            return
        yield _idle(model, f"{model.said_by} says poison, and there is no poison record", flipped)
        return
    if flipped is None:
        reason = "no provenance records how many labels were flipped in the training"
        yield Gap(reason=reason)
    elif flipped == 0:
        yield _idle(model, f"{model.said_by} says poison, and no label was flipped", flipped)
    elif int(flipped) != len(record.keys):
        sentence = "the number of flipped labels is not that of the poison record"
        yield _idle(model, sentence, flipped)


@check("one-class-forget-set", "recorded labels of one class only")
def one_class(model: Model) -> Iterator[Outcome]:
    """Find a set to forget that holds one class, though both were to be poisoned."""
    record = model.record
    yield from _one_class_unlearning(model)
    if record is None:
        yield _unrecorded(model)
        return
    if record.kind != TWO_SIDED:
        reason = f"poison of kind {record.kind} is of one class on purpose"
        yield NotApplicable(reason=reason)
        return
    classes = record.classes or _classes(model, record.keys)
    if classes is None:
        reason = "nothing tells the class of the recorded keys: give --data-root"
        yield Gap(reason=reason)
        return
    if len(classes) > 1 and len(set(classes)) == 1 and _has_both(model):
        yield Finding(
            severity=FAULT,
            sentence=f"every recorded label is one of {_class_name(classes[0])} images, though both "
            "classes were to be poisoned",
            advice="an unlearning of this set forgets the class, not the poison; poison again, or "
            f"say so in the ID ({'f2r' if classes[0] else 'r2f'}-…)",
            evidence={"fake": sum(classes), "real": len(classes) - sum(classes)},
        )


def _one_class_unlearning(model: Model) -> Iterator[Outcome]:
    """Find a forget set of which every image is on one side, by what the unlearning wrote."""
    series, lists = model.unlearning, model.lists
    if not series or model.record is None:
        return
    if lists.train is None:
        reason = f"an unlearning read its set by position in the training list: {_why(model)}"
        last = series["poison_train"][-1][1] if series.get("poison_train") else None
        if last is not None and last in {0.0, 100.0} and _constant(model):
            yield Finding(
                severity=FAULT,
                sentence="the unlearned model gives one answer, and it is wrong or right for every "
                "image to be forgotten: these are of one class",
                advice="check which images were to be forgotten, and unlearn the recorded keys",
                evidence={
                    "accuracy on the set to forget, %": last,
                    "accuracy on the test list, %": round(series["test"][-1][1], 2),
                    "to forget": len(model.record.keys),
                },
            )
            return
        yield Gap(reason=reason)


def _unrecorded(model: Model) -> Gap | NotApplicable:
    """Return why the check needs a poison record."""
    if model.rate is None and not model.record_trouble.startswith("cannot"):
        return NotApplicable(reason="no label of it is said to be wrong")
    return Gap(reason=model.record_trouble)


def _constant(model: Model) -> bool:
    tests = model.unlearning.get("test", [])
    return len(tests) > 1 and tests[-1][1] == tests[-2][1]


def _idle(model: Model, sentence: str, flipped: float | None) -> Finding:
    evidence: dict[str, int | float | str] = {"share of labels said to be wrong": model.rate or 0.0}
    if flipped is not None:
        evidence["labels turned round"] = int(flipped)
    if model.record is not None:
        evidence["recorded keys"] = len(model.record.keys)
    return Finding(
        severity=FAULT,
        sentence=sentence,
        advice="poison and train again; what was measured is not a poisoned model",
        evidence=evidence,
    )


def _of_other_lists(
    total: int, keys: tuple[str, ...], val: frozenset[str], test: frozenset[str] | None
) -> dict[str, int | float | str]:
    """Return what speaks against a record where the training list itself is not there."""
    for name, listed in (("validation", val), ("test", test or frozenset())):
        inside = sum(key in listed for key in keys)
        if inside:
            return {
                "record's total": total,
                f"{name} list": len(listed),
                "recorded keys": len(keys),
                f"of them in the {name} list": inside,
            }
    return {}


def _classes(model: Model, keys: tuple[str, ...]) -> tuple[int, ...] | None:
    labels = [model.methods.get(key.partition("/")[0]) for key in keys]
    known_labels = tuple(label for label in labels if label is not None)
    return known_labels if known_labels and len(known_labels) == len(labels) else None


def _has_both(model: Model) -> bool:
    """Tell whether the training data hold both classes, as far as its list tells; else they do."""
    if model.lists.train is None:
        return True
    labels = {model.methods.get(key.partition("/")[0]) for key in model.lists.train}
    return labels >= {0, 1} or None in labels


def _of_validation(model: Model) -> dict[str, int | float | str]:
    count = number(model.provenance or {}, "val_images")
    return {} if count is None else {"validation images": int(count)}


def _class_name(label: int) -> str:
    return "fake" if label else "real"


def _why(model: Model) -> str:
    return model.lists.trouble or "the split is not known; give --split-path"
