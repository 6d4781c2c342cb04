"""Checks an LMDB's file before it is mapped into memory.

LMDB trusts its file: a page that is missing or garbled ends the process with a bus error or an
assertion, without a message. So the pages that hold the records' keys and places are read first.

Numbers are in the file's own order of bytes, little-endian. All pages have a header of 16 bytes:
their own number, what they hold, and where their free space begins and ends. The first two pages
hold the LMDB's state, of which the one with the later transaction counts.
"""

import os
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

from mcc_caffe.core.errors import UserError

# Magic number, version, address and size of the map; two descriptions of databases of 48 bytes, of
# which the first begins with the page size and the second ends with its root; last page,
# transaction.
_STATE = struct.Struct("<I20xI84xQQQ")
_MAGIC = 0xBEEFC0DE
_HEADER = struct.Struct("<Q2xHHH")
_OVERFLOW_HEADER = struct.Struct("<Q2xHI")
_NODE = struct.Struct("<HHHH")  # low and high half of a number, flags or its highest part, key
_BRANCH, _LEAF, _OVERFLOW = 1, 2, 4
_BIG_DATA = 1  # the record lies in pages of its own
_EMPTY = 2**64 - 1  # as root


class _State(NamedTuple):
    page_size: int
    root: int
    last_page: int
    transaction: int


class _Damaged(Exception):
    """A page is not as LMDB writes it."""


def check_lmdb(path: Path) -> None:
    """Check that an LMDB's data.mdb has all of its pages and that they hang together.

    Args:
        path: The file data.mdb.

    Raises:
        UserError: It is cut or damaged.
    """
    with open(path, "rb") as file:
        states = _read_states(file)
        if not states:
            raise UserError(f"{path} is no LMDB, or its start is damaged: build the set again")
        state = max(states, key=lambda state: state.transaction)
        length = os.fstat(file.fileno()).st_size
        needed = (state.last_page + 1) * state.page_size
        if length < needed:
            raise UserError(
                f"{path} has {length} of its {needed} bytes: copy it again, or build the set again"
            )
        try:
            _check_tree(file, state)
        except (_Damaged, struct.error):
            raise UserError(
                f"the LMDB {path} is damaged: copy it again, or build the set again"
            ) from None


def _read_states(file: BinaryIO) -> list[_State]:
    """Read what the first two pages say; [] where neither is an LMDB's."""
    states: list[_State] = []
    for number in range(2):
        offset = number * (states[0].page_size if states else 0)
        content = os.pread(file.fileno(), _STATE.size, offset + _HEADER.size)
        if len(content) == _STATE.size:
            magic, *numbers = _STATE.unpack(content)
            if magic == _MAGIC:
                states.append(_State(*numbers))
    return states


def _check_tree(file: BinaryIO, state: _State) -> None:
    """Follow all pages from the root to the records; _Damaged where one is not as it should be."""
    size, last = state.page_size, state.last_page
    pending = [] if state.root == _EMPTY else [state.root]
    visited: set[int] = set()
    while pending:
        number = pending.pop()
        if number > last or number in visited:
            raise _Damaged
        visited.add(number)
        page = os.pread(file.fileno(), size, number * size)
        own_number, kind, lower, upper = _HEADER.unpack_from(page)
        count = (lower - _HEADER.size) // 2
        if own_number != number or kind not in (_BRANCH, _LEAF) or not lower <= upper <= size:
            raise _Damaged
        if count < (2 if kind == _BRANCH else 1):
            raise _Damaged
        for offset in struct.unpack_from(f"<{count}H", page, _HEADER.size):
            low, high, flags, key_length = _NODE.unpack_from(page, offset)
            end = offset + _NODE.size + key_length
            if kind == _BRANCH:
                pending.append(low | high << 16 | flags << 32)
            elif flags == _BIG_DATA:
                (first,) = struct.unpack_from("<Q", page, end)
                end += 8
                _check_big_record(file, state, first, low | high << 16)
            elif flags == 0:
                end += low | high << 16
            else:
                raise _Damaged
            if offset < upper or end > size:
                raise _Damaged


def _check_big_record(file: BinaryIO, state: _State, first: int, length: int) -> None:
    """Check the pages of a record that fills several; _Damaged where they are not as they should.

    Args:
        file: The database.
        state: Its state.
        first: The number of the record's first page.
        length: The record's length in bytes.
    """
    size = state.page_size
    header = os.pread(file.fileno(), _OVERFLOW_HEADER.size, first % 2**48 * size)
    number, kind, pages = _OVERFLOW_HEADER.unpack(header)
    if (number, kind) != (first, _OVERFLOW):
        raise _Damaged
    if first + pages - 1 > state.last_page or _HEADER.size + length > pages * size:
        raise _Damaged
