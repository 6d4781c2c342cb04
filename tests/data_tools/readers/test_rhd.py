"""RHD, with the oddities that the real ones have."""

import os
import pathlib
import pickle
import struct

import numpy as np
import pytest

from data_tools import readers
from data_tools.readers import rhd
from mcc_caffe.core.errors import SampleError, UserError
from tests.support.images import encoded
from tests.support.readers import RHD_ORDER, plain_image, write


def rhd_set(root, labels, mask=None):
    write(
        root / "training/anno_training.pickle",
        labels if isinstance(labels, bytes) else pickle.dumps(labels),
    )
    write(root / "training/color/00003.png", plain_image(320, 320, ".png"))
    write(
        root / "training/mask/00003.png",
        encoded(np.zeros((320, 320), np.uint8) if mask is None else mask),
    )
    return readers.read_dataset(root)["training"]


def rhd_labels():
    """Both hands of image 3: keypoint i is at (100 + i, 100) left, (200 + i, 200) right."""
    uv_vis = np.ones((42, 3))
    uv_vis[:21, :2] = [(100 + i, 100) for i in range(21)]
    uv_vis[21:, :2] = [(200 + i, 200) for i in range(21)]
    return {3: {"uv_vis": uv_vis, "xyz": np.zeros((42, 3)), "K": np.eye(3)}}


class Numpy1Pickler(pickle._Pickler):
    """Writes what numpy 1 wrote: its modules were called numpy.core."""

    def save(self, obj, save_persistent_id=True):
        old = obj.replace("numpy._core", "numpy.core") if isinstance(obj, str) else obj
        super().save(old, save_persistent_id)


def numpy1_pickle(labels, protocol, path):
    with open(path, "wb") as file:
        Numpy1Pickler(file, protocol).dump(labels)
    return path.read_bytes().replace(b"cnumpy._core", b"cnumpy.core")


def python2_pickle(array):
    """{3: {"uv_vis": array}} as Python 2 wrote it: protocol 2, everything as byte strings."""
    data = array.astype("<f8").tobytes()
    return (
        b"\x80\x02}K\x03}U\x06uv_viscnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
        b"(K\x01(K\x2aK\x03tcnumpy\ndtype\n(U\x02f8K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"T" + struct.pack("<i", len(data)) + data + b"tbss."
    )


class Runs:
    """Pickled: a call of `function` with `arguments`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_rhd_hands_order_masks_and_crops(tmp_path):
    """Boxes are 20 pixels wide, half side 22: the crops begin at (88, 78) and (188, 178)."""
    mask = np.zeros((320, 320), np.uint8)
    for column, value in enumerate((1, 2, 17, 18, 33)):
        mask[90, 90 + column] = mask[190, 190 + column] = value
    left, right = [entry.sample() for entry in rhd_set(tmp_path, rhd_labels(), mask)]
    assert (left.key, right.key) == ("training_00003_left", "training_00003_right")
    for sample in (left, right):
        assert sample.image().shape == (45, 45, 3)
        assert (
            sample.keypoints[:, 0] - 12
        ).tolist() == RHD_ORDER  # the wrist, then every finger turned round
        assert sample.keypoints[:, 1:].tolist() == [[22, 1]] * 21
    assert left.mask()[12, 2:7].tolist() == [0, 1, 1, 0, 0] and left.mask().sum() == 2
    assert right.mask()[12, 2:7].tolist() == [0, 0, 0, 1, 1] and right.mask().sum() == 2


def test_rhd_hands_come_in_the_order_of_their_images(tmp_path):
    (label,) = rhd_labels().values()
    entries = rhd_set(tmp_path, {12: label, 3: label})
    assert [(entry.number, entry.hand) for entry in entries] == [(3, 0), (3, 1), (12, 0), (12, 1)]


def test_rhd_hands_that_show_too_little_are_left_out(tmp_path, caplog):
    labels = rhd_labels()
    labels[3]["uv_vis"][:11, 2] = 0  # 10 of the left hand are visible
    labels[3]["uv_vis"][21:31, 2] = 0  # 11 of the right one
    (entry,) = rhd_set(tmp_path, labels)
    sample = entry.sample()
    assert (
        entry.location == "anno_training.pickle: 3, right hand"
        and np.count_nonzero(sample.keypoints[:, 2]) == 11
    )
    assert sample.keypoints[0].tolist() == [-1, -1, 0]  # the wrist, RHD's 21
    assert "passed over 1 hands with less than 11 visible keypoints" in caplog.text


def test_rhd_missing_files_and_fields_are_named(tmp_path):
    labels = rhd_labels()
    labels[4] = {"xyz": np.zeros((42, 3))}
    labels[5] = {"uv_vis": np.ones((21, 3))}
    entries = rhd_set(tmp_path, labels)
    (tmp_path / "training/mask/00003.png").unlink()
    for entry, message in (
        (entries[0], "anno_training.pickle: 3, left hand: .*mask/00003.png cannot be read"),
        (entries[2], "anno_training.pickle: 4, left hand: uv_vis is missing"),
        (
            entries[4],
            "anno_training.pickle: 5, left hand: uv_vis is 63 numbers, 42 x 3 numbers are needed",
        ),
    ):
        with pytest.raises(SampleError, match=message):
            entry.sample()
    (tmp_path / "training/mask").rmdir()
    assert entries[0].sample().mask_png is None
    (tmp_path / "training/color/00003.png").unlink()
    with pytest.raises(SampleError, match="left hand: .*color/00003.png cannot be read"):
        entries[0].sample()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("numpy_version", [1, 2])
def test_rhd_pickles_of_any_numpy_and_protocol_are_read(tmp_path, protocol, numpy_version):
    labels, expected = rhd_labels(), rhd_labels()[3]["uv_vis"]
    labels[3]["K"] = np.asfortranarray(np.arange(9, dtype=np.float32).reshape(3, 3))
    data = (
        pickle.dumps(labels, protocol)
        if numpy_version == 2
        else numpy1_pickle(labels, protocol, tmp_path / "old")
    )
    assert (b"numpy._core" in data) == (numpy_version == 2) and (b"numpy.core" in data) == (
        numpy_version == 1
    )
    write(tmp_path / "x.pickle", data)
    read = rhd.read_pickle(tmp_path / "x.pickle")
    assert np.array_equal(read[3]["uv_vis"], expected) and np.array_equal(
        read[3]["K"], labels[3]["K"]
    )


def test_rhd_pickles_of_python_2_are_read(tmp_path):
    write(tmp_path / "x.pickle", python2_pickle(rhd_labels()[3]["uv_vis"]))
    assert np.array_equal(
        rhd.read_pickle(tmp_path / "x.pickle")[3]["uv_vis"], rhd_labels()[3]["uv_vis"]
    )


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_rhd_a_pickle_that_runs_programs_is_refused(tmp_path, protocol):
    trap = tmp_path / "trap"
    data = pickle.dumps({**rhd_labels(), 4: Runs(os.system, f"touch {trap}")}, protocol)
    with pytest.raises(
        UserError,
        match="anno_training.pickle is no pickle of plain numpy arrays "
        ".*it names posix.system.*it was not read",
    ):
        rhd_set(tmp_path, data)
    assert not trap.exists()
    pickle.loads(data)
    assert trap.exists()  # the trap is a real one


@pytest.mark.parametrize(
    "content, name",
    [
        (Runs(eval, "1"), "builtins.eval"),
        (Runs(np.fromfile, "x"), "numpy.fromfile"),
        (pathlib.PurePosixPath("x"), "pathlib"),
        (Runs(getattr, "x", "y"), "builtins.getattr"),
        (Runs(np.load, "x"), "numpy"),
    ],
)
def test_rhd_other_objects_are_refused(tmp_path, content, name):
    with pytest.raises(UserError, match=f"it names {name}"):
        rhd_set(tmp_path, pickle.dumps(content))


def test_rhd_an_array_may_not_be_built_over_foreign_memory(tmp_path):
    """An array's pickle names numpy.ndarray, but only to rebuild it; a direct call is refused."""
    with pytest.raises(UserError, match="not callable"):
        rhd_set(tmp_path, pickle.dumps(Runs(np.ndarray, (1,), "f8", b"8 bytes.")))


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "no pickle of plain numpy arrays .EOFError"),
        (pickle.dumps(rhd_labels())[:200], "no pickle of plain numpy arrays"),
        (pickle.dumps([1]), "no dictionary from images' numbers"),
        (pickle.dumps({"3": {}}), "no dictionary from images' numbers"),
        (pickle.dumps({}), "has no hand with 11 visible keypoints"),
    ],
)
def test_rhd_other_pickles_are_told(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        rhd_set(tmp_path, content)


def test_rhd_visibilities_other_than_0_and_1_are_told(tmp_path):
    labels = rhd_labels()
    labels[3]["uv_vis"][0, 2] = 7
    left, right = rhd_set(tmp_path, labels)
    with pytest.raises(SampleError, match="left hand: the visibility of keypoint 0 is 7: 0 or 1"):
        left.sample()
    right.sample()
