"""Corruptions by programs: a frame of video by ffmpeg."""

import shutil
from pathlib import Path

import pytest
import torch

from launcher.api import JobError
from trueface.corruptions.chain import Chain, passed_through, version_of

FRAME = torch.randint(0, 256, (3, 21, 18), generator=torch.Generator().manual_seed(0)).byte()
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


def install(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program of that name on the PATH that does what the script says."""
    program = folder / "ffmpeg"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_a_frame_goes_through_the_program_in_a_size_that_video_has_and_comes_back_in_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, f'echo "$@" >> {tmp_path}/commands; exec cat', monkeypatch)
    assert torch.equal(Chain.parse("c23")(FRAME, "a"), FRAME)
    coding, decoding = (tmp_path / "commands").read_text().splitlines()
    assert "-s 18x22" in coding
    assert "-c:v libx264 -crf 23" in coding
    assert "-f h264 -i -" in decoding


def test_a_program_that_is_missing_fails_or_gives_something_else_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(JobError, match="ffmpeg is not on the PATH; install it"):
        Chain.parse("h264-30")(FRAME, "a")
    install(tmp_path, "echo Unknown encoder >&2; exit 1", monkeypatch)
    with pytest.raises(JobError, match="ffmpeg failed: Unknown encoder"):
        Chain.parse("h264-30")(FRAME, "a")
    install(tmp_path, "echo 3", monkeypatch)
    with pytest.raises(JobError, match="2 bytes for a frame of 1188"):
        Chain.parse("h264-30")(FRAME, "a")


def test_a_record_says_which_program_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "echo ffmpeg version 7; echo more", monkeypatch)
    version_of.cache_clear()
    record = Chain.parse("half+h264-23").record
    version_of.cache_clear()
    assert record["programs"] == {"ffmpeg": "ffmpeg version 7"}
    assert "programs" not in Chain.parse("half").record
    assert version_of("no-such-program") is None


def test_a_program_gets_and_gives_bytes() -> None:
    assert passed_through(("cat",), b"\x00\xff") == b"\x00\xff"


@needs_ffmpeg
def test_a_higher_rate_factor_leaves_less() -> None:
    down, across = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    photo = torch.stack([down * 4, across * 4, (down + across) * 2]).byte()
    near, far = (
        (Chain.parse(text)(photo, "a").float() - photo.float()).abs().mean()
        for text in ("h264-10", "h264-45")
    )
    assert near < far < 60
