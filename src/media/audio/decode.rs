//! Bytes become one channel of samples, within limits.

use super::format::{Format, what_else};
use super::mono::{Mono, Refused};
use super::{opus, resample};
use crate::error::{Error, Kind, Result};
use crate::guard::guarded;
use std::io::Cursor;
use symphonia::core::audio::GenericAudioBufferRef;
use symphonia::core::codecs::audio::AudioDecoderOptions;
use symphonia::core::errors::Error as Failure;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::MetadataOptions;

/// How sounds are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Decoding {
    /// A longer sound is refused while it is decoded: a few bytes can stand for hours.
    pub max_secs: u32,
}

impl Default for Decoding {
    /// An hour: 230 MB at 16 kHz.
    fn default() -> Self {
        Decoding { max_secs: 3600 }
    }
}

/// A sound of one channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Clip {
    /// Samples a second.
    pub rate_hz: u32,
    /// -1 to 1, but for floats that a file has beyond.
    pub samples: Vec<f32>,
}

impl Clip {
    /// Seconds.
    pub fn secs(&self) -> f64 {
        self.samples.len() as f64 / f64::from(self.rate_hz)
    }

    /// The same sound at another rate.
    pub fn at_rate(self, rate_hz: u32) -> Self {
        if rate_hz == self.rate_hz {
            return self;
        }
        Clip { rate_hz, samples: resample::resample(&self.samples, self.rate_hz, rate_hz) }
    }
}

/// Decodes a sound and mixes its channels to one.
///
/// # Errors
/// If the bytes are empty, no sound that is read here, broken, without a sample, not finite, or longer than allowed.
pub fn decode(bytes: &[u8], decoding: &Decoding) -> Result<Clip> {
    let format = Format::of(bytes).ok_or_else(|| no_sound(bytes))?;
    let mut mono = Mono::new(decoding.max_secs);
    let decoded = guarded(|| {
        let decoded = match format {
            Format::Opus => opus::read(bytes, &mut mono),
            _ => read(bytes, format, &mut mono),
        };
        Ok::<_, String>(decoded)
    });
    match decoded {
        Ok(Ok(())) => {}
        Ok(Err(Refused::TooLong)) => {
            return Err(Error::new(Kind::Data, format!("the sound is longer than {} s", decoding.max_secs))
                .hint("cut it into pieces: a model hears 30 seconds at once"));
        }
        Ok(Err(Refused::Broken(why))) | Err(why) => return Err(broken(format, &why)),
        Ok(Err(Refused::Unsupported(why))) => {
            let what = format!("the {} is of a kind that is not read here: {why}", format.name());
            return Err(Error::new(Kind::Data, what).hint("save it as FLAC, or as WAV with PCM"));
        }
    }
    let Mono { rate_hz, samples, .. } = mono;
    if samples.is_empty() {
        return Err(broken(format, "it has no sample"));
    }
    if let Some(at) = samples.iter().position(|sample| !sample.is_finite()) {
        return Err(broken(format, &format!("sample {} is not a finite number", at + 1)));
    }
    Ok(Clip { rate_hz, samples })
}

fn read(bytes: &[u8], format: Format, mono: &mut Mono) -> Result<(), Refused> {
    let stream = MediaSourceStream::new(Box::new(Cursor::new(bytes)), Default::default());
    let mut hint = Hint::new();
    hint.with_extension(format.extension());
    let probe = symphonia::default::get_probe();
    let mut reader =
        probe.probe(&hint, stream, FormatOptions::default(), MetadataOptions::default()).map_err(refused)?;
    let track = reader.default_track(TrackType::Audio).ok_or("it has no sound in it")?;
    let (id, promised) = (track.id, track.num_frames);
    let parameters = track.codec_params.as_ref().and_then(|p| p.audio()).ok_or("its codec is unknown")?;
    let codecs = symphonia::default::get_codecs();
    let mut decoder = codecs.make_audio_decoder(parameters, &AudioDecoderOptions::default()).map_err(refused)?;
    let mut interleaved = Vec::new();
    loop {
        let packet = match reader.next_packet() {
            Ok(Some(packet)) => packet,
            Ok(None) => break,
            // An MP3 or AAC without a length ends where its bytes do.
            Err(Failure::IoError(e)) if e.kind() == std::io::ErrorKind::UnexpectedEof && promised.is_none() => break,
            Err(error) => return Err(refused(error)),
        };
        if packet.track_id != id {
            continue;
        }
        let decoded: GenericAudioBufferRef = decoder.decode(&packet).map_err(refused)?;
        decoded.copy_to_vec_interleaved(&mut interleaved);
        mono.push(&interleaved, decoded.spec().channels().count(), decoded.spec().rate())?;
    }
    // A hundredth is what encoders and their containers may disagree about.
    match promised.filter(|&frames| (mono.samples.len() as u64) < frames - frames / 100) {
        Some(frames) => Err(Refused::Broken(format!("it ends after {} of {frames} samples", mono.samples.len()))),
        None => Ok(()),
    }
}

/// What the codec lacks is no fault of the file.
fn refused(error: Failure) -> Refused {
    match error {
        Failure::Unsupported(what) => Refused::Unsupported(what.to_string()),
        other => Refused::Broken(other.to_string()),
    }
}

fn broken(format: Format, why: &str) -> Error {
    Error::new(Kind::Data, format!("the {} cannot be decoded: {why}", format.name()))
        .hint("the file is damaged or was cut off; play it, save it again, or leave the row out")
}

fn no_sound(bytes: &[u8]) -> Error {
    let error = match what_else(bytes) {
        _ if bytes.is_empty() => Error::new(Kind::Data, "the sound is empty: it has no bytes"),
        Some(what) => Error::new(Kind::Data, format!("this is {what}")),
        None => Error::new(Kind::Data, "this is no sound that is known here"),
    };
    error.hint("WAV, FLAC, MP3, M4A (AAC-LC), Ogg Vorbis and Ogg Opus are read")
}
