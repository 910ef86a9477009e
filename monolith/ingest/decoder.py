"""A decoder process: `python -m monolith.ingest.decoder LINK_FD PARENT_PID SLOTS_FD COUNT SLOT_BYTES`.

It does one request at a time and stays for more. Codecs are complex and files come from anywhere: what crashes here
takes one request with it, nothing else.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Final

import av.error

from monolith.child import ParentGoneError, ParentLink, die_with_parent, log_to_parent
from monolith.inference.shared_memory import FrameSlots
from monolith.ingest.decoding import SegmentDecoding, read_stored
from monolith.ingest.errors import SourceError
from monolith.ingest.following import Followed, probe_source
from monolith.ingest.messages import (
    DecodeSegment,
    Failed,
    FollowSource,
    FromDecoder,
    Probe,
    Probed,
    ProbeSource,
    ReadStored,
    SegmentDone,
    Started,
)
from monolith.ingest.numbering import SequentialReader
from monolith.ingest.probe import probe_file
from monolith.ingest.requests import CancelledError, Inbox, Request

_NICENESS: Final = 5
_OUT_OF_MEMORY_SCORE: Final = "500"


class Decoder:
    """Answers requests until the parent closes the link."""

    def __init__(self, link: ParentLink, slots: FrameSlots) -> None:
        self._link = link
        self._slots = slots
        self._kept: SequentialReader | None = None

    def run(self) -> None:
        """Raises ParentGoneError when the parent dies at work."""
        inbox = Inbox(self._link)
        hello = Request(ReadStored(()), self._link)
        hello.say(Started(os.getpid()))
        inbox.start()
        while (request := inbox.next()) is not None:
            request.say(self._answer(request))

    def _answer(self, request: Request) -> FromDecoder:
        """The message that ends the request."""
        try:
            return self._work(request)
        except SourceError as error:
            return self._failed(request, error.reason, permanent=error.permanent)
        except CancelledError:
            return self._failed(request, "cancelled", permanent=False)
        except MemoryError:
            return self._failed(request, "the decoder ran out of memory", permanent=False)
        except av.error.FFmpegError as error:  # whose file name may be a URL with a password
            return self._failed(request, f"decoding failed: {error.strerror}", permanent=False)
        except OSError as error:
            reason = f"{error.strerror or error}" + (
                f": {Path(error.filename).name}" if error.filename else ""
            )
            return self._failed(request, f"decoding failed: {reason}", permanent=False)

    def _work(self, request: Request) -> FromDecoder:
        match request.work:
            case Probe() as probe:
                return self._probe(request, probe)
            case DecodeSegment() as segment:
                return self._decode(request, segment)
            case ReadStored() as stored:
                return read_stored(request, stored, self._slots)
            case ProbeSource() as source:
                return probe_source(request, source)
            case FollowSource() as source:
                self._drop_kept()
                return Followed(request, source, self._slots).run()

    def _probe(self, request: Request, work: Probe) -> Probed:
        path, scan_path = Path(work.path), Path(work.scan_path)
        return Probed(probe_file(path, scan_path, work.segment_seconds, progress=request.step))

    def _decode(self, request: Request, work: DecodeSegment) -> SegmentDone:
        decoding = SegmentDecoding(request, work, self._slots)
        if work.pts_digest is not None:
            self._drop_kept()
            return decoding.indexed()
        reader = self._reader_of(Path(work.path))
        done = decoding.sequential(reader)
        if done.end_of_source:
            self._drop_kept()
        return done

    def _reader_of(self, path: Path) -> SequentialReader:
        """The reader left open by the segment before, or a new one."""
        if self._kept is None or self._kept.path != path:
            self._drop_kept()
            self._kept = SequentialReader(path)
        return self._kept

    def _drop_kept(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _failed(self, request: Request, reason: str, *, permanent: bool) -> Failed:
        self._drop_kept()
        return Failed(reason=reason, permanent=permanent, unused_slots=request.unused_slots())


def main() -> None:
    link_fd, parent_pid, slots_fd, count, slot_bytes = (int(argument) for argument in sys.argv[1:6])
    try:
        die_with_parent(parent_pid)
        log_to_parent()
        os.nice(_NICENESS)
        with contextlib.suppress(OSError):  # if memory runs out, let it be this process
            Path("/proc/self/oom_score_adj").write_text(_OUT_OF_MEMORY_SCORE)
        Decoder(ParentLink(link_fd), FrameSlots.attach(slots_fd, count, slot_bytes)).run()
    except ParentGoneError:
        sys.exit(0)


if __name__ == "__main__":
    main()
