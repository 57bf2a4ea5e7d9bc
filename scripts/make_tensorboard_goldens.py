"""Writes tests/goldens/report/events.tfevents, which src/report/tensorboard/tests.rs compares with.

Made with tensorboard 2.21.0 and protobuf 7.36.2. Run: python scripts/make_tensorboard_goldens.py
"""

from pathlib import Path

from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, tensor_shape_pb2, types_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

Value = summary_pb2.Summary.Value
text = Value(
    tag="samples/1",
    tensor=tensor_pb2.TensorProto(
        dtype=types_pb2.DT_STRING,
        tensor_shape=tensor_shape_pb2.TensorShapeProto(),
        string_val=["**prompt**\n\n    Grüezi €\n".encode()],
    ),
    metadata=summary_pb2.SummaryMetadata(
        plugin_data=summary_pb2.SummaryMetadata.PluginData(plugin_name="text"),
        data_class=summary_pb2.DATA_CLASS_TENSOR,
    ),
)
scalars = [
    Value(tag="train/loss", simple_value=1.5),
    Value(tag="train/learning_rate", simple_value=2e-4),
    Value(tag="train/grad_norm", simple_value=float("nan")),
]
start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
events = [
    event_pb2.Event(wall_time=1_700_000_000.0, file_version="brain.Event:2"),
    event_pb2.Event(wall_time=1_700_000_000.25, session_log=start),
    event_pb2.Event(wall_time=1_700_000_000.25, step=301, session_log=start),
    event_pb2.Event(wall_time=1_700_000_001.5, step=300, summary=summary_pb2.Summary(value=scalars)),
    event_pb2.Event(wall_time=1_700_000_002.0, step=2**63 - 1, summary=summary_pb2.Summary(value=[text])),
]

path = Path(__file__).parent.parent / "tests/goldens/report/events.tfevents"
path.parent.mkdir(parents=True, exist_ok=True)
with path.open("wb") as file:
    writer = RecordWriter(file)
    for event in events:
        writer.write(event.SerializeToString(deterministic=True))
print(f"{path}: {path.stat().st_size} bytes")
