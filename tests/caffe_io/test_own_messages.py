"""The messages that stand in for Caffe's say and read the same."""

import os
import sys
from types import SimpleNamespace

import pytest
from google.protobuf import text_format

from caffe_build.locate import importable_folder
from mcc_caffe.caffe_io.own_messages import message_classes
from mcc_caffe.caffe_io.protobuf import is_repeated, messages
from mcc_caffe.caffe_io.pycaffe import caffe_folder
from tests.support.commands import ROOT, refusal, run_code


def describe(field) -> dict:
    """Everything about a field but the name of its message's file."""
    return {
        "number": field.number,
        "type": field.type,
        "repeated": is_repeated(field),
        "packed": field.GetOptions().packed,
        "default": field.default_value,
        "message": field.message_type and field.message_type.full_name,
        "enum": field.enum_type
        and (field.enum_type.full_name, [(v.name, v.number) for v in field.enum_type.values]),
    }


@pytest.mark.parametrize("name", message_classes())
def test_every_field_is_caffes(name):
    own, caffes = message_classes()[name].DESCRIPTOR, getattr(messages(), name).DESCRIPTOR
    assert own.full_name == caffes.full_name
    for field in own.fields:
        assert describe(field) == describe(caffes.fields_by_name[field.name]), field.name


@pytest.mark.parametrize("path", sorted(ROOT.glob("prototxt/*/*.prototxt")), ids=str)
def test_nets_are_read_as_by_caffes_messages(path):
    own, caffes = message_classes()["NetParameter"](), messages().NetParameter()
    text_format.Parse(path.read_text(), own)
    text_format.Parse(path.read_text(), caffes)
    assert own.SerializeToString() == caffes.SerializeToString() and len(own.layer) > 10


WITHOUT_CAFFE = "import sys; sys.modules['caffe'] = None; "


def run_without_caffe(code, *arguments):
    return run_code(WITHOUT_CAFFE + code, *arguments)


def test_weights_and_samples_are_read_without_caffe(weights, drawn_set):
    code = (
        "from mcc_caffe.caffe_io.weights import file_shapes, read_caffemodel; "
        "from mcc_caffe.data.samples import SampleSet; "
        "print(file_shapes(sys.argv[1]), "
        "sum(float(blob.sum()) for blobs in read_caffemodel(sys.argv[1]).layers.values() "
        "for blob in blobs), [sample.key for sample in map(SampleSet(sys.argv[2]).__getitem__, "
        "range(len(SampleSet(sys.argv[2]))))])"
    )
    done = run_without_caffe(code, weights, drawn_set)
    expected = run_code("import sys; " + code, weights, drawn_set)
    assert done.stdout == expected.stdout and "conv1_1" in done.stdout, done.stderr


@pytest.mark.parametrize(
    "call, words",
    [
        (
            "read_text('SolverParameter', 'solver/mini/solver.prototxt')",
            "only Caffe knows its message SolverParameter, and Caffe was not found",
        ),
        (
            "read_text('NetParameter', 'solver/mini/solver.prototxt')",
            "solver/mini/solver.prototxt is no NetParameter prototxt, or one that needs a working "
            "Caffe, which was not found",
        ),
    ],
)
def test_what_needs_caffe_says_so_in_one_line(call, words):
    code = (
        "from mcc_caffe.core.commands import run_command; "
        f"from mcc_caffe.caffe_io.protobuf import read_text; run_command(lambda: {call})"
    )
    done = run_without_caffe(code)
    line = refusal(done)
    assert words in line and "`python -m caffe_build`" in line


def test_what_needs_caffe_says_what_is_wrong_with_a_broken_one(tmp_path):
    (tmp_path / "caffe.py").write_text("raise ImportError('libfoo.so.1: gone')")
    code = (
        "from mcc_caffe.core.commands import run_command; "
        "from mcc_caffe.caffe_io.protobuf import messages; "
        "run_command(lambda: messages().SolverParameter())"
    )
    done = run_code(code, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert "caffe cannot be imported (libfoo.so.1: gone)" in refusal(done)


def test_a_folder_called_caffe_is_no_caffe(tmp_path):
    """As Caffe's source tree is, beside which a command may run."""
    (tmp_path / "caffe").mkdir()
    code = (
        "import os, sys; sys.path[:] = [sys.argv[1], *(folder for folder in sys.path "
        "if not os.path.isfile(os.path.join(folder, 'caffe/__init__.py')))]; "
        "from mcc_caffe.caffe_io.pycaffe import caffe_folder; "
        "from mcc_caffe.caffe_io.protobuf import messages; "
        "print(caffe_folder(), type(messages()).__name__)"
    )
    done = run_code(code, tmp_path)
    assert done.stdout == "None _OwnMessages\n", done.stdout + done.stderr


@pytest.mark.parametrize("name, folder", [("caffe.py", "."), ("caffe/__init__.py", "caffe")])
def test_the_folder_of_caffe_is_that_of_its_module(name, folder, tmp_path, monkeypatch):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "caffe", raising=False)
    assert (importable_folder(), caffe_folder()) == (tmp_path, tmp_path / folder)


@pytest.mark.parametrize(
    "module, options, words",
    [
        ("mcc_caffe.train", ["{set}"], "training needs Caffe, which was not found: `make caffe`"),
        ("mcc_caffe.overfit", ["{set}"], "training needs Caffe"),
        ("mcc_caffe.ablation", [], "training needs Caffe"),
        ("mcc_caffe.demo", ["--out", "{out}"], "the demo's training needs Caffe"),
        (
            "data_tools.bake",
            ["{set}", "{out}/new", "--copies", "1"],
            "baking for `caffe train` needs Caffe",
        ),
        (
            "mcc_caffe.surgery",
            ["--openpose", "{set}/x", "--out", "{out}/new"],
            "making weights out of OpenPose's needs Caffe",
        ),
        ("prototxt.generate", [], "Caffe was not found: `make caffe`"),
        ("benchmarks.__main__", ["--out", "{out}"], "the benchmark needs Caffe"),
        ("benchmarks.sizes", ["--out", "{out}"], "training needs Caffe"),
    ],
)
def test_commands_that_need_caffe_write_and_remove_nothing(
    module, options, words, drawn_set, tmp_path
):
    (tmp_path / "mine").write_text("kept")
    code = (
        f"from {module} import main; from mcc_caffe.core.commands import run_command; "
        "run_command(main)"
    )
    done = run_without_caffe(
        code, *(option.format(set=drawn_set, out=tmp_path) for option in options)
    )
    assert words in refusal(done)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("label, repeated", [(1, False), (3, True)])
def test_fields_of_older_protobufs_have_a_label_alone(label, repeated):
    """The one of Python 3.10 has no `is_repeated`."""
    assert is_repeated(SimpleNamespace(label=label, LABEL_REPEATED=3)) == repeated
