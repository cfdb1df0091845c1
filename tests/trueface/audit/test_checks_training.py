import pytest

from launcher.api import Json
from tests.trueface.audit.build import DATA, Lab, amend, amend_settings, codes, epoch, the, why_not
from trueface.runtime import paths
from trueface.training.history import write_history


@pytest.mark.parametrize(
    ("settings", "flag"),
    [
        ({"lr_decay_epochs": 2, "schedule": "onecycle"}, "lr_decay_epochs"),
        ({"lr_decay_epochs": 9}, "lr_decay_epochs"),
        ({"early_stop": 4}, "early_stop"),
        ({"freeze_bn": False, "freeze": False}, "freeze_bn"),
        ({"blur_sigma": [0.1, 3], "blur_prob": 0}, "blur_sigma"),
        ({"jpeg_qual": [30, 100], "jpeg_prob": 0.0}, "jpeg_qual"),
        ({"resize_scale": [0.2, 1], "resize_prob": 0}, "resize_scale"),
    ],
)
def test_a_setting_that_could_do_nothing_is_found(
    lab: Lab, settings: dict[str, Json], flag: str
) -> None:
    amend_settings(lab.run / DATA, **settings)
    audit = lab.audit()
    assert codes(audit) == {"flag-without-effect"}
    found = the(audit, "flag-without-effect")
    assert found.severity == "warning"
    assert flag in found.evidence


def test_settings_that_do_something_are_no_finding(lab: Lab) -> None:
    amend_settings(
        lab.run / DATA,
        lr_decay_epochs=3,
        jpeg_prob=0.2,
        jpeg_qual=[30, 100],
        blur_prob=0.2,
        blur_sigma=[1e-6, 3],
        resize_prob=0.2,
        resize_scale=[0.2, 1],
        freeze=True,
        freeze_bn=False,
    )
    assert codes(lab.audit()) == set()


def test_blur_and_jpeg_of_shared_images_only_are_found(lab: Lab) -> None:
    amend_settings(lab.run / DATA, jpeg_prob=0.2, blur_prob=0.1)
    amend(paths.provenance(lab.run / DATA), images="gan2:fb&realFFHQ:fb")
    found = [one for one in lab.audit().findings if one.code == "flag-without-effect"]
    assert [tuple(one.evidence) for one in found] == [("jpeg_prob",), ("blur_prob",)]


def test_a_loss_that_does_not_fall_is_found(lab: Lab) -> None:
    write_history(paths.history(lab.run / DATA), [epoch(n, 0.6931) for n in (1, 2)])
    audit = lab.audit()
    assert codes(audit) == {"loss-not-falling"}
    assert "fewer than 3 epochs" in why_not(audit, "first-epoch-best")


def test_a_first_epoch_that_was_the_best_is_found(lab: Lab) -> None:
    epochs = [epoch(1, 0.5, 0.9), epoch(2, 0.4, 0.8), epoch(3, 0.3, 0.7)]
    write_history(paths.history(lab.run / DATA), epochs)
    audit = lab.audit()
    assert codes(audit) == {"first-epoch-best"}
    assert the(audit, "first-epoch-best").evidence["of the last"] == 0.7


def test_many_bad_images_are_found_and_few_are_not(lab: Lab) -> None:
    amend(paths.summary(lab.run / DATA), images=1000, bad_images=10)
    assert codes(lab.audit()) == set()
    amend(paths.summary(lab.run / DATA), images=1000, bad_images=11)
    assert the(lab.audit(), "bad-images").evidence == {"left out": 11, "images": 1000}


def test_bad_validation_images_are_found_by_their_list(lab: Lab) -> None:
    path = paths.bad_images(lab.run / DATA, "val")
    path.parent.mkdir()
    path.write_text("path,reason\na.png,truncated\n")
    assert "validation" in the(lab.audit(), "bad-images").sentence


def test_a_missing_history_is_told(lab: Lab) -> None:
    paths.history(lab.run / DATA).unlink()
    audit = lab.audit()
    assert codes(audit) == set()
    assert why_not(audit, "loss-not-falling").startswith("no history.csv")
