from importlib.metadata import version

from tunesmith.testing import conformance

from tunesmith_verifiers import VerifiersReward, VerifiersTasks

ENVIRONMENT = "capitals-v0" if version("verifiers").startswith("0.1.") else "capitals-v1"

test_source = conformance(VerifiersTasks, environment=ENVIRONMENT)
ROWS = [{**row.data, "completion": row.data["answer"]} for row in VerifiersTasks(environment=ENVIRONMENT).rows()]
test_reward = conformance(VerifiersReward, rows=ROWS)
