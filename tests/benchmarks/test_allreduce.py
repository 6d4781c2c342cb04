"""The figures of `python -m benchmarks.allreduce`."""

from types import SimpleNamespace

from benchmarks import allreduce


def test_the_rate_of_a_link_by_hand(monkeypatch, capsys):
    """Of 4 ranks each sends 2 x 3/4 of 8 MB: 12 MB in the median's 4 ms are 3 GB a second."""
    clock, seconds = [0.0], iter((100, 0.004, 0.002, 0.010))

    def average(array):
        clock[0] += next(seconds)

    ranks = SimpleNamespace(rank=0, size=4, average=average, finish=lambda: None)
    monkeypatch.setattr(allreduce, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    allreduce.measure(ranks, {"net": 2_000_000}, repeats=3)
    row = capsys.readouterr().out.splitlines()[-1]
    assert row == "| net | 4 | 8.0 | 4.0 (2.0, 10.0) | 3.00 |"
