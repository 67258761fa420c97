"""Known vulnerabilities of the installed packages, by pip-audit: status 1 for a finding.

Where no advisory service answers, a message says so.

usage: python .ci/audit.py [OPTION OF pip-audit ...]
"""

import json
import subprocess
import sys
from typing import Any

IGNORED: list[str] = []  # ids of advisories that do not concern us; say why beside each
SERVICES = [["--vulnerability-service=pypi"], ["--vulnerability-service=osv"]]


def audit(options: list[str]) -> list[dict[str, Any]]:
    """The packages that a service knows, each with its `vulns`; without one, pip-audit calls all clean."""
    ignored = [f"--ignore-vuln={name}" for name in IGNORED]
    command = [sys.executable, "-m", "pip_audit", "--format=json", "--progress-spinner=off", "--timeout=10"]
    done = subprocess.run(
        [*command, *ignored, *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        return [package for package in json.loads(done.stdout)["dependencies"] if "vulns" in package]
    except ValueError:  # it has ended without a report: no connection
        return []


def main() -> int:
    audited: list[dict[str, Any]] = []
    for options in [sys.argv[1:]] if sys.argv[1:] else SERVICES:
        audited = audited or audit(options)
    if not audited:
        print("pip-audit: skipped, no advisory service answers from here")
        return 0
    findings = [(package, one) for package in audited for one in package["vulns"]]
    for package, one in findings:
        fixed = ", ".join(one["fix_versions"]) or "no version yet"
        print(f"pip-audit: {package['name']} {package['version']}: {one['id']}, fixed in {fixed}")
    print(f"pip-audit: {len(audited)} packages looked up, {len(findings)} known vulnerabilities")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
