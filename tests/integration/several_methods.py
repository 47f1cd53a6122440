"""Run several methods one after the other; started by torchrun from a test. Arguments: the runs, plugin files."""

import json
import sys
from pathlib import Path

from tunesmith import plugins
from tunesmith.config import Layers, resolve
from tunesmith.runner.launch import start

registry = plugins.load(files=[Path(name) for name in sys.argv[2:]])
for method, flags in json.loads(sys.argv[1]):
    start(resolve(registry, method, Layers(flags=flags)), registry)
