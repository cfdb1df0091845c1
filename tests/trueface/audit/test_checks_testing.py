from launcher.api import Json
from tests.trueface.audit.build import DATA, Lab, amend, answers, codes, older, the, why_not
from trueface.runtime import paths


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
