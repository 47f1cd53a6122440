from tunesmith.testing import conformance

from tunesmith_git import Commit, GitHistory

ROW = {"subject": "Say hello", "body": "It is polite.", "diff": "diff --git a/a b/a\n+hello"}

test_source = conformance(GitHistory)
test_format = conformance(Commit, rows=[ROW, {**ROW, "body": ""}, {"subject": "No body", "diff": "-goodbye"}])
