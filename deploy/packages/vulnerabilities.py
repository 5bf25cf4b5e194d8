"""Whether a weakness is known in a version that constraints.txt pins: `make audit-packages`, which needs the network.

    python deploy/packages/vulnerabilities.py [constraints.txt]

pip-audit, fetched and run by uv, asks PyPI's advisories. A package that the service did not know was not looked at, and
is never counted as sound. Exit code 0: all were looked at and none is known to be weak; 1: some is; 2: the service was
not reached, or did not know all of them.
"""

import json
import subprocess
import sys
from typing import Any

TOOL = "pip-audit>=2.10,<3"
NEXT = "next: run it where pypi.org can be reached, without a mirror that leaves its advisories out"


def main() -> int:
    constraints = sys.argv[1] if len(sys.argv) > 1 else "constraints.txt"
    tool = [sys.executable, "-m", "uv", "tool", "run", "--from", TOOL, "pip-audit"]
    asked = ["--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off", "-r", constraints]
    done = subprocess.run([*tool, *asked], capture_output=True, text=True)
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        print((done.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1])
        print(f"not audited: the service was not reached\n{NEXT}")
        return 2
    return told(found)


def told(packages: list[dict[str, Any]]) -> int:
    """Print what was found, and return the exit code."""
    audited = [each for each in packages if "skip_reason" not in each]
    weak = [each for each in audited if each["vulns"]]
    for each in weak:
        for known in each["vulns"]:
            mended = ", ".join(known["fix_versions"]) or "no version yet"
            print(f"{each['name']} {each['version']}: {known['id']}, mended in {mended}")
    print(f"{len(audited)} of {len(packages)} packages audited, {len(weak)} with a known weakness")
    if weak:
        return 1
    if len(audited) < len(packages):
        missing = [each["name"] for each in packages if "skip_reason" in each]
        print(f"not known to the service: {', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}\n{NEXT}")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
