"""Builds the wheel and the source archive of the commit into dist/: `make release`.

Two builds of one commit are equal to the byte. Only tracked files are used, in a folder of their own. The time of
all files is that of the commit, and the build requirements have the versions of constraints.txt.
"""

import gzip
import hashlib
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Mapping, Sequence
from configparser import ConfigParser
from pathlib import Path
from typing import Any

from release_checks import archive_faults, large_files, path_faults, read_files, wheel_faults

ROOT = Path(__file__).resolve().parents[1]
COMMIT = Path("launcher", "commit.txt")  # setup.py puts it into wheel and archive
UMASK = 0o022  # modes of files do not depend on the user's
# no time is spent on a slow index, on newer versions of pip, or on compiled modules
INSTALL = (
    *("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1"),
    "--no-compile",
)
# Python before 3.11.4 has no filters, and needs none for our own archives
DATA_ONLY: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
AGAIN = "and run `make release` again"
FULL_BYTES = 4_000_000  # a step can leave so much on a disk that was too small for it
_FULL = "No space left on device"
_UNREACHABLE = ("ConnectionError", "ConnectTimeout", "Read timed out", "name resolution")


class ReleaseError(Exception):
    """The release cannot be built; the message says what to do."""


def main() -> None:
    """Build, check and print; on an error, dist/ is unchanged."""
    started = time.monotonic()
    try:
        files = release(ROOT)
    except ReleaseError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {explain(str(error), shutil.disk_usage(ROOT).free)}")
    _print_files(files)
    print(f"built and checked in {time.monotonic() - started:.0f} s")


def release(root: Path) -> list[Path]:
    """Build wheel and source archive of a clean tree, and return them in dist/.

    Raises:
        ReleaseError: The tree is not ready, a tool is missing, or a check fails.
    """
    if shutil.which("git") is None:
        raise ReleaseError(f"the program git is missing. Install it, {AGAIN}.")
    if importlib.util.find_spec("ensurepip") is None:
        raise ReleaseError(
            f"{sys.executable} has no module ensurepip. On Debian and Ubuntu: apt install python3-venv"
        )
    version = read_version(root)
    commit = check_tree(root, version)
    epoch = int(_git(root, "show", "--no-patch", "--format=%ct", commit))
    os.umask(UMASK)
    (root / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="release-", dir=root / "build") as folder:
        files = _build(root, Path(folder), commit, epoch)
        _check_files(*files, version, [f"{root}/", f"{sys.prefix}/lib/"])
        target = root / "dist"
        target.mkdir(exist_ok=True)
        return [file.replace(target / file.name) for file in files]


def _check_files(wheel: Path, archive: Path, version: str, paths: Sequence[str]) -> None:
    """Check the contents, and print the large files with their reasons."""
    built, packed = read_files(wheel), read_files(archive)
    faults = [f"{wheel.name}: {fault}" for fault in wheel_faults(built, version)]
    faults += [f"{archive.name}: {fault}" for fault in archive_faults(packed, version)]
    large = large_files(built) | large_files(packed)
    for name, reason in large.items():
        size = len(built.get(name) or packed[name])
        print(f"{name}  {size:,} bytes  {reason}")
    faults += [f"{name} is large without a reason" for name, reason in large.items() if not reason]
    faults += [*path_faults(built, paths), *path_faults(packed, paths)]
    if faults:
        raise ReleaseError("; ".join(faults) + ".")


def read_version(root: Path) -> str:
    """Return the version of setup.cfg.

    Raises:
        ReleaseError: Another file has another version, or the changelog does not have it.
    """
    setup = ConfigParser(interpolation=None)
    setup.read(root / "setup.cfg", encoding="utf-8")
    version = setup["metadata"]["version"]
    expected = {
        "launcher/__init__.py": f'__version__ = "{version}"\n',
        "trueface/__init__.py": f'__version__ = "{version}"\n',
        "CITATION.cff": f"\nversion: {version}\n",
    }
    if "dev" not in version:
        expected["CHANGELOG.md"] = f"\n## {version}"
    wrong = [
        name for name, text in expected.items() if text not in (root / name).read_text("utf-8")
    ]
    if wrong:
        raise ReleaseError(
            f"{' and '.join(wrong)} do not have version {version} of setup.cfg. Correct them, {AGAIN}."
        )
    return version


def check_tree(root: Path, version: str) -> str:
    """Return the commit of a tree that is ready.

    Raises:
        ReleaseError: Files differ from the commit, the version's tag names another one, or files of an older
            installation are in the tree.
    """
    commit = _git(root, "rev-parse", "--verify", "HEAD").strip()
    changed = _git(root, "status", "--porcelain").splitlines()
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise ReleaseError(
            f"the tree has changes: {changed[0][3:]}{more}. Commit or remove them, {AGAIN}."
        )
    tagged = _tagged_commit(root, f"v{version}")
    if tagged not in {None, commit}:
        raise ReleaseError(
            f"the tag v{version} names commit {tagged[:12]}, and this is {commit[:12]}. Raise the version."
        )
    for folder in root.glob("*.egg-info"):
        found = [line for line in _lines(folder / "PKG-INFO") if line.startswith("Version: ")]
        if found != [f"Version: {version}"]:
            raise ReleaseError(
                f"{folder.name} is not of version {version}. Delete it: rm -r {folder.name}"
            )
    return commit


def _tagged_commit(root: Path, tag: str) -> str | None:
    name = f"refs/tags/{tag}^{{commit}}"
    found = subprocess.run(
        ["git", "rev-parse", "--quiet", "--verify", name], cwd=root, capture_output=True, text=True
    )
    return found.stdout.strip() or None


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []


def _git(root: Path, *words: str) -> str:
    return _run(["git", *words], root, os.environ)


def _build(root: Path, folder: Path, commit: str, epoch: int) -> tuple[Path, Path]:
    """Return the wheel and the source archive, both in the folder."""
    source, made, home = folder / "source", folder / "made", folder / "home"
    for each in (source, made, home):
        each.mkdir()
    python = _environment(root, folder / "environment")
    archive = folder / "source.tar"
    _git(root, "-c", f"tar.umask={UMASK:o}", "archive", f"--output={archive}", commit)
    with tarfile.open(archive) as tar:
        tar.extractall(source, **DATA_ONLY)
    (source / COMMIT).write_text(f"{commit}\n", encoding="ascii")
    variables = {
        "PATH": os.defpath,
        "HOME": str(home),  # help texts contain the defaults of the user's configuration
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONHASHSEED": "0",
        "SOURCE_DATE_EPOCH": str(epoch),
    }
    packed = made / _run_backend(python, "build_sdist", source, made, variables)
    repack(packed, epoch)
    # a wheel from the archive shows that nothing is missing in it
    with tarfile.open(packed) as tar:
        tar.extractall(folder, **DATA_ONLY)
    unpacked = folder / packed.name.removesuffix(".tar.gz")
    return made / _run_backend(python, "build_wheel", unpacked, made, variables), packed


def _environment(root: Path, folder: Path) -> Path:
    """Make an environment with the build requirements alone, and return its Python."""
    import tomllib  # older Pythons get a message instead

    with (root / "pyproject.toml").open("rb") as file:
        requirements = tomllib.load(file)["build-system"]["requires"]
    _run([sys.executable, "-m", "venv", folder], root, os.environ)
    python = folder / "bin" / "python"
    variables = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
    pinned: list[str | Path] = ["--only-binary", ":all:", "-c", root / "constraints.txt"]
    _run([python, *INSTALL, *pinned, *requirements], root, variables)
    return python


def _run_backend(
    python: Path, hook: str, source: Path, target: Path, variables: Mapping[str, str]
) -> str:
    """Call setuptools as pip does, and return the name of the file that it makes."""
    code = f"import sys, setuptools.build_meta as b; print(b.{hook}(sys.argv[1]))"
    return _run([python, "-c", code, target], source, variables).splitlines()[-1]


def _run(words: Sequence[str | Path], folder: Path, variables: Mapping[str, str]) -> str:
    done = subprocess.run(words, cwd=folder, env=variables, capture_output=True, text=True)
    if done.returncode:
        inner = folder / "build"
        free_bytes = shutil.disk_usage(inner if inner.is_dir() else folder).free
        raise ReleaseError(explain(done.stderr + done.stdout, free_bytes))
    return done.stdout


def explain(output: str, free_bytes: int) -> str:
    """Return in one sentence why a step failed.

    Args:
        output: what the step printed.
        free_bytes: the free space of its folder when it had failed.
    """
    if _FULL in output or free_bytes < FULL_BYTES:
        return f"the disk of the clone or of temporary files became full. Delete files, {AGAIN}."
    if any(text in output for text in _UNREACHABLE):
        return f"pip cannot reach the package index. Check the network or the settings of pip, {AGAIN}."
    lines = [line.strip() for line in output.splitlines() if line.strip()] or ["no output"]
    errors = [line for line in lines if line.lower().startswith(("error", "fatal"))]
    return f"a step of the build failed: {(errors or lines)[-1]}"


def repack(archive: Path, epoch: int) -> None:
    """Write a source archive again: sorted names, one time, no owner, two modes.

    setuptools does not use SOURCE_DATE_EPOCH for it.
    """
    with tarfile.open(archive) as tar:
        entries = [(entry, tar.extractfile(entry)) for entry in tar.getmembers()]
        contents = {entry.name: (entry, file.read() if file else None) for entry, file in entries}
    with (
        archive.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=epoch) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for _, (entry, content) in sorted(contents.items()):
            plain = tarfile.TarInfo(entry.name)
            plain.type, plain.size, plain.mtime = entry.type, entry.size, epoch
            plain.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
            tar.addfile(plain, None if content is None else io.BytesIO(content))


def _print_files(files: Sequence[Path]) -> None:
    for file in files:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        print(f"{digest}  {file.name}  {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
