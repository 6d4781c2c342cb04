"""What a command writes replaces no file of the user."""

import functools

import pytest

from mcc_caffe.core.errors import UserError
from mcc_caffe.core.output_checks import check_output, check_own_results, check_target


def test_an_output_replaces_files_of_its_kind_alone(tmp_path):
    def is_own(path):
        return path.read_bytes().startswith(b"own")

    own, other, link = (tmp_path / name for name in ("own", "other", "link"))
    own.write_bytes(b"own file")
    other.write_bytes(b"a photograph")
    link.symlink_to(other)
    assert check_output(own, is_own, "is another's") == own
    assert check_output(tmp_path / "new", is_own, "is another's") == tmp_path / "new"
    for path in (other, link):
        with pytest.raises(UserError) as error:
            check_output(path, is_own, "is another's")
        assert str(error.value) == (
            f"{path} would be overwritten and is another's: "
            "give another file to write, or move this one away"
        )
    with pytest.raises(UserError, match="own is an input of this command"):
        check_output(own, is_own, "is another's", [own])


def test_results_replace_no_file_of_the_users(tmp_path):
    check = functools.partial(
        check_own_results, tmp_path, ("results.json", "a.png"), own="results.json", mark='"mine": '
    )
    check()
    (tmp_path / "a.png").touch()
    with pytest.raises(UserError, match="a.png would be overwritten and is no result of this"):
        check()
    (tmp_path / "results.json").write_text('{"other": 1}')
    with pytest.raises(UserError, match="results.json would be overwritten"):
        check()
    (tmp_path / "results.json").write_text('{"mine": 1}')
    check()


def test_an_input_is_no_target(tmp_path):
    (tmp_path / "weights").write_bytes(b"of the user")
    (tmp_path / "link").symlink_to("weights")
    for name in ("weights", "link"):
        with pytest.raises(UserError, match=f"{name} is an input of this command: give another"):
            check_target(tmp_path / name, [tmp_path / "weights"])
    assert check_target(tmp_path / "new", [tmp_path / "weights"]) == tmp_path / "new"
