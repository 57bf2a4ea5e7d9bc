//! The `vision_config` of a multimodal file, and what stands beside it for pictures.
//!
//! Absent keys have the defaults of transformers' `Gemma3nVisionConfig` and `Gemma3nConfig`.

use super::{embedder, mobilenet};
use crate::model::gemma3::config::hf::images::token;
use crate::model::gemma3::config::hf::table::Table;
use crate::model::gemma3::config::limit;
use crate::model::gemma3n::config::ImageConfig;
use crate::model::vision::mobilenet::published;
use crate::weights::names::Embedder;

const TOWER: &str = "mobilenetv5_300m_enc";

/// Reads the tower's keys from `t` and the others from `outer`. Problems stay in the tables.
pub(super) fn read(t: &mut Table, outer: &mut Table) -> ImageConfig {
    t.unsupported_unless("model_type", "gemma3n_vision");
    t.unsupported_unless("architecture", TOWER);
    t.unsupported_unless("do_pooling", false);
    // timm gives every encoder of this kind as many channels.
    t.unsupported_unless("hidden_size", published::HIDDEN_SIZE);
    // Of a classifier's head, which an encoder has not.
    for key in ["label_names", "num_classes", "num_labels", "id2label", "label2id"] {
        t.take(key);
    }
    let images = ImageConfig {
        has_tower: true,
        vision_config: mobilenet::read(t),
        embed_vision: embedder::read(t, Embedder::Vision, published::HIDDEN_SIZE, 262_144),
        vision_soft_tokens_per_image: outer.size("vision_soft_tokens_per_image", 256, limit::SOFT_TOKENS),
        boi_token_id: token(outer, "boi_token", 255_999),
        eoi_token_id: token(outer, "eoi_token", 262_144),
        image_token_id: token(outer, "image_token", 262_145),
    };
    let (tokens, cells) = (images.vision_soft_tokens_per_image, images.vision_config.num_tokens());
    // Where one of them is wrong itself, that they do not fit would be no news.
    if tokens != cells && !t.is_wrong("model_args") && !outer.is_wrong("vision_soft_tokens_per_image") {
        let what = format!("it is {tokens}, and the tower gives {cells} of a picture");
        outer.problem("vision_soft_tokens_per_image", &what, &cells.to_string());
    }
    images
}

#[cfg(test)]
mod tests {
    use crate::error::Error;
    use crate::model::gemma3n::TextConfig;
    use crate::model::vision::mobilenet::{BlockKind, MobileNetConfig};
    use serde_json::{Value, json};
    use std::path::Path;

    fn read(vision: Value, tokens: u64) -> Result<(TextConfig, Vec<String>), String> {
        let text =
            json!({"model_type": "gemma3n_text", "num_hidden_layers": 4, "hidden_size": 64, "num_kv_shared_layers": 0});
        let config = json!({"model_type": "gemma3n", "text_config": text, "vision_config": vision,
                            "vision_soft_tokens_per_image": tokens});
        let told = |error: Error| error.iter().map(Error::what).collect::<Vec<_>>().join("\n");
        TextConfig::from_hf_json(&config.to_string(), Path::new("config.json")).map_err(told)
    }

    fn tower(args: Value) -> MobileNetConfig {
        read(json!({"model_args": args}), 4).unwrap().0.images.unwrap().vision_config
    }

    fn small() -> Value {
        json!({"stem_size": 8, "msfa_output_resolution": 2, "block_args": [
            [{"block_type": "er", "out_chs": 10, "stride": 2, "exp_kernel_size": 3, "exp_ratio": 4.0, "noskip": false,
              "act_layer": null, "se_ratio": 0.0, "pw_kernel_size": 1, "force_in_chs": 0}],
            [{"block_type": "uir", "out_chs": 24, "stride": 2, "dw_kernel_size_start": 5, "dw_kernel_size_mid": 0,
              "dw_kernel_size_end": 0, "exp_ratio": 1.5},
             {"block_type": "mqa", "out_chs": 24, "stride": 1, "num_heads": 2, "key_dim": 16, "value_dim": 16,
              "kv_stride": 2, "dw_kernel_size": 3},
             {"block_type": "uir", "out_chs": 24, "stride": 2, "noskip": true, "dw_kernel_size_mid": 0}]]})
    }

    #[test]
    fn a_published_tower_is_read() {
        let images = crate::model::gemma3n::published("google/gemma-3n-E2B-it").unwrap().unwrap().images.unwrap();
        assert_eq!(images.vision_config, MobileNetConfig::published());
        assert_eq!((images.vision_soft_tokens_per_image, images.image_token_id), (256, 262_145));
        assert_eq!((images.boi_token_id, images.eoi_token_id), (255_999, 262_144));
        assert_eq!((images.embed_vision.words(), images.embed_vision.hidden_size), (262_144..262_272, 2048));
        assert_eq!(images.tensors(2048).len(), 548 + 4);
        // As the Hub has it, with what an image classifier would have.
        let hub = json!({"architecture": "mobilenetv5_300m_enc", "do_pooling": false, "hidden_size": 2048,
            "initializer_range": 0.02, "label_names": ["LABEL_0", "LABEL_1"], "model_args": null,
            "model_type": "gemma3n_vision", "num_classes": 2, "rms_norm_eps": 1e-6, "torch_dtype": "bfloat16",
            "vocab_offset": 262_144, "vocab_size": 128});
        let (config, ignored) = read(hub, 256).unwrap();
        assert_eq!(config.images.unwrap().vision_config, MobileNetConfig::published());
        assert_eq!(ignored, ["vision_config.initializer_range", "vision_config.torch_dtype"]);
    }

    #[test]
    fn a_tower_of_other_blocks_is_read() {
        let read = tower(small());
        let channels = |stage: &Vec<_>| stage.iter().map(|b: &_| channels_of(b)).collect::<Vec<_>>();
        assert_eq!(
            read.stages.iter().map(channels).collect::<Vec<_>>(),
            [vec![[8, 16, 32]], vec![[16, 24, 24], [24, 24, 0], [24, 24, 24]]]
        );
        assert_eq!(
            read.stages[1].iter().map(|block| (block.stride, block.has_skip())).collect::<Vec<_>>(),
            [(2, false), (1, true), (1, false)],
            "only a stage's first block takes steps"
        );
        assert_eq!(
            read.stages[1][1].kind,
            BlockKind::MobileAttention { num_heads: 2, key_dim: 16, kv_stride: 2, kernel: 3 }
        );
        assert_eq!((read.fused_channels(), read.num_tokens()), (16 + 24, 4));
        // The published blocks with a twentieth of the channels, and the stem as it is.
        let narrow = tower(json!({"channel_multiplier": 0.05, "msfa_output_resolution": 2}));
        assert_eq!((narrow.stem_size, narrow.stages.iter().map(Vec::len).sum::<usize>()), (64, 84));
        assert_eq!(narrow.stages.iter().map(|stage| stage[0].out_channels).collect::<Vec<_>>(), [8, 16, 32, 64]);
        assert_eq!(
            tower(json!({"channel_multiplier": 0.5, "fix_stem": false, "msfa_output_resolution": 2})).stem_size,
            32
        );
    }

    fn channels_of(block: &crate::model::vision::mobilenet::BlockConfig) -> [usize; 3] {
        [block.in_channels, block.out_channels, block.expanded()]
    }

    #[test]
    fn every_key_that_changes_numbers_is_used_or_refused() {
        for (key, value, says) in [
            ("model_type", json!("siglip_vision_model"), "`vision_config.model_type`: it is \"siglip_vision_model\""),
            ("architecture", json!("mobilenetv4"), "`vision_config.architecture`: it is \"mobilenetv4\""),
            ("hidden_size", json!(1024), "`vision_config.hidden_size`: it is 1024; supported: 2048"),
            ("do_pooling", json!(true), "`vision_config.do_pooling`: it is true"),
            ("vocab_offset", json!(-1), "`vision_config.vocab_offset`: it is -1"),
            ("vocab_size", json!(0), "`vision_config.vocab_size`: it is 0"),
            ("model_args", json!([1]), "`vision_config.model_args`: it is [1]; supported: a JSON object"),
            ("norm_layer", json!("x"), "`vision_config.norm_layer`: it is \"x\", and this program does not act on"),
        ] {
            let mut vision = json!({"model_args": small()});
            vision[key] = value;
            let told = read(vision, 4).unwrap_err();
            assert!(told.contains(says), "{told}");
        }
        for (key, value, says) in [
            (
                "act_layer",
                json!("relu"),
                "`vision_config.model_args.act_layer`: it is \"relu\", and this program does not act",
            ),
            ("pad_type", json!(""), "`vision_config.model_args.pad_type`: it is \"\"; supported: \"same\""),
            ("layer_scale_init_value", Value::Null, "`vision_config.model_args.layer_scale_init_value`: it is null"),
            ("channel_multiplier", json!(0), "`vision_config.model_args.channel_multiplier`: it is 0"),
            ("block_args", json!([[]]), "its stages have [0] blocks"),
            ("block_args", json!([[], [], [], [], []]), "supported: a list of 1 to 4 lists of blocks"),
            ("block_args", json!([["er_r1_k3_s2_e4_c16"]]), "`block_args[0][0]` is \"er_r1_k3_s2_e4_c16\""),
        ] {
            let mut args = small();
            args[key] = value;
            let told = read(json!({"model_args": args}), 4).unwrap_err();
            assert!(told.contains(says), "{told}");
        }
        for (at, key, value, says) in [
            ([0, 0], "block_type", json!("cn"), "`vision_config.model_args.block_args[0][0].block_type`: it is \"cn\""),
            ([0, 0], "se_ratio", json!(0.25), "block_args[0][0].se_ratio`: it is 0.25"),
            ([0, 0], "exp_kernel_size", json!([3, 5]), "block_args[0][0].exp_kernel_size`: it is [3,5]"),
            ([0, 0], "stride", json!(1), "it is 1 in the first block of a stage"),
            ([1, 0], "dw_kernel_size_start", json!(0), "the block has no convolution that could make it"),
            ([1, 0], "dilation", json!(2), "block_args[1][0].dilation`: it is 2, and this program does not act on"),
            ([1, 1], "value_dim", json!(8), "block_args[1][1].value_dim`: it is 8; supported: 16"),
            ([1, 1], "out_chs", Value::Null, "block_args[1][1].out_chs`: it is null"),
        ] {
            let mut args = small();
            args["block_args"][at[0]][at[1]][key] = value;
            let told = read(json!({"model_args": args}), 4).unwrap_err();
            assert!(told.contains(says), "{told}");
        }
        let told = read(json!({"model_args": small()}), 5).unwrap_err();
        assert!(told.contains("`vision_soft_tokens_per_image`: it is 5, and the tower gives 4 of a picture"), "{told}");
    }
}
