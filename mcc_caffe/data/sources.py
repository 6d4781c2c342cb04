"""Where a training takes its samples from: an LMDB set, hands rendered live, or a mixture."""

import importlib
from collections.abc import Sized
from pathlib import Path
from typing import Protocol

import numpy as np

from mcc_caffe.core.errors import UserError
from mcc_caffe.data.samples import Sample, SampleSet

LIVE = "synth:"  # hands that are rendered as they are asked for, such as `synth:seed=0&size=224`
MIXED = "mix:"  # a mixture of other sources, such as `mix:A*0.5+B*0.3+C*0.2`

# {beginning of a source's name: "module:callable" that opens it}.
# Imported at first use: this package does not depend on data_tools, and training on an LMDB set
# needs neither OpenGL nor the hand mesh.
OPENERS = {LIVE: "data_tools.hands.live:LiveHands"}


class SampleSource(Protocol):
    """Samples by their index.

    A source that has a length ends there. One that has none has a sample for every index from 0 on.
    """

    def __getitem__(self, index: int) -> Sample:
        """Return the sample of an index."""


def open_source(source: str, seed: int = 0) -> SampleSource:
    """Open the samples that a source names.

    Args:
        source: The folder of an LMDB set, `synth:...` for rendered hands, or `mix:...`.
        seed: The seed by which a mixture draws its samples, 0 or more.

    Raises:
        UserError: The source does not exist, is damaged or cannot be opened, or its name is wrong.
    """
    if source.startswith(MIXED):
        return Mixture(mixture_shares(source), seed)
    for scheme, address in OPENERS.items():
        if source.startswith(scheme):
            module, _, name = address.partition(":")
            try:
                opener = getattr(importlib.import_module(module), name)
            except (ImportError, AttributeError) as error:
                raise UserError(
                    f"{source}: {address}, which opens it, cannot be imported ({error}): install "
                    "what is missing, or mend its line in OPENERS"
                ) from error
            return opener(source)
    return SampleSet(source)


def mixture_shares(source: str) -> dict[str, float]:
    """Parse the name of a mixture.

    Args:
        source: `mix:A*0.5+B*0.3`, where A and B are sources. Their names may have + and *, but
            no share with a + behind it.

    Returns:
        The share of each source.

    Raises:
        UserError: A part has no source or is a mixture, its share is no number above 0, or a
            source comes twice.
    """
    shares: dict[str, float] = {}
    for part in _parts(source.removeprefix(MIXED)):
        name, share = part.rpartition("*")[0].strip(), _share(part)
        if name.startswith(MIXED):
            raise UserError(f"{source!r} has a mixture in it: write its sources with their shares")
        if not name or share is None or not 0 < share < np.inf:
            raise UserError(
                f"{part!r} in {source!r} is no source with a share above 0: write mix:A*0.5+B*0.5"
            )
        if name in shares:
            raise UserError(f"{source!r} names {name!r} twice: add its shares up")
        shares[name] = share
    return shares


def count_samples(samples: SampleSource) -> dict[str, int]:
    """Return {folder of a set: number of its samples} for the sets in what `open_source` opened."""
    sources = samples.sources if isinstance(samples, Mixture) else [samples]
    return {str(part.folder): len(part) for part in sources if isinstance(part, SampleSet)}


def _parts(sources: str) -> list[str]:
    """Split `A*0.5+B*0.3` where a + follows a share; another + is of a folder's name or a share."""
    parts, pieces = [], []
    for piece in sources.split("+"):
        pieces.append(piece)
        if _share("+".join(pieces)) is not None:
            parts.append("+".join(pieces))
            pieces = []
    if pieces:
        parts.append("+".join(pieces))
    return parts


def _share(part: str) -> float | None:
    """Return the number after the last * of `A*0.5`; None where there is none."""
    try:
        return float(part.rpartition("*")[2]) if "*" in part else None
    except ValueError:
        return None


def absolute_source(source: str) -> str:
    """Return the source with every folder in it as an absolute path, for use from anywhere."""
    if source.startswith(MIXED):
        parts = (
            f"{absolute_source(name)}*{share}" for name, share in mixture_shares(source).items()
        )
        return MIXED + "+".join(parts)
    return source if source.startswith(tuple(OPENERS)) else str(Path(source).absolute())


class Mixture:
    """An endless mixture of sources.

    Sample i comes from a source that is drawn by the shares; of one with a length, every sample is
    equally likely. The draw depends on the seed and on i, so that a resumed training sees the
    samples that an uninterrupted one would have seen.

    Attributes:
        sources: The sources.
    """

    def __init__(self, shares: dict[str, float], seed: int = 0):
        """Open the sources.

        Args:
            shares: The share of each source, any positive numbers; no source is a mixture.
            seed: As `open_source` takes it.
        """
        self._seed = seed
        self.sources = [open_source(source) for source in shares]
        self._shares = np.array(list(shares.values()), float) / sum(shares.values())

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng((2, self._seed, index))
        source = self.sources[rng.choice(len(self.sources), p=self._shares)]
        if isinstance(source, Sized):
            return source[int(rng.integers(len(source)))]
        return source[index]
