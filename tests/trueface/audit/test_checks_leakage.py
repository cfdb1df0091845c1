import shutil

from launcher.api import Json
from tests.trueface.audit.build import DATA, Lab, amend, codes, the, why_not
from trueface.audit.check import judge
from trueface.audit.reading.reader import Reader
from trueface.runtime import paths


def test_test_images_in_the_training_list_are_found(lab: Lab) -> None:
    lab.relist(train=[*lab.lists["train"], *lab.lists["test"][:3]])
    audit = lab.audit()
    assert "train-test-overlap" in codes(audit)
    evidence = the(audit, "train-test-overlap").evidence
    assert (evidence["test images"], evidence["of them in the training list"]) == (20, 3)


def test_validation_images_in_another_list_are_found(lab: Lab) -> None:
    lab.relist(val=[*lab.lists["val"], lab.lists["train"][0], lab.lists["test"][0]])
    found = [one for one in lab.audit().findings if one.code == "validation-overlap"]
    assert [one.evidence["validation list"] for one in found] == [12] * 4  # two of each model
    assert found[0].evidence["of them in the training list"] == 1
    assert found[1].evidence["of them in the test list"] == 1


def test_a_test_file_with_the_bytes_of_a_training_file_is_found(lab: Lab) -> None:
    fakes = lab.data / "PreSocial/Fake"
    trained = next(key for key in lab.lists["train"] if key.startswith("StyleGAN2"))
    tested = next(key for key in lab.lists["test"] if key.startswith("StyleGAN2"))
    shutil.copy(fakes / f"{trained}.png", fakes / f"{tested}.png")
    audit = lab.audit()
    assert codes(audit) == {"same-content"}
    evidence = the(audit, "same-content").evidence
    assert (evidence["same bytes"], evidence["test files compared"]) == (1, 20)
    assert f"{tested}.png" in str(evidence["such as"])


def test_what_was_not_compared_for_want_of_time_is_counted(lab: Lab) -> None:
    audit = judge(Reader(seconds=0.0).run(str(lab.run)))
    assert "no time was left for 20 of 20 test files" in why_not(audit, "same-content")


def test_the_same_key_in_another_data_folder_is_another_picture(lab: Lab) -> None:
    lab.relist(train=[*lab.lists["train"], *lab.lists["test"][:3]])
    for data in ("gan2:pre", "realFFHQ:pre"):
        settings: Json = {"decode": "exact", "data_root": "/elsewhere"}
        amend(paths.metrics(lab.run / DATA, data), settings=settings)
    lab.relist(test=["FFHQ/99999"])
    found = [one.model for one in lab.audit().findings if one.code == "train-test-overlap"]
    assert DATA not in found


def test_lists_that_have_changed_since_are_found(lab: Lab) -> None:
    amend(paths.metrics(lab.run / DATA, "gan2:pre"), split_sha256="0" * 64)
    audit = lab.audit()
    assert codes(audit) == {"changed-split"}
    assert the(audit, "changed-split").severity == "warning"


def test_a_list_that_is_not_there_is_told(lab: Lab) -> None:
    (lab.split / "train.json").unlink()
    audit = lab.audit()
    assert codes(audit) == set()
    assert "train.json" in why_not(audit, "train-test-overlap")
    assert "cannot be listed" in why_not(audit, "class-differs-in-format")
