"""Attempts of a job in a run, as plain folders: changes of each in its view, and the resulting run."""

from collections.abc import Mapping
from pathlib import Path

from launcher.queue.home.paths import Attempt, Home
from launcher.queue.staging.acceptance import accept, hand_over
from launcher.queue.staging.earlier_stages import remove_earlier_stages, take_earlier_stage
from launcher.queue.staging.stages import StagingFolder, stage_of
from launcher.queue.staging.view import DeclaredOutputs, make_stage, outputs_inside
from launcher.system.files import write_atomic

MODEL = "a:pre"


class Study:
    """A run and the attempts of one job of it, which makes the model `a:pre`."""

    def __init__(self, folder: Path, *outputs: str) -> None:
        self.run = folder / "project" / "runs" / "study"
        self.run.parents[1].mkdir(parents=True)
        self.home = Home(folder / "home")
        self.number = 0
        names = outputs_inside(self.run, [f"{self.run}/{name}" for name in outputs])
        self.wanted = DeclaredOutputs(
            models=frozenset({MODEL}), outputs=names, replaced_below="made"
        )

    def accepted(self, files: Mapping[str, str]) -> None:
        """Have files in the run's folder that other attempts made."""
        for name, text in files.items():
            (self.run / name).parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self.run / name, text, durable=False)

    def begin(self) -> Path:
        """Begin the next attempt; return where it writes."""
        self.number += 1
        attempt = self.attempt(self.number)
        attempt.folder.mkdir(parents=True)
        left = take_earlier_stage(self.home, 7, self.number, self.run)
        self.view = make_stage(
            attempt, self.run, self.wanted, job=7, attempt_number=self.number, earlier=left
        )
        return self.view.writable

    def attempt(self, number: int) -> Attempt:
        return self.home.attempt(7, number)

    def stage(self, number: int = 0) -> StagingFolder:
        stage = stage_of(self.attempt(number or self.number), self.run)
        assert stage is not None
        return stage

    def end(self) -> None:
        """Do what a worker and its scheduler do when the newest attempt is done."""
        hand_over(self.attempt(self.number), self.run)
        self.accept()

    def accept(self) -> None:
        accept(self.attempt(self.number), self.run)
        remove_earlier_stages(self.home, 7, self.number, self.run)

    def results(self) -> dict[str, str]:
        """Return the files in the run's folder, without staging folders."""
        return {
            name: text
            for name, text in files_in(self.run).items()
            if not name.startswith(".attempts/")
        }


def files_in(folder: Path) -> dict[str, str]:
    """Return the text of each file, and "→" and the target of each link."""
    return {
        str(path.relative_to(folder)): f"→ {path.readlink()}"
        if path.is_symlink()
        else path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def write(path: Path, text: str) -> None:
    """Write as a laboratory does: whole, under a temporary name first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text, durable=False)
