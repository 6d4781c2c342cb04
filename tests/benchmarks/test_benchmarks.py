"""`make bench` with tiny settings: Caffe, OpenCV and, where its environment is there, PyTorch."""

import importlib
import json
import os
import pathlib
import re
import sys

import cv2
import numpy as np
import pytest

from benchmarks import __main__ as bench
from benchmarks import (
    allreduce,
    end_to_end,
    figure,
    hands,
    jobs,
    network,
    output,
    pyramid,
    tables,
    training,
)
from benchmarks.timing import peak_mib, spread, timed
from caffe_build.locate import cache_folder
from mcc_caffe.core.errors import UserError
from mcc_caffe.predictor import HandPredictor
from tests.support.commands import ROOT, Begun, begin, run, run_program


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    """Return a folder with mini in each engine's form, and two inputs."""
    folder = tmp_path_factory.mktemp("nets")
    images = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 3, 128, 128)).astype(np.float32)
    jobs.in_process(network.prepare, "mini", folder / "mini", images)
    return folder


def measure_mini(engine, folder, *, batch, least=1):
    return network.measure("mini", engine, folder, batch=batch, least=least, seconds=0)


def measure_torch(folder, engine="torch_channels_last"):
    return training.torch_row("mini", engine, folder, batch=1, threads=1, least=1)


def measure_caffe_training(source, *, batch=2, iterations=2, engine="caffe"):
    return training.caffe_row(
        "mini",
        source,
        batch=batch,
        processes=1,
        threads=1,
        iterations=iterations,
        engine=engine,
    )


def require_pytorch() -> None:
    folder = cache_folder() / "peers" / network.TORCH[0]
    if not (folder / "complete").is_file():
        pytest.skip(f"{folder} is not there: `make bench` makes it, the tests install nothing")


def cells(markdown: str) -> list:
    """Return the lines of a Markdown table as lists of cells, without the ruler."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines if "---" not in line
    ]


def test_times_by_hand():
    assert spread([3.0, 1.0, 2.0]) == {
        "median": 2.0,
        "p10": pytest.approx(1.2),
        "p90": pytest.approx(2.8),
        "runs": 3,
        "times": [3.0, 1.0, 2.0],
    }
    once = {"median": 2.0, "p10": 2.0, "p90": 2.0, "runs": 1, "times": [2.0]}
    assert spread([2.0]) == once
    calls = []
    assert len(timed(lambda: calls.append(1), 3, 0)) == len(calls) == 3
    assert len(timed(lambda: None, 1, 0.05)) > 1


def test_measurements_take_turns():
    order = []

    def measure(name, *turns_of_times):
        turns = iter(turns_of_times)

        def run():
            order.append(name)
            times = next(turns)
            status = "" if times else "failed: no memory"
            return [{"engine": name, "status": status} | (spread(times) if times else {})]

        return run

    first, second = measure("a", [1.0, 5.0], [3.0], [9.0]), measure("b", [2.0], [])
    rows = jobs.in_turns([first, second], 3)
    assert order == ["a", "b", "a", "b", "a"]  # what has failed takes no further turn
    times = {"median": rows[0]["median"], "runs": rows[0]["runs"], "times": rows[0]["times"]}
    assert times == {"median": 4.0, "runs": 4, "times": [1.0, 5.0, 3.0, 9.0]}
    assert rows[1] == {"engine": "b", "status": "failed: no memory"}


def test_memory_is_the_new_process_s_own():
    array = np.ones(64 << 20, np.uint8)
    assert peak_mib() > 64
    assert jobs.in_process(peak_mib) < peak_mib() and len(array)


def test_engines_agree_with_caffe_before_they_are_timed(nets):
    for engine in ("caffe", "caffe_own", "opencv"):
        for batch in (1, 2):
            (row,) = measure_mini(engine, nets / "mini", batch=batch, least=2)
            assert (
                row["status"] == ""
                and row["difference"] <= 1e-4
                and (row["variant"], row["engine"], row["batch"]) == ("mini", engine, batch)
            )
            assert (
                0 < row["p10"] <= row["median"] <= row["p90"] < 60
                and row["runs"] == 2
                and 20 < row["peak_mib"] < 2000
            )


def test_caffe_in_bfloat16_agrees_less(nets):
    (row,) = measure_mini("caffe_bfloat16", nets / "mini", batch=2)
    assert row["status"] == ""
    assert network.TOLERANCE < row["difference"] < network.LOW_TOLERANCE


@pytest.mark.parametrize("flags, count", [("avx2", 6), ("avx2 avx512_bf16", 8)])
def test_bfloat16_is_measured_where_the_processor_has_it(monkeypatch, flags, count):
    monkeypatch.setattr(pathlib.Path, "read_text", lambda path: f"flags\t\t: fpu {flags} sse")
    engines = network.measured_engines()
    assert len(engines) == count and ("torch_bfloat16" in engines) == (count == 8)


def test_an_engine_that_finds_something_else_is_named(nets, tmp_path):
    for name in ("deploy.prototxt", "weights.caffemodel", "inputs.npy"):
        (tmp_path / name).symlink_to(nets / "mini" / name)
    expected = dict(np.load(nets / "mini/expected.npz"))
    expected["heatmaps"][0, 3, 2, 1] += 0.01
    np.savez(tmp_path / "expected.npz", **expected)
    (row,) = measure_mini("opencv", tmp_path, batch=1)
    assert row["status"] == "differs from Caffe by 0.01" and row["median"] > 0


def test_onnxruntime_finds_what_caffe_finds(nets):
    for module in ("onnx", "onnxruntime"):
        pytest.importorskip(module)
    (row,) = measure_mini("onnxruntime", nets / "mini", batch=2)
    assert row["status"] == "" and 0 < row["difference"] <= 1e-4


@pytest.mark.parametrize("engine", network.IN_TORCH)
def test_pytorch_finds_what_caffe_finds(nets, engine):
    require_pytorch()
    (row,) = measure_mini(engine, nets / "mini", batch=2)
    tolerance = network.LOW_TOLERANCE if engine in network.IN_BFLOAT16 else 1e-4
    assert row["status"] == "" and 0 < row["difference"] <= tolerance


def test_each_engine_may_use_all_cores_whatever_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(network, "CORES", 3)
    monkeypatch.setattr(network, "ask", lambda *words, environment: environment)
    (row,) = measure_mini("caffe", tmp_path, batch=1)
    assert row["OMP_NUM_THREADS"] == "3"


def test_what_cannot_be_installed_or_run_is_a_row(nets, monkeypatch):
    def fail(*args):
        raise UserError("no network")

    monkeypatch.setattr(network, "environment", fail)
    assert measure_mini("torch", nets / "mini", batch=1)[0]["status"] == "not installed: no network"
    monkeypatch.setattr(training, "environment", fail)
    assert measure_torch(nets / "mini")[0]["status"] == "not installed: no network"
    assert measure_mini("opencv", nets / "nowhere", batch=1)[0]["status"].startswith(
        "failed: FileNotFoundError"
    )
    assert jobs.ask(sys.executable, "antigravity_of_nobody")["status"].endswith(
        "No module named antigravity_of_nobody"
    )


def test_what_other_benchmarks_print():
    rows = jobs.read_printed_table("benchmarks.allreduce", "--repeats", "1")
    assert sorted(row["network"] for row in rows) == ["mini", "paper"] and all(
        row["ranks"] == "2" and row["status"] == "" for row in rows
    )
    assert [line[0] for line in cells(tables.plain_table(rows))] == [
        "network",
        *(row["network"] for row in rows),
    ]
    failed = jobs.read_printed_table("benchmarks.allreduce", "--repeats", "0")
    assert failed[0]["status"].startswith(
        "failed: python -m benchmarks.allreduce: error: argument --repeats"
    )
    assert tables.plain_table(failed) == failed[0]["status"] + "\n"


def test_pytorch_has_caffe_s_loss_and_gradients(tmp_path):
    require_pytorch()
    jobs.in_process(training.prepare, "mini", tmp_path / "mini")
    for engine in network.IN_TORCH:
        (row,) = measure_torch(tmp_path / "mini", engine)
        assert (
            row["status"] == ""
            and row["loss_difference"] <= training.LOSS_TOLERANCE
            and 0 < row["gradient_difference"] <= training.GRADIENT_TOLERANCE
        )
    (tmp_path / "mini/loss.json").write_text("1.0")
    assert measure_torch(tmp_path / "mini")[0]["status"].startswith("differs from Caffe: loss by ")


def test_pytorch_is_compared_in_the_layout_that_is_timed(tmp_path):
    """A stand-in for the comparison says in which layouts the kernels and the images lie."""
    require_pytorch()
    jobs.in_process(training.prepare, "mini", tmp_path / "mini")
    code = """
import sys, torch
from benchmarks.peers import torch_cpu_training as worker

def layouts(net, batch, *_):
    tensors = [batch["data"], *(layer.weight for layer in net.convolutions.values())]
    formats = torch.contiguous_format, torch.channels_last
    return {
        str(layout): all(tensor.is_contiguous(memory_format=layout) for tensor in tensors)
        for layout in formats
    }

worker.differences = layouts
worker.main(*sys.argv[1:])
"""
    python = cache_folder() / "peers" / network.TORCH[0] / "bin/python"
    for layout in ("contiguous_format", "channels_last"):
        words = [tmp_path / "mini", layout, "float32", 1, 1, 1]
        facts = json.loads(run_program(python, "-c", code, *words).stdout)
        assert facts["torch.contiguous_format"] == (layout == "contiguous_format")
        assert facts["torch.channels_last"] == (layout == "channels_last")


def test_training_is_that_of_the_command(drawn_set):
    (row,) = measure_caffe_training(drawn_set)
    assert (
        row["status"] == ""
        and row["runs"] == 2
        and 0 < row["median"] < 60
        and 100 < row["loss_at_start"] < 1000
    )
    (low,) = measure_caffe_training(drawn_set, iterations=1, engine="caffe_bfloat16")
    assert low["loss_at_start"] == pytest.approx(row["loss_at_start"], rel=0.02)
    assert low["loss_at_start"] != row["loss_at_start"]
    (row,) = measure_caffe_training(drawn_set / "nowhere")
    assert (
        row["status"].startswith("failed: error: ")
        and "nowhere" in row["status"]
        and "median" not in row
    )


def test_passes_have_as_many_levels_as_they_say(nets):
    image = np.full((96, 128, 3), 90, np.uint8)
    weights = nets / "mini/weights.caffemodel"
    rows = end_to_end.measure(
        end_to_end.measure_levels,
        "mini",
        "caffe",
        weights,
        image,
        level_counts=(1, 3, 1000, "paper"),
        least=2,
        seconds=0,
    )
    pyramid_levels = HandPredictor(weights, "mini", levels="paper").predict(image).levels
    assert [(row["levels"], row["pyramid"]) for row in rows] == [
        (1, False),
        (3, False),
        (pyramid_levels, True),
    ]
    assert all(0 < row["network"] <= row["p90"] and row["status"] == "" for row in rows)

    def measure_batches(weights):
        function = end_to_end.measure_batches
        return end_to_end.measure(function, "mini", "caffe", weights, image, least=1, seconds=0)

    rows = measure_batches(weights)
    assert [row["batch"] for row in rows] == [1, 2, 4, 8]
    assert measure_batches(nets / "nowhere")[0]["status"].startswith("not run: ")


def test_an_engine_that_cannot_run_has_a_single_line():
    rows = [{"variant": "mini", "engine": "onnx", "status": "not run: why"}] * 2
    assert len(cells(tables.end_to_end_table(rows))) == 2  # with the columns' names


def test_each_row_whose_memory_is_shown_has_a_process_of_its_own(nets):
    """A process that had made another row would show the memory of both."""
    measured = [
        job.run()
        for job in end_to_end.jobs(nets, np.full((96, 128, 3), 90, np.uint8), quick=True)
        if job.table == end_to_end.TABLE and "mini, caffe" in job.label
    ]
    assert [[row["pyramid"] for row in rows] for rows in measured] == [[False], [True]]
    (single_pass,), (pyramid,) = measured
    assert 50 < single_pass["peak_mib"] < pyramid["peak_mib"] < 1000


def test_the_table_of_the_network_by_hand():
    work = {"variant": "mini", "batch": 2, "status": ""}
    caffe = {"engine": "caffe", "median": 0.3, "p10": 0.2, "p90": 0.4}
    other = {"engine": "onnxruntime", "median": 0.1, "p10": 0.1, "p90": 0.1}
    rows = [
        work | caffe | {"peak_mib": 99.6, "difference": 0.0},
        work | other | {"peak_mib": 50.2, "difference": 2e-5},
        {"variant": "mini", "batch": 1, "engine": "torch", "status": "not installed: no network"},
    ]
    assert cells(tables.network_table(rows))[1:] == [
        ["mini", "2", "Caffe", "150 (100 to 200)", "1", "100", "0"],
        ["mini", "2", "ONNX Runtime", "50 (50 to 50)", "3", "50", "2e-05"],
        ["mini", "1", "PyTorch", "-", "-", "-", "not installed: no network"],
    ]


def test_the_table_of_the_predictor_by_hand():
    step = {"variant": "mini", "engine": "caffe", "status": "", "peak_mib": 99.6, "network": 0.3}
    step |= {"median": 0.5, "p10": 0.4, "p90": 0.6}
    rows = [
        step | {"levels": levels, "pyramid": is_pyramid}
        for levels, is_pyramid in ((1, False), (4, False), (19, True))
    ]
    assert cells(tables.end_to_end_table(rows))[1:] == [
        ["mini", "caffe", passes, "0.5 (0.4 to 0.6)", "0.3", "100", ""]
        for passes in ("single pass", "4 levels", "pyramid, 19 levels")
    ]


def test_the_grids_by_hand():
    """A cell that no row is of is a dash; a net and engine that cannot run says why."""
    step = {"variant": "mini", "engine": "caffe", "status": "", "pyramid": False}
    step |= {"levels": 1, "batch": 1, "width": 640, "height": 480, "median": 0.5}
    more = {"levels": 3, "batch": 8, "width": 320, "height": 240, "median": 1.25, "pyramid": True}
    failed = {"variant": "paper", "engine": "onnx", "status": "not run: why"}
    rows = [step, step | more, step | more | {"engine": "onnx"}, failed]
    for grid, headings in (
        (tables.levels_grid, ["1 level", "3 levels"]),
        (tables.sizes_grid, ["640 x 480, single pass", "320 x 240, pyramid"]),
        (tables.batches_grid, ["batch 1", "batch 8"]),
    ):
        assert cells(grid(rows)) == [
            ["net", "engine", *headings, ""],
            ["mini", "caffe", "0.5", "1.25", ""],
            ["mini", "onnx", "-", "1.25", ""],
            ["paper", "onnx", "-", "-", "not run: why"],
        ]


def test_the_document_says_what_the_figures_depend_on():
    machine = {"processor": "a chip", "cores": 2, "memory_gib": 3.96, "blas": "b", "onednn": "o"}
    machine |= {"system": "s", "date": "d", "load": 0.26}
    results = {"command": "c", "machine": machine, "seconds": 180.0, "tables": {}}
    text = tables.document(results, "a.png")
    assert "](a.png)" in text and cells(text)[1:] == [
        ["processor", "a chip, 2 cores"],
        ["memory", "4.0 GiB"],
        ["BLAS of Caffe", "b"],
        ["oneDNN", "o"],
        ["system", "s"],
        ["date", "d"],
        ["command", "`c`"],
        ["took", "3 min"],
        ["load before it began", "0.3"],
    ]


def test_the_figure_has_the_rows_that_were_measured():
    spread_of = {"p10": 0.2, "p90": 0.4, "status": ""}
    step = spread_of | {"variant": "mini", "engine": "caffe"}
    failed = step | {"engine": "torch", "median": 9.0, "batch": 1, "status": "differs", "levels": 9}
    network_rows = [
        step | {"batch": 1, "median": 0.25, "peak_mib": 99.6},
        step | {"batch": 2, "median": 0.3, "peak_mib": 200.0},
        failed,
    ]
    work = {"batch": 13, "processes": 1, "threads": 2, "median": 0.75}
    levels = [step | {"levels": 3, "median": 1.25}, step | {"levels": 1, "median": 0.5}, failed]
    drawn = figure.draw(
        {network.TABLE: network_rows, training.TABLE: [step | work], end_to_end.LEVELS: levels}
    )
    panels = {axes.get_title(): axes for axes in drawn.axes}

    def widths(title):
        return [round(bar.get_width(), 6) for bar in panels[title].patches]

    assert widths("the network alone, mini") == [250, 150]  # milliseconds an image
    assert widths("memory of the process, batch 1") == [100]
    assert widths("training, mini") == [0.75]
    assert panels["training, mini"].get_legend().get_texts()[0].get_text() == "13 images, 2 threads"
    (line,) = panels["HandPredictor, 640 x 480"].lines
    assert line.get_xydata().tolist() == [[1, 0.5], [3, 1.25]]
    for title in (
        "the network alone, paper",
        "training, paper",
        "HandPredictor by size of the image",
    ):
        assert [text.get_text() for text in panels[title].texts] == ["not measured in this run"]


def test_the_ratios_of_training_by_hand():
    """Rows are compared with PyTorch's of as many images, threads and bits."""
    step = {"variant": "mini", "processes": 1, "threads": 2, "batch": 13}
    step |= {"p10": 0.5, "p90": 0.5, "status": ""}
    rows = [
        {**step, "engine": "caffe", "median": 0.6},
        {**step, "engine": "torch", "median": 0.5},
        {**step, "engine": "torch_channels_last", "median": 0.4},
        {**step, "engine": "torch", "median": 0.1, "status": "differs from Caffe"},
        {**step, "engine": "caffe", "processes": 2, "median": 0.65},
        {**step, "engine": "caffe_bfloat16", "median": 0.3},
        {**step, "engine": "torch_bfloat16", "median": 0.25},
    ]
    lines = cells(tables.training_table(rows))[1:]
    assert lines[0][:5] == ["mini", "1 x 13", "2", "Caffe", "0.6 (0.5 to 0.5)"]
    assert [line[5:7] for line in lines] == [
        ["21.7", "1.5"],
        ["26", ""],
        ["32.5", ""],
        ["130", ""],
        ["40", ""],
        ["43.3", "1.2"],
        ["52", ""],
    ]


def test_the_first_iteration_of_a_training_does_not_count(tmp_path, monkeypatch):
    lines = [{"seconds": seconds, "loss": 100 * seconds} for seconds in (9.0, 1.0, 2.0)]
    monkeypatch.setattr(training, "run_training", lambda *arguments: lines)
    (row,) = measure_caffe_training(tmp_path)
    assert row["times"] == [1.0, 2.0] and row["loss_at_start"] == 900


@pytest.mark.parametrize("cores, threads", [(1, [1, 2]), (2, [1, 2]), (3, [1, 2, 3])])
def test_a_training_has_the_threads_that_its_row_says(cores, threads, tmp_path, monkeypatch):
    """Two processes have as many threads each, and PyTorch as many in its single process."""

    def run_training(source, options, environment):
        started = options["--processes"] * int(environment["OMP_NUM_THREADS"])
        return [{"seconds": 1.0, "loss": started}] * 2

    def ask(python, worker, folder, layout, precision, batch, threads, least):
        return {**spread([1.0]), "loss_at_start": threads}

    monkeypatch.setattr(training, "CORES", cores)
    monkeypatch.setattr(training, "run_training", run_training)
    monkeypatch.setattr(training, "ask", ask)
    monkeypatch.setattr(training, "environment", lambda *arguments: sys.executable)
    steps = training.jobs(tmp_path, tmp_path, quick=True)
    rows = [row for job in steps if job.table == training.TABLE for row in job.run()]
    assert [row["loss_at_start"] for row in rows] == [row["threads"] for row in rows]
    assert sorted({row["threads"] for row in rows}) == threads
    of_two = {row["threads"] for row in rows if row["processes"] == 2}
    assert of_two == {row["threads"] for row in rows if row["batch"] == 26} == {2}


@pytest.mark.parametrize(
    "value, text",
    [
        (None, "-"),
        (12, "12"),
        (0.76349, "0.763"),
        (999.49, "999"),
        (999.5, "1000"),
        (-999.99, "-1000"),
        (1231.4, "1231"),
    ],
)
def test_numbers_of_tables(value, text):
    assert tables.format_value(value) == text


def test_the_last_sections_need_no_rendered_set(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "render_set", begin)
    steps = bench.jobs(["data", "files"], tmp_path, True, tmp_path)
    assert [job.table for job in steps] == [table for _, table, _ in bench.PRINTED]
    with pytest.raises(Begun):
        bench.jobs(["training"], tmp_path, True, tmp_path)


def test_results_are_json_where_a_number_is_infinite(tmp_path):
    """JSON has no infinity and no NaN, which other programs refuse to read."""

    def refuse(constant):
        raise AssertionError(constant)

    row = {"status": "differs from Caffe by inf", "difference": float("inf"), "median": 0.5}
    none = {**row, "difference": None}
    output.write_results(tmp_path, "gpu", "a table", {"rows": [row, {"error": float("nan")}]})
    written = json.loads((tmp_path / "gpu.json").read_text(), parse_constant=refuse)
    assert written["rows"] == [none, {"error": None}]
    machine = {"processor": "p", "cores": 2, "memory_gib": 1.0, "blas": "b", "onednn": "o"}
    machine |= {"system": "s", "date": "d", "load": 0.0}
    results = {"command": "c", "machine": machine, "seconds": 1.0, "tables": {}}
    row |= {"variant": "mini", "batch": 1, "engine": "torch", "p10": 0.5, "p90": 0.5}
    bench.write({**results, "tables": {"network": [row]}}, tmp_path, None)
    written = json.loads((tmp_path / "bench.json").read_text(), parse_constant=refuse)
    assert written["tables"]["network"][0]["difference"] is None
    assert "differs from Caffe by inf" in (tmp_path / "bench.md").read_text()


def few_jobs(nets, drawn_set, last=None):
    """Return the jobs of a run that takes seconds."""
    image = np.full((96, 128, 3), 90, np.uint8)

    def measure(function, **options):
        weights = nets / "mini/weights.caffemodel"
        return end_to_end.measure(
            function, "mini", "caffe", weights, image, **options, least=1, seconds=0
        )

    return lambda *args: [
        *(
            jobs.Job(
                network.TABLE,
                engine,
                lambda engine=engine: measure_mini(engine, nets / "mini", batch=2),
            )
            for engine in ("caffe", "opencv")
        ),
        *(
            jobs.Job(
                end_to_end.TABLE,
                "passes",
                lambda levels=levels: measure(end_to_end.measure_with_memory, level_count=levels),
            )
            for levels in (1, "paper")
        ),
        jobs.Job(
            end_to_end.LEVELS,
            "levels",
            lambda: measure(end_to_end.measure_levels, level_counts=(1, 2)),
        ),
        jobs.Job(
            training.TABLE,
            "training",
            last or (lambda: measure_caffe_training(drawn_set, batch=1, iterations=1)),
        ),
    ]


def test_a_run_writes_what_can_be_read_again(nets, drawn_set, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "jobs", few_jobs(nets, drawn_set))
    bench.main(
        ["--quick", "--out", str(tmp_path / "out"), "--report", str(tmp_path / "docs/speed.md")]
    )
    results = json.loads((tmp_path / "out/bench.json").read_text())
    assert list(results["tables"]) == ["network", "end_to_end", "levels", "training"]
    assert results["command"].startswith("python -m benchmarks --quick --out ")
    assert (
        results["machine"]["cores"] >= 1 and results["machine"]["blas"] and results["seconds"] > 0
    )
    report, text = (tmp_path / "docs/speed.md").read_text(), (tmp_path / "out/bench.md").read_text()
    assert report.replace("speed.png", "bench.png") == text and text in capsys.readouterr().out
    printed_tables = [cells(part) for part in re.split(r"^## ", text, flags=re.M)[2:]]
    assert [len(table) - 1 for table in printed_tables] == [2, 2, 1, 1]
    assert printed_tables[0][1][3].startswith(
        tables.format_value(500 * results["tables"]["network"][0]["median"])
    )
    assert all(len(line) == len(table[0]) for table in printed_tables for line in table)
    for path in (tmp_path / "docs/speed.png", tmp_path / "out/bench.png"):
        assert cv2.imread(str(path)).std() > 10
    assert not list(tmp_path.rglob(".*"))
    bench.check_outputs(
        bench.parse_arguments(
            ["--out", str(tmp_path / "out"), "--report", str(tmp_path / "docs/speed.md")]
        )
    )


def test_an_interrupted_run_leaves_what_it_has(nets, drawn_set, tmp_path, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "jobs", few_jobs(nets, drawn_set, interrupt))
    with pytest.raises(KeyboardInterrupt):
        bench.main(["--out", str(tmp_path)])
    tables_so_far = json.loads((tmp_path / "bench.json").read_text())["tables"]
    assert len(tables_so_far["network"]) == 2 and len(tables_so_far["end_to_end"]) == 2
    assert "training" not in tables_so_far


def test_a_run_that_is_interrupted_after_a_preparation_leaves_no_empty_table(tmp_path, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    steps = [jobs.Job("network", "prepare", list), jobs.Job("network", "measure", interrupt)]
    monkeypatch.setattr(bench, "jobs", lambda *_: steps)
    with pytest.raises(KeyboardInterrupt):
        bench.main(["--out", str(tmp_path)])
    assert json.loads((tmp_path / "bench.json").read_text())["tables"] == {}
    heading = f"## {tables.SECTIONS['network'].heading}\n"
    assert heading not in (tmp_path / "bench.md").read_text()


def test_the_document_says_what_the_generator_does():
    text = (ROOT / "docs/benchmarks.md").read_text()
    assert text.startswith(tables.TITLE) and tables.INTRODUCTION in text
    recorded = re.findall(r"^## (.*)\n\n((?:(?!##|\|).*\n)*)", text, re.M)
    prose_by_heading = {section.heading: section.prose for section in tables.SECTIONS.values()}
    assert all(
        prose.strip() == prose_by_heading[heading].strip()
        for heading, prose in recorded
        if heading != "This run"
    )


def test_the_example_hand_takes_no_further_looks():
    """An unsure one would be looked at in four directions, or searched for, and cost twice."""
    hand = HandPredictor().predict(hands.example_image())
    assert hand.method == "looks" and hand.keypoints[:, 2].mean() > 0.7


def test_the_seconds_of_a_folder():
    assert 0 < pyramid.folder_seconds(HandPredictor(levels=1), hands.example_jpeg(), 2) < 60


@pytest.mark.parametrize(
    "words, message",
    [
        (["--report", "notes.md"], "notes.md would be overwritten and is no result of this"),
        (["--report", "a.md"], "a.png would be overwritten and is no result of this command"),
        (["--report", "b.png"], "b.png is to be a Markdown file: give a name in .md"),
        (["--report", "folder.md"], "folder.md is a folder, not a file"),
        (["--out", "notes.md"], "notes.md is no folder: move it away, or give another folder"),
        (["--out", "foreign"], "foreign/pyramid.md would be overwritten and is no result"),
    ],
)
def test_what_cannot_be_written_is_told_before_anything_is_measured(
    words, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for name in ("folder.md", "foreign"):
        (tmp_path / name).mkdir()
    for name in ("notes.md", "a.png", "foreign/pyramid.md"):
        (tmp_path / name).write_text("of the user\n")
    monkeypatch.setattr(bench, "machine_facts", None)
    with pytest.raises(UserError, match=message):
        bench.main(words)
    assert (tmp_path / "notes.md").read_text() == "of the user\n"


@pytest.mark.parametrize("name", ["pyramid", "folder", "startup", "data_layer", "video"])
def test_a_single_benchmark_replaces_no_file_of_the_user(name, tmp_path, monkeypatch):
    (tmp_path / f"{name}.md").write_text("of the user")
    module = importlib.import_module(f"benchmarks.{name}")
    for measuring in ("measure", "HandPredictor"):
        monkeypatch.setattr(module, measuring, begin, raising=False)
    with pytest.raises(UserError, match=rf"{name}.md would be overwritten and is no result of"):
        module.main(["--out", str(tmp_path)])
    output.write_results(tmp_path, name, "a table", {})
    with pytest.raises(Begun):
        module.main(["--out", str(tmp_path)])


@pytest.mark.parametrize("name", ["gpu_worker", "peers.network_worker"])
def test_a_worker_without_arguments_says_how_it_is_called(name):
    done = run(f"benchmarks.{name}")
    assert done.returncode == 1 and f"python -m benchmarks.{name} " in done.stderr
    assert "Traceback" not in done.stderr


def test_one_process_alone_averages_nothing():
    with pytest.raises(UserError, match="--processes 1: there is nothing to average, give two"):
        allreduce.main(["--processes", "1"])


def test_the_precision_of_the_environment_is_not_that_of_the_rows(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("MCC_CAFFE_PRECISION", "bfloat16")
    assert "MCC_CAFFE_PRECISION=bfloat16" in output.describe_machine()
    monkeypatch.setattr(bench, "machine_facts", lambda: {"load": 0.0})
    monkeypatch.setattr(bench, "jobs", lambda *arguments: [])
    monkeypatch.setattr(bench, "write", lambda *arguments: None)
    monkeypatch.setattr(bench, "document", lambda *arguments: "")
    bench.main(["--out", str(tmp_path)])
    assert os.environ["MCC_CAFFE_PRECISION"] == "float32"
    assert "MCC_CAFFE_PRECISION=bfloat16 has no effect" in caplog.text
