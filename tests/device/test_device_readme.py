"""device/README.md is true: complete, and its examples are answered as it says."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from couchside.device import cli, daemon
from couchside.device.config import Config
from couchside.device.guide.jsonl import write_jsonl
from couchside.device.records import EventKind, ReasonCode, RowCode, Title, TitleKind
from couchside.device.rpc.methods import METHODS

README = Path(__file__).parents[2] / "device" / "README.md"
UNIT = README.parent / "couchside-device.service"


@pytest.fixture(scope="module")
def text():
    return README.read_text(encoding="utf-8")


def exchanges(text):
    """Pairs of request and documented result."""
    requests = [json.loads(line) for line in re.findall(r"→ (\{.*)", text)]
    results = [json.loads(line) for line in re.findall(r"← (\{.*)", text)]
    return list(zip(requests, results, strict=True))


def test_every_method_and_every_parameter_is_shown_in_an_example(text):
    shown = {}
    for request, _ in exchanges(text):
        shown.setdefault(request["method"], set()).update(request["params"])
    assert shown.keys() == METHODS.keys()
    for name, method in METHODS.items():
        fields = {field.name for field in dataclasses.fields(method.params)}
        assert shown[name] == fields, name


@pytest.mark.parametrize("words", [EventKind, RowCode, ReasonCode])
def test_every_code_is_named(text, words):
    assert [word.value for word in words if f"`{word.value}`" not in text] == []


def test_every_setting_stands_with_its_default(text):
    for section in dataclasses.fields(Config):
        value = getattr(Config(), section.name)
        if not dataclasses.is_dataclass(value):
            assert f"| `{section.name}` | `{value}` |" in text
            continue
        for setting in dataclasses.fields(value):
            default = getattr(value, setting.name)
            told = re.search(rf"\| `{section.name}\.{setting.name}` \| (.*?) \|", text)
            assert told, f"{section.name}.{setting.name}"
            words = {"": "empty", (): "none"}.get(default, str(default))
            assert told[1].strip("`") in (words, words.removesuffix(".0"))


@pytest.mark.parametrize("parser", [cli._parser(), daemon._parser()])
def test_every_command_and_flag_is_named(text, parser):
    def actions(one):
        for action in one._actions:
            yield action
            for child in (action.choices or {}).values() if hasattr(action, "add_parser") else ():
                yield from actions(child)

    for action in actions(parser):
        for flag in action.option_strings:
            assert flag in ("-h", "--help") or flag in text, flag
        if hasattr(action, "add_parser"):
            assert [name for name in action.choices if f"`{name}" not in text] == []


def test_every_example_is_answered_as_it_says(text, daemon, tmp_path):
    titles = [
        Title(f"film-{n}", TitleKind.MOVIE, f"A film {n}", genres=("Drama",)) for n in (1, 2, 3)
    ]
    file = tmp_path / "films.jsonl"
    file.write_text("".join(write_jsonl(titles)), encoding="utf-8")
    daemon.client.call("catalogue.load", source="films", path=str(file))
    for request, documented in exchanges(text):
        params = dict(request["params"])
        if "path" in params:
            params["path"] = str(file)
        result = daemon.client.call(request["method"], **params)
        assert same_shape(documented, result), (request["method"], result)


def same_shape(documented, real, path="result"):
    """Every documented member is really there, and none at the top is left out."""
    if isinstance(documented, dict) and isinstance(real, dict):
        if path == "result":
            assert documented.keys() == real.keys(), path
        open_names = path.endswith((".names", ".sources", ".params", ".skipped"))
        return open_names or all(
            name in real and same_shape(value, real[name], f"{path}.{name}")
            for name, value in documented.items()
        )
    if isinstance(documented, list) and isinstance(real, list):
        pairs = zip(documented[:1], real[:1], strict=False)
        return all(same_shape(one, other, f"{path}[]") for one, other in pairs)
    return True


def test_the_unit_file_keeps_the_daemon_off_the_network():
    unit = UNIT.read_text(encoding="utf-8")
    for line in (
        "PrivateNetwork=yes",
        "RestrictAddressFamilies=AF_UNIX",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "Type=notify",
        "CapabilityBoundingSet=",
    ):
        assert f"\n{line}\n" in unit
