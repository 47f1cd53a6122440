"""A package that was made for a tunesmith of long ago."""

raise AssertionError("a package that is made for another tunesmith is not imported")
