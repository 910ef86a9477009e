"""The data directory, and the folder that copies share: disks, who holds it, whether what is in it is sound. Nothing is
changed."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import apsw

from eventsourcing.adapters._sqlite_database import APPLICATION_ID, SCHEMA_VERSION
from monolith.datadir import DataDirError, held_by
from monolith.disk_watch import look_at
from monolith.doctor.findings import Finding, ok, problem, warning
from monolith.readmodels.schema import SIGNATURE
from monolith.settings import Settings
from monolith.settings_loading import variable

NETWORK_FILE_SYSTEMS: Final = frozenset(
    {
        "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "beegfs", "gpfs", "ocfs2",
        "gfs2", "fuse.sshfs", "fuse.s3fs", "fuse.glusterfs", "fuse.rclone", "fuse.gcsfuse",
    }
)  # fmt: skip
VOLATILE_FILE_SYSTEMS: Final = frozenset(("tmpfs", "ramfs", "overlay"))

_CHECK_SECONDS: Final = 4.0
_STEPS: Final = 100_000
"""Of SQLite's machine, between two looks at the clock."""
_TIGHT: Final = 5
"""With less than so many times the limit free, it is said."""
_MOUNT: Final = re.compile(r"^\d+ \d+ \S+ \S+ (\S+) .*? - (\S+) (\S+)", re.MULTILINE)
_MANY: Final = 100_000
_NEWEST: Final = """
SELECT count(*), max(recorded_at) FROM (SELECT recorded_at FROM event ORDER BY commit_position DESC LIMIT ?)
"""
NOTHING_YET: Final = "nothing yet: it is made at the first start"


def place(settings: Settings) -> Iterator[Finding]:
    """Whether files can be made, and who works there."""
    folder = settings.data_dir.absolute()
    wrong = _unusable("data directory", folder, variable("data_dir"))
    yield wrong or _holder(folder)
    if settings.shared_dir is not None:
        folder = settings.shared_folder
        wrong = _unusable("shared folder", folder, variable("shared_dir"))
        yield wrong or ok("shared folder", f"{folder} can be written")


def _unusable(title: str, folder: Path, name: str) -> Finding | None:
    """What is to be said of a folder that is not there, or cannot be written; None: nothing."""
    if not folder.exists():
        parent = next(one for one in folder.parents if one.exists())
        if os.access(parent, os.W_OK | os.X_OK):
            return ok(title, f"{folder}: {NOTHING_YET}")
        return problem(title, f"{folder} cannot be made in {parent}", f"make it, or set {name}")
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        text = f"{folder} cannot be written: {error.strerror}"
        return problem(title, text, f"give this user the right to write there, or set {name}")
    return None


def _holder(folder: Path) -> Finding:
    try:
        holder = held_by(folder)
    except DataDirError as error:
        return problem("data directory", str(error), "run the doctor as the user that the program runs as")
    if holder is None:
        return ok("data directory", f"{folder}: can be written, nobody holds it")
    serves = f" and serves {holder.url}" if holder.url else ""
    return ok("data directory", f"{folder}: can be written; process {holder.pid} holds it{serves}")


def file_system(settings: Settings, mounts: str | None = None) -> Iterator[Finding]:
    """`mounts`: text of /proc/self/mountinfo."""
    folder = _existing(settings.data_dir)
    text = Path("/proc/self/mountinfo").read_text(encoding="utf-8") if mounts is None else mounts
    kind, where = kind_of(folder, text)
    if kind in NETWORK_FILE_SYSTEMS:
        yield warning(
            "file system",
            f"{folder} lies on {kind} ({where}), a network file system",
            f"set {variable('data_dir')} to a local disk: locks and syncs cannot be relied on over a network",
        )
    elif kind in VOLATILE_FILE_SYSTEMS:
        yield warning(
            "file system",
            f"{folder} lies on {kind} ({where}), which ends with the machine or the container",
            f"set {variable('data_dir')} to a disk, or mount a volume there, if the results are to be kept",
        )
    else:
        yield ok("file system", f"{kind} ({where})")


def kind_of(folder: Path, mounts: str) -> tuple[str, str]:
    """The kind of the file system that `folder` lies on, and where it is mounted; later mounts hide earlier ones."""
    found = ("unknown", "/")
    for mounted, kind, _ in _MOUNT.findall(mounts):
        place = Path(re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), mounted))
        if folder.is_relative_to(place) and len(place.parts) >= len(Path(found[1]).parts):
            found = (kind, str(place))
    return found


def room(settings: Settings) -> Iterator[Finding]:
    yield _room("room", settings.data_dir, settings.min_free_bytes)
    if settings.shared_dir is not None:
        yield _room("shared room", settings.shared_folder, settings.min_free_bytes)


def _room(title: str, folder: Path, limit: int) -> Finding:
    state = look_at(_existing(folder))
    found = (
        f"{_gib(state.free_bytes)} of {_gib(state.total_bytes)} are free; below {_gib(limit)} no new work is taken"
        " in"
    )
    more = f"make room, or lower {variable('min_free_bytes')}"
    if state.free_bytes < limit:
        return problem(title, found, more)
    if state.free_bytes < _TIGHT * limit:
        return warning(title, found, more)
    return ok(title, found)


def event_store(settings: Settings) -> Iterator[Finding]:
    """A check of the file's structure, as far as it comes in a few seconds."""
    path = settings.data_dir.absolute() / "events.db"
    if settings.kurrentdb_uri.get_secret_value():
        yield ok("event store", "the server of KurrentDB, not a file")
        return
    if not path.exists():
        yield ok("event store", NOTHING_YET)
        return
    restore = f"put back a sound copy of {path}, or name another data directory"
    try:
        with closing(open_to_read(path)) as connection:
            if (connection.pragma("application_id"), connection.pragma("user_version")) != (
                APPLICATION_ID,
                SCHEMA_VERSION,
            ):
                yield problem("event store", f"{path} is no event store of version {SCHEMA_VERSION}", restore)
                return
            row: Any = connection.execute(_NEWEST, (_MANY,)).fetchall()[0]
            events, newest = row
            flaw, whole = _quick_check(connection)
    except apsw.Error as error:
        yield problem("event store", f"{path}: {type(error).__name__}: {error}", restore)
        return
    if flaw is not None:
        yield problem("event store", f"{path} is damaged: {flaw}", restore)
        return
    many = f"{events}{' or more' if events == _MANY else ''} events"
    how = "checked" if whole else f"checked for {_CHECK_SECONDS:g} s, not to its end"
    yield ok("event store", f"{many}, sound ({how})")
    if newest is not None and newest > time.time() + 60:
        text = f"its newest event is from the future ({newest - time.time():.0f} s): the clock was set back"
        yield warning("event store", text, "set the clock right; times of events in between are wrong")


def read_models(settings: Settings) -> Iterator[Finding]:
    path = settings.data_dir.absolute() / "readmodels.db"
    if not path.exists():
        yield ok("read models", NOTHING_YET)
        return
    try:
        with closing(open_to_read(path)) as connection:
            signature = connection.execute("SELECT value FROM meta WHERE key = 'signature'").get
            parked = connection.execute("SELECT count(*) FROM parked").get
    except apsw.Error as error:
        yield warning("read models", f"{path}: {error}", "they are built again at the next start")
        return
    if signature != SIGNATURE:
        text = "of another version of the program"
        yield warning("read models", text, "they are built again at the next start, which takes longer then")
    elif parked:
        text = f"{parked} events could not be shown"
        yield warning("read models", text, "`video-analysis rebuild` tries them again; the log says why")
    else:
        yield ok("read models", "of this version, nothing is missing")


def open_to_read(path: Path) -> apsw.Connection:
    """A database that another process may be writing. Raises apsw.Error."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(2000)
    return connection


def _quick_check(connection: apsw.Connection) -> tuple[str | None, bool]:
    """The first flaw, and whether all was looked at."""
    end = time.monotonic() + _CHECK_SECONDS
    connection.set_progress_handler(lambda: time.monotonic() > end, _STEPS)
    try:
        said = connection.execute("PRAGMA quick_check(1)").get
    except apsw.InterruptError:
        return None, False
    finally:
        connection.set_progress_handler(None)
    return (None if said == "ok" else str(said)), True


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    return next(one for one in (folder, *folder.parents) if one.exists()).resolve()


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
