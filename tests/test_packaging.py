"""What setup.cfg declares is what the code imports: the queue's needs, and those of the extra `lab`."""

import re
import sys
from collections.abc import Mapping
from configparser import ConfigParser
from functools import cache
from importlib.metadata import packages_distributions

from tests.source_tree import ROOT, imported_packages
from trueface.cli.main import PACKAGES
from trueface.jobs.job_kind import PRELOAD

OWN = {"launcher", "trueface"}
NAME = re.compile(r"[A-Za-z0-9._-]+")


@cache
def imported(package: str) -> set[str]:
    """Return the top-level packages of others that the code of a package imports, in functions too."""
    return {*imported_packages(package)} - OWN - set(sys.stdlib_module_names)


def declared(section: str, key: str) -> set[str]:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup[section][key].split("\n")
    return {_plain(match[0]) for line in lines if (match := NAME.match(line))}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def distributions_by_module() -> Mapping[str, list[str]]:
    return packages_distributions()


def distributions(modules: set[str]) -> set[str]:
    """Return a distribution for each module; for one that another always brings, that one."""
    by_module = distributions_by_module()
    brought = {
        "omegaconf": "hydra-core",
        "pydantic-core": "pydantic",
        "snakemake-interface-common": "snakemake",
        "snakemake-interface-executor-plugins": "snakemake",
        "threadpoolctl": "scikit-learn",
    }
    packages = {_plain(by_module[module][0]) for module in modules}
    return {brought.get(name, name) for name in packages}


# may be absent: imported where they are used
EXTRAS = ("diffusion", "faces", "heif", "landmarks", "metrics", "nudity", "plots", "timm", "video")
QUEUE_EXTRAS = (
    "search",
    "web",
    "data",
    "plots",
    "notify",
    "tensorboard",
    "hydra",
    "snakemake",
    "submitit",
    "joblib",
)
OPTIONAL = {"pyarrow"}.union(*(declared("options.extras_require", name) for name in EXTRAS))
# distributions whose package has another name
PACKAGE_OF = {"dlib-bin": "dlib", "opencv-python-headless": "cv2"}


def test_queue_declares_all_packages_it_imports() -> None:
    base = declared("options", "install_requires")
    on_clusters = declared("options.extras_require", "ray")  # by a process of its own
    optional = set().union(*(declared("options.extras_require", name) for name in QUEUE_EXTRAS))
    assert distributions(imported("launcher") - on_clusters) - optional == base


def test_web_extra_contains_all_packages_it_imports() -> None:
    base = declared("options", "install_requires")
    only_files = {"plotly"}  # its chart library is read, and nothing of it is imported
    needed = distributions(imported("launcher/frontends/web")) - base | only_files
    assert needed == declared("options.extras_require", "web")


def test_lab_extra_contains_the_packages_only_the_lab_imports() -> None:
    base, lab = declared("options", "install_requires"), declared("options.extras_require", "lab")
    optional = OPTIONAL | {PACKAGE_OF[name] for name in OPTIONAL & PACKAGE_OF.keys()}
    always = {name for name in imported("trueface") if _plain(name) not in optional}
    assert distributions(always) - base == lab
    assert not lab & base


def test_packages_of_optional_extras_are_imported() -> None:
    # torchmetrics imports the first; the second is called PIL, and the extra needs a newer one than the lab
    by_others = {"torch-fidelity", "pillow"}
    only_files = {"face-recognition-models"}  # weights; the package is found, and never imported
    needed = {PACKAGE_OF.get(name, name) for name in OPTIONAL - by_others - only_files}
    assert {_plain(name) for name in imported("trueface")} >= needed


def test_lab_checks_all_packages_of_its_extra_at_start() -> None:
    assert distributions(set(PACKAGES)) == declared("options.extras_require", "lab")


def test_workers_preload_only_declared_packages() -> None:
    every = declared("options", "install_requires") | declared("options.extras_require", "lab")
    packages = {module.partition(".")[0] for module in PRELOAD} - {"trueface"}
    assert distributions(packages) <= every
