"""Run several methods one after the other in this process; started by torchrun from a test."""

import json
import sys

from tunesmith import plugins
from tunesmith.config import Layers, resolve
from tunesmith.runner.launch import start

registry = plugins.load()
for method, flags in json.loads(sys.argv[1]):
    start(resolve(registry, method, Layers(flags=flags)), registry)
