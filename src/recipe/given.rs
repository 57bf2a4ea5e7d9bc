//! Keys that options of the command line give, other than `--set`.

/// A key that an option of the command line gives.
#[derive(Debug, Clone)]
pub struct Given {
    /// The option, as messages call it: `--model`.
    pub option: &'static str,
    /// The key: `model.base`.
    pub key: &'static str,
    /// Its values as the user typed them, whatever they would mean in YAML.
    pub values: Vec<String>,
    /// Whether the key takes a list.
    pub is_list: bool,
}
