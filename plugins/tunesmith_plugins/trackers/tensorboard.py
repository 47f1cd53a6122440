"""Metrics into TensorBoard event files."""

from __future__ import annotations

from collections.abc import Mapping

from tunesmith import RunInfo


class TensorBoardSession:
    """One event file in ``<run>/tensorboard``."""

    def __init__(self, run: RunInfo) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # the steps after the checkpoint that a resumed run starts from are done again: hide their first version
        purge = run.first_step + 1 if run.first_step else None
        self._writer = SummaryWriter(str(run.output / "tensorboard"), purge_step=purge)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write every metric under its own name."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def close(self, error: BaseException | None) -> None:
        """Write out what is buffered."""
        self._writer.close()
