from tunesmith.testing import conformance

from tunesmith_dpop import DPOP

test_conformance = conformance(DPOP)
