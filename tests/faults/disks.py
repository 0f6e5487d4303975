"""Small file systems of a test's own: one that gets full, one that turns read-only as a failing disk does. They need root."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True, slots=True)
class Disk:
    """A file system that is mounted at `place`."""

    place: Path

    def free_bytes(self) -> int:
        """Return how much anybody could still write."""
        found = os.statvfs(self.place)
        return found.f_bavail * found.f_frsize

    def fill(self, *, but_for_bytes: int = 0) -> None:
        """Take up all room but so much of it."""
        with (self.place / "ballast").open("ab") as file, contextlib.suppress(OSError):
            while (more := self.free_bytes() - but_for_bytes) > 0:
                file.write(bytes(min(more, 1 << 20)))
                file.flush()

    def free(self) -> None:
        """Give the room back."""
        (self.place / "ballast").unlink()


@contextlib.contextmanager
def small_disk(place: Path, size_bytes: int) -> Iterator[Disk]:
    """Mount a disk in memory."""
    with _mount(place, "-t", "tmpfs", "-o", f"size={size_bytes},mode=700", "none"):
        yield Disk(place)


@contextlib.contextmanager
def failing_disk(place: Path, size_bytes: int) -> Iterator[Disk]:
    """Mount a disk in a file that turns read-only at its first fault (ext4, errors=remount-ro); see `break_disk`."""
    image = place.with_name(f"{place.name}.image")
    with image.open("wb") as file:
        file.truncate(size_bytes)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
    with mounted(image, place):
        yield Disk(place)


@contextlib.contextmanager
def mounted(image: Path, place: Path) -> Iterator[None]:
    """Mount the disk in a file, again where it was."""
    with _mount(place, "-o", "loop,errors=remount-ro", str(image)):
        yield


def break_disk(disk: Disk) -> None:
    """Have the kernel find a fault in a file system, so that nothing can be written to it any more."""
    source = subprocess.run(
        ["findmnt", "-n", "-o", "SOURCE", str(disk.place)], capture_output=True, text=True, check=True
    ).stdout.strip()
    Path(f"/sys/fs/ext4/{Path(source).name}/trigger_fs_error").write_text("1")


@contextlib.contextmanager
def _mount(place: Path, *arguments: str) -> Iterator[None]:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root may mount a disk")
    place.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", *arguments, str(place)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"this machine mounts no such disk: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
