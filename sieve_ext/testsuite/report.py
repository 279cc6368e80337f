"""What became of a test file, and how it is shown."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True, frozen=True)
class Outcome:
    """One line of a report."""

    number: int
    """Of the test in its file, from 1; 0 for what is about the file as a whole."""
    name: str
    """Of the test; may be empty."""
    passed: bool
    reason: str = ""
    """Why it failed, "" when nobody said."""

    def __str__(self) -> str:
        if not self.number:
            return f"XX: Test CASE FAILED{f': {self.reason}' if self.reason else ''}"
        name = f"'{self.name}' " if self.name else ""
        if self.passed:
            return f"{self.number:2d}: Test {name}SUCCEEDED"
        return f"{self.number:2d}: Test {name}FAILED{f': {self.reason}' if self.reason else ''}"


@dataclass(slots=True)
class Report:
    """The outcome of one test file."""

    path: str
    """As it was given."""
    expect_failure: bool = False
    """Every test is meant to fail."""
    lines: list[Outcome | str] = field(default_factory=list)
    """Outcomes and what the file printed, in order."""
    started: int = 0
    """Tests that began."""
    failures: int = 0
    """Tests that failed, and what is wrong with the file as a whole."""
    errors: list[str] = field(default_factory=list)
    """What is wrong with the test file itself, with places in it; for the error output."""

    @property
    def outcomes(self) -> list[Outcome]:
        """The lines that say how a test went."""
        return [line for line in self.lines if isinstance(line, Outcome)]

    @property
    def passed(self) -> bool:
        """True when there is no failure; where failures are expected, when there are as many as tests."""
        return self.failures >= self.started if self.expect_failure else not self.failures

    @property
    def summary(self) -> str:
        """The closing line."""
        if self.expect_failure:
            if self.passed:
                return f"PASS: {self.failures} tests failed (expected to fail)."
            return f"FAIL: Only {self.failures} of {self.started} tests failed (all expected to fail)."
        if self.passed:
            return f"PASS: {self.started} tests succeeded."
        return f"FAIL: {self.failures} of {self.started} tests failed."

    def text(self) -> str:
        """The whole report, as it is printed."""
        shown = "".join(f"{line}\n" for line in self.lines)
        return f"Test case: {self.path}:\n\n{shown}\n{self.summary}\n"
