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
