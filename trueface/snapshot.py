"""The laboratory's code as it was when a job ran: one archive per state of the code, not per job.

The original copied its programs into a run's folder once, so that a job after an edit stood beside code
that had not made it. Here each job names the archive it belongs to by its hash, and jobs of the same
code share one.
"""

import hashlib
import io
import zipfile
from functools import lru_cache
from pathlib import Path

from launcher.api import write_atomic

FOLDER = "code"  # in the run's folder
EPOCH = (
    1980,
    1,
    1,
    0,
    0,
    0,
)  # the earliest time that an archive can hold: its bytes depend on code alone


def keep(run_folder: Path) -> str:
    """Keep the code of this package in a run's folder; return the SHA-256 of the archive."""
    archive, digest = _archive(Path(__file__).parent)
    path = run_folder / FOLDER / f"{digest[:16]}.zip"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, archive)
    return digest


@lru_cache(maxsize=1)  # what is imported does not change while a process runs
def _archive(package: Path) -> tuple[bytes, str]:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(package.rglob("*.py")):
            name = f"{package.name}/{file.relative_to(package).as_posix()}"
            archive.writestr(zipfile.ZipInfo(name, EPOCH), file.read_bytes(), zipfile.ZIP_DEFLATED)
    content = buffer.getvalue()
    return content, hashlib.sha256(content).hexdigest()
