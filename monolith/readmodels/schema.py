"""Tables of the read models, and how frames and results get their numbers.

A frame's id is `video_no << 32 | frame_number`, a result's `run_no << 36 | frame_number << 4 | model_no`: the rows of
a run lie together in the order in which `/results` gives them, and a range of ids is a range of frames. Numbers of
videos and runs are never used again (AUTOINCREMENT): a reader that outlives a delete finds nothing, not another's rows.

What is summed in `videos`, `runs` and `run_models` lies by segments in `segment_sums`, `run_sums` and `model_sums`, so
that an expired segment's share can be replaced by what SegmentsExpired says (see `sums`). Times that are summed are
whole nanoseconds: then the order does not matter.
"""

from __future__ import annotations

from typing import Final

import msgspec

from monolith.domain.models import DEFAULT_THRESHOLDS, MODEL_KEYS

SCHEMA_VERSION: Final = 5
MAX_FRAME_NUMBER: Final = 2**32 - 1

MODEL_BITS: Final = 4
FRAME_BITS: Final = 32
MODEL_MASK: Final = (1 << MODEL_BITS) - 1
KEY_BITS: Final = FRAME_BITS + MODEL_BITS
KEY_MASK: Final = (1 << KEY_BITS) - 1
"""The part of a result's id that orders it within its run."""

MODEL_NUMBERS: Final = {key: number for number, key in enumerate(MODEL_KEYS)}

SIGNATURE: Final = msgspec.json.encode(
    [SCHEMA_VERSION, MODEL_KEYS, DEFAULT_THRESHOLDS], order="sorted"
).decode()
"""What is baked into the rows: a file with another signature is built again."""


def frame_id(video_no: int, frame_number: int) -> int:
    return video_no << FRAME_BITS | frame_number


def result_id(run_no: int, frame_number: int, model_no: int) -> int:
    return run_no << KEY_BITS | frame_number << MODEL_BITS | model_no


TABLES: Final = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE checkpoints(name TEXT PRIMARY KEY, commit_position INTEGER NOT NULL) WITHOUT ROWID;

CREATE TABLE videos(
    video_no INTEGER PRIMARY KEY AUTOINCREMENT,
    video_id TEXT NOT NULL UNIQUE,
    video_name TEXT NOT NULL,
    video_url TEXT NOT NULL,
    source_kind TEXT NOT NULL,
    submitted_at REAL NOT NULL,
    probe TEXT,
    ingest_seconds REAL,
    frames_total INTEGER,
    frames_stored INTEGER NOT NULL DEFAULT 0,
    decode_nanoseconds INTEGER NOT NULL DEFAULT 0,
    resize_nanoseconds INTEGER NOT NULL DEFAULT 0,
    encode_nanoseconds INTEGER NOT NULL DEFAULT 0,
    expired_segments INTEGER NOT NULL DEFAULT 0,
    frames_expired INTEGER NOT NULL DEFAULT 0,
    stopping INTEGER NOT NULL DEFAULT 0,
    first_run_no INTEGER,
    status TEXT NOT NULL DEFAULT 'Pending',
    submitted_position INTEGER NOT NULL,
    commit_position INTEGER NOT NULL
);
CREATE INDEX videos_by_status ON videos(status, video_no);

CREATE TABLE runs(
    run_no INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id TEXT NOT NULL UNIQUE,
    video_no INTEGER NOT NULL,
    models TEXT NOT NULL,
    frame_step INTEGER NOT NULL,
    max_height INTEGER NOT NULL,
    jpeg_quality INTEGER NOT NULL,
    infer_from TEXT NOT NULL,
    requested_at REAL NOT NULL,
    status TEXT NOT NULL,
    error TEXT,
    ended_at REAL,
    frames_analyzed INTEGER NOT NULL DEFAULT 0,
    frames_dropped INTEGER NOT NULL DEFAULT 0,
    greatest_frame INTEGER NOT NULL DEFAULT 0,
    coverage REAL,
    commit_position INTEGER NOT NULL
);
CREATE INDEX runs_by_video ON runs(video_no);

CREATE TABLE run_models(
    run_no INTEGER NOT NULL,
    model_no INTEGER NOT NULL,
    identity TEXT NOT NULL,
    frames INTEGER NOT NULL,
    nanoseconds INTEGER NOT NULL,
    commit_position INTEGER NOT NULL,
    PRIMARY KEY(run_no, model_no)
) WITHOUT ROWID;

CREATE TABLE segments(
    video_no INTEGER NOT NULL,
    segment INTEGER NOT NULL,
    first_frame INTEGER NOT NULL,
    last_frame INTEGER,
    start_seconds REAL,
    end_seconds REAL,
    expired_at REAL,
    commit_position INTEGER NOT NULL,
    PRIMARY KEY(video_no, segment)
) WITHOUT ROWID;

CREATE TABLE connections(
    video_no INTEGER NOT NULL,
    connection INTEGER NOT NULL,
    segment INTEGER NOT NULL,
    first_frame INTEGER NOT NULL,
    timestamp REAL NOT NULL,
    wall_time REAL NOT NULL,
    ended_at REAL,
    reason TEXT,
    last_frame INTEGER,
    commit_position INTEGER NOT NULL,
    PRIMARY KEY(video_no, connection)
) WITHOUT ROWID;

CREATE TABLE run_segments(
    run_no INTEGER NOT NULL,
    segment INTEGER NOT NULL,
    state TEXT NOT NULL,
    attempt INTEGER,
    frames INTEGER,
    dropped INTEGER,
    reason TEXT,
    commit_position INTEGER NOT NULL,
    PRIMARY KEY(run_no, segment)
) WITHOUT ROWID;

CREATE TABLE segment_sums(
    video_no INTEGER NOT NULL,
    segment INTEGER NOT NULL,
    first_frame INTEGER,
    last_frame INTEGER,
    frames_stored INTEGER NOT NULL,
    decode_nanoseconds INTEGER NOT NULL,
    resize_nanoseconds INTEGER NOT NULL,
    encode_nanoseconds INTEGER NOT NULL,
    newest_at REAL NOT NULL,
    commit_position INTEGER NOT NULL,
    PRIMARY KEY(video_no, segment)
) WITHOUT ROWID;

CREATE TABLE run_sums(
    run_no INTEGER NOT NULL,
    segment INTEGER NOT NULL,
    frames INTEGER NOT NULL,
    dropped INTEGER NOT NULL,
    greatest_frame INTEGER NOT NULL,
    commit_position INTEGER NOT NULL,
    PRIMARY KEY(run_no, segment)
) WITHOUT ROWID;

CREATE TABLE model_sums(
    run_no INTEGER NOT NULL,
    segment INTEGER NOT NULL,
    model_no INTEGER NOT NULL,
    identity TEXT NOT NULL,
    frames INTEGER NOT NULL,
    nanoseconds INTEGER NOT NULL,
    commit_position INTEGER NOT NULL,
    PRIMARY KEY(run_no, segment, model_no)
) WITHOUT ROWID;

CREATE TABLE frames(
    id INTEGER PRIMARY KEY,
    timestamp REAL NOT NULL,
    pack TEXT NOT NULL,
    offset INTEGER NOT NULL,
    length INTEGER NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    segment INTEGER NOT NULL,
    commit_position INTEGER NOT NULL
);

CREATE TABLE dropped(
    run_no INTEGER NOT NULL,
    frame_number INTEGER NOT NULL,
    model_no INTEGER NOT NULL,
    segment INTEGER NOT NULL,
    reason TEXT NOT NULL,
    commit_position INTEGER NOT NULL,
    PRIMARY KEY(run_no, frame_number, model_no)
) WITHOUT ROWID;

CREATE TABLE results(
    id INTEGER PRIMARY KEY,
    timestamp REAL NOT NULL,
    started_at REAL NOT NULL,
    seconds REAL NOT NULL,
    commit_position INTEGER NOT NULL,
    fragment BLOB NOT NULL,
    detections BLOB NOT NULL
);

CREATE TABLE doomed(kind TEXT NOT NULL, low INTEGER NOT NULL, high INTEGER NOT NULL);

CREATE TABLE parked(
    commit_position INTEGER PRIMARY KEY,
    stream_name TEXT NOT NULL,
    event_type TEXT NOT NULL,
    error TEXT NOT NULL
);
"""
