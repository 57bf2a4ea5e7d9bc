//! Clips as an audio tower takes them: lengths, frames, tokens, and what becomes of a clip that is too long.

use super::decode::Clip;
use crate::error::{Error, Kind, Result};

/// What becomes of a clip that is longer than the tower hears at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OnLong {
    /// The clip is refused.
    #[default]
    Error,
    /// It becomes several clips, one after the other.
    Split,
    /// Its end is cut off.
    Truncate,
}

/// What `preprocessor_config.json` says of audio, as far as Gemma 3n's processor uses it.
#[derive(Debug, Clone, PartialEq)]
pub struct AudioProcessor {
    /// Samples a second.
    pub sampling_rate: u32,
    /// Mel bins of a frame.
    pub feature_size: usize,
    /// Samples in a frame, at most 1024.
    pub frame_length: usize,
    /// Samples from the start of one frame to that of the next.
    pub hop_length: usize,
    /// The lowest frequency, in Hz.
    pub min_frequency: f64,
    /// The highest frequency, in Hz.
    pub max_frequency: f64,
    /// How much of the sample before is subtracted.
    pub preemphasis: f64,
    /// Quieter bins are this loud.
    pub mel_floor: f64,
    /// Clips are padded with silence to a multiple of so many samples.
    pub pad_to_multiple_of: usize,
    /// The most samples that are heard at once.
    pub max_length: usize,
    /// Frames that become one feature.
    pub frames_per_feature: usize,
    /// Tokens that a clip takes in the text, whatever its length.
    pub audio_seq_length: usize,
}

impl AudioProcessor {
    /// Gemma 3n's: 16 kHz, 128 bins, 32 ms frames every 10 ms, 30 seconds, 188 tokens.
    pub fn gemma3n() -> Self {
        AudioProcessor {
            sampling_rate: 16_000,
            feature_size: 128,
            frame_length: 512,
            hop_length: 160,
            min_frequency: 125.0,
            max_frequency: 7600.0,
            preemphasis: 0.97,
            mel_floor: 1e-5,
            pad_to_multiple_of: 128,
            max_length: 480_000,
            frames_per_feature: 16,
            audio_seq_length: 188,
        }
    }

    /// The frames of a clip of so many samples, silence at its end included.
    pub fn frames(&self, samples: usize) -> usize {
        let padded = samples.next_multiple_of(self.pad_to_multiple_of.max(1));
        // A frame looks at one sample more than it has.
        padded.checked_sub(self.frame_length + 1).map_or(0, |rest| rest / self.hop_length + 1)
    }

    /// The frames that begin within a clip of so many samples.
    pub fn valid_frames(&self, samples: usize) -> usize {
        samples.div_ceil(self.hop_length.max(1)).min(self.frames(samples))
    }

    /// The features that a tower makes of a clip of so many samples; the rest of its tokens is padding.
    pub fn features(&self, samples: usize) -> usize {
        self.valid_frames(samples).div_ceil(self.frames_per_feature.max(1))
    }

    /// The clips that one becomes, each at most as long as is heard at once, at the processor's rate. Where one is split and too
    /// little for a frame is left (33 ms), silence makes it one.
    ///
    /// # Errors
    /// If it is too short for a frame, or too long and `on_long` does not say what to do.
    pub fn clips(&self, clip: Clip, on_long: OnLong) -> Result<Vec<Vec<f32>>> {
        let secs = clip.secs();
        let mut samples = clip.at_rate(self.sampling_rate).samples;
        if self.frames(samples.len()) == 0 {
            return Err(Error::new(Kind::Data, format!("the sound lasts {secs:.3} s, which is too short to hear"))
                .hint("leave the row out"));
        }
        let limit = self.max_length as f64 / f64::from(self.sampling_rate);
        match on_long {
            _ if samples.len() <= self.max_length => Ok(vec![samples]),
            OnLong::Error => {
                Err(Error::new(Kind::Data, format!("the sound lasts {secs:.1} s, a model hears {limit} s at once"))
                    .hint_of_files("set `data.on_long_audio: split` or `truncate`, or cut the file"))
            }
            OnLong::Truncate => {
                samples.truncate(self.max_length);
                Ok(vec![samples])
            }
            OnLong::Split => {
                let mut pieces: Vec<Vec<f32>> = samples.chunks(self.max_length).map(<[f32]>::to_vec).collect();
                if let Some(last) = pieces.last_mut().filter(|last| self.frames(last.len()) == 0) {
                    last.resize(self.frame_length + 1, 0.0);
                }
                Ok(pieces)
            }
        }
    }

    /// The tokens that so many clips take.
    pub fn soft_tokens(&self, clips: usize) -> usize {
        clips * self.audio_seq_length
    }
}
