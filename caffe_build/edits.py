"""The edits Caffe 1.0 needs to build with today's libraries. Each one says why, and checks that it took."""
from dataclasses import dataclass
from pathlib import Path

from caffe_build.errors import EditError


@dataclass(frozen=True)
class Edit:
    """In `file` (relative to the source tree), `old` becomes `new`, everywhere it stands."""

    file: str
    old: str
    new: str


CPU_EDITS = (
    # protobuf dropped the second argument, a threshold for warnings, in 3.6.
    Edit(
        "src/caffe/util/io.cpp",
        "SetTotalBytesLimit(kProtoReadBytesLimit, 536870912)",
        "SetTotalBytesLimit(kProtoReadBytesLimit)",
    ),
    # bin/caffe and python/caffe/_caffe.so find lib/libcaffe.so from where they stand, so that the built tree can be moved.
    Edit(
        "cmake/Misc.cmake",
        "set(CMAKE_INSTALL_RPATH ${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_LIBDIR})",
        r'set(CMAKE_INSTALL_RPATH "\$ORIGIN/../lib;\$ORIGIN/../../lib")',
    ),
    # NumPy 2.3 dropped tostring and the binary fromstring, scikit-image 0.18 the British spelling.
    Edit("python/caffe/io.py", "arr.tostring()", "arr.tobytes()"),
    Edit("python/caffe/io.py", "np.fromstring(datum.data,", "np.frombuffer(datum.data,"),
    Edit("python/caffe/io.py", "as_grey=", "as_gray="),
)


def edit_text(text: str, edit: Edit) -> str:
    """`text` with the edit made; unchanged where it was made before.

    Raises EditError where neither the old nor the new wording is there: then this is another Caffe than the one the
    edit was written for.
    """
    if edit.old in text:
        return text.replace(edit.old, edit.new)
    if edit.new in text:
        return text
    raise EditError(
        f"{edit.file} has neither {edit.old!r} nor {edit.new!r}: this source is not Caffe 1.0 (BVLC 99bd997), "
        "and the edits in caffe_build/edits.py do not fit it"
    )


def apply_edits(tree: Path, edits: tuple[Edit, ...]) -> None:
    """Makes all `edits` in the source tree. Raises EditError as edit_text does, and for a file that is missing."""
    for edit in edits:
        path = tree / edit.file
        if not path.is_file():
            raise EditError(f"{path} is missing: this source is not Caffe 1.0 (BVLC 99bd997)")
        before = path.read_text(encoding="utf-8")
        after = edit_text(before, edit)
        if after != before:  # an untouched file keeps its time stamp, and ninja its objects
            path.write_text(after, encoding="utf-8")
