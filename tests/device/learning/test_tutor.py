from __future__ import annotations

import threading

import pytest

from couchside.device.config import Config
from couchside.device.tv import open_tv


@pytest.fixture
def tv(tmp_path, trusting_slots):
    config = Config().with_paths(state=str(tmp_path / "state"), slots=str(trusting_slots))
    opened = open_tv(config, boot_id="test", give_up=pytest.fail)
    yield opened
    opened.close()


def test_no_lesson_can_start_while_history_is_being_forgotten(tv):
    """Else a child that was started in between would learn from what is erased a moment later."""
    with tv.tutor.silenced():
        looking = threading.Thread(target=tv.tutor.look)
        looking.start()
        looking.join(0.3)
        assert looking.is_alive()
    looking.join(10.0)
    assert not looking.is_alive()


def test_forget_holds_the_tutor_until_the_history_is_gone(tv, monkeypatch):
    held = []
    forget = tv.household.forget

    def forgetting(**what):
        other = threading.Thread(target=tv.tutor.look)
        other.start()
        other.join(0.3)
        held.append(other.is_alive())
        threads.append(other)
        return forget(**what)

    threads: list[threading.Thread] = []
    monkeypatch.setattr(type(tv.household), "forget", lambda _self, **what: forgetting(**what))
    tv.forget()
    for thread in threads:
        thread.join(10.0)
    assert held == [True]
