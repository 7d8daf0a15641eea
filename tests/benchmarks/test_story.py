from __future__ import annotations

import io
import time

import pytest

from couchside.benchmarks.story import Story


def test_parts_are_numbered_timed_and_summed() -> None:
    out = io.StringIO()
    story = Story(out, parts=2)
    with story.part("One"):
        story.say("  something")
    with story.part("Two"):
        time.sleep(0.02)
    assert out.getvalue().splitlines() == ["", "[1/2] One", "  something", "", "[2/2] Two"]
    assert [part.name for part in story.timed] == ["One", "Two"]
    assert story.timed[1].seconds >= 0.02
    assert story.times().splitlines()[-1].split()[0] == "together"


def test_long_work_gives_a_sign_of_life_every_second_and_stops_giving_it() -> None:
    out = io.StringIO()
    story = Story(out, parts=1)
    with story.doing("counting"):
        time.sleep(2.3)
    told = out.getvalue()
    time.sleep(1.2)
    assert told.startswith("  counting ..")
    assert out.getvalue() == told


def test_sign_of_life_ends_with_the_work_that_failed() -> None:
    out = io.StringIO()
    with pytest.raises(ValueError, match="no"), Story(out, parts=1).doing("trying"):
        raise ValueError("no")
    told = out.getvalue()
    time.sleep(1.2)
    assert out.getvalue() == told
