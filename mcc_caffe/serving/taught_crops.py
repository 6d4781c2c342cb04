"""Says which pictures are crops of one photograph, in a set that `data_tools.teach` made.

Crops of one photograph show the same scene, often the same person. They belong into one split.
"""

import json
from pathlib import Path

from data_tools.taught_set import LABELS, PROGRAM
from mcc_caffe.core.errors import UserError


def read_photographs(folder: Path) -> dict[Path, str]:
    """Read the photographs of the crops of a taught set.

    Args:
        folder: The set's folder, or `images` in it; any other has no such crops.

    Returns:
        {path of a crop: name of its photograph}.

    Raises:
        UserError: The set's labels cannot be read.
    """
    photographs = {}
    for root in (folder, folder.parent):
        path = root / LABELS
        if not path.is_file():
            continue
        try:
            content = json.loads(path.read_bytes())
            info = content.get("info") if isinstance(content, dict) else None
            if not isinstance(info, dict) or info.get("program") != PROGRAM:
                continue
            for image in content["images"]:
                if image.get("group") is not None:
                    photographs[root / image["file_name"]] = str(image["group"])
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}): make it readable") from None
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise UserError(
                f"{path} is damaged ({type(error).__name__}: {error}): mend it, since it says "
                "which crops show one photograph"
            ) from None
    return photographs
