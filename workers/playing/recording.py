"""Episodes as a film: pictures in, one MP4 or GIF out, whole or not at all.

The package imageio-ffmpeg brings ffmpeg along. It is spoken to directly, so that a disk that fills up is an error
rather than a shorter film. Both formats are written as the pictures come: a film of any length costs no memory.
"""

import errno
import os
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

import numpy as np

from a3c.config import ConfigError
from a3c.files import discard
from workers.extras import missing

FORMATS = {
    # H.264 with the colours that every player knows, which takes even sides; the index comes first, for browsers.
    ".mp4": (
        "-vf",
        "pad=ceil(iw/2)*2:ceil(ih/2)*2",
        "-c:v",
        "libx264",
        "-preset",
        "veryfast",
        "-pix_fmt",
        "yuv420p",
        "-movflags",
        "+faststart",
        "-f",
        "mp4",
    ),
    # A palette of its own for every picture needs neither a second pass nor all pictures in memory.
    ".gif": (
        "-filter_complex",
        "split[a][b];[a]palettegen=stats_mode=single[p];[b][p]paletteuse=new=1:dither=none",
        "-f",
        "gif",
    ),
}


class Recording:
    """A film in the making, beside its place; it is renamed into it at the end, where all went well.

    Args:
        path: of the film, which replaces what is there; its ending says what it becomes.
        fps: pictures per second. GIF counts in hundredths of a second, so there it is close to that.
    Raises:
        ConfigError: the ending is another, the place cannot be written, or a package is missing.
    """

    def __init__(self, path: Path, fps: float):
        if path.suffix.lower() not in FORMATS:
            raise ConfigError(f"record: '{path}' ends in neither .mp4 nor .gif, so nobody knows what it is to become")
        if path.is_dir():
            raise ConfigError(f"record: '{path}' is a directory; name a file in it")
        self._path, self._fps, self._program = path, fps, _ffmpeg()
        self._process: subprocess.Popen[bytes] | None = None
        self._shape: tuple[int, ...] | None = None
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            self._temporary.touch()
        except OSError as error:
            raise ConfigError(f"record: '{path}' cannot be written: {error.strerror}") from error
        self._complaints = tempfile.TemporaryFile()  # a pipe would have to be read all the time

    def add(self, picture: Any) -> None:
        """Append a picture: [height, width, 3], RGB bytes, all of one size.

        Raises:
            ConfigError: it is something else.
            OSError: it cannot be written.
        """
        if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.shape[2:] != (3,):
            raise ConfigError("record: the environment's pictures are not [height, width, 3] bytes of red, green, blue")
        process = self._process or self._start(picture.shape)
        if picture.shape != self._shape:
            raise ConfigError("record: the environment's pictures change their size, which those of a film cannot")
        assert process.stdin is not None
        try:
            process.stdin.write(picture.tobytes())
        except OSError:  # ffmpeg has ended, and says why
            self._fail(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._process is not None:
                self._finish(self._process)
        finally:
            self._clean_up()

    def _start(self, shape: tuple[int, ...]) -> "subprocess.Popen[bytes]":
        size = f"{shape[1]}x{shape[0]}"
        source = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", f"{self._fps:g}", "-i", "-")
        command = [self._program, "-y", "-v", "error", *source, *FORMATS[self._path.suffix.lower()]]
        self._shape = shape
        self._process = subprocess.Popen(
            [*command, f"file:{self._temporary}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._complaints,
        )
        return self._process

    def _finish(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdin is not None
        try:
            process.stdin.close()
        except OSError:  # the last of it was not taken
            self._fail(process)
        if process.wait() != 0:
            self._fail(process)
        os.replace(self._temporary, self._path)

    def _fail(self, process: "subprocess.Popen[bytes]") -> NoReturn:
        process.wait()
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").split("\n")
        said = next((line for line in lines if line.strip()), f"exit code {process.returncode}")
        raise OSError(errno.EIO, f"ffmpeg: {said}", str(self._path))

    def _clean_up(self) -> None:
        if (process := self._process) is not None:
            process.kill()  # which does nothing to one that has ended
            process.wait()
            assert process.stdin is not None
            with suppress(OSError):  # what it has not taken is gone
                process.stdin.close()
        self._complaints.close()
        discard(self._temporary)  # after a rename it has that name no more


def _ffmpeg() -> str:
    """The path of ffmpeg."""
    try:
        from imageio_ffmpeg import get_ffmpeg_exe
    except ModuleNotFoundError:
        raise missing("record", "play") from None
    try:
        return str(get_ffmpeg_exe())
    except RuntimeError as error:  # no binary for this machine
        raise ConfigError(f"record: {error}") from error
