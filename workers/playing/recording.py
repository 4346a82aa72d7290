"""Episodes as a film: pictures in, one MP4 or GIF out, whole or not at all.

Pictures are piped to the ffmpeg that the package imageio-ffmpeg brings along, without that package's own writer, so
that a full disk is an error rather than a shorter film. A film of any length costs no memory.
"""

import errno
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from a3c.config import ConfigError
from a3c.files import discard
from workers.extras import require

FORMATS = {
    # H.264 with the colours that every player knows, which takes even sides; the index comes first, for browsers.
    ".mp4": "-vf pad=ceil(iw/2)*2:ceil(ih/2)*2 -c:v libx264 -preset veryfast -pix_fmt yuv420p -movflags +faststart",
    # A palette of its own for every picture needs neither a second pass nor all pictures in memory.
    ".gif": "-filter_complex split[a][b];[a]palettegen=stats_mode=single[p];[b][p]paletteuse=new=1:dither=none",
}


@contextmanager
def recording(path: Path, fps: float) -> Iterator[Callable[[Any], None]]:
    """Yield a function that appends a picture; the film replaces `path` where the `with` ends without an error.

    Args:
        path: its ending says what it becomes.
        fps: pictures per second. GIF counts in hundredths of a second, so there it is close to that.
    Raises:
        ConfigError: the ending is another, the film cannot be written, a package is missing, or a picture is not one of
            [height, width, 3] RGB bytes.
        OSError: ffmpeg failed, such as on a full disk.
    """
    kind, temporary = path.suffix.lower(), path.with_name(f".{path.name}.{os.getpid()}.tmp")
    if kind not in FORMATS:
        raise ConfigError(f"record: '{path}' ends in neither .mp4 nor .gif, the two kinds that there are")
    if path.is_dir():
        raise ConfigError(f"record: '{path}' is a directory; name a file in it")
    source = f"-y -v error -f image2pipe -c:v ppm -framerate {fps:g} -i -"
    command = [_ffmpeg(), *source.split(), *FORMATS[kind].split(), "-f", kind[1:], f"file:{temporary}"]
    try:
        temporary.touch()
    except OSError as error:
        raise ConfigError(f"record: '{path}' cannot be written: {error.strerror}") from error
    with ExitStack() as stack:
        stack.callback(discard, temporary)  # which is gone once it is renamed
        errors = stack.enter_context(tempfile.TemporaryFile())  # a pipe would have to be read all the time
        # In a process group of its own: stopped by the Ctrl-Z meant for this program, it would read no more, and a
        # program that waits to write to it could not stop itself.
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors, process_group=0
        )
        stack.callback(process.communicate)  # closes the pipe and waits
        stack.callback(process.kill)  # which does nothing to one that has ended
        pipe = process.stdin
        assert pipe is not None

        def add(picture: Any) -> None:
            if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.shape[2:] != (3,):
                raise ConfigError("record: the environment's pictures are not [height, width, 3] bytes of RGB")
            height, width = picture.shape[:2]
            pipe.write(b"P6 %d %d 255\n" % (width, height) + picture.tobytes())

        try:
            yield add
            pipe.close()
        except BrokenPipeError:
            with suppress(subprocess.TimeoutExpired):
                process.wait(1.0)
            if process.returncode is None:  # it was another pipe
                raise
        if process.wait() != 0:
            errors.seek(0)
            lines = errors.read().decode(errors="replace").split("\n")
            reason = next(filter(str.strip, lines), f"exit code {process.returncode}")
            raise OSError(errno.EIO, f"ffmpeg: {reason}", str(path))
        os.replace(temporary, path)


def _ffmpeg() -> str:
    require("record", "play", ["imageio_ffmpeg"])
    from imageio_ffmpeg import get_ffmpeg_exe

    try:
        return str(get_ffmpeg_exe())
    except RuntimeError as error:  # no binary for this machine
        raise ConfigError(f"record: {error}") from error
