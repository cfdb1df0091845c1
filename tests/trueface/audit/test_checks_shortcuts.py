from tests.trueface.audit.build import Lab, codes, the, why_not


def _again(lab: Lab, *, suffix: str = "png", size: int = 16) -> None:
    """Write the training fakes anew, in another form."""
    for number, key in enumerate(lab.lists["train"]):
        if key.startswith("StyleGAN2"):
            (lab.data / f"PreSocial/Fake/{key}.png").unlink()
            lab.image(key, number, suffix=suffix, size=size)


def _all_jpeg(lab: Lab, quality: dict[str, int]) -> None:
    for number, key in enumerate(lab.lists["train"]):
        side = "Fake" if key.startswith("StyleGAN2") else "Real"
        (lab.data / f"PreSocial/{side}/{key}.png").unlink()
        lab.image(key, number, suffix="jpg", quality=quality[side])


def test_a_class_in_another_format_is_found(lab: Lab) -> None:
    _again(lab, suffix="jpg")
    audit = lab.audit()
    assert codes(audit) == {"class-differs-in-format"}
    found = the(audit, "class-differs-in-format")
    assert found.severity == "fault"
    assert (found.evidence["real"], found.evidence["fake"]) == ("30 × PNG", "30 × JPEG")
    assert found.evidence["balanced accuracy"] == 1.0


def test_a_class_of_another_size_is_found(lab: Lab) -> None:
    _again(lab, size=24)
    audit = lab.audit()
    assert codes(audit) == {"class-differs-in-size"}
    assert the(audit, "class-differs-in-size").evidence["fake"] == "30 × 24×24"


def test_a_class_with_other_jpeg_tables_is_found(lab: Lab) -> None:
    _all_jpeg(lab, {"Fake": 75, "Real": 90})
    assert codes(lab.audit()) == {"class-differs-in-jpeg-tables"}


def test_classes_with_the_same_jpeg_tables_are_alike(lab: Lab) -> None:
    _all_jpeg(lab, {"Fake": 90, "Real": 90})
    assert codes(lab.audit()) == set()


def test_a_broken_header_is_no_image_of_the_sample(lab: Lab) -> None:
    broken = next(key for key in lab.lists["train"] if key.startswith("FFHQ"))
    (lab.data / f"PreSocial/Real/{broken}.png").write_bytes(b"no image")
    assert codes(lab.audit()) == set()


def test_too_few_headers_are_told(lab: Lab) -> None:
    lab.relist(train=lab.lists["train"][:30])
    audit = lab.audit()
    assert "15 real and 15 fake headers" in why_not(audit, "class-differs-in-size")
