"""Callers at the same moment share a batch, each gets its own answer, and nobody waits for company."""

from __future__ import annotations

import threading

import torch

from resnet_hub import create_model
from resnet_hub.engine import choose, engine_for
from resnet_hub.engine.together import RETRIED, Together


class Network:
    """Twice its input; it waits for `go` before it answers, and remembers the batches it saw."""

    def __init__(self, go: bool = False) -> None:
        self.go, self.entered, self.batches = threading.Event(), threading.Event(), []
        if go:
            self.go.set()

    def __call__(self, pixels):
        self.batches.append(len(pixels))
        self.entered.set()
        assert self.go.wait(20)
        return 2 * pixels.flatten(1)


def image(value: float) -> torch.Tensor:
    return torch.full((1, 1, 1, 1), value)


def asked(together, network, values):
    """Threads that ask for one image each, and their answers by image."""
    answers = {}

    def ask(value):
        try:
            answers[value] = together(network, image(value)).item()
        except ValueError as error:
            answers[value] = error

    threads = [threading.Thread(target=ask, args=(value,)) for value in values]
    for thread in threads:
        thread.start()
    return threads, answers


def wait_for(together, count):
    for _ in range(2000):
        if len(together._waiting) >= count:
            return
        threading.Event().wait(0.005)
    raise AssertionError(f"{len(together._waiting)} of {count} are waiting")


def answers_of_a_queue(together, network, first: float, rest: list[float]) -> dict:
    """The answers to callers who come while the first one's batch runs, and to that one."""
    early, one = asked(together, network, [first])
    assert network.entered.wait(20)
    late, others = asked(together, network, rest)
    wait_for(together, len(rest))
    network.go.set()
    for thread in [*early, *late]:
        thread.join(20)
    return one | others


def test_who_comes_while_the_network_is_busy_is_in_the_next_batch_and_gets_their_own_answer():
    network = Network()
    answers = answers_of_a_queue(Together(), network, 1.0, [2.0, 3.0, 4.0])
    assert answers == {1.0: 2.0, 2.0: 4.0, 3.0: 6.0, 4.0: 8.0}
    assert network.batches == [1, 3]


def test_a_lone_caller_runs_at_once():
    network = Network(go=True)
    together = Together()
    assert [together(network, image(v)).item() for v in (1.0, 2.0)] == [2.0, 4.0]
    assert network.batches == [1, 1]


def test_a_batch_stays_as_it_is():
    network = Network(go=True)
    assert Together()(network, torch.ones(3, 1, 1, 1)).shape == (3, 1) and network.batches == [3]


def test_no_batch_is_larger_than_allowed():
    network = Network()
    answers = answers_of_a_queue(Together(most=2), network, 0.0, [1.0, 2.0, 3.0])
    assert network.batches == [1, 2, 1] and len(answers) == 4


class BreaksOnBatches(Network):
    def __call__(self, pixels):
        logits = super().__call__(pixels)
        if len(pixels) > 1:
            raise ValueError("no")
        return logits


def test_what_goes_wrong_reaches_every_caller_and_the_next_one_is_answered():
    together = Together()
    answers = answers_of_a_queue(together, BreaksOnBatches(), 1.0, [2.0, 3.0])
    assert answers[1.0] == 2.0 and all(isinstance(answers[value], ValueError) for value in (2.0, 3.0))
    assert together(Network(go=True), image(1.0)).item() == 2.0


SLOWER = {False: 1.0, True: 100.0}  # seconds an image, alone and in shared batches


def test_batches_that_are_slower_are_given_up():
    together, network = Together(), Network()
    together._seconds = dict(SLOWER)
    answers = answers_of_a_queue(together, network, 1.0, [2.0, 3.0, 4.0])
    assert network.batches == [1, 1, 1, 1] and answers[4.0] == 8.0


def test_batches_that_are_faster_are_shared():
    together, network = Together(), Network()
    together._seconds = {False: 100.0, True: 1.0}
    answers_of_a_queue(together, network, 1.0, [2.0, 3.0, 4.0])
    assert network.batches == [1, 3]


def test_batches_that_were_slower_are_tried_again_now_and_then():
    together, alone, network = Together(), Network(go=True), Network()
    together._seconds = dict(SLOWER)
    for _ in range(RETRIED - 2):
        together(alone, image(0.0))
    answers_of_a_queue(together, network, 1.0, [2.0, 3.0, 4.0])
    assert network.batches == [1, 3]


def test_each_network_that_is_served_has_a_queue_of_its_own():
    models = [create_model("lenet5").eval() for _ in range(2)]
    for model in models:
        choose(model, "eager", serving=True)
    first, second, again = (engine_for(model).run.func for model in (*models, models[0]))
    assert isinstance(first, Together) and first is again and first is not second
