"""The lines that other tools read, and the direction of ratios."""

import re

import pytest

from bench.figures import Figure, comparison, number, table
from bench.rounds import Round

LINE = re.compile(r"figure [a-z0-9_]+ [0-9.]+ \S+( peer [0-9.]+ ratio [0-9.]+)?")


@pytest.mark.parametrize(
    ("figure", "line"),
    [
        (
            Figure("throughput_4k_s20", 2834.56, "messages/s", 541.2, rate=True),
            "figure throughput_4k_s20 2835 messages/s peer 541.2 ratio 5.24",
        ),
        (Figure("cpu_4k", 250.0, "us", 2500.0), "figure cpu_4k 250.0 us peer 2500 ratio 10.00"),
        (Figure("memory_large_message", 7.5, "MiB"), "figure memory_large_message 7.500 MiB"),
        (Figure("memory_large_message", 0, "MiB"), "figure memory_large_message 0 MiB"),
    ],
)
def test_machine_line(figure: Figure, line: str) -> None:
    assert figure.line() == line
    assert LINE.fullmatch(figure.line())


@pytest.mark.parametrize(
    ("rate", "ours", "theirs", "ratio"),
    [(True, 10.0, 2.0, 5.0), (True, 2.0, 10.0, 0.2), (False, 10.0, 2.0, 0.2), (False, 2.0, 10.0, 5.0)],
)
def test_ratio_over_one_means_that_we_are_better(
    rate: bool, ours: float, theirs: float, ratio: float
) -> None:
    assert Figure("x", ours, "y", theirs, rate).ratio == ratio


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2834.56, "2835"),
        (123456789.0, "123456789"),
        (20480, "20480"),
        (1.0, "1.000"),
        (0.0123456, "0.01235"),
        (0.00000123, "0.000001230"),
        (0, "0"),
    ],
)
def test_number_has_the_digits_that_mean_something(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(("rate", "ratio", "ratios"), [(True, 4.0, (2.0, 5.0)), (False, 0.25, (0.2, 0.5))])
def test_figure_of_rounds_is_that_of_the_middle_one(
    rate: bool, ratio: float, ratios: tuple[float, float]
) -> None:
    rounds = [Round(2.0, 1.0), Round(8.0, 2.0), Round(5.0, 1.0)]
    figure = Figure.of_rounds("x", rounds, "y", rate=rate)
    assert (figure.value, figure.peer, figure.ratio, figure.ratios) == (8.0, 2.0, ratio, ratios)


def test_table_aligns_numbers_to_the_right() -> None:
    assert table(["", "rate"], [["a", "5"], ["long", "12345"]]).splitlines() == [
        "       rate",
        "----  -----",
        "a         5",
        "long  12345",
    ]


def test_comparison_shows_a_missing_peer_as_missing() -> None:
    text = comparison([Figure("a", 1, "s"), Figure("b", 1, "s", 3, ratios=(2, 4))], "Postfix")
    rows = [line.split() for line in text.splitlines()[2:]]
    assert rows == [["a", "s", "1.000", "-", "-"], ["b", "s", "1.000", "3.000", "3.0", "2.0", "to", "4.0"]]
