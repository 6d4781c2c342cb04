"""Writes the train and deploy nets of every variant (`make prototxt`).

    python -m prototxt.generate

<variant>/{train,deploy}.prototxt                  the paper's network
<variant>/{train,deploy}_without_mask.prototxt     the pose stages see F alone (section 4.2)
<variant>/{train,deploy}_without_pose.prototxt     trunk and mask head alone (section 4.2)
<variant>/deploy_boxes.prototxt                    trunk and box head, for whole scenes
<variant>/train_boxes.prototxt                     the box head on the trunk's features
"""

import pathlib

from mcc_caffe.caffe_io.pycaffe import import_caffe
from mcc_caffe.core.commands import command_parser, run_command
from mcc_caffe.core.files import write_together


def main() -> None:
    """Run the command."""
    command_parser(__doc__).parse_args()
    import_caffe()
    from prototxt.nets import nets  # here, because it imports Caffe

    write(nets(), pathlib.Path(__file__).parent)


def write(files: dict[str, str], folder: pathlib.Path) -> None:
    """Write {relative path: text} below `folder`, all files or none.

    Raises:
        UserError: A file cannot be written.
    """
    contents = {folder / path: text.encode() for path, text in files.items()}
    for path in contents:
        path.parent.mkdir(parents=True, exist_ok=True)
    write_together(contents)
    print(*contents, sep="\n")


if __name__ == "__main__":
    run_command(main)
