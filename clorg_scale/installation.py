"""Commands that install optional packages, whether clorg-scale was installed from an index, a wheel or a checkout."""

from __future__ import annotations

import importlib.metadata
import re
import shlex

__all__ = ["pip_line"]

_NAME = "clorg-scale"

_OF_EXTRA = re.compile(r"""extra == ["']([\w.-]+)["']""")

_OWN = re.compile(rf"{_NAME}\[([\w.,\s-]+)\]$")

_IMPORT_SUFFIX = re.compile(r"-(cuda\d+x|cu\d+)$")


def pip_line(extra: str, package: str | None = None) -> str:
    """Return the command that installs the packages of an extra.

    It names the packages themselves: ``clorg-scale[extra]`` only works where clorg-scale was installed from an index.

    Parameters
    ----------
    extra
        The extra of clorg-scale; "" for its required packages.
    package
        Only the package of this name (as it is imported or installed), if the extra has it.

    Returns
    -------
    Shell command with all packages of the extra that are not installed, or with all packages if none is missing.
    """
    requirements = _requirements(extra)
    if package is not None:
        wanted = _normalized(package)
        requirements = [line for line in requirements if _import_name(line) == wanted] or requirements
    missing = [line for line in requirements if not _is_installed(_distribution(line))] or requirements
    if not missing:  # clorg-scale is not installed itself, but runs from its folder
        return f"pip install {package}" if package else f"pip install {shlex.quote(f'{_NAME}[{extra}]')}"
    return "pip install " + " ".join(f"'{line}'" for line in missing)


def _requirements(extra: str) -> list[str]:
    """Requirements of an extra without their markers, those of the extras that it names included."""
    try:
        declared = importlib.metadata.requires(_NAME) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    found: list[str] = []
    for line in declared:
        requirement, _, marker = (part.strip() for part in line.partition(";"))
        named = _OF_EXTRA.search(marker)
        if (named[1] if named else "") != extra:
            continue
        own = _OWN.match(requirement)
        inner = [_requirements(other.strip()) for other in own[1].split(",")] if own else [[requirement]]
        found += [part for parts in inner for part in parts if part not in found]
    return found


def _distribution(requirement: str) -> str:
    """Name in a requirement such as ``torch>=2.6``."""
    named = re.match(r"[\w.-]+", requirement)
    return named[0] if named else requirement


def _import_name(requirement: str) -> str:
    return _IMPORT_SUFFIX.sub("", _normalized(_distribution(requirement)))


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
