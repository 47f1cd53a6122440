from tunesmith.testing import conformance

from tunesmith_reinforce_plus_plus import ReinforcePlusPlus

test_conformance = conformance(ReinforcePlusPlus)
