"""`python -m lampwork doctor`: the command line of the full stack."""

from __future__ import annotations

import argparse
import sys

from .doctor import examine, print_report


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status (0: all is well, 1: something needs mending)."""
    parser = argparse.ArgumentParser(prog="python -m lampwork", description="Lampwork on this machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("doctor", help="say what works on this machine, and how to mend what does not")
    parser.parse_args(arguments)
    report = examine()
    print_report(report)
    return 0 if report.healthy else 1


if __name__ == "__main__":
    sys.exit(main())
