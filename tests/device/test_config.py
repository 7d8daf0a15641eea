"""Settings: everything has a default, and a mistake is named with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from couchside.device.config import Config, check_bounds, read_config
from couchside.device.errors import ConfigError


@pytest.fixture
def read(tmp_path):
    def read(text):
        file = tmp_path / "device.toml"
        file.write_text(text, encoding="utf-8")
        return read_config(file)

    return read


def test_an_empty_file_is_the_default(read):
    assert read("") == Config()


def test_the_default_is_within_its_own_bounds():
    check_bounds(Config())


def test_a_setting_changes_only_itself(read):
    config = read("[rows]\ncards = 12\n[rpc]\nowner_uids = [1000]\n")
    assert config.rows.cards == 12
    assert config.rpc.owner_uids == (1000,)
    assert config.rows.rows == Config().rows.rows


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[rows]\ncrads = 12", "rows.crads: is not a field"),
        ("[row]\ncards = 12", "row: is not a field"),
        ("[rows]\ncards = '12'", "rows.cards: must be a whole number, not a string"),
        ("[rows]\ncards = 12.0", "rows.cards: must be a whole number"),
        ("[rows]\ncards = true", "rows.cards: must be a whole number"),
        ("[rows]\ncards = 0", "rows.cards: must be from 1 to 100, not 0"),
        ("[rows]\ndiversity = 1.5", "rows.diversity: must be from 0.0 to 1.0"),
        ("[rows]\ndiversity = nan", "rows.diversity: must be a finite number"),
        ("log_level = 'LOUD'", "log_level: must be one of DEBUG"),
        ("[rows\ncards = 1", "not TOML"),
        ("[paths]\nstate = 1", "paths.state: must be a string"),
    ],
)
def test_a_mistake_is_named(read, text, told):
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert told in str(caught.value)
    assert "device.toml" in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="check --config"):
        read_config(tmp_path / "missing.toml")


def test_flags_override_and_slots_follow_the_state_folder():
    config = Config().with_paths(state="/srv/tv", socket=None, slots=None)
    assert config.slots == Path("/srv/tv/slots")
    assert config.socket == Path("/run/couchside/rpc.sock")
    assert config.with_paths(slots="/opt/slots").slots == Path("/opt/slots")
