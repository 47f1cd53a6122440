"""List the tasks; with ``--rows``, read a source's settings as JSON and write its rows as JSON lines."""

from __future__ import annotations

import json
import sys

from tunesmith import ConfigError
from tunesmith_reasoning_gym import ReasoningGym, library


def main() -> None:
    """Do what the command line says."""
    if sys.argv[1:] == []:
        print("\n".join(library.task_names()))
        return
    if sys.argv[1:] != ["--rows"]:
        sys.exit("usage: python -m tunesmith_reasoning_gym [--rows]")
    try:
        for record in ReasoningGym.model_validate_json(sys.stdin.read()).records():
            print(json.dumps({"row": record}), flush=True)
    except ConfigError as error:
        print(json.dumps({"error": str(error)}))
    except BrokenPipeError:  # enough rows were read
        sys.stderr.close()


main()
