use super::*;
use crate::report::testing::step;
use crate::train::event::{EvalEvent, SampleEvent};
use prost::Message;

/// Every kind of record, as `scripts/make_tensorboard_goldens.py` writes it with the Python package.
#[test]
fn records_equal_those_of_the_python_package_byte_for_byte() {
    let scalars = [("train/loss", 1.5), ("train/learning_rate", 2e-4), ("train/grad_norm", f64::NAN)];
    let events = [
        proto::Event::version(1_700_000_000.0),
        proto::Event::session_start(1_700_000_000.25, 0),
        proto::Event::session_start(1_700_000_000.25, 301),
        proto::Event::new(
            1_700_000_001.5,
            300,
            What::Summary(Summary { value: scalars.map(|(tag, value)| Value::scalar(tag, value)).into() }),
        ),
        proto::Event::new(
            1_700_000_002.0,
            u64::MAX,
            What::Summary(Summary { value: vec![Value::text("samples/1", "**prompt**\n\n    Grüezi €\n")] }),
        ),
    ];
    let bytes: Vec<u8> = events.iter().flat_map(record::encode).collect();
    assert_eq!(bytes, include_bytes!("../../../tests/goldens/report/events.tfevents"));
}

/// The messages in the event file `path`, whose frames are checked.
fn read(path: &Path) -> Vec<proto::Event> {
    let bytes = fs::read(path).unwrap();
    let mut rest = bytes.as_slice();
    let mut events = Vec::new();
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        let event = proto::Event::decode(&rest[12..12 + length]).unwrap();
        assert_eq!(record::encode(&event), rest[..length + 16]);
        events.push(event);
        rest = &rest[length + 16..];
    }
    events
}

/// The scalars of `event` with its step.
fn scalars(event: &proto::Event) -> Vec<(i64, &str, f32)> {
    let Some(What::Summary(summary)) = &event.what else { return Vec::new() };
    let scalar = |value: &'_ Value| match value.content {
        Some(proto::Content::SimpleValue(x)) => Some(x),
        _ => None,
    };
    summary.value.iter().filter_map(|v| Some((event.step, v.tag.as_str(), scalar(v)?))).collect()
}

#[test]
fn steps_and_evaluations_become_scalars() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = TensorBoard::open(dir.path(), 0).unwrap();
    sink.event(&step(1, 2.5)).unwrap();
    sink.event(&Event::Eval(EvalEvent {
        step: 1,
        epoch: 0.5,
        eval_loss: Some(2.25),
        eval_tokens: 7,
        ..EvalEvent::default()
    }))
    .unwrap();
    sink.event(&Event::Finished { step: 1 }).unwrap();
    let events = read(&sink.path);
    assert_eq!(events.len(), 4);
    assert_eq!(events[0].what, Some(What::FileVersion("brain.Event:2".into())));
    assert_eq!(events[1].what, Some(What::SessionLog(proto::SessionLog { status: 1 })));
    assert_eq!(
        scalars(&events[2]),
        [
            (1, "train/loss", 2.5),
            (1, "train/grad_norm", 0.5),
            (1, "train/learning_rate", 2e-4),
            (1, "train/tokens_per_second", 812.5)
        ]
    );
    assert_eq!(scalars(&events[3]), [(1, "eval/loss", 2.25)]);
}

#[test]
fn texts_of_one_step_have_tags_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = TensorBoard::open(dir.path(), 0).unwrap();
    let row = |number| RowEvent { number, text: "<bos>Hi\nHo".into(), supervised: vec![0..5, 8..10] };
    let sample = Sample { prompt: "Hi\n<b>".into(), completion: "Ho\n".into(), reference: "Hey".into() };
    let said = |step, number| Event::Sample(SampleEvent { step, number, sample: sample.clone() });
    for event in [Event::Row(row(1)), Event::Row(row(2)), said(5, 1), said(5, 2), said(9, 1)] {
        sink.event(&event).unwrap();
    }
    let events = read(&sink.path);
    let tags: Vec<(i64, &str)> = events
        .iter()
        .filter_map(|event| match &event.what {
            Some(What::Summary(summary)) => Some((event.step, summary.value[0].tag.as_str())),
            _ => None,
        })
        .collect();
    let expected =
        [(0, "data/sample_1"), (0, "data/sample_2"), (5, "eval/sample_1"), (5, "eval/sample_2"), (9, "eval/sample_1")];
    assert_eq!(tags, expected);
    assert_eq!(of_row(&row(1)), "what stands in ⟦ ⟧ is learnt\n\n    ⟦<bos>⟧Hi\n    ⟦Ho⟧\n");
    assert_eq!(
        of_sample(&sample),
        "**prompt**\n\n    Hi\n    <b>\n\n**completion**\n\n    Ho\n\n**reference**\n\n    Hey\n"
    );
}

#[test]
fn a_resumed_run_writes_a_later_file_that_hides_the_steps_it_repeats() {
    let dir = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = [0, 20, 20].map(|steps| TensorBoard::open(dir.path(), steps).unwrap().path).into();
    assert!(paths.is_sorted() && paths[0] < paths[1] && paths[1] < paths[2], "{paths:?}");
    let starts: Vec<i64> = paths.iter().map(|path| read(path)[1].step).collect();
    assert_eq!(starts, [0, 21, 21]);
}
