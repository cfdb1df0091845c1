"""Findings on flipped labels: in which list they are, and from which images they were chosen."""

from collections.abc import Iterator

from trueface.audit.check import check
from trueface.audit.checks_training import idle_settings
from trueface.audit.finding import FAULT, WARNING, Finding, Gap, NotApplicable, Outcome
from trueface.audit.run_facts import Evidence, Model, Poisoning, read_number

TWO_SIDED = "flip"  # the kind of poison that draws from both classes


@check("poisoned-validation", "flipped labels in the validation list")
def poisoned_validation(model: Model) -> Iterator[Outcome]:
    """Find flipped labels in the validation list: the best epoch was then chosen by them."""
    record = model.poison.record
    flipped = read_number(model.provenance, "flipped_val")
    if flipped:
        count = read_number(model.provenance, "val_images")
        images = {} if count is None else {"validation images": int(count)}
        yield Finding(
            FAULT,
            "validation labels were flipped, so the best epoch was selected by wrong labels",
            "train again and poison only the training list",
            {"flipped validation labels": int(flipped), **images},
        )
        return
    if record is None:
        if flipped is None:
            yield Gap(model.poison.trouble)
        return
    if model.lists.val is None:
        if flipped is None:
            yield Gap(f"no validation list: {model.lists.missing_list_reason}")
        return
    train = model.lists.train or frozenset()
    inside = sum(key in model.lists.val and key not in train for key in record.keys)
    if inside:
        yield Finding(
            FAULT,
            "the poison record contains images of the validation list",
            "poison only the training list, train again, and select the epoch by true labels",
            {
                "recorded keys": len(record.keys),
                "of them in the validation list": inside,
                "validation list": len(model.lists.val),
                "record": record.path,
            },
        )


@check("record-of-another-split", "a poison record that does not match the training images")
def other_record(model: Model) -> Iterator[Outcome]:
    """Find a record that was drawn from another set than the training images."""
    record = model.poison.record
    if record is None:
        yield _explain_missing_record(model.poison)
        return
    evidence: Evidence = {}
    provenance = model.provenance
    trained, mark = read_number(provenance, "train_images"), provenance.get("train_images_sha256")
    if trained is not None and trained != record.total:
        evidence |= {"record's total": record.total, "training images": int(trained)}
    if record.images_sha256 and isinstance(mark, str) and mark != record.images_sha256:
        evidence |= {
            "record's set (sha256)": record.images_sha256[:12],
            "training set (sha256)": mark[:12],
        }
    then = provenance.get("poison_record_sha256")
    # an unlearning rewrites the record of its base, perhaps in a newer form
    if isinstance(then, str) and not model.poison.unlearned and record.sha256 not in {None, then}:
        evidence |= {
            "record of the training (sha256)": then[:12],
            "record that lies there (sha256)": str(record.sha256)[:12],  # prose: ok, a key of JSON
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
        evidence |= _find_contradictions_in_lists(record.total, record.keys, lists.val, lists.test)
    elif trained is None and not isinstance(mark, str):
        yield Gap(f"no training list: {lists.missing_list_reason}")
    if evidence:
        yield Finding(
            FAULT,
            "the poison record does not match the training images of this model",
            "do not unlearn with this record; poison again and train with the new record",
            {**evidence, "record": record.path},
        )


@check("flag-without-effect", "poison or settings without effect")
def without_effect(model: Model) -> Iterator[Outcome]:
    """Find poison and settings that were asked for and did nothing."""
    yield from _no_flips(model)
    yield from idle_settings(model)


def _no_flips(model: Model) -> Iterator[Outcome]:
    """Find poison that was asked for and never reached the labels."""
    poison, record = model.poison, model.poison.record
    flipped = read_number(model.provenance, "flipped_train")
    if poison.unlearned:
        yield NotApplicable("its last job was an unlearning")
    elif record is None and (poison.rate is None or poison.unreadable):
        yield _explain_missing_record(poison)
    elif record is None:
        yield _find_idle_poison(
            model, f"{poison.said_by} declares poison, but there is no poison record", flipped
        )
    elif flipped is None:
        file = "provenance.json" if poison.rate is None else "provenance"
        yield Gap(f"no {file} records the number of flipped training labels")
    elif poison.rate is None:
        if flipped == 0 and record.keys:
            yield _find_idle_poison(
                model, "there is a poison record, but no label was flipped", flipped
            )
    elif flipped == 0:
        yield _find_idle_poison(
            model, f"{poison.said_by} declares poison, but no label was flipped", flipped
        )
    elif int(flipped) != len(record.keys):
        sentence = "the number of flipped labels differs from that of the poison record"
        yield _find_idle_poison(model, sentence, flipped)


@check("one-class-forget-set", "recorded labels of only one class")
def one_class(model: Model) -> Iterator[Outcome]:
    """Find a set to forget that holds one class, though both were to be poisoned."""
    record = model.poison.record
    yield from _one_class_unlearning(model)
    if record is None:
        yield _explain_missing_record(model.poison)
        return
    if record.kind != TWO_SIDED:
        yield NotApplicable(f"poison of kind {record.kind} affects one class by definition")
        return
    classes = record.classes or _classes_of_keys(model, record.keys)
    if classes is None:
        yield Gap("the class of the recorded keys is unknown. Give --data-root.")
        return
    if len(classes) > 1 and len(set(classes)) == 1 and _has_both(model):
        yield Finding(
            FAULT,
            f"all recorded labels are of {'fake' if classes[0] else 'real'} images, although both "
            "classes should be poisoned",
            "poison again, or use this kind of poison in the ID "
            f"({'f2r' if classes[0] else 'r2f'}-…), because unlearning this set forgets the class",
            {"fake": sum(classes), "real": len(classes) - sum(classes)},
        )


@check("poisoned-teacher", "a teacher that learned from flipped labels")
def poisoned_teacher(model: Model) -> Iterator[Outcome]:
    """Find a teacher whose training labels were flipped, so that its student learned from wrong targets."""
    teachers = [each for each in model.ancestors if each.student]
    if not teachers:
        yield NotApplicable("the model was not distilled from a teacher")
        return
    for teacher in teachers:
        if teacher.rate:
            yield Finding(
                WARNING,
                f"flipped labels trained {teacher.description}",
                "use a teacher with true labels, or report its flips (column teacher_poison)",
                {"teacher": teacher.name, "share of its labels that were flipped": teacher.rate},
            )


def _one_class_unlearning(model: Model) -> Iterator[Outcome]:
    """Find a forget set of a single class, by the files of the unlearning."""
    series, lists, record = model.unlearning, model.lists, model.poison.record
    if not series or record is None or lists.train is not None:
        return
    forgotten, tests = series.get("poison_train"), series.get("test", [])
    is_constant = len(tests) > 1 and tests[-1][1] == tests[-2][1]
    if not forgotten or forgotten[-1][1] not in {0.0, 100.0} or not is_constant:
        yield Gap(
            f"the unlearning selected its images by position in the training list: {lists.missing_list_reason}"
        )
        return
    yield Finding(
        FAULT,
        "the unlearned model predicts one class, and all images to be forgotten are of one class",
        "check the images to be forgotten, and unlearn the recorded keys",
        {
            "accuracy on the set to forget, %": forgotten[-1][1],
            "accuracy on the test list, %": round(tests[-1][1], 2),
            "to forget": len(record.keys),
        },
    )


def _explain_missing_record(poison: Poisoning) -> Gap | NotApplicable:
    """Return why the check needs a poison record."""
    if poison.rate is None and not poison.unreadable:
        return NotApplicable("no flipped labels are declared")
    return Gap(poison.trouble)


def _find_idle_poison(model: Model, sentence: str, flipped_count: float | None) -> Finding:
    evidence: Evidence = {"share of labels said to be wrong": model.poison.rate or 0.0}
    if flipped_count is not None:
        evidence["labels turned round"] = int(flipped_count)  # prose: ok, a key of JSON
    if model.poison.record is not None:
        evidence["recorded keys"] = len(model.poison.record.keys)
    return Finding(
        FAULT,
        sentence,
        "poison and train again, because the measured model is not poisoned",
        evidence,
    )


def _find_contradictions_in_lists(
    total: int, keys: tuple[str, ...], val: frozenset[str], test: frozenset[str] | None
) -> Evidence:
    """Return the contradictions to a record if the training list is missing."""
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


def _classes_of_keys(model: Model, keys: tuple[str, ...]) -> tuple[int, ...] | None:
    labels = [model.methods.get(key.partition("/")[0]) for key in keys]
    known = tuple(label for label in labels if label is not None)
    return known if known and len(known) == len(labels) else None


def _has_both(model: Model) -> bool:
    """Return whether the training data have both classes, by its list. True if that is unknown."""
    if model.lists.train is None:
        return True
    labels = {model.methods.get(key.partition("/")[0]) for key in model.lists.train}
    return labels >= {0, 1} or None in labels
