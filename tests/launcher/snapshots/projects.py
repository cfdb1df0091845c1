"""A project with a local package, editable packages, configuration, data and runs, for tests of snapshots."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

TRAIN = """
import os, sys
from pathlib import Path
import mypkg, srcpkg
word = "old"
given = Path(sys.argv[1]).read_text().split()[1]
fixed = Path("configs/b.yaml").read_text().split()[1]
os.makedirs("runs", exist_ok=True)
Path("runs/out").write_text("x")
beside = Path(__file__).parent / "runs2"
beside.mkdir(exist_ok=True)
(beside / "out").write_text((Path(__file__).parent / "data/x").read_text())
with open("results.csv", "a") as file:
    file.write(f"{word},{mypkg.WORD},{srcpkg.WORD},{given},{fixed}\\n")
"""
FLAT = """
from pathlib import Path
import mypkg
Path("flat.txt").write_text(mypkg.WORD)
"""
MODULE = """
from pathlib import Path
import mypkg
Path("module.txt").write_text(mypkg.WORD)
"""
FINDER = """# prose: ok, a text of Python
import sys
from importlib.machinery import PathFinder
MAPPING = {{"mypkg": "{folder}/mypkg"}}
class Finder:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name in MAPPING:
            return PathFinder.find_spec(name, ["{folder}"])
def install():
    sys.meta_path.append(Finder)
"""


def git(folder: Path, *words: str) -> str:
    """Run git, and return its output."""
    names = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always")
    process = subprocess.run(
        ["git", *names, *words], cwd=folder, check=True, capture_output=True, text=True
    )
    return process.stdout


def commit(folder: Path) -> None:
    """Commit all files of a folder, which becomes a repository."""
    git(folder, "init", "--quiet", ".")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "-m", "first")


def write(folder: Path, texts: Mapping[str, str]) -> None:
    """Write files, by their names relative to a folder."""
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def make_environment(folder: Path) -> Path:
    """Make a virtual environment without packages, and return its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    return folder / "bin/python"


def make_project(folder: Path) -> Path:
    """Make a project with a virtual environment in which its packages are installed; return its interpreter."""
    write(
        folder,
        {
            "train.py": TRAIN,
            "tools/flat.py": FLAT,
            "mypkg/train.py": MODULE,
            "shell.py": "import mypkg\nfrom pathlib import Path\nPath('shell.txt').write_text(mypkg.WORD)\n",
            "run.sh": f"{folder}/.venv/bin/python shell.py\n",
            "configs/a.yaml": "word: old",
            "configs/b.yaml": "word: old",
        },
    )
    for package in (folder / "mypkg", folder / "src/srcpkg"):
        package.mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").write_text('WORD = "old"\n')
    (folder / "data").mkdir()
    (folder / "data/x").write_text("42")
    (folder / ".gitignore").write_text(".venv/\ndata/\nruns/\nruns2/\n__pycache__\n")
    commit(folder)
    python = make_environment(folder / ".venv")
    (packages,) = (folder / ".venv/lib").glob("python3*/site-packages")
    (packages / "__editable__.srcpkg-1.pth").write_text(f"{folder}/src\n")
    (packages / "__editable___mypkg_1_finder.py").write_text(FINDER.format(folder=folder))
    (packages / "__editable__.mypkg-1.pth").write_text(
        "import __editable___mypkg_1_finder; __editable___mypkg_1_finder.install()\n"
    )
    tool = folder / ".venv/bin/tool"
    tool.write_text(
        f"#!{python}\nimport srcpkg\nfrom pathlib import Path\nPath('tool.txt').write_text(srcpkg.WORD)\n"
    )
    tool.chmod(0o755)
    return python


def edit(folder: Path) -> None:
    """Write the new word into all files of code and configuration."""
    (folder / "run.sh").write_text(f"# new\n{folder}/.venv/bin/python shell.py\n")
    for pattern in ("*.py", "mypkg/*.py", "src/srcpkg/*.py", "configs/*.yaml"):
        for path in folder.glob(pattern):
            path.write_text(path.read_text().replace("old", "new"))
