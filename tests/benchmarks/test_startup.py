"""The figures of `python -m benchmarks.startup`."""

from types import SimpleNamespace

from benchmarks import startup


def test_the_first_start_of_each_step_does_not_count(tmp_path, monkeypatch):
    """In its first turn a process takes 100 s, in the next ones 1, 5 and 3: the median is 3."""
    clock, starts = [0.0], []

    def run(command, **options):
        starts.append(command[1:3])
        turn = (len(starts) - 1) // (len(startup.STEPS) + 1)
        clock[0] += (100, 1, 5, 3)[turn]

    monkeypatch.setattr(startup, "subprocess", SimpleNamespace(run=run))
    monkeypatch.setattr(startup, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    seconds = startup.measure(3, tmp_path)
    assert seconds == dict.fromkeys([*startup.STEPS, startup.COMMAND], 3)
    turn = [*(["-c", code] for code in startup.STEPS.values()), ["-m", "mcc_caffe.infer"]]
    assert starts == turn * 4


def test_the_table_of_the_start(tmp_path, monkeypatch, capsys):
    seconds = {"an empty interpreter": 0.02, startup.COMMAND: 0.351}
    monkeypatch.setattr(startup, "measure", lambda repeats, folder: seconds)
    startup.main(["--out", str(tmp_path)])
    assert f"| {startup.COMMAND} | 0.35 | 0.33 |" in capsys.readouterr().out
