//! The `audio_config` of a multimodal file, and what stands beside it for sounds.
//!
//! Absent keys have the defaults of transformers' `Gemma3nAudioConfig` and `Gemma3nConfig`.

use super::{embedder, from_zero, whole};
use crate::model::audio::AudioConfig;
use crate::model::gemma3::config::hf::images::token;
use crate::model::gemma3::config::hf::table::{Table, brief};
use crate::model::gemma3::config::limit;
use crate::model::gemma3n::config::SoundConfig;
use crate::weights::names::Embedder;
use serde_json::Value;
use std::ops::RangeInclusive;

/// Kernels, strides, chunks: what is far below it in every published file.
const STEPS: u64 = 1 << 10;
const CLIPPING: RangeInclusive<f64> = 1e-30..=f32::MAX as f64;
const CAP: RangeInclusive<f64> = 1e-3..=1e9;
const WEIGHT: RangeInclusive<f64> = 1e-30..=1e9;

/// Reads the tower's keys from `t` and the others from `outer`. Problems stay in the tables.
pub(super) fn read(t: &mut Table, outer: &mut Table) -> SoundConfig {
    t.unsupported_unless("model_type", "gemma3n_audio");
    // Published files have both; transformers reads neither.
    t.take("conf_positional_bias_size");
    t.take("sscp_conv_eps");
    let hidden_size = t.size("hidden_size", 1536, limit::HIDDEN);
    let embed_audio = embedder::read(t, Embedder::Audio, hidden_size, 262_144 + 128);
    let audio_config = AudioConfig {
        input_feat_size: t.size("input_feat_size", 128, limit::PIXELS),
        hidden_size,
        rms_norm_eps: embed_audio.rms_norm_eps,
        gradient_clipping: t.positive("gradient_clipping", 1e10, CLIPPING),
        conf_attention_chunk_size: t.size("conf_attention_chunk_size", 12, STEPS),
        conf_attention_context_left: from_zero(t, "conf_attention_context_left", 13, STEPS),
        conf_attention_context_right: from_zero(t, "conf_attention_context_right", 0, STEPS),
        conf_attention_logit_cap: t.positive("conf_attention_logit_cap", 50.0, CAP),
        conf_num_attention_heads: t.size("conf_num_attention_heads", 8, limit::HEADS),
        conf_num_hidden_layers: t.size("conf_num_hidden_layers", 12, limit::LAYERS),
        conf_conv_kernel_size: t.size("conf_conv_kernel_size", 5, STEPS),
        conf_reduction_factor: t.size("conf_reduction_factor", 4, STEPS),
        conf_residual_weight: t.positive("conf_residual_weight", 0.5, WEIGHT),
        sscp_conv_channel_size: two(t, "sscp_conv_channel_size", [128, 32], "two whole numbers", channels),
        sscp_conv_group_norm_eps: t.positive("sscp_conv_group_norm_eps", 1e-3, limit::EPS),
        sscp_conv_kernel_size: two(t, "sscp_conv_kernel_size", [[3, 3]; 2], "two pairs of whole numbers", steps),
        sscp_conv_stride_size: two(t, "sscp_conv_stride_size", [[2, 2]; 2], "two pairs of whole numbers", steps),
    };
    check(&audio_config, t);
    SoundConfig {
        has_tower: true,
        audio_config,
        embed_audio,
        audio_soft_tokens_per_image: outer.size("audio_soft_tokens_per_image", 188, limit::SOFT_TOKENS),
        boa_token_id: token(outer, "boa_token", 256_000),
        eoa_token_id: token(outer, "eoa_token", 262_272),
        audio_token_id: token(outer, "audio_token", 262_273),
    }
}

/// Checks what no single key shows. Where one of the sizes is wrong itself, that they do not fit would be no news.
fn check(config: &AudioConfig, t: &mut Table) {
    let &AudioConfig { hidden_size, conf_num_attention_heads: heads, input_feat_size, .. } = config;
    let is_wrong = |t: &Table, keys: &[&str]| keys.iter().any(|key| t.is_wrong(key));
    if !is_wrong(t, &["hidden_size", "conf_num_attention_heads"]) && !hidden_size.is_multiple_of(heads) {
        let what = format!("it is {heads}, and `hidden_size` is {hidden_size}");
        t.problem("conf_num_attention_heads", &what, "a divisor of `hidden_size`");
    }
    if !is_wrong(t, &["hidden_size"]) && !hidden_size.is_multiple_of(2) {
        t.problem("hidden_size", &format!("it is {hidden_size}"), "an even number: half of it are sines");
    }
    let kernels = ["input_feat_size", "sscp_conv_kernel_size", "sscp_conv_stride_size"];
    if !is_wrong(t, &kernels) && config.bins().is_none() {
        let what = format!("it is wider than what it looks at of {input_feat_size} mel bins");
        t.problem("sscp_conv_kernel_size", &what, "kernels that fit beside two bins of silence");
    }
}

/// Two entries that `read` reads.
fn two<T>(t: &mut Table, key: &str, default: [T; 2], supported: &str, read: fn(&Value) -> Option<T>) -> [T; 2] {
    let Some(value) = t.take(key) else { return default };
    let entries = value.as_array().map(Vec::as_slice).unwrap_or_default();
    match entries.iter().map(read).collect::<Option<Vec<T>>>().map(<[T; 2]>::try_from) {
        Some(Ok(two)) => two,
        _ => {
            t.problem(key, &format!("it is {}", brief(value)), supported);
            default
        }
    }
}

fn channels(value: &Value) -> Option<usize> {
    whole(limit::HIDDEN)(value)
}

fn steps(value: &Value) -> Option<[usize; 2]> {
    let both: Option<Vec<usize>> = value.as_array()?.iter().map(whole(STEPS)).collect();
    both?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use crate::error::Error;
    use crate::model::gemma3n::TextConfig;
    use crate::model::gemma3n::config::SoundConfig;
    use serde_json::{Value, json};
    use std::path::Path;

    fn read(audio: Value, beside: Value) -> Result<(SoundConfig, Vec<String>), String> {
        let text =
            json!({"model_type": "gemma3n_text", "num_hidden_layers": 6, "hidden_size": 64, "num_kv_shared_layers": 0});
        let mut config = json!({"model_type": "gemma3n", "text_config": text, "audio_config": audio});
        config.as_object_mut().unwrap().extend(beside.as_object().unwrap().clone());
        let told = |error: Error| error.iter().map(Error::what).collect::<Vec<_>>().join("\n");
        let read = TextConfig::from_hf_json(&config.to_string(), Path::new("config.json")).map_err(told)?;
        Ok((read.0.sounds.unwrap(), read.1))
    }

    /// As the published files state it.
    fn published() -> Value {
        json!({
            "conf_attention_chunk_size": 12, "conf_attention_context_left": 13, "conf_attention_context_right": 0,
            "conf_attention_logit_cap": 50.0, "conf_conv_kernel_size": 5, "conf_num_attention_heads": 8,
            "conf_num_hidden_layers": 12, "conf_positional_bias_size": 256, "conf_reduction_factor": 4,
            "conf_residual_weight": 0.5, "gradient_clipping": 1e10, "hidden_size": 1536, "input_feat_size": 128,
            "model_type": "gemma3n_audio", "rms_norm_eps": 1e-6, "sscp_conv_channel_size": [128, 32],
            "sscp_conv_eps": 0.001, "sscp_conv_kernel_size": [[3, 3], [3, 3]], "sscp_conv_stride_size": [[2, 2], [2, 2]],
            "torch_dtype": "bfloat16", "vocab_offset": 262_272, "vocab_size": 128,
        })
    }

    #[test]
    fn the_published_tower_is_read_and_is_what_is_left_out() {
        let beside = json!({"audio_soft_tokens_per_image": 188, "audio_token_id": 262_273, "boa_token_id": 256_000,
                            "eoa_token_id": 262_272});
        let (config, ignored) = read(published(), beside).unwrap();
        assert_eq!(ignored, ["audio_config.torch_dtype"]);
        assert_eq!(read(json!({}), json!({})).unwrap().0, config);
        let audio = &config.audio_config;
        assert_eq!((audio.head_dim(), audio.past(), audio.context(), audio.bins()), (192, 12, 24, Some([64, 32])));
        assert_eq!([1, 2, 16, 17, 2997].map(|frames| audio.rows(frames)), [1, 1, 1, 2, 188]);
        assert_eq!(audio.tensors().len(), 5 + 12 * 22);
        let parameters: usize = audio.tensors().iter().map(|(_, dims)| dims.iter().product::<usize>()).sum();
        assert_eq!(parameters, 681_348_640, "weights of the published tower");
    }

    #[test]
    fn every_key_that_changes_numbers_is_used_or_refused() {
        for (key, value, says) in [
            ("model_type", json!("usm"), "`audio_config.model_type`: it is \"usm\""),
            ("hidden_size", json!(1535), "`audio_config.hidden_size`: it is 1535; supported: an even number"),
            ("conf_num_attention_heads", json!(7), "it is 7, and `hidden_size` is 1536; supported: a divisor"),
            ("conf_attention_context_left", json!(-1), "`audio_config.conf_attention_context_left`: it is -1"),
            ("conf_attention_logit_cap", json!(0), "`audio_config.conf_attention_logit_cap`: it is 0"),
            ("conf_residual_weight", json!(null), "`audio_config.conf_residual_weight`: it is null"),
            ("sscp_conv_channel_size", json!([128]), "it is [128]; supported: two whole numbers"),
            ("sscp_conv_kernel_size", json!([3, 3]), "it is [3,3]; supported: two pairs of whole numbers"),
            ("sscp_conv_kernel_size", json!([[3, 131], [3, 3]]), "it is wider than what it looks at of 128 mel bins"),
            ("sscp_conv_stride_size", json!([[2, 0], [2, 2]]), "it is [[2,0],[2,2]]"),
            ("vocab_offset", json!("x"), "`audio_config.vocab_offset`: it is \"x\""),
            ("conf_attention_bias", json!(true), "and this program does not act on this key"),
        ] {
            let mut audio = published();
            audio[key] = value;
            let told = read(audio, json!({})).unwrap_err();
            assert!(told.contains(says), "{told}");
        }
        let told = read(published(), json!({"audio_soft_tokens_per_image": 0})).unwrap_err();
        assert!(told.contains("`audio_soft_tokens_per_image`: it is 0"), "{told}");
        assert!(read(json!(7), json!({})).unwrap_err().contains("`audio_config`: it is 7; supported: a JSON object"));
    }
}
