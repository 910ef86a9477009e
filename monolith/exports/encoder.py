"""An encoder process: `python -m monolith.exports.encoder LINK_FD PARENT_PID`.

It makes one annotated video and ends. It stands back behind the analyses; what crashes here takes one video with it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Final

import cv2
import msgspec

from monolith.child import ParentGoneError, ParentLink, die_with_parent
from monolith.exports.messages import (
    Append,
    Begin,
    DrawnFrame,
    Encoded,
    Failed,
    Finish,
    Finished,
    FromEncoder,
    Started,
    ToEncoder,
)
from monolith.frames.annotate import annotate
from monolith.frames.jpeg import JpegError, Picture, decode
from monolith.frames.letterbox import on_canvas, placed, scaled_detection, scaled_picture
from monolith.frames.mp4 import Mp4Writer, NoEncoderError
from monolith.frames.pack import PackError, read_jpeg

_NICENESS: Final = 15
_OUT_OF_MEMORY_SCORE: Final = "700"
_ENCODE: Final = msgspec.msgpack.Encoder().encode
_DECODER: Final = msgspec.msgpack.Decoder(ToEncoder)


class Encoder:
    """Does what the parent says, until the file is whole or an error ends it."""

    def __init__(self, link: ParentLink) -> None:
        self._link = link

    def run(self) -> None:
        """Raises ParentGoneError."""
        self._say(Started(os.getpid()))
        try:
            self._say(self._make())
        except PackError as error:
            self._say(Failed(str(error), gone=isinstance(error.__cause__, FileNotFoundError)))
        except (JpegError, NoEncoderError) as error:
            self._say(Failed(str(error)))
        except MemoryError:
            self._say(Failed("the encoder ran out of memory"))
        except OSError as error:  # FFmpeg's errors are among them
            self._say(Failed(f"the video cannot be written: {error.strerror or error}"))

    def _make(self) -> Finished:
        begin = self._hear()
        assert isinstance(begin, Begin)
        path, canvas = Path(begin.path), (begin.width, begin.height)
        with Mp4Writer(path, begin.width, begin.height, begin.rate) as writer:
            while not isinstance(message := self._hear(), Finish):
                assert isinstance(message, Append)
                for frame in message.frames:
                    writer.write(_picture(frame, canvas), frame.seconds)
                self._say(Encoded(writer.frames))
            end = writer.finish()
        _bring_to_disk(path)
        return Finished(frames=writer.frames, end=end, codec=writer.codec, size_bytes=path.stat().st_size)

    def _hear(self) -> ToEncoder:
        message: ToEncoder = _DECODER.decode(self._link.receive())
        return message

    def _say(self, message: FromEncoder) -> None:
        self._link.send(_ENCODE(message))


def _picture(frame: DrawnFrame, canvas: tuple[int, int]) -> Picture:
    """The annotated picture on the canvas (width, height); drawn after scaling, so that letters stay sharp."""
    stored = decode(read_jpeg(Path(frame.pack_path), frame.offset, frame.length))
    height, width = stored.shape[:2]
    place = placed(width, height, canvas)
    found = [scaled_detection(detection, place.scale) for detection in frame.detections]
    return on_canvas(annotate(scaled_picture(stored, place), found), place, canvas)


def _bring_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def main() -> None:
    link_fd, parent_pid = (int(argument) for argument in sys.argv[1:3])
    try:
        die_with_parent(parent_pid)
        os.nice(_NICENESS)
        cv2.setNumThreads(1)
        with contextlib.suppress(OSError):  # if memory runs out, let it be this process
            Path("/proc/self/oom_score_adj").write_text(_OUT_OF_MEMORY_SCORE)
        Encoder(ParentLink(link_fd)).run()
    except ParentGoneError:
        sys.exit(0)


if __name__ == "__main__":
    main()
