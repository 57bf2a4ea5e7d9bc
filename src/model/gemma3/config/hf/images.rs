//! The `vision_config` of a multimodal file, and what stands beside it for pictures.
//!
//! Absent keys have the defaults of transformers' `SiglipVisionConfig` and `Gemma3Config` (the same in 4.50 to 5.23).

use super::super::generation::token_id;
use super::super::{ImageConfig, limit};
use super::table::{Table, brief};
use crate::model::vision::siglip::VisionConfig;

const TOWER: &str = "siglip_vision_model";

/// Reads the tower's keys from `t` and the others from `outer`. Problems stay in the tables.
pub(super) fn read(t: &mut Table, outer: &mut Table) -> ImageConfig {
    t.unsupported_unless("model_type", TOWER);
    t.unsupported_unless("hidden_act", "gelu_pytorch_tanh");
    t.unsupported_unless("attention_dropout", 0.0);
    // Gemma 3 takes what the last layer gives, whether or not there is a head to pool it.
    t.take("vision_use_head");
    let vision_config = VisionConfig {
        hidden_size: t.size("hidden_size", 768, limit::HIDDEN),
        intermediate_size: t.size("intermediate_size", 3072, limit::INTERMEDIATE),
        num_hidden_layers: t.size("num_hidden_layers", 12, limit::LAYERS),
        num_attention_heads: t.size("num_attention_heads", 12, limit::HEADS),
        num_channels: t.size("num_channels", 3, limit::CHANNELS),
        image_size: t.size("image_size", 224, limit::PIXELS),
        patch_size: t.size("patch_size", 16, limit::PIXELS),
        layer_norm_eps: t.positive("layer_norm_eps", 1e-6, limit::EPS),
    };
    let images = ImageConfig {
        has_tower: true,
        vision_config,
        mm_tokens_per_image: outer.size("mm_tokens_per_image", 256, limit::SOFT_TOKENS),
        boi_token_index: token(outer, "boi_token", 255_999),
        eoi_token_index: token(outer, "eoi_token", 256_000),
        image_token_index: token(outer, "image_token", 262_144),
    };
    check(&images, t, outer);
    images
}

/// A token id, whichever of its two names it has.
pub(in crate::model) fn token(outer: &mut Table, word: &str, default: u32) -> u32 {
    let names = [format!("{word}_index"), format!("{word}_id")];
    let found = names.map(|name| (outer.take(&name).filter(|value| !value.is_null()), name));
    let Some((value, name)) = found.into_iter().find_map(|(value, name)| Some((value?, name))) else { return default };
    token_id(value).unwrap_or_else(|| {
        outer.problem(&name, &format!("it is {}", brief(value)), "a token id");
        default
    })
}

/// Checks what no single key shows. Where one of the sizes is wrong itself, that they do not fit would be no news.
fn check(images: &ImageConfig, t: &mut Table, outer: &mut Table) {
    let VisionConfig { hidden_size, num_attention_heads, image_size, patch_size, .. } = images.vision_config;
    let wrong = |t: &Table, keys: &[&str]| keys.iter().any(|key| t.is_wrong(key));
    let heads = ["hidden_size", "num_attention_heads"];
    if !wrong(t, &heads) && !hidden_size.is_multiple_of(num_attention_heads) {
        let what = format!("it is {num_attention_heads}, and `hidden_size` is {hidden_size}");
        t.problem("num_attention_heads", &what, "a divisor of `hidden_size`");
    }
    let sizes = ["image_size", "patch_size"];
    if wrong(t, &sizes) || wrong(outer, &["mm_tokens_per_image"]) {
        return;
    }
    let patches = image_size / patch_size;
    let (tokens, side) = (images.mm_tokens_per_image, images.mm_tokens_per_image.isqrt());
    let fits = side * side == tokens && patches.checked_div(patches / side) == Some(side);
    if !fits {
        let what = format!("it is {tokens}, and a picture of {image_size} pixels has {patches} x {patches} patches");
        outer.problem("mm_tokens_per_image", &what, "a square number of tokens, on each of which as many patches fall");
    }
}

#[cfg(test)]
mod tests {
    use crate::error::Error;
    use crate::model::gemma3::TextConfig;
    use serde_json::{Value, json};
    use std::path::Path;

    fn read(vision: Value, beside: Value) -> Result<(TextConfig, Vec<String>), String> {
        let text = json!({"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 7, "sliding_window": 8});
        let mut config = json!({"model_type": "gemma3", "text_config": text, "vision_config": vision});
        config.as_object_mut().unwrap().extend(beside.as_object().unwrap().clone());
        let told = |error: Error| error.iter().map(Error::what).collect::<Vec<_>>().join("\n");
        TextConfig::from_hf_json(&config.to_string(), Path::new("config.json")).map_err(told)
    }

    #[test]
    fn a_published_tower_is_read() {
        let images = crate::model::gemma3::published("google/gemma-3-4b-it").unwrap().unwrap().images.unwrap();
        let vision = &images.vision_config;
        assert_eq!((vision.hidden_size, vision.intermediate_size, vision.num_hidden_layers), (1152, 4304, 27));
        assert_eq!((vision.num_attention_heads, vision.head_dim(), vision.num_patches()), (16, 72, 4096));
        assert_eq!((vision.num_channels, vision.layer_norm_eps), (3, 1e-6));
        assert_eq!((images.mm_tokens_per_image, images.image_token_index), (256, 262_144));
        assert_eq!((images.boi_token_index, images.eoi_token_index), (255_999, 256_000));
        assert_eq!(vision.tensors().len(), 2 + 27 * 16 + 2 + 1);
    }

    #[test]
    fn a_checkpoint_without_a_tower_reads_text_alone() {
        assert_eq!(read(Value::Null, json!({})).unwrap().0.images, None);
    }

    #[test]
    fn every_key_that_changes_numbers_is_used_or_refused() {
        let small = json!({"image_size": 56, "patch_size": 14, "vision_use_head": false, "torch_dtype": "bfloat16"});
        let (config, ignored) = read(small.clone(), json!({"mm_tokens_per_image": 4, "image_token_id": 9})).unwrap();
        let images = config.images.unwrap();
        assert_eq!((images.mm_tokens_per_image, images.image_token_index), (4, 9));
        assert_eq!(ignored, ["vision_config.torch_dtype"]);
        for (key, value, says) in [
            ("model_type", json!("clip_vision_model"), "`vision_config.model_type`: it is \"clip_vision_model\""),
            ("hidden_act", json!("gelu"), "`vision_config.hidden_act`: it is \"gelu\""),
            ("attention_dropout", json!(0.1), "`vision_config.attention_dropout`: it is 0.1"),
            ("num_attention_heads", json!(7), "`vision_config.num_attention_heads`: it is 7, and `hidden_size` is 768"),
            ("image_size", json!([56, 28]), "`vision_config.image_size`: it is [56,28]"),
            ("image_size", json!(13), "`mm_tokens_per_image`: it is 4, and a picture of 13 pixels has 0 x 0 patches"),
            ("layer_norm_eps", json!(0), "`vision_config.layer_norm_eps`: it is 0"),
            ("layer_scale", json!(0.1), "`vision_config.layer_scale`: it is 0.1, and this program does not act on"),
        ] {
            let mut vision = small.clone();
            vision[key] = value;
            let told = read(vision, json!({"mm_tokens_per_image": 4})).unwrap_err();
            assert!(told.contains(says), "{told}");
        }
        for (key, value, says) in [
            ("mm_tokens_per_image", json!(5), "`mm_tokens_per_image`: it is 5"),
            ("mm_tokens_per_image", json!(9), "has 4 x 4 patches"),
            ("image_token_index", json!("x"), "`image_token_index`: it is \"x\"; supported: a token id"),
        ] {
            let told = read(small.clone(), json!({ key: value })).unwrap_err();
            assert!(told.contains(says), "{told}");
        }
    }
}
