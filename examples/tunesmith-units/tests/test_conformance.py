from tunesmith.testing import conformance

test_conformance = conformance("reward/numeric")
