from __future__ import annotations

from monolith.live.webrtc.intake import Intake


def test_what_comes_in_time_is_let_in_for_ever() -> None:
    intake = Intake(100, 50)
    assert all(intake.takes(10, second / 10) for second in range(1000))
    assert not intake.exceeded


def test_what_is_too_much_is_not_let_in_and_told() -> None:
    intake = Intake(100, 50)
    assert [intake.takes(25, 7.0) for _ in range(3)] == [True, True, False]
    assert intake.exceeded
    assert intake.takes(25, 7.25)


def test_no_more_is_saved_up_than_the_credit() -> None:
    intake = Intake(100, 50)
    assert intake.takes(50, 0.0)
    assert not intake.takes(51, 1000.0)
