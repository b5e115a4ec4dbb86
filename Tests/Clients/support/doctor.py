"""`windlass doctor` as a program calls it."""

import json
import subprocess


def doctor(windlass, data, *options):
    """The exit code and the report."""
    result = subprocess.run(
        [windlass, "doctor", "--data", data, "--format", "json", *options], capture_output=True, text=True, timeout=120
    )
    assert result.stdout, result.stderr
    return result.returncode, json.loads(result.stdout)
