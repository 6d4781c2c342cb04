"""What the labelling page and its `LabelSession` tell each other, as JSON.

The texts between the page and the server are those of these classes; `label_documents` describes
the labels in them.
"""

from pydantic import BaseModel

from mcc_caffe.serving.label_documents import Labels, Split, Status


class ImageState(BaseModel):
    """What the page's list says of an image.

    Attributes:
        key, name: As in `ImageFile`.
        status: How far the person is with it.
        revision: The number of changes; 0 where the person has not changed anything.
        score: How sure the net is, about 0 to 1; None where it has not looked yet.
        fault: Why it cannot be labelled, which does not name it; "" where it can.
    """

    key: str
    name: str
    status: Status
    revision: int
    score: float | None
    fault: str


class Overview(BaseModel):
    """All images, the one of which the net is least sure first.

    Attributes:
        folder: The folder that is labelled.
        images: Those that can be labelled; those that the net has not seen yet come last.
        unreadable: Those that cannot, with the reason in `fault`.
        passed_over: What else lies in the folder, in one line; "" for nothing.
        splits: The numbers of images that are done, by the split that holds them.
    """

    folder: str
    images: list[ImageState]
    unreadable: list[ImageState]
    passed_over: str
    splits: dict[Split, int]


class OpenImage(BaseModel):
    """An image with the labels that it has, or else those that the net starts with.

    Attributes:
        key, name: As in `ImageFile`.
        width, height: In pixels, upright.
        digest: Names the content of the image's file.
        revision: The number of changes so far.
        score: How sure the net is, about 0 to 1.
        labels: The labels.
        first_labels: What the net starts with.
    """

    key: str
    name: str
    width: int
    height: int
    digest: str
    revision: int
    score: float
    labels: Labels
    first_labels: Labels


class Change(BaseModel):
    """Labels to save.

    Attributes:
        revision: The one that the change starts from.
        digest: The image's that the person saw.
        token: Names this change; the same change sent again has the same token.
        labels: All labels, as they are after the change.
    """

    revision: int
    digest: str
    token: str
    labels: Labels


class Saved(BaseModel):
    """The outcome of a change.

    Attributes:
        revision: The new one.
        status: The status that was saved; "open" where labels that are not complete were to be
            done.
        note: What is missing then; "" where nothing is.
        splits: As in `Overview`.
    """

    revision: int
    status: Status
    note: str
    splits: dict[Split, int]
