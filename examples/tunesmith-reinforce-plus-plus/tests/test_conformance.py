from tunesmith.testing import conformance

test_conformance = conformance("method/reinforce-plus-plus")
