"""The pages as files: where they lie in the package, and the live page's export."""

import os
import shutil
from pathlib import Path

from mcc_caffe.core.errors import UserError
from mcc_caffe.core.output_checks import check_folder, check_not_inside
from mcc_caffe.core.result_folders import folder_being_written
from mcc_caffe.serving.model import WebModel

STATIC = Path(__file__).parent / "static"
MODEL_FILE, MODEL_DESCRIPTION_FILE = "model.onnx", "model.json"  # beside index.html
# What each page consists of.
LIVE_PAGE = ("index.html", "live", "shared", "vendor")
LABEL_PAGE = ("label", "shared")
PROGRAMS_PAGE = ("api",)


def export_site(model: WebModel, site: Path) -> int:
    """Write the live page with its model as a folder that any web server can serve.

    Args:
        model: The network.
        site: The folder to make.

    Returns:
        The number of bytes in it.

    Raises:
        UserError: The folder holds something, is the one that the command runs in, or cannot be
            written.
    """
    check_folder(site)
    if site.is_dir() and any(site.iterdir()):
        raise UserError(f"{site} holds files: give a new folder, or remove it first")
    check_not_inside(site)
    with folder_being_written(site) as partial:
        for name in LIVE_PAGE:
            # Not by copytree, which goes on after an error and then raises a list of them.
            for source in (STATIC / name, *(STATIC / name).rglob("*")):
                target = partial / source.relative_to(STATIC)
                if source.is_dir():
                    target.mkdir()
                else:
                    shutil.copyfile(source, target)
        (partial / MODEL_FILE).write_bytes(model.onnx)
        (partial / MODEL_DESCRIPTION_FILE).write_bytes(model.description_json())
        size = sum(path.stat().st_size for path in partial.rglob("*") if path.is_file())
        partial.replace(os.path.realpath(site))  # where `site` is a link, it stays
    return size
