"""What a second process says of what came in an answer's way."""

from __future__ import annotations

import io
import json

import pytest

from pyg_hash.utils.guarded import Guarded, answer_all


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (ValueError("two\n  lines"), "two lines"),
        (KeyError(), "KeyError"),
        (MemoryError(), "it asks for more memory than there is"),
    ],
)
def test_each_problem_is_said(monkeypatch, capsys, error, problem):
    def answer(question):
        if question == 1:
            raise error
        return question

    monkeypatch.setattr("sys.stdin", io.StringIO("1\n2\n"))
    answer_all(answer)
    ready, *answers = capsys.readouterr().out.splitlines()
    assert ready == "ready" and [json.loads(line) for line in answers] == [[None, problem], [2, ""]]


def test_an_answer_that_comes_after_an_interrupt_is_no_other_questions(monkeypatch):
    def interrupted(**_):
        raise KeyboardInterrupt

    helper = Guarded("answer_all(lambda question: question)", "it")
    assert helper.ask(1, 9.0) == 1
    monkeypatch.setattr(helper._answers, "get", interrupted)
    with pytest.raises(KeyboardInterrupt):
        helper.ask(2, 9.0)
    assert helper.ask(3, 9.0) == 3
    helper.stop()


def test_a_process_that_was_ended_between_two_questions_is_said_and_another_started():
    helper = Guarded("answer_all(lambda question: question)", "it")
    assert helper.ask(1, 9.0) == 1
    helper._process.kill()
    helper._process.wait()
    with pytest.raises(ChildProcessError, match="ended without an answer"):
        helper.ask(2, 9.0)
    assert helper.ask(3, 9.0) == 3
    helper.stop()
