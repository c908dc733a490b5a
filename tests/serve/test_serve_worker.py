"""Questions that wait are answered in one call, each as if it were alone."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import pytest
import torch
from serve_cases import Client, make_engine, png, request
from small import relaxed_of_new

from pyg_hash.serve import Limits
from pyg_hash.serve.engine import Question, Wanted
from pyg_hash.serve.guard import VISIT, QueryError, Visit, Worker


def batches(call, most=64, waiting=100, timeout=20.0):
    return Worker(Limits(waiting=waiting, timeout=timeout), 1, call=call, most=most)


def test_what_comes_during_a_call_goes_into_the_next_one():
    calls, hold = [], threading.Event()

    def call(questions):
        calls.append(questions)
        hold.wait(20)
        return [10 * question for question in questions]

    async def ask():
        several = batches(call, most=3)
        tasks = [asyncio.create_task(several.ask(number)) for number in range(1)]
        while not calls:
            await asyncio.sleep(0.001)
        tasks += [asyncio.create_task(several.ask(number)) for number in range(1, 6)]
        await asyncio.sleep(0.01)
        hold.set()
        answers = await asyncio.gather(*tasks)
        assert await several.ask(7) == 70  # it begins anew
        several.close()
        return answers

    assert asyncio.run(ask()) == [0, 10, 20, 30, 40, 50]
    assert calls == [[0], [1, 2, 3], [4, 5], [7]]


def test_an_application_can_be_started_again(tmp_path):
    client = Client(make_engine(tmp_path))

    async def live():
        async with client.app.router.lifespan_context(client.app):
            asked = (("GET", "search?text=red", b""), ("POST", "search", png()))
            asked += (("GET", "item/1/picture", b""),)
            return [(await request(client.app, m, f"/api/{a}", b)).status for m, a, b in asked]

    assert [asyncio.run(live()) for _ in range(2)] == [[200] * 3] * 2


@pytest.mark.parametrize(("still", "sizes"), [(4, [4]), (0, [1, 3]), (10**9, [4])])
def test_it_waits_for_others_only_while_they_are_on_their_way(still, sizes, monkeypatch):
    """``more`` says yes so many times; in the end nobody waits for ever."""
    monkeypatch.setattr("pyg_hash.serve.guard._TURN", 0.005)
    calls, looks = [], []

    def more():
        looks.append(None)
        return len(looks) <= still

    async def ask():
        call = lambda asked: calls.append(len(asked)) or asked  # noqa: E731
        several = Worker(Limits(), 1, call=call, most=64, more=more)
        first = asyncio.create_task(several.ask(0))
        await asyncio.sleep(0.001)
        return await asyncio.gather(first, *map(several.ask, range(1, 4)))

    assert asyncio.run(ask()) == [0, 1, 2, 3]
    assert calls == sizes


def test_errors_reach_those_they_are_for():
    async def ask(call):
        several = batches(call)
        answers = await asyncio.gather(*map(several.ask, range(3)), return_exceptions=True)
        return [*answers, await asyncio.gather(several.ask(5), return_exceptions=True)]

    answers = asyncio.run(ask(lambda asked: [ValueError("no") if a == 1 else a for a in asked]))
    assert answers[0] == 0 and answers[2] == 2 and isinstance(answers[1], ValueError)
    assert answers[3] == [5]
    answers = asyncio.run(ask(lambda asked: [1 / 0]))
    assert all(isinstance(answer, ZeroDivisionError) for answer in answers[:3])


def test_too_many_and_too_long():
    hold, calls = threading.Event(), []

    def call(questions):
        calls.append(questions)
        hold.wait(20)
        return questions

    async def ask():
        several = batches(call, waiting=3, timeout=0.1)
        tasks = [asyncio.create_task(several.ask(0))]
        while not calls:
            await asyncio.sleep(0.001)
        tasks += [asyncio.create_task(several.ask(number)) for number in range(1, 4)]
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        hold.set()
        assert await several.ask(9) == 9
        return answers

    answers = asyncio.run(ask())
    assert all(isinstance(answer, QueryError) and answer.status == 503 for answer in answers)
    assert [str(answer).split(";")[0] for answer in answers[2:]] == [
        "busy: no answer within 0.1 seconds",
        "busy: 3 requests are waiting",
    ]
    assert calls == [[0], [9]]  # nobody waits for what was given up


class Held:
    """Calls by names like "a1" of client "a", one at a time; the first, "x", waits for ``hold``.

    By a clock that stands still else, each takes a second, or those of its client in ``costs``.
    """

    def __init__(self, monkeypatch, waiting=100, costs=None):
        self.hold, self.done, self.now, self.costs = threading.Event(), [], 0.0, costs or {}
        self.worker = Worker(Limits(waiting=waiting, timeout=20.0, threads=1))
        monkeypatch.setattr("pyg_hash.serve.guard.time.perf_counter", lambda: self.now)

    def call(self, name):
        if name == "x":
            self.hold.wait(20)
        self.now += self.costs.get(name[0], 1.0)
        self.done.append(name)
        return name

    async def ask(self, *names):
        """Their tasks, which wait."""
        tasks = []
        for name in names:
            VISIT.set(Visit(name[0]))
            tasks.append(asyncio.create_task(self.worker.run(self.call, name)))
            await asyncio.sleep(0)
        return tasks

    async def end(self, tasks):
        """The answers, or why there are none; nothing of them is kept."""
        self.hold.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert not self.worker._waiting and not self.worker.pending
        self.worker.close()
        return answers


@pytest.mark.parametrize(
    ("costs", "order"),
    [
        ({}, "x a1 b1 c1 a2 b2 a3 a4"),
        ({"a": 9.0}, "x a1 b1 c1 b2 a2 a3 a4"),  # who takes long is not next
        ({"b": 0.1}, "x a1 b1 c1 b2 a2 a3 a4"),
    ],
)
def test_clients_share_the_time(costs, order, monkeypatch):
    """However many one of them asks; each is answered in the order of its own."""
    held = Held(monkeypatch, costs=costs)

    async def run():
        return await held.end(await held.ask("x", "a1", "a2", "a3", "a4", "b1", "b2", "c1"))

    assert asyncio.run(run()) == ["x", "a1", "a2", "a3", "a4", "b1", "b2", "c1"]
    assert held.done == order.split()


def test_who_was_not_there_starts_level_with_the_others(monkeypatch):
    """A new client, and one that asks again, do not make up for the time in which they did not."""
    held = Held(monkeypatch)

    async def run():
        held.hold.set()
        await asyncio.gather(*await held.ask("x", "c1", "a1", "a2", "a3", "a4", "a5"))
        held.hold.clear()
        held.done.clear()
        await held.end(await held.ask("x", "c2", "c3", "n1", "n2", "a6", "a7"))

    asyncio.run(run())
    assert held.done == ["x", "c2", "n1", "a6", "c3", "n2", "a7"]


def test_the_newest_of_who_has_most_waiting_is_refused(monkeypatch):
    held = Held(monkeypatch, waiting=5)

    async def run():
        tasks = await held.ask("x", "a1", "a2", "a3", "b1")
        assert not held.worker.full  # for d, see below
        tasks += await held.ask("b2", "c1", "a4", "b3", "d1")
        assert held.worker.full
        return await held.end(tasks)

    answers = asyncio.run(run())
    refused = [answer for answer in answers if not isinstance(answer, str)]
    assert [type(answer) for answer in refused] == [QueryError] * 5
    assert {(a.status, a.headers["Retry-After"], str(a)) for a in refused} == {
        (503, "1", "busy: 5 requests are waiting; try again in a moment")
    }
    assert held.done == ["x", "a1", "b1", "c1", "d1"]


def test_who_gives_up_gives_its_place_back(monkeypatch):
    held = Held(monkeypatch, waiting=3)

    async def run():
        tasks = await held.ask("x", "a1", "a2")
        tasks[1].cancel()
        return await held.end(tasks + await held.ask("a3"))

    answers = asyncio.run(run())
    assert [a for a in answers if isinstance(a, str)] == ["x", "a2", "a3"]
    assert held.done == ["x", "a2", "a3"]


def test_clients_share_a_call():
    calls, hold = [], threading.Event()

    def call(questions):
        calls.append(questions)
        hold.wait(20)
        return questions

    async def run():
        several, tasks = batches(call, most=2), []
        for name in ("x", "a1", "a2", "a3", "b1"):
            VISIT.set(Visit(name[0]))
            tasks.append(asyncio.create_task(several.ask(name)))
            await asyncio.sleep(0)
        hold.set()
        return await asyncio.gather(*tasks)

    assert asyncio.run(run()) == ["x", "a1", "a2", "a3", "b1"]
    assert calls == [["x"], ["a1", "b1"], ["a2", "a3"]]


def test_several_questions_have_the_answers_that_each_has_alone():
    engine = make_engine()
    words = ["red", "green blue", "purple red", "gray"]
    x = engine.encoders["text"](words)
    assert relaxed_of_new(engine.model, x, "text").abs().min() > 1e-5  # no bit is all rounding
    cases = [(word, "image" if i % 3 else "text", 1 + 2 * i) for i, word in enumerate(words)]
    asked = [engine.ask_text(word, Wanted(target, k)) for word, target, k in cases]
    together = engine.answers("text", asked)
    for answer, case in zip(together, cases, strict=True):
        alone = engine.by_text(*case)
        assert answer.scores == pytest.approx(alone.scores, abs=1e-5)
        assert replace(answer, scores=None) == replace(alone, scores=None)
    assert [len(answer.rows) for answer in together] == [1, 3, 5, 7]
    assert together[2].notes == ["Not in the vocabulary: purple"]


@pytest.mark.parametrize("bad", [torch.full((1, 9), torch.nan), torch.ones(1, 8)])
def test_a_bad_question_does_not_end_the_others(bad):
    engine = make_engine()
    good = engine.ask_text("red", Wanted("image", 3))
    answers = engine.answers("text", [good, Question(bad, Wanted("image", 3)), good])
    assert answers[0] == answers[2] == engine.by_text("red", "image", 3)
    assert isinstance(answers[1], QueryError)
