"""The runner of policy tests: what it prints, counts and does with files that go wrong."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sieve_ext.testsuite import Report, run_file

HEAD = 'require ["vnd.dovecot.testsuite", "variables", "fileinto", "relational", "envelope"];\n'


def run(tmp_path: Path, text: str, *, expect_failure: bool = False, **scripts: str) -> Report:
    for name, script in scripts.items():
        (tmp_path / f"{name}.sieve").write_text(script, encoding="utf-8")
    file = tmp_path / "case.svtest"
    file.write_text(HEAD + text, encoding="utf-8")
    return run_file(file, expect_failure=expect_failure)


def lines(report: Report) -> list[str]:
    return [str(line) for line in report.lines]


def test_the_whole_report(tmp_path: Path) -> None:
    report = run(
        tmp_path,
        'test "Good" { keep; }\ntest "Bad" { test_fail "because"; }\n'
        'test "" { test_fail ""; }\ntest "" { keep; }\n',
    )
    assert report.text() == (
        f"Test case: {tmp_path / 'case.svtest'}:\n\n"
        " 1: Test 'Good' SUCCEEDED\n"
        " 2: Test 'Bad' FAILED: because\n"
        " 3: Test FAILED\n"
        " 4: Test SUCCEEDED\n"
        "\nFAIL: 2 of 4 tests failed.\n"
    )
    assert not report.passed


def test_success(tmp_path: Path) -> None:
    report = run(tmp_path, 'test "A" { keep; } test "B" { stop; } test "C" { test_fail "never reached"; }')
    assert lines(report) == [" 1: Test 'A' SUCCEEDED"]
    assert report.summary == "PASS: 2 tests succeeded."
    assert report.passed


@pytest.mark.parametrize(
    ("text", "passed", "summary"),
    [
        ('test "A" { test_fail "x"; }', True, "PASS: 1 tests failed (expected to fail)."),
        (
            'test "A" { test_fail "x"; } test "B" { keep; }',
            False,
            "FAIL: Only 1 of 2 tests failed (all expected to fail).",
        ),
        ("frop;", True, "PASS: 1 tests failed (expected to fail)."),
    ],
)
def test_expected_failures(tmp_path: Path, text: str, passed: bool, summary: str) -> None:
    report = run(tmp_path, text, expect_failure=True)
    assert (report.passed, report.summary) == (passed, summary)


def test_a_file_that_does_not_compile(tmp_path: Path) -> None:
    report = run(tmp_path, 'test "A" { frop; test "nested" { keep; } }')
    assert lines(report) == ["XX: Test CASE FAILED: failed to compile testcase script"]
    assert (report.started, report.failures) == (0, 1)
    assert any("frop" in error for error in report.errors)
    assert any("top level" in error for error in report.errors)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    report = run_file(tmp_path / "none.svtest")
    assert not report.passed
    assert lines(report)[0].startswith("XX: Test CASE FAILED: failed to open")


@pytest.mark.parametrize(
    "command",
    [
        'test_binary_load "none";',
        'test_config_reload :extension "none";',
        'test_imap_metadata_set "comment" "x";',
        'set "name" "a..b"; test_mailbox_create "${name}";',
        "if test_script_run { keep; }",
        'redirect "a@b.c"; redirect "b@b.c"; redirect "c@b.c"; redirect "d@b.c"; redirect "e@b.c";',
    ],
)
def test_errors_of_the_file_itself_end_it(tmp_path: Path, command: str) -> None:
    report = run(tmp_path, f'test "A" {{ {command} }} test "B" {{ keep; }}')
    assert len(report.lines) == 1
    assert lines(report)[0].startswith("XX: Test CASE FAILED: execution aborted due to error: ")
    assert report.failures == 1
    assert report.errors


def test_a_failure_outside_of_tests_ends_the_file(tmp_path: Path) -> None:
    report = run(tmp_path, 'test_fail "early"; test "A" { keep; }')
    assert lines(report) == ["XX: Test CASE FAILED: early"]
    assert (report.started, report.failures) == (0, 1)


@pytest.mark.parametrize(
    "command",
    [
        'test_set "frop" "x";',
        'test_set "envelope" "x";',
        'test_set "envelope.frop" "x";',
        'test_set "message.frop" "x";',
        'test_set "${x}" "x";',
        "test_message 0;",
        'test_message :smtp :folder "INBOX" 0;',
        'test_message :folder "a..b" 0;',
        'test_mailbox_create ".a";',
        'set "tst.path" "x";',
        "test_result_execute;",
        'if test_fail "x" { keep; }',
    ],
)
def test_what_does_not_compile(tmp_path: Path, command: str) -> None:
    report = run(tmp_path, f'test "A" {{ {command} }}')
    assert lines(report) == ["XX: Test CASE FAILED: failed to compile testcase script"]
    assert len(report.errors) == 2, report.errors


def test_a_missing_message_fails_the_command_only(tmp_path: Path) -> None:
    report = run(
        tmp_path,
        'test "A" { test_message :smtp 0; } test "B" { if test_message :smtp 0 { test_fail "x"; } }',
    )
    assert [one.passed for one in report.outcomes] == [False, True]


def test_scripts_are_found_beside_the_one_that_asks(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "outer.sieve").write_text(
        'require "vnd.dovecot.testsuite"; if not test_script_compile "inner.sieve" { test_fail "inner"; }'
    )
    (tmp_path / "deep" / "inner.sieve").write_text("keep;")
    report = run(
        tmp_path,
        'test "A" { if not test_script_compile "deep/outer.sieve" { test_fail "outer"; }'
        ' if not test_script_run { test_fail "run"; } }',
    )
    assert report.passed, lines(report)


def test_included_scripts_come_from_folders_or_dictionaries(tmp_path: Path) -> None:
    for folder in ("included", "included-global"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "one.sieve").write_text(f'require "fileinto"; fileinto "{folder}";')
    (tmp_path / "scripts.dict").write_text(
        'priv/sieve/name/two\n7\npriv/sieve/data/7\nredirect "x@example.org";\n'
    )
    report = run(
        tmp_path,
        """
test "folders" {
    if not test_script_compile "a.sieve" { test_fail "compile"; }
    if not test_script_run { test_fail "run"; }
    if not test_result_action :count "eq" "2" { test_fail "count"; }
}
test "dictionary" {
    test_config_set "sieve_script/included/sieve_script_driver" "dict";
    test_config_set "sieve_script/included/sieve_script_dict/dict/file/path" "${tst.path}/scripts.dict";
    test_config_reload;
    if test_script_compile "a.sieve" { test_fail "compiled"; }
    if not test_script_compile "b.sieve" { test_fail "compile"; }
    if not test_script_run { test_fail "run"; }
    if not test_result_action "redirect" { test_fail "action"; }
}
""",
        a='require "include"; include "one"; include :global "one";',
        b='require "include"; include :personal "two";',
    )
    assert report.passed, report.text()


def test_scripts_that_run_scripts_end(tmp_path: Path) -> None:
    report = run(
        tmp_path,
        'test "A" { if not test_script_compile "loop.sieve" { test_fail "compile"; }'
        ' if test_script_run { test_fail "run"; } }',
        loop='require "vnd.dovecot.testsuite"; if test_script_run { keep; }'
        ' if test_script_compile "loop.sieve" { if test_script_run { keep; } }',
    )
    assert report.started == 1


def test_processor_time_of_a_script_is_limited_and_not_that_of_the_file(tmp_path: Path) -> None:
    body = ("x" * 70 + "\n") * 3000
    tests = "\n".join(f'if body :matches "*{n}*y*z" {{ keep; }}' for n in range(400))
    report = run(
        tmp_path,
        'test_config_set "sieve_max_cpu_time" "1ms"; test_config_reload;'
        f'test_set "message" text:\nSubject: x\n\n{body}\n.\n;'
        'test "A" { if not test_script_compile "slow.sieve" { test_fail "compile"; }'
        ' if test_script_run { test_fail "run"; }'
        ' if not test_error :contains "CPU time" { test_fail "error"; } }',
        slow=f'require "body";\n{tests}',
    )
    assert report.passed, report.text()


def test_programs_are_run(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for name, text in {
        "upper": "tr a-z A-Z",
        "prefix": 'echo "X-Filtered: $1"; cat',
        "keep": f'cat > "{tmp_path}/piped"',
        "fail": "exit 1",
    }.items():
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    file = tmp_path / "programs.svtest"
    file.write_text(
        """
require ["vnd.dovecot.testsuite", "vnd.dovecot.pipe", "vnd.dovecot.filter", "vnd.dovecot.execute"];
require ["variables", "copy"];
test_config_set "sieve_pipe_bin_dir" "${tst.path}/bin";
test_config_set "sieve_filter_bin_dir" "${tst.path}/bin";
test_config_set "sieve_execute_bin_dir" "${tst.path}/bin";
test_config_reload;
test "execute" {
    execute :input "some text" :output "out" "upper";
    if not string "${out}" "SOME TEXT" { test_fail "${out}"; }
    if execute "fail" { test_fail "fail"; }
    if execute "missing" { test_fail "missing"; }
}
test "filter" {
    filter "prefix" ["yes"];
    if not header "x-filtered" "yes" { test_fail "header"; }
    if not header "subject" "Frop!" { test_fail "message"; }
}
test "pipe" {
    pipe :copy "keep";
    if not test_result_action "pipe" { test_fail "action"; }
    if not test_result_execute { test_fail "execute"; }
    test_result_reset;
    pipe "fail";
    if test_result_execute { test_fail "it failed"; }
    if not test_message :folder "INBOX" 1 { test_fail "not kept"; }
}
"""
    )
    report = run_file(file)
    assert report.passed, report.text() + "\n".join(report.errors)
    assert b"Subject: Frop!\r\n" in (tmp_path / "piped").read_bytes()


fragments = st.sampled_from(
    [
        'test "a" { ',
        "} ",
        'test_fail "x"; ',
        'test_set "message" "Subject: x"; ',
        "keep; ",
        "discard; ",
        'test_set "envelope.from" "<>"; ',
        "if test_result_execute { ",
        "test_result_reset; ",
        'fileinto "A"; ',
        'test_message :folder "INBOX" 0; ',
        "test_message :smtp 0; ",
        'redirect "a@b.c"; ',
        "stop; ",
        'if not test_error :count "eq" "0" { ',
        'test_mailbox_create "A"; ',
        "test_result_print; ",
        'if test_script_compile "s.sieve" { ',
        "if test_script_run { ",
        "if test_script_run :append_result { ",
        'if test_multiscript ["s.sieve", "s.sieve"] { ',
        'test_binary_save "b"; ',
        'test_binary_load "b"; ',
        "test_message_print; ",
        "test_config_reload; ",
        'test_config_set "sieve_max_actions" "1"; ',
        '"',
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(fragments, max_size=25).map("".join))
def test_any_file_gives_a_report(text: str) -> None:
    with TemporaryDirectory() as folder:
        report = run(
            Path(folder),
            text + "}" * (text.count("{") - text.count("}")),
            s='require ["fileinto", "editheader"]; addheader "X" "1"; fileinto "A"; keep;',
        )
    assert report.text()
    assert not [error for error in report.errors if "internal error" in error]
    assert not [line for line in report.outcomes if "internal error" in line.reason]
