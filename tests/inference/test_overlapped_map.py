"""The map that reads, works and writes at the same time."""

import threading

import pytest

from mcc_caffe.inference.overlapped_map import overlapped_map


def test_results_are_in_order_and_work_is_the_callers():
    threads = {}

    def work(item):
        threads.setdefault("work", set()).add(threading.current_thread())
        return 10 * item

    def finish(item):
        threads.setdefault("finish", set()).add(threading.current_thread())
        return item + 1

    assert list(overlapped_map(range(20), work, finish)) == [10 * item + 1 for item in range(20)]
    assert (
        threads["work"] == {threading.current_thread()}
        and threading.current_thread() not in threads["finish"]
    )
    assert list(overlapped_map([], work, finish)) == []


def test_the_three_run_at_the_same_time_and_two_more_are_held():
    """While item 1 is in work, item 2 is read and item 0 finished: each waits for the others.

    Nothing is read further ahead.
    """
    met, read = threading.Barrier(3, timeout=20), []

    def source():
        for item in range(5):
            if item == 2:
                met.wait()
            read.append(item)
            yield item

    def work(item):
        if item == 1:
            met.wait()
        assert len(read) <= item + 2
        return item

    def finish(item):
        if item == 0:
            met.wait()
        return item

    assert list(overlapped_map(source(), work, finish)) == list(range(5))


def test_every_finishing_step_has_a_thread_in_which_items_keep_their_order():
    """Item 2 is worked at while items 1 and 0 are finished: each waits for the others."""
    met, threads = threading.Barrier(3, timeout=20), {}

    def step(name, item_that_waits):
        def run(items):
            threads.setdefault(name, set()).add(threading.current_thread())
            if items[0] == item_that_waits:
                met.wait()
            return [*items, name]

        return run

    results = overlapped_map(
        ([number] for number in range(5)),
        step("work", 2),
        step("draw", 1),
        step("write", 0),
    )
    assert list(results) == [[number, "work", "draw", "write"] for number in range(5)]
    assert all(len(of_step) == 1 for of_step in threads.values())
    assert len(set.union(*threads.values())) == 3


def test_few_items_are_held_while_the_last_step_is_slow():
    """Item 0 waits to be written until item 2 is in work: then nothing after item 3 is read."""
    read, may_write = [], threading.Event()

    def source():
        for item in range(8):
            read.append(item)
            yield item

    def work(item):
        assert len(read) <= item + 2
        if item == 2:
            assert may_write.wait(0) is False
            may_write.set()
        return item

    def write(item):
        assert may_write.wait(20)
        return item

    results = overlapped_map(source(), work, lambda item: item, write)
    assert next(results) == 0 and len(read) <= 4
    assert list(results) == list(range(1, 8))


@pytest.mark.parametrize("where", ["source", "work", "draw", "finish"])
def test_an_error_is_the_callers_and_what_came_before_is_finished(where):
    finished = []

    def step(name):
        def checked(item):
            if name == where and item == 3:
                raise ValueError(name)
            if name == "finish":
                finished.append(item)
            return item

        return checked

    with pytest.raises(ValueError, match=where):
        list(
            overlapped_map(
                map(step("source"), range(6)), step("work"), step("draw"), step("finish")
            )
        )
    assert finished[:2] == [0, 1] and 3 not in finished and finished == sorted(finished)
