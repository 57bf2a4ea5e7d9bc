//! One channel, as codecs fill it.

/// Of denser sounds fewer seconds are allowed, so that memory is bounded too: 4 bytes a sample.
const DENSEST_HZ: u32 = 48_000;

/// Why a codec gave no sound.
pub(super) enum Refused {
    /// Longer than allowed.
    TooLong,
    /// What is wrong with the file, in the words of its codec.
    Broken(String),
    /// What it has that is not read here.
    Unsupported(String),
}

impl<E: std::fmt::Display> From<E> for Refused {
    fn from(error: E) -> Self {
        Refused::Broken(error.to_string())
    }
}

/// Samples as they come, mixed to one channel: the mean of all.
pub(super) struct Mono {
    max_secs: u32,
    /// 0 before the first sample.
    pub(super) rate_hz: u32,
    pub(super) samples: Vec<f32>,
}

impl Mono {
    /// Silence of no length.
    pub(super) fn new(max_secs: u32) -> Self {
        Mono { max_secs, rate_hz: 0, samples: Vec::new() }
    }

    /// Appends frames of `channels` interleaved samples at a rate that must not change.
    pub(super) fn push(&mut self, interleaved: &[f32], channels: usize, rate_hz: u32) -> Result<(), Refused> {
        if channels == 0 || rate_hz == 0 {
            return Err(Refused::Broken("it has no channel, or no rate".to_owned()));
        }
        if self.rate_hz != 0 && self.rate_hz != rate_hz {
            return Err(Refused::Broken(format!("its rate changes from {} to {rate_hz} Hz", self.rate_hz)));
        }
        self.rate_hz = rate_hz;
        let mean = |frame: &[f32]| frame.iter().sum::<f32>() / channels as f32;
        self.samples.extend(interleaved.chunks_exact(channels).map(mean));
        let most = u64::from(self.max_secs) * u64::from(rate_hz.min(DENSEST_HZ));
        if self.samples.len() as u64 > most { Err(Refused::TooLong) } else { Ok(()) }
    }
}
