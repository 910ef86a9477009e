"""Faces and emotions on real pictures, and what holds for any picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from monolith.domain.detection import EMOTIONS, FaceDetection
from monolith.inference.models.emotions import FACES, EmotionsModel, face_input
from tests.media import read_frame, read_picture
from tests.unit.inference.models.pictures import (
    EXTREME_SIZES,
    Picture,
    iou,
    lies_inside,
    make_picture,
    pictures,
)


def test_a_shouting_man_is_angry(emotions: EmotionsModel) -> None:
    calm, shouting = emotions.detect(read_picture("zidane.jpg"))
    assert (calm.face_id, shouting.face_id) == (1, 2)
    assert iou(shouting.xyxy, (545, 240, 670, 440)) > 0.8
    assert shouting.emotion == "angry" and shouting.emotion_probability > 0.4
    assert calm.emotion == "neutral"


def test_faces_behind_sunglasses_are_found(emotions: EmotionsModel) -> None:
    found = emotions.detect(read_picture("bus.jpg"))
    assert sum(face.confidence > 0.7 for face in found) == 2


def test_a_screaming_man_in_a_clip(emotions: EmotionsModel) -> None:
    face = emotions.detect(read_frame("carphone_pristine.mp4", 60))[0]
    assert face.confidence > 0.8 and iou(face.xyxy, (56, 33, 106, 99)) > 0.8
    assert face.emotion in ("fear", "surprise")


def test_no_face_no_detection(emotions: EmotionsModel) -> None:
    assert emotions.detect(np.zeros((120, 160, 3), np.uint8)) == ()


def assert_sound(found: tuple[FaceDetection, ...], picture: Picture) -> None:
    assert len(found) <= FACES
    assert [face.face_id for face in found] == list(range(1, len(found) + 1))
    assert [face.confidence for face in found] == sorted((face.confidence for face in found), reverse=True)
    for face in found:
        assert lies_inside(face.xyxy, picture) and 0.2 <= face.confidence <= 1
        assert sum(face.emotions) == pytest.approx(1, abs=5e-4) and min(face.emotions) >= 0
        assert face.emotions[EMOTIONS.index(face.emotion)] == face.emotion_probability == max(face.emotions)


@given(picture=pictures())
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_picture_gets_sound_faces(emotions: EmotionsModel, picture: Picture) -> None:
    assert_sound(emotions.detect(picture), picture)


@pytest.mark.parametrize("size", EXTREME_SIZES)
def test_any_size_gets_sound_faces(emotions: EmotionsModel, size: tuple[int, int]) -> None:
    picture = make_picture(*size, seed=1)
    assert_sound(emotions.detect(picture), picture)


def test_a_crowd_is_judged_face_by_face(emotions: EmotionsModel) -> None:
    """The same face, nine times over: nine like answers."""
    face = read_picture("zidane.jpg")[40:340, 840:1140]
    found = emotions.detect(np.tile(face, (3, 3, 1)))
    sure = [one for one in found if one.confidence > 0.5]
    assert len(sure) == 9
    assert {one.emotion for one in sure} <= {"neutral", "happy", "sad"}


def test_the_same_pixels_give_the_same_answer_whatever_came_between(emotions: EmotionsModel) -> None:
    picture = read_picture("zidane.jpg")
    first = emotions.detect(picture)
    emotions.detect(np.full((330, 610, 3), 255, np.uint8))
    assert emotions.detect(picture) == first


@pytest.mark.parametrize("box", [(0, 0, 1, 1), (-5, -9, 30, 40), (90, 50, 100, 60), (99.9, 59.9, 100, 60)])
def test_crops_stay_in_the_picture(box: tuple[float, ...]) -> None:
    picture = make_picture(60, 100, seed=2)
    crop = face_input(picture, np.array(box, np.float32))
    assert crop.shape == (64, 64, 1) and crop.dtype == np.float32
    assert 0 <= crop.min() <= crop.max() <= 255


def test_the_crop_is_a_square_around_the_face() -> None:
    picture = np.zeros((200, 200, 3), np.uint8)
    picture[50:150, 75:125] = 255  # 100 high, 50 wide: judged in a square of 100
    crop = face_input(picture, np.array([75, 50, 125, 150], np.float32))[:, :, 0]
    assert (crop[:, 18:46] == 255).all() and crop[:, :14].max() == crop[:, 50:].max() == 0
