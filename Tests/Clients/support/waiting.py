"""Waiting for something to become true, with a deadline."""

import time


def wait_until(condition, what, seconds=20.0, every=0.02):
    """Asks until the answer is true, and returns it; fails with `what` after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            shown = what() if callable(what) else what
            raise AssertionError(f"waited {seconds:g} s in vain for {shown}")
        time.sleep(every)
