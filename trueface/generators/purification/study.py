"""The study of purification in a run: rows of purifiers, of attacks, and of detectors of such images. No torch here.

A run measures a purifier on images of several attacks and targets, with several seeds. It also uses images
of an attack through the purifier (adaptive), and original images, which give its price. The value of a
seed is the mean over attacks and targets, that of a row the mean over seeds. Random signs are a control,
not an attack, and are excluded. Attacks whose images only `none` purified are also excluded, and have
their own table, `attack_rows`.

A generator that was trained against disruption is in the place of a purifier. An attack knows it if it disrupts
this generator. Its outputs are compared with its own outputs for the originals, because another training alone
changes outputs. How far these are from the outputs of the undefended generator is its price.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from trueface.evaluation.over_seeds import (
    NO_MODELS,
    NO_SEEDS,
    MethodRow,
    MissingModels,
    MissingSeeds,
    SeedSummary,
    strip_seed,
    summarize_seeds,
)
from trueface.runtime import paths
from trueface.runtime.files import Json, read_json
from trueface.runtime.ids import model_folder_name

NONE = "none"  # the purifier that leaves images as they are
USUAL_EPS = 0.05  # strength of attacks that is not printed
CONTROL = "random"
ENOUGH = 0.5  # fraction of the unpurified error: a purifier that leaves no more restores
RULE = (
    "a purifier, or a generator trained against disruption, restores if it at least halves the mean squared error of the "
    "generator's outputs. This must hold under the worse of two attacks: one that does not know the defence, and one that "
    "uses its gradient"
)
FURTHER = ("share", "psnr", "ssim", "frechet", "l1", "linf")  # measures besides mse
CLEAN, DISRUPTED, PURIFIED = "clean", "disrupted", "purified"
LONGEST_CHAIN = 8  # folders made of folders


class RestoredFolder(NamedTuple):
    """The measurements of a job `restored`, and their folder."""

    path: Path
    facts: Mapping[str, Json]  # content of metrics.json
    # settings in which measurements that are alike otherwise differ, as text: of the purifier and of the attack
    variant: str = ""
    attack_variant: str = ""

    def text(self, name: str) -> str:
        """Return a fact; "" where there is none."""
        return str(self.facts.get(name) or "")

    def number(self, name: str, part: str = "") -> float | None:
        """Return a number of the record, or of a part of it such as `summary`."""
        value = (_part(self.facts, part) if part else self.facts).get(name)
        return float(value) if isinstance(value, int | float) else None

    @property
    def method(self) -> str:
        """The purifier, or the generator that is the defence, and the purifier before it.

        The generator has no seed, unless the undefended generator differs from it only in the seed.
        """
        purifier, reference = self.text("purifier"), self.text("reference")
        if self.variant:
            purifier = f"{purifier} ({self.variant})"
        if not reference:
            return purifier
        translator = strip_seed(self.text("translator"))
        if translator == strip_seed(reference):
            translator = self.text("translator")
        return translator if purifier == NONE else f"{purifier}, {translator}"

    @property
    def is_plain(self) -> bool:
        """Whether the attack on the images does not know the purifier."""
        return self.text("attack") not in {"", CONTROL} and not self.text("through")

    @property
    def replicate(self) -> tuple[Json, ...]:
        """The facts that folders of one seed share. The purifier none has no seed."""
        seeds = ("attack_seed",) if self.text("purifier") == NONE else ("seed", "attack_seed")
        shared = (self.facts[name] for name in (*seeds, "translator"))
        models = _part(self.facts, "purifier_settings").values()  # models of other seeds
        return (*shared, self.text("reference"), *models)

    def describe_attack(self, *, with_name: bool = True) -> str:
        """Return the attack in words: its target and unusual settings, with `with_name` also its name."""
        words = [self.text("attack")] if with_name else []
        words.append(self.text("target"))
        if self.facts["over"] != "own":
            words.append(self.text("over"))
        if self.facts["eps"] != USUAL_EPS:
            words.append(f"eps {self.facts['eps']}")
        if self.attack_variant:
            words.append(self.attack_variant)
        return " ".join(words)


Group = Sequence[RestoredFolder]


def restored_folders(folders: Iterable[Path]) -> list[RestoredFolder]:
    """Return the measurements in folders; unfinished ones without metrics are left out."""
    read = ((folder, read_json(folder / paths.METRICS)) for folder in folders)
    found = [
        RestoredFolder(folder, facts) for folder, facts in read if facts and "purifier" in facts
    ]
    of_purifier = _differing_settings(found, "purifier_settings", ("purifier",))
    of_attack = _differing_settings(
        found, "attack_settings", ("attack", "target", "over", "eps", "through")
    )
    return [
        each._replace(variant=variant, attack_variant=attack_variant)
        for each, variant, attack_variant in zip(found, of_purifier, of_attack, strict=True)
    ]


def _differing_settings(measurements: Group, part: str, alike: Sequence[str]) -> list[str]:
    """Return the settings of each measurement that differ among those with the same facts, as text.

    Seeds of models are left out, because they are repetitions.

    Args:
        measurements: all.
        part: of the facts, with the settings. Measurements of earlier versions have none.
        alike: names of the facts.
    """
    settings = [
        {
            name: strip_seed(value) if isinstance(value, str) else value
            for name, value in _part(each.facts, part).items()
        }
        for each in measurements
    ]
    keys = [tuple(str(each.facts.get(name)) for name in alike) for each in measurements]
    texts = []
    for key, own in zip(keys, settings, strict=True):
        others = [each for other, each in zip(keys, settings, strict=True) if other == key and each]
        texts.append(
            ", ".join(
                f"{name}={value}"
                for name, value in own.items()
                if any(each.get(name) != value for each in others)
            )
        )
    return texts


def table(run_folder: Path, tests: Sequence[tuple[str, str]]) -> list[dict[str, Json]]:
    """Return one row per purifier, `none` first, in the order of the folders.

    Args:
        run_folder: runs/<run>.
        tests: ("", name of a made folder) pairs; those without metrics, not done yet, are left out.

    Returns:
        Rows with the keys method, mse, mse_adaptive, price_clean, net_calls, seconds (per image), verdict,
        share, psnr, ssim, frechet, l1, linf. Further keys are features (the network of frechet), images, seeds,
        attacks, gradient, mse_<target> and mse_adaptive_<target>. With two seeds or more there is also
        <key>_sd, the standard deviation over them. The row of a defended generator also has
        reference_mse and reference_mse_adaptive, the errors to the outputs of the undefended generator.

        The outputs of the generator determine mse, frechet, l1 and linf. For mse the attacks do not know the
        purifier. `psnr` and `ssim` compare the purified images with the originals. `gradient` is that of the
        adaptive attack, exact or identity. Values that were not measured are None. The price of `none` is 0,
        as it changes nothing.
    """
    measured = restored_folders(paths.output_folder(run_folder, name) for _, name in tests)
    return [dict(row.record) for row in purifier_rows(measured)]


def purifier_rows(measurements: Group) -> list[MethodRow]:
    """Return a row a purifier, `none` first; its record is that of `table`."""
    labels = list(dict.fromkeys(each.method for each in measurements))
    labels.sort(key=lambda label: label != NONE)  # stable
    by_label = {label: [each for each in measurements if each.method == label] for label in labels}
    plain = {label: [each for each in group if each.is_plain] for label, group in by_label.items()}
    purified = {
        each.describe_attack() for label in labels if label != NONE for each in plain[label]
    }
    if purified:
        plain[NONE] = [each for each in plain.get(NONE, ()) if each.describe_attack() in purified]
    named = len({each.text("attack") for group in plain.values() for each in group}) > 1
    return [_row(label, plain[label], by_label[label], with_name=named) for label in labels]


def attack_rows(measurements: Group) -> list[MethodRow]:
    """Return a row an attack on images that nothing purified, the control first.

    Returns:
        Records with the keys attack, target, over, eps, rms, linf, mse, share, ratio (of mse to the control's
        of the same eps; None without one) and seeds.
    """
    groups: dict[tuple[str, str, str, float, str], list[RestoredFolder]] = {}
    for each in measurements:
        attack = each.text("attack")
        if each.method == NONE and attack and not each.text("through"):
            aim = ("", "") if attack == CONTROL else (each.text("target"), each.text("over"))
            key = (attack, *aim, each.number("eps") or 0.0, each.attack_variant)
            groups.setdefault(key, []).append(each)
    rows = [_attack(key, group) for key, group in groups.items()]
    control = {row.record["eps"]: row.mean("mse") for row in rows if row.name == CONTROL}
    whole = []
    for row in rows:
        usual, reached = control.get(row.record["eps"]), row.mean("mse")
        ratio = reached / usual if usual and reached is not None else None
        whole.append(row._replace(record={**row.record, "ratio": ratio}))
    return sorted(whole, key=lambda row: row.name != CONTROL)


def _attack(key: tuple[str, str, str, float, str], group: Group) -> MethodRow:
    attack, target, over, eps, variant = key
    record: dict[str, Json] = {
        "attack": attack,
        "target": target,
        "over": over,
        "eps": eps,
        "rms": _mean(group, "rms", "delta"),
        "linf": max(each.number("linf", "delta") or 0.0 for each in group),
        "mse": _mean(group, "mse", "summary"),
        "share": _mean(group, "share", "summary"),
        "seeds": len({each.facts["attack_seed"] for each in group}),
    }
    return MethodRow(f"{attack} ({variant})" if variant else attack, record)


def _row(label: str, plain: Group, measurements: Group, *, with_name: bool) -> MethodRow:
    adaptive = [each for each in measurements if each.facts["adaptive"]] or (
        plain if label == NONE else []
    )
    clean = [each for each in measurements if not each.text("attack") and label != NONE]
    used = plain or adaptive or clean or measurements
    values: dict[str, SeedSummary | None] = {}
    record: dict[str, Json] = {"method": label}

    def add_number(name: str, value: SeedSummary | None) -> None:
        values[name] = value
        record[name] = None if value is None else value.mean
        if value is not None and value.sd is not None:
            record[f"{name}_sd"] = value.sd

    add_number("mse", _seeds(plain, "mse"))
    add_number("mse_adaptive", _seeds(adaptive, "mse"))
    is_generator = any(each.text("reference") for each in used)
    price = _seeds(clean, "reference_mse" if is_generator else "mse")
    add_number("price_clean", summarize_seeds([0.0]) if label == NONE else price)
    if is_generator:
        add_number("reference_mse", _seeds(plain, "reference_mse"))
        add_number("reference_mse_adaptive", _seeds(adaptive, "reference_mse"))
    record["net_calls"] = _mean(used, "net_calls")
    record["seconds"] = _mean(used, "seconds")
    record["verdict"] = _verdict(label, plain, adaptive)
    for name in FURTHER:
        add_number(name, _seeds(plain, name))
    record["features"] = next((_part(each.facts, "features").get("network") for each in used), None)
    record["images"] = max((int(each.number("images") or 0) for each in used), default=0)
    record["seeds"] = len({each.replicate for each in used})
    record["attacks"] = ", ".join(dict.fromkeys(each.describe_attack() for each in plain))
    record["gradient"] = next((each.text("gradient") for each in adaptive), None) or None
    for prefix, group in (("mse_", plain), ("mse_adaptive_", adaptive)):
        for aim in dict.fromkeys(each.describe_attack(with_name=with_name) for each in group):
            same = [each for each in group if each.describe_attack(with_name=with_name) == aim]
            add_number(prefix + aim.replace(" ", "_"), _seeds(same, "mse"))
    return MethodRow(label, record, values)


def _verdict(label: str, plain: Group, adaptive: Group) -> str:
    """Return the verdict of a row, by `RULE`.

    The error without a purifier is that of the attack that does not know it, on the same images. For an
    adaptive attack, which may have fewer images, it is that of the same targets.
    """
    if label == NONE:
        return "nothing is purified"
    if not plain:
        return "not measured on disrupted images"
    if not _restores(plain, plain):
        return "does not restore"
    if not adaptive:
        return "adaptive: not measured"
    aims = {each.describe_attack() for each in adaptive}
    alike = [each for each in plain if each.describe_attack() in aims]
    if not _restores(adaptive, alike or plain):
        return "broken by the adaptive attack"
    return "restores under the adaptive attack"


def _restores(purified_group: Group, unpurified_group: Group) -> bool:
    left, whole = (
        _mean(purified_group, "mse", "summary"),
        _mean(unpurified_group, "mse", "unpurified"),
    )
    return left is not None and whole is not None and left <= ENOUGH * whole


def _seeds(group: Group, name: str) -> SeedSummary | None:
    """Return a measure over seeds, each of which is the mean of its folders."""
    by_seed: dict[tuple[Json, ...], list[RestoredFolder]] = {}
    for each in group:
        by_seed.setdefault(each.replicate, []).append(each)
    return summarize_seeds(_mean(replicates, name, "summary") for replicates in by_seed.values())


def _mean(group: Group, name: str, part: str = "") -> float | None:
    value = summarize_seeds(each.number(name, part) for each in group)
    return None if value is None else value.mean


class DetectorRow(NamedTuple):
    """Detectors that differ only in their seed, on one test."""

    model: str
    trained_on: str  # "clean", "disrupted", "purified (jpeg75)"
    data: str
    auc: tuple[float, ...]  # AUC of each seed
    accuracy: tuple[float, ...]
    missing: MissingSeeds = NO_SEEDS  # seeds without a result


def detectors(
    run_folder: Path, rows: Iterable[Mapping[str, Json]], missing: MissingModels = NO_MODELS
) -> tuple[DetectorRow, ...]:
    """Return the detectors of a run, those trained on clean images first.

    Args:
        run_folder: runs/<run>.
        rows: of `launcher results`; rows that pool others are left out.
        missing: models of the run without a result.
    """
    groups: dict[tuple[str, str, str], list[Mapping[str, Json]]] = {}
    for row in rows:
        if row.get("pooled") is False:
            model = str(row["model"])
            key = strip_seed(model), trained_on(run_folder, model), str(row["data"])
            groups.setdefault(key, []).append(row)
    detector_rows = [
        DetectorRow(
            *key,
            _values_in_rows(seed_rows, "auc"),
            _values_in_rows(seed_rows, "accuracy"),
            missing.count_missing_seeds({str(row["model"]) for row in seed_rows}),
        )
        for key, seed_rows in groups.items()
    ]
    return tuple(sorted(detector_rows, key=lambda each: each.trained_on != CLEAN))


def trained_on(run_folder: Path, model: str) -> str:
    """Return from which images the training images of a detector were made.

    Its data root is a folder that a job made of others; `made.json` of each names its source. A translator
    that was trained against disruption is named.
    """
    provenance = read_json(paths.provenance(run_folder / model_folder_name(model))) or {}
    root = Path(str(provenance.get("data_root", "")))
    by = ""
    for _ in range(LONGEST_CHAIN):
        facts = (
            read_json(root / paths.OUTPUT_RECORD)
            if root.parent.name == paths.OUTPUTS_FOLDER
            else None
        )
        if facts is None:
            break
        if facts.get("kind") == "purify":
            return f"{PURIFIED} ({_part(facts, 'settings').get('purifier', '')}){by}"
        if facts.get("kind") == "disrupt":
            return f"{DISRUPTED}{by}"
        if facts.get("kind") == "translate":
            by = _describe_defence(run_folder, str(_part(facts, "settings").get("translator", "")))
        root = run_folder.parent.parent / str(facts.get("source", ""))
    return f"{CLEAN}{by}"


def _describe_defence(run_folder: Path, translator: str) -> str:
    """Return ", by " and the translator's ID if it was trained against disruption, otherwise ""."""
    if not translator:
        return ""
    provenance = read_json(paths.provenance(run_folder / model_folder_name(translator))) or {}
    settings = _part(provenance, "settings")
    is_trained = settings.get("adversarial", "off") != "off" and not settings.get("weights")
    return f", by {translator}" if is_trained else ""


def _values_in_rows(rows: Iterable[Mapping[str, Json]], name: str) -> tuple[float, ...]:
    values = (_part(row, name).get("value") for row in rows)
    return tuple(float(value) for value in values if isinstance(value, int | float))


def _part(facts: Mapping[str, Json], name: str) -> Mapping[str, Json]:
    part = facts.get(name)
    return part if isinstance(part, dict) else {}
