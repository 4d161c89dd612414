"""The file that TensorBoard reads: a record for each scalar.

It is written at once and in the calling thread. torch's SummaryWriter writes in a thread of
its own, which on a full disk prints a traceback and can block the training for ever.
"""

import os
import time
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from mpfgvc.storage.part_files import host_name


class ScalarFile:
    """A new event file in `folder`, which is made if it is missing. Raises OSError."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns() // 10**9}.{host_name()}.{os.getpid()}.{id(self)}"
        self._records = RecordWriter((folder / name).open("ab", buffering=0))
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def add(self, name: str, value: float, step: int) -> None:
        """Write a scalar at a step. Raises OSError."""
        summary = Summary(value=[Summary.Value(tag=name, simple_value=value)])
        self._write(Event(wall_time=time.time(), step=step, summary=summary))

    def _write(self, event: Event) -> None:
        self._records.write(event.SerializeToString())
