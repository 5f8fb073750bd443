"""The ground the other tests stand on: what conftest.py promises, tried in small suites.

A check for leaks that never finds one, or a skip that CI does not notice, would look the same as a
suite in order.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

LEAKS = """
    import socket, threading
    import conftest
    import pytest

    conftest.THREADS_END_WITHIN = 0.05
    kept = []

    @pytest.fixture
    def opened():
        with socket.socket() as mine:
            yield mine

    @pytest.fixture(scope="session")
    def shared():
        with socket.socket() as ours:
            yield ours

    def test_leaves_a_descriptor(no_leaks):
        kept.append(socket.socket())

    def test_leaves_another_file_under_the_same_number(no_leaks):
        number = kept[0].fileno()
        kept[0].close()
        kept.append(socket.socket())
        assert kept[1].fileno() == number

    def test_leaves_a_thread(no_leaks):
        never = threading.Event()
        threading.Thread(target=never.wait, name="idler", daemon=True).start()

    def test_leaves_nothing(opened, shared, no_leaks):
        threading.Thread(target=threading.Event().wait, args=(0.01,)).start()
"""

LACKS = """
    import pytest
    from conftest import need

    def test_needs():
        need("redis-server")

    @pytest.mark.peer("curl", "nginx")
    def test_peer():
        pass

    @pytest.mark.netns
    def test_netns():
        pass
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A suite beside our conftest.py where no program is found."""
    conftest = (TESTS / "conftest.py").read_text("utf-8")
    assert '"/usr/sbin", "/sbin"' in conftest
    pytester.makeconftest(conftest.replace('"/usr/sbin", "/sbin"', ""))
    (pytester.path / "programs.txt").write_text((TESTS / "programs.txt").read_text("utf-8"))
    pytester.makeini("[pytest]\nmarkers =\n    netns\n    peer\n")
    monkeypatch.setenv("PATH", str(pytester.path))
    return pytester


def test_leaks_are_found(suite: pytest.Pytester) -> None:
    suite.makepyfile(LEAKS)
    result = suite.runpytest_subprocess("-v")
    result.assert_outcomes(passed=4, errors=3)
    result.stdout.fnmatch_lines_random(
        [
            "*AssertionError: left behind: descriptor *: *",
            "*AssertionError: left behind: thread 'idler' (daemon)",
            "ERROR *::test_leaves_a_descriptor*",
            "ERROR *::test_leaves_another_file_under_the_same_number*",
            "ERROR *::test_leaves_a_thread*",
        ]
    )


def test_a_lack_is_a_skip_with_its_reason(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "")
    suite.makepyfile(LACKS)
    result = suite.runpytest_subprocess("-rs")
    result.assert_outcomes(skipped=3)
    result.stdout.fnmatch_lines_random(
        [
            "*needs the program 'redis-server' (Debian: redis-server)",
            "*needs the program 'curl' (Debian: curl)",
        ]
    )


def test_a_lack_is_a_failure_in_ci(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    suite.makepyfile(LACKS)
    result = suite.runpytest_subprocess()
    result.assert_outcomes(failed=1, errors=2)
    result.stdout.fnmatch_lines(["*needs the program 'redis-server'*; CI must have it"])


def test_only_listed_programs_can_be_needed(suite: pytest.Pytester) -> None:
    suite.makepyfile("def test_it(need): need('landline-no-such-program')")
    result = suite.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*LookupError*not in tests/programs.txt*"])


def test_each_program_has_a_package() -> None:
    lines = (TESTS / "programs.txt").read_text("utf-8").splitlines()
    entries = [shlex.split(line, comments=True) for line in lines]
    assert [words for words in entries if len(words) == 1] == []
