"""What is drawn, where, and that nothing is drawn over the original."""

from __future__ import annotations

import numpy as np
import pytest

from monolith.domain.detection import ColorShare, Detection, FaceDetection, ObjectDetection, Xyxy
from monolith.frames.annotate import FACE_COLOR, annotate, color_of, label_of


def an_object(
    label: str = "car", confidence: float = 0.83, xyxy: Xyxy = (200, 120, 400, 300)
) -> ObjectDetection:
    return ObjectDetection(class_id=2, class_name=label, confidence=confidence, xyxy=xyxy)


def a_face(xyxy: Xyxy = (50, 60, 150, 180)) -> FaceDetection:
    return FaceDetection(
        face_id=1,
        confidence=0.9,
        xyxy=xyxy,
        emotion="happy",
        emotion_probability=0.756,
        emotions=(0.0, 0.0, 0.0, 0.756, 0.1, 0.1, 0.044),
    )


def black(height: int = 360, width: int = 640) -> np.typing.NDArray[np.uint8]:
    return np.zeros((height, width, 3), np.uint8)


def test_the_original_stays_as_it_was() -> None:
    picture = black()
    drawn = annotate(picture, [an_object(), a_face()])
    assert picture.max() == 0 and drawn.any() and drawn.shape == picture.shape


def test_nothing_found_nothing_drawn() -> None:
    picture = np.random.default_rng(1).integers(0, 256, (90, 120, 3), np.uint8)
    assert (annotate(picture, []) == picture).all()


def test_the_box_is_drawn_on_its_edges_in_the_colour_of_its_class() -> None:
    drawn = annotate(black(), [an_object()])
    for row, column in ((120, 390), (300, 300), (200, 200), (200, 400)):
        assert tuple(drawn[row, column]) == color_of(an_object())
    assert drawn[210, 300].max() == 0 and drawn[330:].max() == 0


def test_labels_tell_class_or_emotion_in_percent() -> None:
    assert label_of(an_object("fire hydrant", 0.386)) == "fire hydrant 39%"
    assert label_of(a_face()) == "happy 76%"


def test_a_label_is_filled_above_its_box_with_letters_on_it() -> None:
    drawn = annotate(black(), [an_object()])
    label = drawn[104:119, 202:240].reshape(-1, 3)
    filled = (label == color_of(an_object())).all(axis=1).mean()
    assert 0.4 < filled < 0.95


def test_a_label_at_the_top_edge_moves_into_the_picture() -> None:
    drawn = annotate(black(), [an_object(xyxy=(600, 0, 640, 40))])
    assert (drawn[:12, 560:600] == color_of(an_object())).all(axis=2).any()


def test_classes_have_their_own_stable_colours() -> None:
    assert color_of(an_object("person")) == color_of(an_object("person", 0.1, (0, 0, 9, 9)))
    assert len({color_of(an_object(name)) for name in ("person", "car", "bus", "dog", "tie")}) == 5
    assert color_of(a_face()) == FACE_COLOR


def test_the_surer_box_is_drawn_over_the_other() -> None:
    sure, unsure = an_object("person", 0.9), an_object("car", 0.3)
    for order in ([sure, unsure], [unsure, sure]):
        assert tuple(annotate(black(), order)[200, 200]) == color_of(sure)


def test_the_palette_shows_its_colours_in_the_corner() -> None:
    shares = [ColorShare(color="#ff0000", share=0.7), ColorShare(color="#0000ff", share=0.3)]
    corner = annotate(black(), shares)[:60, -150:].reshape(-1, 3)
    red, blue = ((corner == color).all(axis=1).sum() for color in ((255, 0, 0), (0, 0, 255)))
    assert min(red, blue) > 500


def test_a_colour_without_share_has_no_swatch() -> None:
    shares = [ColorShare(color="#00ff00", share=1.0), ColorShare(color="#00ff00", share=0.0)]
    assert (annotate(black(), shares) == annotate(black(), shares[:1])).all()


@pytest.mark.parametrize("size", [(1, 1), (3, 400), (144, 176), (1080, 810), (2160, 4096)])
def test_any_size_can_be_drawn_on(size: tuple[int, int]) -> None:
    height, width = size
    box = (0.0, 0.0, float(width), float(height))
    found: list[Detection] = [an_object(xyxy=box), a_face(box), ColorShare(color="#808080", share=1.0)]
    drawn = annotate(black(height, width), found)
    assert drawn.shape == (height, width, 3) and drawn.any()


def test_lines_and_letters_grow_with_the_picture() -> None:
    def drawn_share(factor: int) -> float:
        box = tuple(value * factor for value in (200.0, 120.0, 400.0, 300.0))
        drawn = annotate(
            black(360 * factor, 640 * factor), [an_object(xyxy=(box[0], box[1], box[2], box[3]))]
        )
        return float(drawn.any(axis=2).mean())

    assert drawn_share(4) == pytest.approx(drawn_share(2), rel=0.4)  # whole pixels


def test_read_only_and_mirrored_pictures_can_be_drawn_on() -> None:
    picture = black()[:, ::-1]
    picture.flags.writeable = False
    assert annotate(picture, [an_object()]).any()
