from tunesmith.testing import conformance

from tunesmith_units import Numeric

test_conformance = conformance(Numeric)
