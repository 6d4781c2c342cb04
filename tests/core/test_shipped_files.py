"""Files that come with the project are found."""

import pytest

from mcc_caffe.core.errors import UserError
from mcc_caffe.core.shipped_files import require_shipped


def test_a_file_that_does_not_ship_is_named():
    with pytest.raises(UserError, match="prototxt/huge/deploy.prototxt was not found"):
        require_shipped("prototxt/huge/deploy.prototxt")
