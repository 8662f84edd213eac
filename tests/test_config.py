"""The configuration: what it accepts, and how it says what it does not."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamguard.config import Config, config_schema, load_config, parse_config
from streamguard.errors import ConfigError
from streamguard.inference.bundle import find_bundle, load_bundle
from streamguard.inference.pair import DEFAULT_DETECTOR
from streamguard.resources import packaged_config, packaged_configs

MINIMAL = """\
sources:
  - name: trunk
    type: rtp
    ports: [40000]
"""


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "test.yaml")
    return [str(problem) for problem in caught.value.problems]


def test_a_minimal_configuration_gets_every_default() -> None:
    config = parse_config(MINIMAL, "test.yaml")
    assert config.sources[0].name == "trunk"
    assert config.detector == DEFAULT_DETECTOR
    assert config.mqtt is None


@pytest.mark.parametrize("name", packaged_configs())
def test_every_packaged_configuration_loads(name: str) -> None:
    assert load_config(packaged_config(name)).sources


@pytest.mark.parametrize("name", packaged_configs())
def test_the_bundles_of_every_packaged_configuration_load(name: str) -> None:
    config = load_config(packaged_config(name))
    detector = load_bundle(find_bundle(config.detector))
    assert detector.manifest.task == "detection"
    if config.attribution is not None:
        assert load_bundle(find_bundle(config.attribution)).manifest.task == "attribution"


def test_there_are_packaged_configurations() -> None:
    assert "demo" in packaged_configs()


def test_an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() -> None:
    (problem,) = problems(MINIMAL + "verdict:\n  sequental: {}\n")
    assert problem.startswith("test.yaml:6: verdict.sequental: unknown key: ")
    assert "did you mean sequential?" in problem


def test_an_unknown_key_inside_a_source_is_found_through_the_union() -> None:
    (problem,) = problems(MINIMAL + "    prots: [40002]\n")
    assert problem.startswith("test.yaml:5: sources[0].prots: unknown key: did you mean ports?")


def test_all_errors_come_at_once_in_the_order_of_the_file() -> None:
    found = problems("node: 'a b'\nprior: 2\nsources: [3]\ndetektor: x\n")
    assert [line.split(":")[1] for line in found] == ["1", "2", "3", "4"]
    assert "did you mean detector?" in found[3]


def test_a_wrong_type_says_the_value_and_what_is_allowed() -> None:
    (problem,) = problems(MINIMAL + "prior: lots\n")
    assert problem.startswith('test.yaml:5: prior: "lots": ')
    assert "number" in problem


def test_a_missing_key_is_reported_at_its_section() -> None:
    (problem,) = problems("node: x\n")
    assert problem == "test.yaml:1: sources: missing: this key is required"


def test_an_impossible_combination_is_refused() -> None:
    text = MINIMAL + "verdict:\n  majority: {k: 9, n: 4, quorum: 9}\n"
    (problem,) = problems(text)
    assert "verdict.majority" in problem
    assert "must not exceed n" in problem


def test_a_source_beyond_loopback_needs_an_allow_list() -> None:
    (problem,) = problems(MINIMAL + "    host: 0.0.0.0\n")
    assert problem.startswith("test.yaml:2: sources[0]: ")
    assert "name in 'allow' the networks" in problem


def test_two_sources_of_one_name_are_refused() -> None:
    again = MINIMAL + "  - name: trunk\n    type: rtp\n    ports: [40002]\n"
    (problem,) = problems(again)
    assert "used twice: trunk" in problem


def test_a_key_given_twice_is_an_error_not_a_silent_choice() -> None:
    (problem,) = problems(MINIMAL + "prior: 0.1\nprior: 0.2\n")
    assert problem == "test.yaml:6: prior: given twice: each key once"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "sources: missing"),
        ("- a\n- b\n", "a mapping"),
        ("a: [1\n", "valid YAML"),
        ("just text", "a mapping"),
        ("prior: 2024-13-45\n", 'prior: "2024-13-45": not a valid value'),
        ("prior: !!int abc\n", 'test.yaml:1: prior: "abc": not a valid value'),
        ("prior: 0b_\n", "not a valid value"),
        ("a: &x [*x]\n", "valid YAML"),
        ("? [1, 2]\n: 3\n", "unknown key"),
    ],
)
def test_what_is_no_configuration_is_said_to_be_none(text: str, words: str) -> None:
    assert any(words in problem for problem in problems(text))


def test_a_secret_in_the_wrong_place_is_not_repeated_in_the_error() -> None:
    found = problems(MINIMAL + "mqtt:\n  password: hunter22\n")
    assert found
    assert not any("hunter22" in problem for problem in found)


def test_a_configuration_cannot_be_changed_after_loading() -> None:
    config = parse_config(MINIMAL, "test.yaml")
    with pytest.raises(ValueError, match="frozen"):
        config.prior = 0.5


@given(st.text(max_size=400))
def test_any_text_gives_a_configuration_or_a_config_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert parse_config(text, "test.yaml").sources


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.sampled_from([*Config.model_fields, "x"]), inner, max_size=4)
        ),
        max_leaves=12,
    )
)
def test_any_structure_gives_a_configuration_or_a_config_error(data: object) -> None:
    with contextlib.suppress(ConfigError):
        assert parse_config(json.dumps(data), "test.yaml").sources


def test_the_schema_describes_every_setting() -> None:
    schema = config_schema()
    assert set(schema["properties"]) == set(Config.model_fields)
    undescribed = [
        f"{name}.{key}"
        for name, section in schema["$defs"].items()
        for key, value in section.get("properties", {}).items()
        if "description" not in value and "$ref" not in value and key != "type"
    ]
    assert undescribed == []


def test_a_missing_file_is_a_configuration_error_on_the_command_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "streamguard.cli", "check", str(tmp_path / "none.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "none.yaml:0: (file)" in done.stderr
