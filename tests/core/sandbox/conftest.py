"""A sandbox of each tier that this machine has, and a loud word about those that it has not."""

import pytest

from tunesmith.sandbox import Sandbox, probes


def pytest_terminal_summary(terminalreporter):
    for probe in probes():
        if not probe.works:
            terminalreporter.section("ISOLATION IS MISSING", yellow=True, bold=True)
            terminalreporter.write_line(f"nothing was tested in the sandbox {probe.tier}: {probe.detail}. {probe.fix}")


@pytest.fixture(scope="module", params=["bubblewrap", "landlock"])
def sandbox(request):
    found = {probe.tier: probe for probe in probes()}[request.param]
    if not found.works:
        pytest.skip(f"{found.tier}: {found.detail}; {found.fix}")
    return Sandbox(request.param, concurrency=2)
