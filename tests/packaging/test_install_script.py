"""`.ci/install`, which `make demo` and `make test` run, says in one sentence what is missing."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.documents import TREE

OLD = "#!/bin/sh\necho 3.10\n"
BARE = '#!/bin/sh\ncase "$2" in *ensurepip*) exit 1;; esac\necho 3.12\n'
# its environments have a pip that fails with the text of the variable PIP_SAYS
WHOLE = """#!/bin/sh
case "$2" in
  *version_info*) echo 3.12;;
  venv) mkdir -p "$3/bin"; printf '#!/bin/sh\\necho "$PIP_SAYS"; exit 1\\n' > "$3/bin/python"; chmod +x "$3/bin/python";;
esac
"""
FULL = "#!/bin/sh\nprintf 'head\\ndisk 1 1 2097152 1%% /\\n'\n"  # 2 GiB are free
EMPTY = FULL.replace("2097152", "99999999")


@pytest.mark.parametrize(
    ("python", "df", "pip_says", "sentence"),
    [
        (None, EMPTY, "", "error: there is no program 'python-x'. Name a Python of 3.11 or newer"),
        (OLD, EMPTY, "", "error: python-x is Python 3.10. Name a Python of 3.11 or newer"),
        (BARE, EMPTY, "", "error: python-x has no module venv. Install it"),
        (WHOLE, FULL, "", "has 2 GiB of free space, and the installation needs 8 GiB."),
        (WHOLE, EMPTY, "OSError: [Errno 28] No space left on device", "became full. Delete files"),
        (WHOLE, EMPTY, "NewConnectionError: nothing", "error: pip cannot reach the package index."),
        (WHOLE, EMPTY, "ERROR: no such extra", "error: pip failed: ERROR: no such extra"),
    ],
)
def test_each_cause_of_a_failed_installation_is_one_sentence(
    python: str | None, df: str, pip_says: str, sentence: str, tmp_path: Path
) -> None:
    programs = {"df": df} if python is None else {"df": df, "python-x": python}
    result = install(tmp_path, programs, PIP_SAYS=pip_says)
    assert result.returncode == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert sentence in line


def install(
    folder: Path, programs: Mapping[str, str], **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the script with stand-ins for programs."""
    for name, text in programs.items():
        (folder / name).write_text(text, encoding="utf-8")
        (folder / name).chmod(0o755)
    return subprocess.run(
        [TREE / ".ci" / "install", "python-x", "venv", "lab", "8"],
        cwd=folder,
        env={"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
