//! How an engine runs, and what it says of that.

use burn::tensor::FloatDType;

/// What keys and values of tokens that were read are held in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CacheDtype {
    /// As they are computed.
    #[default]
    F32,
    /// Rounded, for twice as many tokens, and converted at each look.
    F16,
}

impl CacheDtype {
    /// Its word on the command line.
    pub fn name(self) -> &'static str {
        match self {
            CacheDtype::F32 => "f32",
            CacheDtype::F16 => "f16",
        }
    }

    /// The dtype of tensors.
    pub(in crate::infer) fn of_tensors(self) -> FloatDType {
        match self {
            CacheDtype::F32 => FloatDType::F32,
            CacheDtype::F16 => FloatDType::F16,
        }
    }
}

/// How prompts and answers share passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pace {
    /// A fixed batch: its prompts are read side by side, and the first tokens come when all have been read.
    Together,
    /// Answers go on while prompts are read, the earliest first. A step runs no more rows than it may, so that answers
    /// never wait long.
    #[default]
    Mixed,
}

/// What is kept of what has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Memory {
    /// Nothing: each prompt is read from its beginning.
    #[default]
    Nothing,
    /// The last answer and all before it, for what goes on with it.
    Conversation,
    /// At most this many: ends of prompts and of answers, and where prompts part. The longest beginning of a prompt that is
    /// known is not read again; what was used least recently goes first, also where others need its room.
    Prefixes(usize),
}

/// How an engine runs.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// About the most rows of a step: bounds how long it takes, and the memory of attention over long prompts.
    pub step_tokens: usize,
    /// Answers that are given at once.
    pub most_running: usize,
    /// Requests that may wait, beside those that the next step begins.
    pub most_waiting: usize,
    /// Bytes for keys and values, of what runs and of what is kept.
    pub cache_bytes: u64,
    /// What these are held in.
    pub cache_dtype: CacheDtype,
    /// How prompts and answers share passes.
    pub pace: Pace,
    /// What is kept.
    pub memory: Memory,
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions {
            step_tokens: 512,
            most_running: 16,
            most_waiting: usize::MAX,
            cache_bytes: u64::MAX,
            cache_dtype: CacheDtype::F32,
            pace: Pace::Mixed,
            memory: Memory::Nothing,
        }
    }
}

/// What an engine has to do, holds and has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// Requests that wait.
    pub waiting: usize,
    /// Answers that are given.
    pub running: usize,
    /// Bytes that are set aside for these.
    pub reserved_bytes: u64,
    /// Beginnings that are kept.
    pub kept: usize,
    /// Bytes of these.
    pub kept_bytes: u64,
    /// Tokens of prompts that were read.
    pub tokens_read: u64,
    /// Tokens of prompts that need not be read.
    pub tokens_known: u64,
    /// Tokens of answers.
    pub tokens_said: u64,
    /// Tokens that were guessed.
    pub tokens_guessed: u64,
    /// Those that were right.
    pub guessed_right: u64,
}
