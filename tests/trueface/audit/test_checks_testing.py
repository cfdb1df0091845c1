from launcher.api import Json
from tests.trueface.audit.build import (
    DATA,
    POISONED,
    TESTS,
    Lab,
    amend,
    amend_record,
    amend_settings,
    answers,
    codes,
    older,
    the,
    why_not,
)
from trueface.data.splits import digest, write_splits
from trueface.poisoning.poison_record import read_record
from trueface.runtime import paths


def test_a_record_that_the_weights_were_not_trained_with_is_found(lab: Lab) -> None:
    amend(paths.provenance(lab.run / POISONED), poison_record_sha256="0" * 64)
    assert codes(lab.audit()) == {"record-of-another-split"}


def test_indices_that_are_not_the_places_of_their_keys_are_found(lab: Lab) -> None:
    record = read_record(paths.poison_record(lab.run / POISONED))
    amend_record(lab.run / POISONED, indices=[index + 1 for index in record.indices])
    found = the(lab.audit(), "record-of-another-split")
    assert found.evidence["indices that are not the place of their key"] == 12


def test_scores_that_are_gone_are_a_fault(lab: Lab) -> None:
    for data in TESTS:
        settings: Json = {"save_scores": True}
        amend(paths.metrics(lab.run / DATA, data), settings=settings)
        paths.scores(lab.run / DATA, DATA, data).unlink()
    found = the(lab.audit(), "missing-scores")
    assert (found.severity, found.evidence["tests without scores"]) == ("fault", 2)


def test_a_damaged_history_is_named_with_its_line(lab: Lab) -> None:
    path = paths.history(lab.run / DATA)
    path.write_text(path.read_text() + "5,oops\n")
    found = the(lab.audit(), "damaged-file")
    assert "history.csv:6" in str(found.evidence["reason"])


def test_weights_that_are_gone_are_a_warning(lab: Lab) -> None:
    amend_settings(lab.run / DATA, save_weights=True)
    paths.checkpoint(lab.run / DATA).unlink()
    assert the(lab.audit(), "missing-weights").severity == "warning"


def test_a_test_of_another_split_is_judged_by_its_own_lists(lab: Lab) -> None:
    own = [*lab.lists["test"], "FORLAB/00001"]
    write_splits(lab.root / "own", {**lab.lists, "test": own})
    settings: Json = {"decode": "exact", "split_path": str(lab.root / "own")}
    for data in TESTS:
        path = paths.metrics(lab.run / DATA, data)
        amend(path, settings=settings, split_sha256=digest(own))
    assert codes(lab.audit()) == set()


def test_a_test_of_another_size_is_found_and_one_of_the_same_is_not(lab: Lab) -> None:
    amend_settings(lab.run / DATA, resize_size=512, patch_size=96)
    for size, found in ((512, set[str]()), (256, {"other-preprocessing"})):
        settings: Json = {"resize_size": size, "patch_size": -1}
        amend(paths.metrics(lab.run / DATA, "gan2:pre"), settings=settings)
        assert codes(lab.audit()) == found


def test_compile_and_augment_cycle_without_effect_are_found(lab: Lab) -> None:
    still = dict.fromkeys(("resize_prob", "blur_prob", "jpeg_prob", "flip_prob"), 0)
    amend_settings(
        lab.run / DATA, compile=True, freeze=True, freeze_bn=True, augment_cycle=2, **still
    )
    told = [one.evidence for one in lab.audit().findings]
    assert [tuple(one) for one in told] == [("compile",), ("augment_cycle",)]


def test_fewer_scores_than_images_in_the_test_list_are_found(lab: Lab) -> None:
    keys = [key for key in lab.lists["test"] if key.startswith("StyleGAN2")][:7]
    lab.scores(lab.run / DATA, "gan2:pre", keys, 1, answers(1, 7))
    audit = lab.audit()
    assert codes(audit) == {"missing-scores"}
    evidence = the(audit, "missing-scores").evidence
    assert (evidence["scores"], evidence["images in the test list"]) == (7, 10)


def test_bad_images_are_no_missing_scores(lab: Lab) -> None:
    keys = [key for key in lab.lists["test"] if key.startswith("StyleGAN2")][:9]
    lab.scores(lab.run / DATA, "gan2:pre", keys, 1, answers(1, 9))
    amend(paths.metrics(lab.run / DATA, "gan2:pre"), bad_images=1)
    assert codes(lab.audit()) == {"bad-images"}


def test_fewer_scores_than_the_metrics_tell_are_found(lab: Lab) -> None:
    amend(paths.metrics(lab.run / DATA, "gan2:pre"), n=11)
    assert the(lab.audit(), "missing-scores").evidence["images in the metrics"] == 11


def test_a_test_that_decodes_otherwise_is_found(lab: Lab) -> None:
    settings: Json = {"decode": "scaled", "data_root": str(lab.data)}
    amend(paths.metrics(lab.run / DATA, "gan2:pre"), settings=settings)
    audit = lab.audit()
    assert codes(audit) == {"other-preprocessing"}
    evidence = the(audit, "other-preprocessing").evidence
    assert evidence == {"decode": "exact in the training, scaled in the test"}


def test_scores_older_than_the_weights_are_found(lab: Lab) -> None:
    older(paths.scores(lab.run / DATA, DATA, "gan2:pre"), 3600)
    audit = lab.audit()
    assert codes(audit) == {"stale-scores"}
    assert the(audit, "stale-scores").evidence["score files"] == 1


def test_weights_that_were_not_kept_are_told(lab: Lab) -> None:
    paths.checkpoint(lab.run / DATA).unlink()
    assert "best.pt" in why_not(lab.audit(), "stale-scores")


def test_weights_of_another_time_than_their_provenance_are_found(lab: Lab) -> None:
    older(paths.provenance(lab.run / DATA), 86400)
    audit = lab.audit()
    assert codes(audit) == {"other-weights"}
    assert "newer than provenance.json" in the(audit, "other-weights").sentence
