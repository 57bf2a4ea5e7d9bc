//! What is made of the bytes of a picture or sound, by the processors of a model and the keys of a recipe.

use crate::error::{Error, Kind, Result};
use crate::media::audio::{self, OnLong};
use crate::media::image;
use crate::media::{Processors, audio::AudioProcessor, image::ImageProcessor};
use crate::text::MediaKind;
use serde::{Deserialize, Serialize};

/// How pictures and sounds are read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MediaRules {
    /// The model's.
    pub processors: Processors,
    /// What becomes of a sound that is longer than the model hears at once.
    pub on_long_audio: OnLong,
}

/// What becomes of a picture or sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The whole picture and its crops, or the parts of a sound.
    pub pieces: usize,
    /// What is cut off a sound, in milliseconds; begun ones count.
    pub cut_ms: u64,
    /// How long a sound is that became several, in milliseconds.
    pub split_ms: u64,
}

/// What a tower looks at, or listens to, at a time: a picture or a crop of it, a sound or a part of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    /// `[3, height, width]` of a picture, `[1, frames, mel bins]` of a sound.
    pub dims: [usize; 3],
    /// So many values.
    pub values: Vec<f32>,
    /// Of a sound, the frames that begin within it, those of the silence at its end not counted.
    pub valid: usize,
}

impl MediaRules {
    /// Whether there is anything that pictures or sounds could be read with.
    pub fn is_of_media(&self) -> bool {
        self.processors != Processors::default()
    }

    /// Makes sure that the model takes media of this kind.
    ///
    /// # Errors
    /// When it does not.
    pub fn takes(&self, kind: MediaKind) -> Result<()> {
        match kind {
            MediaKind::Image => self.image().map(drop),
            MediaKind::Audio => self.audio().map(drop),
        }
    }

    /// What a picture or sound becomes.
    ///
    /// # Errors
    /// Bytes that cannot be decoded, sounds that are too short or too long, a kind that the model does not take.
    pub fn outcome(&self, kind: MediaKind, bytes: &[u8]) -> Result<Outcome> {
        match kind {
            MediaKind::Image => {
                let processor = self.image()?;
                let picture = image::decode(bytes, &image::Decoding::default())?;
                Ok(Outcome { pieces: processor.images(picture.width, picture.height), cut_ms: 0, split_ms: 0 })
            }
            MediaKind::Audio => {
                let clip = audio::decode(bytes, &audio::Decoding::default())?;
                let secs = clip.secs();
                let processor = self.audio()?;
                let clips = processor.clips(clip, self.on_long_audio)?;
                let heard: usize = clips.iter().map(Vec::len).sum();
                let (features, places) =
                    (clips.iter().map(|clip| processor.features(clip.len())), processor.audio_seq_length);
                if let Some(most) = features.max().filter(|&most| most > places) {
                    return Err(too_many(most, places));
                }
                let rate = f64::from(processor.sampling_rate);
                // In samples; at another rate a clip does not end between two of them.
                let cut = match self.on_long_audio {
                    OnLong::Truncate if heard == processor.max_length => secs * rate - heard as f64,
                    _ => 0.0,
                };
                let cut_ms = if cut > 0.5 { (1e3 * cut / rate).ceil() as u64 } else { 0 };
                let split_ms = if clips.len() > 1 { (1e3 * secs).round() as u64 } else { 0 };
                Ok(Outcome { pieces: clips.len(), cut_ms, split_ms })
            }
        }
    }

    /// What a tower sees of a picture or hears of a sound, piece by piece: whole picture first, then its crops.
    ///
    /// # Errors
    /// As [`MediaRules::outcome`].
    pub fn prepare(&self, kind: MediaKind, bytes: &[u8]) -> Result<Vec<Prepared>> {
        match kind {
            MediaKind::Image => {
                let pixels = self.image()?.prepare(&image::decode(bytes, &image::Decoding::default())?);
                let dims = [3, pixels.height, pixels.width];
                let each = pixels.values.chunks_exact(dims.iter().product());
                Ok(each.map(|values| Prepared { dims, values: values.to_vec(), valid: pixels.height }).collect())
            }
            MediaKind::Audio => {
                let processor = self.audio()?;
                let log_mel = |samples: Vec<f32>| {
                    let audio::LogMel { frames, valid_frames: valid, bins, values } = processor.log_mel(&samples);
                    Prepared { dims: [1, frames, bins], values, valid }
                };
                Ok(self.clips(bytes)?.into_iter().map(log_mel).collect())
            }
        }
    }

    /// A picture of one grey, or silence, of the size of what was prepared.
    pub fn blank(&self, kind: MediaKind, like: &Prepared) -> Prepared {
        let value = match (kind, self.processors.audio.as_ref()) {
            (MediaKind::Audio, Some(processor)) => (processor.mel_floor as f32).ln(),
            _ => 0.0,
        };
        Prepared { values: vec![value; like.values.len()], ..*like }
    }

    /// Changes whenever other numbers may be made of the same bytes.
    pub fn fingerprint(&self) -> String {
        format!("3 {self:?}")
    }

    fn clips(&self, bytes: &[u8]) -> Result<Vec<Vec<f32>>> {
        self.audio()?.clips(audio::decode(bytes, &audio::Decoding::default())?, self.on_long_audio)
    }

    fn image(&self) -> Result<&ImageProcessor> {
        self.processors.image.as_ref().ok_or_else(|| not_taken("see pictures"))
    }

    fn audio(&self) -> Result<&AudioProcessor> {
        self.processors.audio.as_ref().ok_or_else(|| not_taken("hear sounds"))
    }
}

/// The error of a sound that does not fit into its place in a row.
fn too_many(features: usize, places: usize) -> Error {
    let what = format!("the tower makes {features} soft tokens of the sound, and the model has places for {places}");
    Error::new(Kind::Data, what).hint_of_files(
        "take a shorter one, or see whether `audio_soft_tokens_per_image` in `config.json` and the tower belong together",
    )
}

fn not_taken(what: &str) -> Error {
    Error::new(Kind::Data, format!("the model does not {what}"))
        .hint_of_files("set `model.base` to one that does, or `data.on_bad_row: skip` to leave such rows out")
}
