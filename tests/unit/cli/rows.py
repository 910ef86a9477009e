"""Rows of results for tests of the command line."""

from __future__ import annotations

from monolith.readmodels.export import Entry, Row

VIDEO_ID = "0197c0de-0000-7000-8000-000000000001"


def objects(frame: int, *found: tuple[str, float]) -> Row:
    """Labels and percents."""
    entries = [
        Entry(label=label, probability=percent, coordinates=(1.0, 2.0, 3.0, 4.5)) for label, percent in found
    ]
    return Row(VIDEO_ID, frame, frame / 25, "Object Detection", entries)


def faces(frame: int, *found: tuple[str, float]) -> Row:
    """Emotions and percents."""
    entries = [
        Entry(
            face_id=number + 1,
            probability=90.0,
            coordinates=(10.0, 20.0, 30.0, 40.0),
            emotion=emotion,
            emotion_probability=percent,
        )
        for number, (emotion, percent) in enumerate(found)
    ]
    return Row(VIDEO_ID, frame, frame / 25, "Joy Detection", entries)


def colors(frame: int, *found: tuple[str, float]) -> Row:
    """Colours and shares."""
    entries = [Entry(color=color, share=share) for color, share in found]
    return Row(VIDEO_ID, frame, frame / 25, "Color Palette Detection", entries)
