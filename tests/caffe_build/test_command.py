"""The command and setup.sh: which Caffe is used, and what is said where there is none."""

import concurrent.futures
import dataclasses
import errno
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from caffe_build import __main__ as command
from caffe_build import build, check, locate, options
from caffe_build.errors import CompileError, DiskError, PrefixError, SourceError
from caffe_build.options import CPU
from caffe_build.source import choose_source, hash_tree
from tests.support.builds import environment, write_program
from tests.support.commands import ROOT, refusal, run, run_program


@pytest.mark.parametrize("layout", ["python", "lib/python3/dist-packages", "build/install/python"])
def test_layouts_of_a_built_caffe(tmp_path, layout):
    (tmp_path / layout / "caffe").mkdir(parents=True)
    (tmp_path / layout / "caffe" / "_caffe.so").touch()
    folder = locate.python_folder(tmp_path)
    assert folder == tmp_path / layout and locate.prefix_of(folder) == tmp_path


def test_a_prefix_that_is_none(tmp_path):
    with pytest.raises(PrefixError, match="is no built Caffe.*python/caffe/_caffe.so"):
        locate.python_folder(tmp_path)


def test_link_writes_one_line_and_only_when_it_must(tmp_path, monkeypatch):
    monkeypatch.setattr(locate.sysconfig, "get_path", lambda name: str(tmp_path))
    locate.link(Path("/a/python"))
    (file,) = tmp_path.iterdir()
    os.utime(file, (0, 0))
    locate.link(Path("/a/python"))
    assert file.read_text() == "/a/python\n" and file.stat().st_mtime == 0
    locate.link(Path("/b/python"))
    assert file.read_text() == "/b/python\n"


def test_a_build_of_ours_in_another_cache_is_known_by_its_link(tmp_path, monkeypatch):
    monkeypatch.setattr(locate.sysconfig, "get_path", lambda name: str(tmp_path))
    ours, foreign = tmp_path / "ours/python", tmp_path / "foreign/python"
    for folder in (ours, foreign):
        folder.mkdir(parents=True)
    (ours.parent / "about.json").write_text('{"options": "CPU", "source": "x"}')
    assert not locate.is_linked_build(ours)
    locate.link(ours)
    assert locate.is_linked_build(ours) and not locate.is_linked_build(foreign)
    locate.link(foreign)
    assert not locate.is_linked_build(ours) and not locate.is_linked_build(foreign)


def test_packages_that_cannot_be_written_are_told_before_a_build(
    provide, caffe_like_tree, tmp_path, monkeypatch
):
    built = provide(caffe_like_tree)
    with monkeypatch.context() as patch:
        patch.setattr(locate.os, "access", lambda path, mode: path != tmp_path / "packages")
        assert provide() == built  # there is nothing to write
        (caffe_like_tree / "more.cpp").touch()
        patch.setattr(build, "build", lambda *_: pytest.fail("was built"))
        with pytest.raises(DiskError, match=f"^{tmp_path}/packages, .* make a virtual environment"):
            provide(caffe_like_tree)


@pytest.fixture
def provide(tmp_path, monkeypatch):
    """A function that runs the command; a build is only the name of its source, and a link."""
    packages = tmp_path / "packages"
    packages.mkdir()
    monkeypatch.setattr(locate.sysconfig, "get_path", lambda name: str(packages))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(locate, "importable_folder", importable := lambda: locate.linked_folder())
    monkeypatch.setattr(check, "imported_folder", importable)
    monkeypatch.setattr(check, "load_fault", lambda prefix: "")

    def write_build(source, options, prefix, jobs):
        prefix.mkdir(parents=True)
        facts = {"options": options.name, "source": source.id}
        (prefix / "about.json").write_text(json.dumps(facts))

    monkeypatch.setattr(build, "build", write_build)

    def run_with(tree=None, gpu=None):
        for name in ("CAFFE_PREFIX", "CAFFE_SOURCE"):
            monkeypatch.delenv(name, raising=False)
        if tree:
            monkeypatch.setenv("CAFFE_SOURCE", str(tree))
        command._provide(gpu, jobs=1)
        return locate.read_about(locate.linked_folder().parent)["source"]

    return run_with


def test_a_named_source_stays_the_source_of_later_builds(
    provide, caffe_like_tree, monkeypatch, capsys
):
    of_tree = provide(caffe_like_tree)
    assert of_tree == hash_tree(caffe_like_tree) and provide() == of_tree
    monkeypatch.setattr(build, "CPU", dataclasses.replace(CPU, edits=()))
    monkeypatch.setattr(options, "CPU", dataclasses.replace(CPU, edits=()))
    assert provide() == of_tree  # our edits are others
    (caffe_like_tree / "more.cpp").touch()
    edited = provide(caffe_like_tree)
    assert edited == hash_tree(caffe_like_tree) != of_tree
    capsys.readouterr()
    shutil.rmtree(locate.cache_folder())
    assert provide(gpu=0) == edited
    assert capsys.readouterr().out.endswith(f"(CPU, from the source in {caffe_like_tree})\n")


def test_a_named_source_that_is_gone_is_not_replaced_by_the_distributions(provide, caffe_like_tree):
    provide(caffe_like_tree)
    shutil.rmtree(locate.cache_folder())
    shutil.rmtree(caffe_like_tree)
    with pytest.raises(SourceError, match=r"name a tree with CAFFE_SOURCE=DIR, or remove .*\.pth"):
        provide()
    locate.link_path().unlink()
    assert provide() == choose_source(None).id


def test_a_build_of_a_source_that_is_not_remembered_is_replaced_with_a_word(
    provide, caffe_like_tree, monkeypatch, capsys
):
    provide(caffe_like_tree)
    locate.link(locate.linked_folder())  # as version 0.1.0 wrote it
    monkeypatch.setattr(build, "is_current", lambda prefix: False)
    assert provide() == choose_source(None).id
    assert "of another source than the distribution's package" in capsys.readouterr().out


@pytest.mark.parametrize("named, expected", [("/big", "/big"), ("big", None), ("", None)])
def test_the_cache_is_at_an_absolute_path(named, expected, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", named)
    assert locate.cache_folder() == Path(expected or Path.home() / ".cache") / "mcc-caffe"


def test_a_named_caffe_that_pythonpath_hides_is_not_said_to_be_used(tmp_path):
    package = tmp_path / "python" / "caffe"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    prefix = locate.prefix_of(locate.importable_folder())  # so that the link stays as it is
    variables = {"CAFFE_PREFIX": str(prefix), "PYTHONPATH": str(package.parent)}
    answer = run("caffe_build", env=environment(**variables))
    line = refusal(answer, PrefixError.code)
    assert f"`import caffe` takes {package.parent}" in line and "out of PYTHONPATH" in line


@pytest.mark.parametrize("name", ["caffe/__init__.py", "caffe.py"])
def test_what_would_hide_a_build_is_named_before_it_is_built(name, tmp_path, caffe_like_tree):
    module = tmp_path / "modules" / name
    module.parent.mkdir(parents=True)
    module.touch()
    link_to_itself = tmp_path / "loop"
    link_to_itself.symlink_to("loop")  # which nothing is found through
    variables = {"CAFFE_SOURCE": caffe_like_tree, "XDG_CACHE_HOME": tmp_path / "cache"}
    variables["PYTHONPATH"] = f"{link_to_itself}{os.pathsep}{tmp_path / 'modules'}"
    answer = run("caffe_build", env=environment(**{k: str(v) for k, v in variables.items()}))
    line = refusal(answer, PrefixError.code)
    assert f"`import caffe` takes {tmp_path / 'modules'}: take that out" in line
    assert not answer.stdout
    assert not (tmp_path / "cache").exists()


def test_the_way_back_from_a_named_prefix_is_said(provide, tmp_path, monkeypatch, capsys):
    (tmp_path / "own/python/caffe").mkdir(parents=True)
    (tmp_path / "own/python/caffe/_caffe.so").touch()
    monkeypatch.setattr(check, "fault", lambda folder: "")
    monkeypatch.setenv("CAFFE_PREFIX", str(tmp_path / "own"))
    with monkeypatch.context() as patch:  # no cache is needed, which a user without a home lacks
        patch.delattr(locate, "cache_folder")
        command._provide(None, jobs=1)
    for _ in range(2):  # the second time it is found by its link
        command._provide(None, jobs=1)
        way_back = f"(to go back: leave CAFFE_PREFIX out and remove {locate.link_path()})\n"
        assert capsys.readouterr().out.endswith(way_back)
        monkeypatch.delenv("CAFFE_PREFIX", raising=False)


def test_named_prefixes_that_do_not_work_are_one_line(tmp_path):
    link_to_itself = tmp_path / "loop"
    link_to_itself.symlink_to("loop")
    for prefix in (tmp_path, link_to_itself):
        answer = run("caffe_build", env=environment(CAFFE_PREFIX=str(prefix)))
        assert "is no built Caffe" in refusal(answer, PrefixError.code)
    answer = run("caffe_build", env=environment(CAFFE_PREFIX="~nosuchuser/caffe"))
    assert "~nosuchuser/caffe is no built Caffe" in refusal(answer, PrefixError.code)
    package = tmp_path / "python" / "caffe"
    package.mkdir(parents=True)
    (package / "_caffe.so").touch()
    (package / "__init__.py").write_text(
        "raise ImportError('libglog.so.0: cannot open shared object file')"
    )
    answer = run("caffe_build", env=environment(CAFFE_PREFIX=str(tmp_path)))
    line = refusal(answer, PrefixError.code)
    assert "does not work: ImportError: libglog.so.0" in line


@pytest.mark.parametrize("variable", ["CAFFE_PREFIX", "CAFFE_SOURCE", "XDG_CACHE_HOME"])
def test_a_folder_whose_name_python_cannot_read_is_refused(variable, caffe_like_tree, tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    caffe_like_tree.rename(folder)
    (folder / "python/caffe/_caffe.so").touch()
    variables = {"CAFFE_SOURCE": str(folder), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    answer = run("caffe_build", env=environment(**variables | {variable: str(folder)}))
    line = refusal(answer, PrefixError.code)
    assert "caf\\udce9" in line and "which is not in UTF-8: rename the folder" in line
    assert not answer.stdout and not (tmp_path / "cache").exists()


def test_the_prefix_of_a_folder_whose_name_is_not_in_utf_8_is_printed_as_it_is(tmp_path):
    prefix = tmp_path / os.fsdecode(b"caf\xe9")
    (prefix / "python/caffe").mkdir(parents=True)
    (prefix / "python/caffe/__init__.py").touch()
    # As in a UTF-8 locale other than C's.
    variables = environment(PYTHONPATH=str(prefix / "python"), PYTHONIOENCODING="utf-8:strict")
    answer = run("caffe_build", "--print-prefix", env=variables, text=False)
    assert answer.stdout == os.fsencode(prefix) + b"\n"


def test_a_broken_caffe_on_pythons_path_is_named(tmp_path):
    (tmp_path / "caffe").mkdir()
    (tmp_path / "caffe" / "__init__.py").write_text("raise ImportError('broken')")
    answer = run("caffe_build", env=environment(PYTHONPATH=str(tmp_path)))
    assert f"({tmp_path}) does not work" in refusal(answer, PrefixError.code)


def test_a_named_source_that_is_none_and_bad_arguments(tmp_path):
    for tree in (str(tmp_path), "~nosuchuser/caffe"):
        answer = run("caffe_build", env=environment(CAFFE_SOURCE=tree))
        assert f"CAFFE_SOURCE={tree} is no Caffe" in refusal(answer, SourceError.code)
    assert "at least 1" in refusal(run("caffe_build", "--jobs", "0"))


def test_an_interpreter_without_the_packages_is_told_which_to_use():
    bare = run_program(sys.executable, "-S", "-m", "caffe_build", env=environment())
    assert "run caffe_build/setup.sh" in refusal(bare, CompileError.code)


def test_an_installed_package_names_no_script_that_it_lacks(tmp_path):
    shutil.copytree(ROOT / "caffe_build", tmp_path / "caffe_build")
    (tmp_path / "caffe_build/setup.sh").unlink()
    bare, hint = (
        run_program(sys.executable, *words, cwd=tmp_path, env=environment(PYTHONPATH=str(tmp_path)))
        for words in (
            ("-S", "-m", "caffe_build"),
            ("-c", "from caffe_build import requirements as r; print(r.packages_hint())"),
        )
    )
    line = refusal(bare, CompileError.code)
    assert "lacks tqdm: install mcc-caffe by" in line and "setup.sh" not in line
    assert "apt-get install g++ cmake ninja-build dpkg-dev libboost-" in hint.stdout
    assert "setup.sh" not in hint.stdout


def test_print_prefix(tmp_path):
    package = tmp_path / "python" / "caffe"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    answer = run("caffe_build", "--print-prefix", env=environment(PYTHONPATH=str(package.parent)))
    assert (answer.returncode, answer.stdout) == (0, f"{tmp_path}\n")


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path, caffe_like_tree):
    (tmp_path / "file").touch()
    answer = run(
        "caffe_build",
        env=environment(XDG_CACHE_HOME=str(tmp_path / "file"), CAFFE_SOURCE=str(caffe_like_tree)),
    )
    assert "XDG_CACHE_HOME" in refusal(answer, DiskError.code)


@pytest.mark.parametrize(
    "error, names_the_cache",
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (PermissionError(errno.EACCES, "Permission denied", "/cache"), True),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), False),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), False),
    ],
)
def test_the_cache_is_named_where_another_one_may_help(error, names_the_cache, monkeypatch):
    def fail(gpu, jobs):
        raise error

    monkeypatch.setattr(command, "_provide", fail)
    monkeypatch.setattr(sys, "argv", ["caffe_build"])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(DiskError, match=error.strerror) as caught:
        command.main()
    assert ("XDG_CACHE_HOME names another folder" in str(caught.value)) == names_the_cache


# --- setup.sh


def write_tools(tools, *, installed=False, sudo=False):
    """Write what setup.sh calls: user 1000, a dpkg of all or no packages, an apt-get that fails."""
    write_program(tools / "id", "echo 1000")
    write_program(
        tools / "dpkg-query",
        'shift 2; for name; do echo "installed $name"; done' if installed else "exit 1",
    )
    write_program(
        tools / "apt-get",
        f"echo apt-get $* >> {tools.parent}/calls; echo 'E: Unable to fetch'; exit 100",
    )
    write_program(tools / "apt-cache", '[ "$2" != libglib2.0-0t64 ]')
    if sudo:
        write_program(tools / "sudo", '"$@"')
    for name in (
        "bash",
        "dirname",
        "flock",
        "sed",
        "tr",
        "grep",
        "tail",
        "mktemp",
        "rm",
        "env",
        "cat",
        "sha256sum",
        "cut",
        "touch",
        "sleep",
    ):
        if not (tools / name).exists():
            (tools / name).symlink_to(shutil.which(name))


def run_setup_sh(tools, *arguments, root=ROOT, **variables):
    """Run setup.sh with the programs of `write_tools` alone.

    Several runs at once share one folder of tools: writing a script fails the run that reads it.
    """
    script = root / "caffe_build" / "setup.sh"
    environment = {"PATH": str(tools), "TMPDIR": str(tools.parent), **variables}
    return run_program(tools / "bash", script, *arguments, env=environment)


def copy_for_setup(clone):
    """Copy what setup.sh reads into a folder with an empty .venv, and return the folder."""
    (clone / "caffe_build").mkdir(parents=True)
    (clone / ".venv").mkdir()
    for name in (
        "caffe_build/setup.sh",
        "caffe_build/packages.txt",
        "pyproject.toml",
        "setup.py",
    ):
        shutil.copy(ROOT / name, clone / name)
    return clone


def setup_sh(tmp_path, *arguments, installed=False, sudo=False, **variables):
    """Write the tools and run setup.sh once."""
    write_tools(tmp_path / "tools", installed=installed, sudo=sudo)
    return run_setup_sh(tmp_path / "tools", *arguments, **variables)


def test_setup_without_root_prints_what_to_install(tmp_path):
    answer = setup_sh(tmp_path)
    assert answer.returncode == 1 and "needs root" in answer.stderr
    command = answer.stderr.splitlines()[-1]
    assert command.startswith("  sudo apt-get install")
    assert {"python3-venv", "libglib2.0-0", "libboost-python-dev", "libopenblas-dev"} <= set(
        command.split()
    )
    assert not (tmp_path / "calls").exists()


def test_setup_check(tmp_path):
    answer = setup_sh(tmp_path, "--check", installed=True)
    assert (answer.returncode, answer.stdout) == (0, "setup: all distribution packages are there\n")
    assert setup_sh(tmp_path, "--check").returncode == 1


def test_setup_with_a_caffe_of_ones_own_asks_for_no_build_packages(tmp_path):
    answer = setup_sh(tmp_path, "--check", CAFFE_PREFIX="/somewhere")
    assert "libboost" not in answer.stderr and "libgl1" in answer.stderr


def test_setup_takes_a_folder_on_pythonpath_for_a_caffe_only_if_python_imports_it(tmp_path):
    (tmp_path / "home/caffe").mkdir(parents=True)  # such as a clone of Caffe
    answer = setup_sh(tmp_path, "--check", PYTHONPATH=str(tmp_path / "home"))
    assert "libboost" in answer.stderr
    (tmp_path / "home/caffe/__init__.py").touch()
    answer = setup_sh(tmp_path, "--check", PYTHONPATH=str(tmp_path / "home"))
    assert "libboost" not in answer.stderr and "libgl1" in answer.stderr


def test_setup_says_what_apt_said(tmp_path):
    answer = setup_sh(tmp_path, sudo=True)
    assert answer.returncode == 1
    assert "E: Unable to fetch" in answer.stderr and "could not install" in answer.stderr
    assert "--no-install-recommends" in (tmp_path / "calls").read_text()


def test_two_setups_of_one_clone_work_one_after_the_other(tmp_path):
    clone = copy_for_setup(tmp_path / "clone")
    steps = tmp_path / "steps"
    write_program(
        clone / ".venv/bin/python", f"echo start >> {steps}; sleep 0.2; echo end >> {steps}"
    )
    tools = tmp_path / "tools"
    write_tools(tools, installed=True)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        tasks = [pool.submit(run_setup_sh, tools, root=clone) for _ in range(2)]
        answers = [task.result() for task in tasks]
    assert [answer.returncode for answer in answers] == [0, 0], answers
    first, second = sorted(answers, key=lambda answer: "waiting for it" in answer.stdout)
    assert first.stdout.endswith("setup: done; .venv is ready\n")
    assert second.stdout.splitlines() == [
        "setup: another process sets up this folder; waiting for it",
        "setup: all in place",
    ]
    assert steps.read_text() == "start\nend\n" * (len(steps.read_text().splitlines()) // 2)


def test_of_two_first_setups_of_one_clone_one_installs_the_packages(tmp_path):
    clone, tools = copy_for_setup(tmp_path / "clone"), tmp_path / "tools"
    write_tools(tools, sudo=True)
    write_program(clone / ".venv/bin/python", "exit 0")
    installed = tmp_path / "installed"
    write_program(
        tools / "dpkg-query",
        f'[ -e {installed} ] && {{ shift 2; for name; do echo "installed $name"; done; }}',
    )
    write_program(
        tools / "apt-get",
        f'echo "$*" >> {tmp_path}/calls\n'
        f'case "$*" in *" install "*) sleep 0.5; : > {installed} ;; esac',
    )
    with concurrent.futures.ThreadPoolExecutor() as pool:
        tasks = [pool.submit(run_setup_sh, tools, root=clone) for _ in range(2)]
        answers = [task.result() for task in tasks]
    assert [answer.returncode for answer in answers] == [0, 0], answers
    calls = (tmp_path / "calls").read_text().splitlines()
    assert len([call for call in calls if "libboost-python-dev" in call]) == 1, calls


SAYS_3_12 = '[ "$1" = -c ] || echo Python 3.12.1'


@pytest.mark.parametrize(
    "venv_python, variables, is_made_anew",
    [
        (SAYS_3_12, {}, False),
        # The distribution's Python was upgraded: pip lies in the folder of the earlier one.
        ('[ "$1" != -c ] && echo Python 3.12.1', {"PYTHON": "{clone}/python"}, True),
        (SAYS_3_12, {"PYTHON": "{clone}/python"}, False),
        (SAYS_3_12.replace("12.1", "11.2"), {"PYTHON": "{clone}/python"}, True),
    ],
)
def test_setup_makes_a_venv_anew_that_no_longer_works(
    venv_python, variables, is_made_anew, tmp_path
):
    clone, tools = copy_for_setup(tmp_path / "clone"), tmp_path / "tools"
    write_tools(tools, installed=True)
    write_program(clone / ".venv/bin/python", "exit 0")
    answer = run_setup_sh(tools, root=clone)
    assert answer.stdout.endswith("setup: done; .venv is ready\n"), answer
    write_program(clone / ".venv/bin/python", venv_python)
    write_program(clone / "python", "echo Python 3.12.1; echo $* >> calls")
    variables = {name: value.format(clone=clone) for name, value in variables.items()}
    answer = run_setup_sh(tools, root=clone, **variables)
    assert ("making .venv" in answer.stdout) == is_made_anew, answer
    if not is_made_anew:
        assert answer.stdout == "setup: all in place\n"
    else:
        assert "-m venv --clear .venv" in (clone / "calls").read_text()


def _link_often(folder, name):
    locate.sysconfig.get_path = lambda _: str(folder)
    for number in range(200):
        locate.link(Path(f"/{name}{number}/python"))


def test_two_builds_may_write_the_link_at_the_same_time(tmp_path):
    writers = [multiprocessing.Process(target=_link_often, args=(tmp_path, x)) for x in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    (file,) = tmp_path.iterdir()
    assert file.read_text() in ("/a199/python\n", "/b199/python\n")


def test_two_commands_in_one_clone_say_the_same():
    command = [sys.executable, "-m", "caffe_build"]
    processes = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = {process.communicate()[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    assert len(said) == 1 and said.pop().startswith("caffe: using ")


@pytest.mark.parametrize("content", [b"", b"{cut", b"[1]", b"\xff"])
def test_what_a_build_says_of_itself_may_be_damaged(content, tmp_path):
    (tmp_path / "about.json").write_bytes(content)
    assert locate.build_name(tmp_path / "python") == ""
    assert build.options_of(tmp_path) == CPU and not build.is_current(tmp_path)
