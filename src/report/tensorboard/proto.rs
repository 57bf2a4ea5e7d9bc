//! The part of TensorBoard's messages that this program writes.
//!
//! Numbers and names are those of `tensorboard/compat/proto/{event,summary,tensor,tensor_shape}.proto`; the bytes are
//! compared with those of the Python package (`scripts/make_tensorboard_goldens.py`).

/// `Event`: something at a step.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    pub wall_time: f64,
    #[prost(int64, tag = "2")]
    pub step: i64,
    #[prost(oneof = "What", tags = "3, 5, 7")]
    pub what: Option<What>,
}

/// `Event.what`.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
    #[prost(message, tag = "7")]
    SessionLog(SessionLog),
}

impl Event {
    pub fn new(wall_time: f64, step: u64, what: What) -> Self {
        Event { wall_time, step: i64::try_from(step).unwrap_or(i64::MAX), what: Some(what) }
    }

    /// The first record of every file.
    pub fn version(wall_time: f64) -> Self {
        Self::new(wall_time, 0, What::FileVersion("brain.Event:2".to_owned()))
    }

    /// The mark that a (re)started run writes `first_step` next.
    pub fn session_start(wall_time: f64, first_step: u64) -> Self {
        Self::new(wall_time, first_step, What::SessionLog(SessionLog { status: SessionLog::START }))
    }
}

/// `SessionLog`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SessionLog {
    #[prost(int32, tag = "1")]
    pub status: i32,
}

impl SessionLog {
    pub const START: i32 = 1;
}

/// `Summary`: values at a step.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Summary {
    #[prost(message, repeated, tag = "1")]
    pub value: Vec<Value>,
}

/// `Summary.Value`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Value {
    #[prost(string, tag = "1")]
    pub tag: String,
    #[prost(oneof = "Content", tags = "2, 8")]
    pub content: Option<Content>,
    #[prost(message, optional, tag = "9")]
    pub metadata: Option<SummaryMetadata>,
}

/// `Summary.Value.value`.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Content {
    #[prost(float, tag = "2")]
    SimpleValue(f32),
    #[prost(message, tag = "8")]
    Tensor(TensorProto),
}

impl Value {
    /// A point of the curve `tag`.
    pub fn scalar(tag: &str, value: f64) -> Self {
        Value { tag: tag.to_owned(), content: Some(Content::SimpleValue(value as f32)), metadata: None }
    }

    /// A text for the plugin `text`, which renders Markdown.
    pub fn text(tag: &str, markdown: &str) -> Self {
        let plugin = PluginData { plugin_name: "text".to_owned() };
        let metadata = SummaryMetadata { plugin_data: Some(plugin), data_class: SummaryMetadata::DATA_CLASS_TENSOR };
        let tensor = TensorProto {
            dtype: TensorProto::DT_STRING,
            tensor_shape: Some(TensorShapeProto {}),
            string_val: vec![markdown.as_bytes().to_vec()],
        };
        Value { tag: tag.to_owned(), content: Some(Content::Tensor(tensor)), metadata: Some(metadata) }
    }
}

/// `SummaryMetadata`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SummaryMetadata {
    #[prost(message, optional, tag = "1")]
    pub plugin_data: Option<PluginData>,
    #[prost(int32, tag = "4")]
    pub data_class: i32,
}

impl SummaryMetadata {
    pub const DATA_CLASS_TENSOR: i32 = 2;
}

/// `SummaryMetadata.PluginData`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PluginData {
    #[prost(string, tag = "1")]
    pub plugin_name: String,
}

/// `TensorProto`, for strings.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TensorProto {
    #[prost(int32, tag = "1")]
    pub dtype: i32,
    #[prost(message, optional, tag = "2")]
    pub tensor_shape: Option<TensorShapeProto>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    pub string_val: Vec<Vec<u8>>,
}

impl TensorProto {
    pub const DT_STRING: i32 = 7;
}

/// `TensorShapeProto` without dimensions: the shape of a single value.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TensorShapeProto {}
