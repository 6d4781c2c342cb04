"""Reads apt's configuration for the archives that this machine gets its distribution from."""

import re
from dataclasses import dataclass, field
from pathlib import Path

# Options of an entry that hold for any suite of the same archive.
_ARCHIVE_OPTIONS = ("signed-by", "trusted", "check-valid-until")


@dataclass(frozen=True)
class Entry:
    """One archive as apt knows it.

    Attributes:
        uri: The archive's address.
        suites: Releases in it, such as "bookworm".
        components: Parts of a release, such as "main".
        options: Those options of the entry that hold for other suites, too, by their deb822 names
            in lower case.
    """

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]
    options: dict[str, str] = field(default_factory=dict)

    def as_source(self, suite: str, component: str) -> str:
        """Return a .sources text for the source packages of another suite of the archive."""
        fields = {
            "Types": "deb-src",
            "URIs": self.uri,
            "Suites": suite,
            "Components": component,
            **self.options,
        }
        return "".join(f"{name}: {value}\n" for name, value in fields.items())


def parse_list(text: str) -> list[Entry]:
    """Return the entries of a one-line-style file (sources.list), without cdrom entries."""
    entries = []
    for line in text.splitlines():
        match = re.match(r"\s*deb(?:-src)?\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+([^#]+)", line)
        if match and not match[2].startswith("cdrom:"):
            written = dict(
                option.split("=", 1) for option in (match[1] or "").split() if "=" in option
            )
            options = {
                name.lower(): value
                for name, value in written.items()
                if name.lower() in _ARCHIVE_OPTIONS
            }
            entries.append(Entry(match[2], (match[3],), tuple(match[4].split()), options))
    return entries


def parse_sources(text: str) -> list[Entry]:
    """Return the entries of a deb822-style file (*.sources), one for each URI.

    Disabled stanzas are left out.
    """
    text = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    entries = []
    for stanza in re.split(r"\n\s*\n", text):
        # A value may go on in indented lines (a key written out in Signed-By does).
        fields = {
            name.lower(): value.rstrip()
            for name, value in re.findall(r"^(\S+?):[ \t]*(.*(?:\n[ \t].*)*)", stanza, re.M)
        }
        if fields.get("enabled", "yes").lower() in ("no", "false", "0"):
            continue
        options = {name: fields[name] for name in _ARCHIVE_OPTIONS if name in fields}
        suites, components = (
            tuple(fields.get(name, "").split()) for name in ("suites", "components")
        )
        entries += [
            Entry(uri, suites, components, options) for uri in fields.get("uris", "").split()
        ]
    return entries


def read_entries(etc: Path = Path("/etc/apt")) -> list[Entry]:
    """Return all entries of this machine: sources.list, then sources.list.d by name."""
    entries = []
    for path in [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]:
        if path.suffix in (".list", ".sources") and path.is_file():
            parse = parse_list if path.suffix == ".list" else parse_sources
            entries += parse(path.read_text(encoding="utf-8", errors="replace"))
    return entries


def archives(entries: list[Entry], codename: str) -> list[Entry]:
    """Return the entries that may be the distribution's own archive, each URI once.

    The likeliest comes first. Anyone may name a suite of his own after a release; the archive
    itself is the one whose updates (bookworm-updates, jammy-updates) come from the same address.

    Args:
        entries: The machine's entries.
        codename: The codename of its release, such as "bookworm".
    """
    own = (codename, "stable", "oldstable", "testing", "unstable", "sid")
    by_uri = {
        entry.uri.rstrip("/"): entry
        for entry in reversed(entries)
        if "main" in entry.components and set(own) & set(entry.suites)
    }
    updated = {
        entry.uri.rstrip("/")
        for entry in entries
        if any(suite.endswith("-updates") for suite in entry.suites)
    }
    return sorted(reversed(by_uri.values()), key=lambda entry: entry.uri.rstrip("/") not in updated)
