//! `vision_config.model_args`: what timm's `mobilenetv5_300m_enc` is called with, its blocks as `decode_arch_def` gives
//! them. What is left out is as in the published tower.

use super::truth;
use crate::error::Error;
use crate::model::gemma3::config::hf::table::{Table, brief};
use crate::model::gemma3::config::limit;
use crate::model::vision::mobilenet::{BlockConfig, BlockKind, MobileNetConfig, config, published};
use serde_json::Value;
use std::ops::RangeInclusive;

/// Stages; with more of them timm would widen kernels instead of halving the picture.
const STAGES: usize = 4;
const KERNEL: u64 = 63;
const RATIO: RangeInclusive<f64> = 1e-3..=1e3;

/// Reads the tower from the `model_args` of `t`. A problem inside of them is one of that key.
pub(super) fn read(t: &mut Table) -> MobileNetConfig {
    let Some(mut args) = t.nested("model_args") else { return MobileNetConfig::published() };
    let mut problems = Vec::new();
    args.unsupported_unless("in_chans", 3);
    args.unsupported_unless("pad_type", "same");
    args.unsupported_unless("stem_bias", true);
    args.unsupported_unless("drop_path_rate", 0.0);
    args.unsupported_unless("features_only", false);
    // It is used nowhere in an encoder.
    args.take("drop_rate");
    // What training would begin with; without it there would be no scales.
    args.positive("layer_scale_init_value", 1e-5, limit::EPS);
    let multiplier = args.positive("channel_multiplier", 1.0, RATIO);
    let fix_stem = truth(&mut args, "fix_stem", multiplier < 1.0);
    let stem = args.size("stem_size", published::STEM_SIZE, limit::HIDDEN);
    let stem_size = if fix_stem { stem } else { config::divisible(stem as f64 * multiplier) };
    let resolution = args.size("msfa_output_resolution", published::MSFA_OUTPUT_RESOLUTION, limit::PIXELS);
    let listed = args.take("block_args").filter(|value| !value.is_null());
    let stages = listed.and_then(|listed| stages(&mut args, listed, &mut problems));
    args.refuse_unused();
    problems.extend(args.into_problems());
    t.adopt("model_args", problems);
    MobileNetConfig {
        stem_size,
        stages: MobileNetConfig::chained(stem_size, stages.unwrap_or_else(published::stages), multiplier),
        hidden_size: published::HIDDEN_SIZE,
        msfa_output_resolution: resolution,
    }
}

/// The blocks of each stage; `None`, and a problem, where they are no list of lists of objects.
fn stages(args: &mut Table, listed: &Value, problems: &mut Vec<Error>) -> Option<Vec<Vec<BlockConfig>>> {
    let supported = format!("a list of 1 to {STAGES} lists of blocks");
    let lists = listed.as_array().and_then(|stages| stages.iter().map(Value::as_array).collect::<Option<Vec<_>>>());
    let Some(lists) = lists.filter(|stages| (1..=STAGES).contains(&stages.len())) else {
        args.problem("block_args", &format!("it is {}", brief(listed)), &supported);
        return None;
    };
    let blocks: usize = lists.iter().map(|stage| stage.len()).sum();
    if lists.iter().any(|stage| stage.is_empty()) || blocks > limit::LAYERS as usize {
        let sizes: Vec<usize> = lists.iter().map(|stage| stage.len()).collect();
        args.problem("block_args", &format!("its stages have {sizes:?} blocks"), "some in each, and no thousands");
        return None;
    }
    let mut read = Vec::new();
    for (stage, blocks) in lists.into_iter().enumerate() {
        let mut of_stage = Vec::new();
        for (index, block) in blocks.iter().enumerate() {
            let place = format!("block_args[{stage}][{index}]");
            let Some(map) = block.as_object() else {
                args.problem("block_args", &format!("`{place}` is {}", brief(block)), "a JSON object");
                return None;
            };
            let mut t = args.at(map, &place);
            of_stage.extend(self::block(&mut t, index));
            t.refuse_unused();
            problems.extend(t.into_problems());
        }
        read.push(of_stage);
    }
    // One that could not be read is a problem of its own.
    read.iter().all(|stage| !stage.is_empty()).then_some(read)
}

/// The block `index` of a stage, before its channels are known.
fn block(t: &mut Table, index: usize) -> Option<BlockConfig> {
    t.unsupported_unless("act_layer", Value::Null);
    t.unsupported_unless("se_ratio", 0.0);
    let out_channels = t.required_size("out_chs", limit::HIDDEN);
    let skip = !truth(t, "noskip", false);
    let stride = t.required_size("stride", 2);
    // timm takes the steps of a stage's first block alone.
    let stride = if index == 0 { stride } else { 1 };
    let kind = t.take("block_type").cloned().unwrap_or_default();
    if index == 0 && stride != 2 && !t.is_wrong("stride") {
        t.problem("stride", "it is 1 in the first block of a stage", "2, as every stage halves the picture");
    }
    let kind = match kind.as_str() {
        Some("er") => {
            t.unsupported_unless("pw_kernel_size", 1);
            t.unsupported_unless("force_in_chs", 0);
            t.unsupported_unless("group_size", 0);
            let kernel = t.size("exp_kernel_size", 3, KERNEL);
            BlockKind::EdgeResidual { kernel, exp_ratio: t.positive("exp_ratio", 1.0, RATIO) }
        }
        Some("uir") => {
            t.unsupported_unless("group_size", 1);
            let [start, mid, end] = [("start", 0), ("mid", 3), ("end", 0)]
                .map(|(place, default)| super::from_zero(t, &format!("dw_kernel_size_{place}"), default, KERNEL));
            if stride > 1 && [start, mid, end] == [0; 3] {
                t.problem("stride", "it is 2, and the block has no convolution that could make it", "1");
            }
            BlockKind::UniversalInvertedResidual { start, mid, end, exp_ratio: t.positive("exp_ratio", 1.0, RATIO) }
        }
        Some("mqa") => {
            t.unsupported_unless("group_size", 1);
            let num_heads = t.size("num_heads", 8, limit::HEADS);
            let key_dim = t.size("key_dim", 64, limit::HEAD_DIM);
            t.unsupported_unless("value_dim", key_dim);
            let (kv_stride, kernel) = (t.size("kv_stride", 1, KERNEL), t.size("dw_kernel_size", 3, KERNEL));
            if stride != 1 {
                t.problem("stride", "it is 2, and attention makes no picture smaller", "1");
            }
            BlockKind::MobileAttention { num_heads, key_dim, kv_stride, kernel }
        }
        _ => {
            t.problem("block_type", &format!("it is {}", brief(&kind)), "`er`, `uir` or `mqa`");
            return None;
        }
    };
    Some(BlockConfig { in_channels: 0, out_channels, stride, skip, kind })
}
