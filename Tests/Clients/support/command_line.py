"""`windlass` as a pipeline calls it."""

import json
import os
import pty
import subprocess

from .host import ADMIN, PASSWORD

FAILED, UNCONFIRMED, UNREACHABLE, NOT_LOGGED_IN, NOT_FOUND, USAGE = 1, 2, 3, 4, 5, 64


class CommandLine:
    """Runs commands against one server."""

    def __init__(self, windlass, server, **environment):
        self.windlass = windlass
        self.environment = {
            "PATH": os.environ["PATH"], "WINDLASS_SERVER": server, "WINDLASS_USER": ADMIN, "WINDLASS_PASSWORD": PASSWORD,
            **environment,
        }

    def run(self, *arguments, stdin=subprocess.DEVNULL):
        return subprocess.run(
            [self.windlass, *map(str, arguments)],
            stdin=stdin, capture_output=True, text=True, timeout=120, env=self.environment,
        )

    def answered(self, answer, *arguments):
        """Runs a command whose standard input is a terminal at which somebody types an answer."""
        terminal, stdin = pty.openpty()
        try:
            os.write(terminal, answer.encode() + b"\n")
            return self.run(*arguments, stdin=stdin)
        finally:
            os.close(stdin)
            os.close(terminal)

    def json(self, *arguments):
        result = self.run(*arguments, "--format", "json")
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    def fails(self, code, *arguments):
        """What it says on standard error."""
        result = self.run(*arguments)
        assert result.returncode == code, result.stdout + result.stderr
        assert result.stdout == ""
        return result.stderr
