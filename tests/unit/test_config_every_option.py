"""Every option with values that nobody meant: mistakes are told, each on one line, and that is all."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mta.config import Config, ConfigError, Problem, from_json, parse, reference, to_json

VALUES = (
    '""', '"\\n"', '"\\u0000"', '"%/{x"', '"http://[::1"', '"0"', "-1", "9223372036854775808", "nan", "{}",
    '["", "[::1", "::/0", "*"]', "[[]]", "07:32:00",
)  # fmt: skip
SECTIONS = {section.key: section for section in reference.sections()}


def read(text: str) -> tuple[Config | None, Sequence[Problem]]:
    """The configuration, or its mistakes."""
    try:
        return parse(text), ()
    except ConfigError as error:
        return None, error.problems


@pytest.mark.parametrize("key", SECTIONS)
def test_every_option_with_values_that_nobody_meant(key: str) -> None:
    section = SECTIONS[key]
    for option in section.options:
        others = [
            f"{other.name} = {reference.EXAMPLES[key, other.name]}"
            for other in section.options
            if other.required and other.name != option.name
        ]
        for value in VALUES:
            text = "\n".join([section.header, *others, f"{option.name} = {value}"])
            config, problems = read(text)
            if config is None:
                assert problems, text
            else:
                assert from_json(to_json(config)) == config, text
            assert all(problem.key and "\n" not in str(problem) for problem in problems), text
