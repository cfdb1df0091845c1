"""Checks of the files in a wheel or a source archive."""

import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from email.parser import BytesParser
from pathlib import Path, PurePosixPath

LARGE_BYTES = 200_000  # a larger file needs a reason
REASONS = {
    "docs/preview.png": "picture of training images",
    "docs/web-dark.png": "picture of the page in the browser",
    "docs/web-run-dark.png": "picture of a run in the browser",
    "docs/web-run.png": "picture of a run in the browser",
}
# a wheel also has a folder with its metadata, and one with the manual pages
PACKAGES = frozenset(
    {"launcher", "trueface", "hydra_plugins", "snakemake_executor_plugin_launcher"}
)
NOT_IN_ARCHIVE = frozenset({"benchmarks", "build", "data", "dist", "runs", "tests"})
REQUIRED_FIELDS = {
    "Name": "launcher-trueface",
    "License-Expression": "MIT",
    "License-File": "LICENSE",
    "Requires-Python": ">=3.11",
    "Description-Content-Type": "text/markdown",
}
IN_WHEEL = (
    "launcher/commit.txt",
    "launcher/pages/README.md",
    "share/man/man1/launcher.1",
    "/LICENSE",
)
IN_ARCHIVE = ("launcher/commit.txt", "LICENSE", "docs/pages.md", "setup.py")


def read_files(path: Path) -> dict[str, bytes]:
    """Return the content of each file in a wheel, or in a source archive without its top folder."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            return {name: wheel.read(name) for name in wheel.namelist()}
    with tarfile.open(path) as archive:
        files = {entry.name: archive.extractfile(entry) for entry in archive.getmembers()}
        return {
            name.partition("/")[2]: file.read() for name, file in files.items() if file is not None
        }


def wheel_faults(files: Mapping[str, bytes], version: str) -> Iterator[str]:
    """Give what is wrong with the files of a wheel."""
    metadata = [name for name in files if name.endswith(".dist-info/METADATA")]
    yield from metadata_faults(files[metadata[0]] if metadata else b"", version)
    own = {f"launcher_trueface-{version}.dist-info", f"launcher_trueface-{version}.data"}
    yield from _strange({PurePosixPath(name).parts[0] for name in files} - PACKAGES - own)
    yield from _missing(files, IN_WHEEL)


def archive_faults(files: Mapping[str, bytes], version: str) -> Iterator[str]:
    """Give what is wrong with the files of a source archive."""
    yield from metadata_faults(files.get("PKG-INFO", b""), version)
    yield from _strange({PurePosixPath(name).parts[0] for name in files} & NOT_IN_ARCHIVE)
    yield from _missing(files, IN_ARCHIVE)


def metadata_faults(text: bytes, version: str) -> Iterator[str]:
    """Give what is wrong with the metadata of a distribution."""
    fields = BytesParser().parsebytes(text)
    for name, value in {**REQUIRED_FIELDS, "Version": version}.items():
        if fields[name] != value:
            yield f"the metadata have {name} {fields[name]} instead of {value}"
    if not str(fields.get_payload()).strip():
        yield "the metadata have no description"


def path_faults(files: Mapping[str, bytes], paths: Iterable[str]) -> Iterator[str]:
    """Give the files that contain a path of the machine on which they were built."""
    for path in paths:
        for name, content in files.items():
            if path.encode() in content:
                yield f"{name} contains the path {path} of this machine"


def large_files(files: Mapping[str, bytes]) -> dict[str, str | None]:
    """Return the reason of each large file; None: it has none."""
    large = sorted(name for name, content in files.items() if len(content) > LARGE_BYTES)
    return {name: REASONS.get(name) for name in large}


def _strange(folders: Iterable[str]) -> Iterator[str]:
    return (f"the folder {name} does not belong into it" for name in sorted(folders))


def _missing(files: Mapping[str, bytes], ends: Iterable[str]) -> Iterator[str]:
    for end in ends:
        if not any(name.endswith(end) for name in files):
            yield f"the file {end.lstrip('/')} is missing"
