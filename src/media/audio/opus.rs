//! Opus in Ogg: what phones record voice notes as.

use super::mono::{Mono, Refused};
use ruopus::OpusDecoder;
use std::io::Cursor;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::MetadataOptions;

/// Opus is decoded at this rate, whatever it was made from.
const RATE_HZ: u32 = 48_000;
/// Where the identification header has the gain, in 1/256 dB.
const GAIN_AT: usize = 16;

pub(super) fn read(bytes: &[u8], mono: &mut Mono) -> Result<(), Refused> {
    let stream = MediaSourceStream::new(Box::new(Cursor::new(bytes)), Default::default());
    let probe = symphonia::default::get_probe();
    let mut reader = probe.probe(&Hint::new(), stream, FormatOptions::default(), MetadataOptions::default())?;
    let track = reader.default_track(TrackType::Audio).ok_or("it has no sound in it")?;
    let (id, track_delay) = (track.id, track.delay.unwrap_or(0));
    let parameters = track.codec_params.as_ref().and_then(|p| p.audio()).ok_or("its codec is unknown")?;
    let channels = parameters.channels.as_ref().map_or(0, |channels| channels.count());
    if !(1..=2).contains(&channels) {
        return Err(Refused::Unsupported(format!("it has {channels} channels; one and two are read")));
    }
    let head = parameters.extra_data.as_deref().unwrap_or_default();
    let gain = head.get(GAIN_AT..).and_then(<[u8]>::first_chunk).map_or(0, |gain| i16::from_le_bytes(*gain));
    let gain = 10f32.powf(f32::from(gain) / (20.0 * 256.0));
    let mut decoder = OpusDecoder::new(channels);
    // What the encoder put before the first sample.
    let mut delay = track_delay as usize;
    while let Some(packet) = reader.next_packet()? {
        if packet.track_id != id {
            continue;
        }
        let mut decoded = decoder.decode_packet(&packet.data)?;
        let frames = decoded.len() / channels;
        let start = frames.min(delay);
        delay -= start;
        // What fills up the last packet.
        let end = frames.saturating_sub(packet.trim_end.get() as usize).max(start);
        decoded.iter_mut().for_each(|sample| *sample *= gain);
        mono.push(&decoded[start * channels..end * channels], channels, RATE_HZ)?;
    }
    Ok(())
}
