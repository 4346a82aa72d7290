"""Episodes as a film: pictures in, one MP4 or GIF out, whole or not at all.

Pictures are piped to the ffmpeg that the package imageio-ffmpeg brings along, without that package's own writer, so
that a full disk is an error rather than a shorter film. A film of any length costs no memory.
"""

import errno
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NoReturn, Self

import numpy as np

from a3c.config import ConfigError
from a3c.files import discard
from workers.extras import missing

FORMATS = {
    # H.264 with the colours that every player knows, which takes even sides; the index comes first, for browsers.
    ".mp4": "-vf pad=ceil(iw/2)*2:ceil(ih/2)*2 -c:v libx264 -preset veryfast -pix_fmt yuv420p -movflags +faststart",
    # A palette of its own for every picture needs neither a second pass nor all pictures in memory.
    ".gif": "-filter_complex split[a][b];[a]palettegen=stats_mode=single[p];[b][p]paletteuse=new=1:dither=none",
}


class Recording:
    """A film that replaces `path` at the end of a `with` that ends without an error.

    Args:
        path: its ending says what it becomes.
        fps: pictures per second. GIF counts in hundredths of a second, so there it is close to that.
    """

    def __init__(self, path: Path, fps: float):
        self._path, self._fps = path, fps
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self._process: subprocess.Popen[bytes] | None = None
        self._shape: tuple[int, ...] = ()

    def __enter__(self) -> Self:
        """Raises ConfigError where the ending is another, the film cannot be written, or a package is missing."""
        if self._path.suffix.lower() not in FORMATS:
            raise ConfigError(f"record: '{self._path}' ends in neither .mp4 nor .gif, the two kinds that there are")
        if self._path.is_dir():
            raise ConfigError(f"record: '{self._path}' is a directory; name a file in it")
        self._program = _ffmpeg()
        try:
            self._temporary.touch()
        except OSError as error:
            raise ConfigError(f"record: '{self._path}' cannot be written: {error.strerror}") from error
        self._errors = tempfile.TemporaryFile()  # a pipe would have to be read all the time
        return self

    def add(self, picture: Any) -> None:
        """Append a picture: [height, width, 3], RGB bytes, all of one size.

        Raises:
            ConfigError: it is something else.
            OSError: it cannot be written.
        """
        if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.shape[2:] != (3,):
            raise ConfigError("record: the environment's pictures are not [height, width, 3] bytes of red, green, blue")
        if self._process is None:
            self._shape, self._process = picture.shape, self._start(*picture.shape[:2])
        if picture.shape != self._shape:
            raise ConfigError("record: the environment's pictures change their size, which those of a film cannot")
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(picture.tobytes())
        except OSError:  # ffmpeg has ended
            self._fail(self._process)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        process, taken = self._process, True
        try:
            if process is None:
                return
            if kind is not None:
                process.kill()
            assert process.stdin is not None
            try:
                process.stdin.close()
            except OSError:  # the last of it was not taken
                taken = False
            if kind is None:
                if process.wait() != 0 or not taken:
                    self._fail(process)
                os.replace(self._temporary, self._path)
        finally:
            if process is not None:
                process.kill()  # which does nothing to one that has ended
                process.wait()
            self._errors.close()
            discard(self._temporary)  # which is gone once it is renamed

    def _start(self, height: int, width: int) -> "subprocess.Popen[bytes]":
        source = f"-y -v error -f rawvideo -pix_fmt rgb24 -s {width}x{height} -r {self._fps:g} -i -"
        kind = self._path.suffix.lower()
        output = [*FORMATS[kind].split(), "-f", kind[1:], f"file:{self._temporary}"]
        command = [self._program, *source.split(), *output]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._errors)

    def _fail(self, process: "subprocess.Popen[bytes]") -> NoReturn:
        process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").split("\n")
        reason = next((line for line in lines if line.strip()), f"exit code {process.returncode}")
        raise OSError(errno.EIO, f"ffmpeg: {reason}", str(self._path))


def _ffmpeg() -> str:
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        return str(get_ffmpeg_exe())
    except ModuleNotFoundError:
        raise missing("record", "play") from None
    except RuntimeError as error:  # no binary for this machine
        raise ConfigError(f"record: {error}") from error
