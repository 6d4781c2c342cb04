"""The installed package stands without the checkout, and the documents say what is there."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import mcc_caffe
from tests.support.commands import ROOT, refusal, run, run_code, run_program
from tests.support.packages import build_wheel

PACKAGES = ("mcc_caffe", "data_tools", "caffe_build")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
FOLDERS = (*PACKAGES, "prototxt", "solver", "benchmarks", "tests", "docs")
# A file or folder of the checkout in backticks, without placeholders such as NAME or {a,b}.
NAMED_PATH = re.compile(rf"`((?:{'|'.join(FOLDERS)})/[a-z0-9_./-]*)`")
# The path and the anchor of a link to a file or to a heading of the document itself.
LINK = re.compile(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)")


@pytest.fixture(scope="module")
def site(packages, tmp_path_factory) -> Path:
    """A folder with the contents of the wheel."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(packages.wheel) as wheel:
        wheel.extractall(folder)
    return folder


def run_installed(site: Path, code: str) -> subprocess.CompletedProcess:
    """Run code that imports from `site`, without the checkout on its path."""
    code = f"import sys; sys.path.insert(0, {str(site)!r}); {code}"
    return run_program(sys.executable, "-I", "-c", code, cwd="/")


def test_the_wheel_holds_what_it_uses_and_nothing_else(site):
    """All modules but no generators, and the files that modules read."""
    modules = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    used = [
        ROOT / "mcc_caffe/py.typed",
        *(ROOT / "mcc_caffe/pretrained").glob("*.npz"),
        *(ROOT / "caffe_build").glob("*.[ch]pp"),
        ROOT / "caffe_build/packages.txt",
        *(path for path in (ROOT / "mcc_caffe/serving/static").rglob("*") if path.is_file()),
    ]
    prototxts = [
        path for name in ("prototxt", "solver") for path in (ROOT / name).rglob("*.prototxt")
    ]
    expected = {str(path.relative_to(ROOT)) for path in (*modules, *used)}
    expected |= {f"mcc_caffe/{path.relative_to(ROOT)}" for path in prototxts}
    held = {
        str(path.relative_to(site))
        for path in site.rglob("*")
        if path.is_file() and ".dist-info" not in str(path)
    }
    assert held == expected


def test_the_sdist_builds_the_same_wheel(packages, tmp_path):
    shutil.unpack_archive(packages.sdist, tmp_path)
    (source,) = tmp_path.iterdir()
    wheel = build_wheel(source)
    contents = [
        {name: file.read(name) for name in file.namelist() if not name.endswith("/RECORD")}
        for file in map(zipfile.ZipFile, (packages.wheel, wheel))
    ]
    assert contents[0] == contents[1]


def test_metadata_and_readme_are_fit_for_an_index(packages, site):
    process = run("twine", "check", "--strict", packages.wheel, packages.sdist)
    assert process.returncode == 0 and process.stdout.count("PASSED") == 2, process.stdout
    (licence,) = site.glob("*.dist-info/licenses/*")
    assert licence.read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_the_wheel_carries_prototxts_solvers_and_weights_and_finds_them(site):
    code = (
        "from mcc_caffe.core.shipped_files import require_shipped; "
        "from mcc_caffe.caffe_io.default_weights import shipped_weights; "
        "print(require_shipped('prototxt/paper/deploy.prototxt'), "
        "require_shipped('solver/mini/solver.prototxt'), "
        "shipped_weights('mini'), shipped_weights('paper'))"
    )
    process = run_installed(site, code)
    files = ("prototxt/paper/deploy.prototxt", "solver/mini/solver.prototxt", "pretrained/mini.npz")
    expected = [*(str(site / "mcc_caffe" / file) for file in files), "None"]
    assert process.stdout.split() == expected, process.stderr
    weights = "mcc_caffe/pretrained/mini.npz"
    assert (site / weights).read_bytes() == (ROOT / weights).read_bytes()


@pytest.mark.parametrize("command", ["train", "infer", "evaluate", "export", "data", "web"])
def test_each_installed_command_says_how_it_is_used(site, command):
    entry_points = next(site.glob("*.dist-info/entry_points.txt")).read_text()
    assert f"mcc-{command} = mcc_caffe.entry_points:{command}\n" in entry_points
    code = (
        f"sys.argv = ['mcc-{command}', '--help']; "
        f"from mcc_caffe.entry_points import {command}; {command}()"
    )
    process = run_installed(site, code)
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith(f"usage: mcc-{command} ")


@pytest.mark.parametrize(
    "reason, remedy",
    [
        ("libGL.so.1: cannot open shared object file", "`apt install libgl1 libglib2.0-0`"),
        ("No module named 'cv2'", "`pip install` the package again"),
    ],
)
def test_a_command_whose_library_is_missing_says_so_in_one_line(reason, remedy, tmp_path):
    (tmp_path / "cv2.py").write_text(f"raise ImportError({reason!r})")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); "
        "from mcc_caffe.entry_points import infer; infer()"
    )
    assert f"cannot be imported ({reason}): {remedy}" in refusal(run_code(code))


def test_public_names_are_imported_when_first_used():
    code = (
        "import sys, mcc_caffe; assert not {'numpy', 'cv2', 'caffe'} & set(sys.modules); "
        "assert all(getattr(mcc_caffe, name) is not None for name in mcc_caffe.__all__); "
        "assert set(mcc_caffe.__all__) <= set(dir(mcc_caffe)); "
        "print(mcc_caffe.HandPredictor.__module__)"
    )
    process = run_code(code)
    assert process.stdout == "mcc_caffe.predictor\n", process.stderr
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        mcc_caffe.nothing  # noqa: B018 (the access itself is tested)


def test_the_version_is_the_same_everywhere(site):
    (info,) = site.glob("*.dist-info")
    assert info.name == f"mcc_caffe-{mcc_caffe.__version__}.dist-info"
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {mcc_caffe.__version__}\n" in citation


def anchors_of(document: Path) -> set[str]:
    """Return the anchors that a web page of the document has for its headings."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_document_names_and_links_only_what_is_there(document):
    text = document.read_text()
    for path in NAMED_PATH.findall(text):
        assert (ROOT / path).exists(), f"{document.name} names {path}"
    for path, anchor in LINK.findall(text):
        target = document.parent / path if path else document
        assert target.exists(), f"{document.name} links to {path}"
        assert not anchor or anchor in anchors_of(target), f"{document.name}: {path}#{anchor}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_no_sentence_interrupts_a_table(document):
    """A table's first two lines are its heading and a rule; rows without them render as text."""
    for rows in re.findall(r"(?:^\|.*\n)+", document.read_text(), re.MULTILINE):
        assert re.match(r".*\n\|( ---+ \|)+\n", rows), f"{document.name}: {rows[:60]}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_document_names_only_targets_of_the_makefile(document):
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"(?:`|^ {4,})make ([a-z-]+)", document.read_text(), re.MULTILINE)
    assert set(named) <= targets
