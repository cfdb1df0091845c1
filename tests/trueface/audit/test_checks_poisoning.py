from launcher.api import read_json
from tests.trueface.audit.build import DATA, POISONED, Lab, amend, amend_record, codes, the, why_not
from trueface.runtime import paths


def test_a_sound_run_has_no_finding_and_every_check_was_made(lab: Lab) -> None:
    audit = lab.audit()
    assert audit.findings == ()
    assert audit.gaps == ()
    assert audit.models == (DATA, POISONED)


def test_labels_flipped_in_validation_are_found_by_the_provenance(lab: Lab) -> None:
    amend(paths.provenance(lab.run / POISONED), flipped_val=2)
    audit = lab.audit()
    assert codes(audit) == {"poisoned-validation"}
    found = the(audit, "poisoned-validation")
    assert (found.severity, found.model) == ("fault", POISONED)
    assert found.evidence["flipped validation labels"] == 2


def test_a_record_of_the_validation_list_is_found_by_its_keys(lab: Lab) -> None:
    keys = [f"pre:{key}" for key in lab.lists["val"]]
    amend_record(lab.run / POISONED, keys=list(keys), indices=list(range(10)), total=10)
    amend(paths.provenance(lab.run / POISONED), flipped_train=10)
    audit = lab.audit()
    assert codes(audit) == {"poisoned-validation", "record-of-another-split"}
    assert the(audit, "poisoned-validation").evidence["of them in the validation list"] == 10
    other = the(audit, "record-of-another-split")
    assert other.evidence["record's total"] == 10
    assert other.evidence["training images"] == 60
    assert other.evidence["not in the training list"] == 10


def test_a_record_of_another_set_of_the_same_size_is_found_by_its_fingerprint(lab: Lab) -> None:
    amend_record(lab.run / POISONED, split_sha256="0" * 64)
    audit = lab.audit()
    assert codes(audit) == {"record-of-another-split"}
    assert the(audit, "record-of-another-split").evidence["record's set (sha256)"] == "0" * 12


def test_poison_that_never_reached_the_labels_is_found(lab: Lab) -> None:
    amend(paths.provenance(lab.run / POISONED), flipped_train=0)
    audit = lab.audit()
    assert codes(audit) == {"flag-without-effect"}
    assert the(audit, "flag-without-effect").evidence["labels turned round"] == 0
    assert "no label was flipped" in the(audit, "flag-without-effect").sentence


def test_poison_in_the_name_without_a_record_is_found(lab: Lab) -> None:
    paths.poison_record(lab.run / POISONED).unlink()
    amend(paths.provenance(lab.run / POISONED), flipped_train=0)
    audit = lab.audit()
    assert codes(audit) == {"flag-without-effect"}
    assert "no poison record" in why_not(audit, "one-class-forget-set")


def test_a_record_beside_a_model_without_poison_in_its_name_is_believed(lab: Lab) -> None:
    # the original's command line gives the rate as a flag, and the ID does not tell it
    record = paths.poison_record(lab.run / POISONED).read_bytes()
    paths.poison_record(lab.run / DATA).write_bytes(record)
    audit = lab.audit()
    assert codes(audit) == {"flag-without-effect"}
    assert the(audit, "flag-without-effect").model == DATA
    amend(paths.provenance(lab.run / DATA), flipped_train=12)
    assert codes(lab.audit()) == set()


def test_another_number_of_flips_than_recorded_is_found(lab: Lab) -> None:
    amend(paths.provenance(lab.run / POISONED), flipped_train=7)
    found = the(lab.audit(), "flag-without-effect")
    assert (found.evidence["labels turned round"], found.evidence["recorded keys"]) == (7, 12)


def test_a_forget_set_of_one_class_is_found_unless_it_was_meant(lab: Lab) -> None:
    fakes = [f"pre:{key}" for key in lab.lists["train"] if key.startswith("StyleGAN2")][:12]
    names = [image.name for image in lab.trained()]
    at = [names.index(key) for key in fakes]
    amend_record(lab.run / POISONED, keys=list(fakes), indices=list(at))
    audit = lab.audit()
    assert codes(audit) == {"one-class-forget-set"}
    assert the(audit, "one-class-forget-set").evidence == {"fake": 12, "real": 0}
    amend_record(lab.run / POISONED, kind="f2r")
    assert codes(lab.audit()) == set()


def test_a_record_that_cannot_be_read_is_a_fault_and_is_told(lab: Lab) -> None:
    paths.poison_record(lab.run / POISONED).write_text('{"schema": 99}')
    audit = lab.audit()
    assert codes(audit) == {"damaged-file"}
    for code in ("poisoned-validation", "record-of-another-split", "flag-without-effect"):
        reason = why_not(audit, code)
        assert code == "poisoned-validation" or "cannot read the poison record" in reason


def test_without_provenance_what_cannot_be_told_is_named(lab: Lab) -> None:
    paths.provenance(lab.run / POISONED).unlink()
    audit = lab.audit(split_path=lab.split)
    assert codes(audit) == set()
    assert "no provenance records how many labels" in why_not(audit, "flag-without-effect")
    assert "give --data-root" in why_not(audit, "same-content")
    assert read_json(paths.provenance(lab.run / POISONED)) is None
