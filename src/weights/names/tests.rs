use super::*;
use std::collections::HashSet;

fn all(layers: &[usize]) -> Vec<TensorId> {
    let mut ids: Vec<TensorId> = SINGLE.iter().map(|single| single.0).collect();
    ids.extend(NUMBERED.iter().flat_map(|(id, ..)| layers.iter().map(|&number| id(number))));
    for &layer in layers {
        ids.extend(Projection::ALL.map(|p| TensorId::Projection(layer, p)));
        ids.extend(LayerNorm::ALL.map(|n| TensorId::LayerNorm(layer, n)));
    }
    ids
}

#[test]
fn names_and_ids_are_in_bijection() {
    let ids = all(&[0, 1, 10, 61, usize::MAX]);
    for id in &ids {
        assert_eq!(TensorId::parse_hf(&id.hf()), Some(*id));
        assert_eq!(TensorId::parse_gguf(&id.gguf()), Some(*id));
        for spelling in Spelling::ALL {
            let (found, back) = Spelling::parse(&spelling.name(id)).unwrap();
            assert_eq!(back, *id);
            assert!(found == spelling || matches!(id, TensorId::LmHead | TensorId::Score));
        }
    }
    assert_eq!(ids.iter().map(TensorId::hf).collect::<HashSet<_>>().len(), ids.len());
    assert_eq!(ids.iter().map(TensorId::gguf).collect::<HashSet<_>>().len(), ids.len());
}

#[test]
fn the_tables_are_in_the_order_of_their_enums() {
    assert_eq!(PROJECTIONS.map(|p| p.0), Projection::ALL);
    assert_eq!(LAYER_NORMS.map(|n| n.0), LayerNorm::ALL);
    for (projection, hf, short, _) in PROJECTIONS {
        assert_eq!((projection.hf(), projection.short()), (hf, short));
        assert!(format!(".{hf}").ends_with(&format!(".{short}")));
    }
}

#[test]
fn names_are_those_of_the_published_files() {
    let up = TensorId::Projection(3, Projection::Up);
    assert_eq!(up.hf(), "model.layers.3.mlp.up_proj.weight");
    assert_eq!(up.gguf(), "blk.3.ffn_up.weight");
    let pre = TensorId::LayerNorm(0, LayerNorm::PreFeedforwardLayernorm);
    assert_eq!(
        (pre.hf().as_str(), pre.gguf().as_str()),
        ("model.layers.0.pre_feedforward_layernorm.weight", "blk.0.ffn_norm.weight",)
    );
    assert_eq!(Spelling::LanguageModelOutside.name(&TensorId::LmHead), "language_model.lm_head.weight");
    assert_eq!(Spelling::LanguageModelInside.name(&TensorId::LmHead), "lm_head.weight");
    assert!(Spelling::ALL.iter().all(|spelling| spelling.name(&TensorId::Score) == "score.weight"));
    assert_eq!(parse_peft_whole_key(&peft_whole_key(&TensorId::Score)), Some(TensorId::Score));
    assert_eq!(peft_whole_key(&TensorId::Score), "base_model.model.score.weight");
    let scale = TensorId::LayerNorm(7, LayerNorm::CorrectScale);
    let scale = (Spelling::LanguageModelInside.name(&scale), scale.gguf());
    assert_eq!(scale.0, "model.language_model.layers.7.altup.correct_output_scale");
    assert_eq!(scale.1, "blk.7.altup_correct_scale.weight");
    let stream = Spelling::LanguageModelInside.name(&TensorId::AltupUnembedProjection(2));
    assert_eq!(stream, "model.language_model.altup_unembed_projections.2.weight");
}

#[test]
fn a_list_is_one_tensor_of_a_gguf_file() {
    for id in all(&[0, 2, usize::MAX]) {
        let of_list = matches!(id, TensorId::AltupProjection(_) | TensorId::AltupUnembedProjection(_));
        assert_eq!(id.stack().is_some(), of_list, "{id}");
        if let Some((name, place)) = id.stack() {
            assert_eq!(TensorId::of_stack(&name).unwrap()(place), id);
            assert_eq!(TensorId::parse_gguf(&name), None, "{name}");
        }
    }
    assert_eq!(TensorId::AltupProjection(2).stack(), Some(("altup_proj.weight".into(), 2)));
    assert!(TensorId::of_stack("altup_proj.2.weight").is_none());
}

#[test]
fn look_alikes_are_not_names() {
    for name in [
        "model.layers.03.mlp.up_proj.weight",
        "model.layers.+3.mlp.up_proj.weight",
        "model.layers.99999999999999999999.mlp.up_proj.weight",
        "model.layers.3.mlp.up_proj.bias",
        "model.layers.3.mlp.up_proj",
        "model.layers.mlp.up_proj.weight",
        "model.vision_tower.encoder.layers.3.mlp.fc3.weight",
        "model.layers.3.altup.correct_output_scale.weight",
        "model.layers.3.input_layernorm",
        "model.altup_projections.01.weight",
        "model.altup_projections.1.bias",
        "model.altup_projections.weight",
        "",
    ] {
        assert_eq!(Spelling::parse(name), None, "{name}");
    }
    assert_eq!(TensorId::parse_gguf("blk.3.attn_norm_2.weight"), None);
}

#[test]
fn the_spelling_is_detected_among_other_towers() {
    let vision = "vision_tower.vision_model.encoder.layers.0.layer_norm1.weight";
    let embed = Spelling::LanguageModelOutside.name(&TensorId::EmbedTokens);
    assert_eq!(Spelling::detect([vision, &embed]), Some(Spelling::LanguageModelOutside));
    let head_first = ["lm_head.weight", "model.language_model.norm.weight"];
    assert_eq!(Spelling::detect(head_first), Some(Spelling::LanguageModelInside));
    assert_eq!(Spelling::detect([vision]), None);
}

#[test]
fn a_tower_lies_beside_the_language_model_in_its_spelling() {
    let q = TensorId::Vision(VisionTensor::Weight(VisionModule::Projection(1, VisionProjection::Q)));
    let norm = TensorId::Vision(VisionTensor::MmSoftEmbNorm);
    for (spelling, prefix) in [(Spelling::LanguageModelOutside, ""), (Spelling::LanguageModelInside, "model.")] {
        assert_eq!(spelling.name(&q), format!("{prefix}vision_tower.encoder.layers.1.self_attn.q_proj.weight"));
        for id in [q, norm] {
            assert_eq!(Spelling::parse(&spelling.name(&id)), Some((spelling, id)));
        }
    }
    let key = peft_key(true, &q, LORA_A);
    assert_eq!(key, "base_model.model.model.vision_tower.encoder.layers.1.self_attn.q_proj.lora_A.weight");
    for key in [key.clone(), key.replace("vision_tower.", "vision_tower.vision_model.")] {
        assert_eq!(parse_peft_key(&key), Some((Spelling::LanguageModelInside, q, LORA_A)), "{key}");
    }
    assert_eq!(parse_peft_key("base_model.model.model.vision_tower.post_layernorm.lora_A.weight"), None);
    assert!(q.is_linear() && !norm.is_linear() && !q.is_of_text());
}

#[test]
fn what_listens_lies_beside_the_language_model_too() {
    let post = AudioModule::Projection(1, AudioProjection::Post);
    let (post, scale) = (AudioTensor::Weight(post), AudioTensor::PerDimScale(0));
    let (post, scale) = (TensorId::Audio(post), TensorId::Audio(scale));
    for (spelling, prefix) in [(Spelling::LanguageModelOutside, ""), (Spelling::LanguageModelInside, "model.")] {
        assert_eq!(spelling.name(&post), format!("{prefix}audio_tower.conformer.1.attention.post.weight"));
        assert_eq!(spelling.name(&scale), format!("{prefix}audio_tower.conformer.0.attention.attn.per_dim_scale"));
        for id in [post, scale] {
            assert_eq!(Spelling::parse(&spelling.name(&id)), Some((spelling, id)));
        }
    }
    let key = peft_key(true, &post, LORA_B);
    assert_eq!(key, "base_model.model.model.audio_tower.conformer.1.attention.post.lora_B.weight");
    assert_eq!(parse_peft_key(&key), Some((Spelling::LanguageModelInside, post, LORA_B)));
    assert_eq!(parse_peft_key("base_model.model.model.audio_tower.conformer.1.norm.lora_A.weight"), None);
    assert!(post.is_linear() && !scale.is_linear() && !post.is_of_text() && !post.is_compressible());
}

#[test]
fn adapter_keys_are_those_of_peft() {
    let key = peft_key(false, &TensorId::Projection(0, Projection::Q), LORA_A);
    assert_eq!(key, "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight");
    let key = peft_key(true, &TensorId::Projection(12, Projection::Down), LORA_B);
    assert_eq!(key, "base_model.model.model.language_model.layers.12.mlp.down_proj.lora_B.weight");
    let key = peft_key(false, &TensorId::Projection(0, Projection::Q), LORA_MAGNITUDE);
    assert_eq!(key, "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector");
    for (multimodal, spelling) in [(false, Spelling::Text), (true, Spelling::LanguageModelInside)] {
        for weight in TensorId::linears(7) {
            for part in [LORA_A, LORA_B, LORA_MAGNITUDE] {
                let key = peft_key(multimodal, &weight, part);
                assert_eq!(parse_peft_key(&key), Some((spelling, weight, part)), "{key}");
            }
        }
    }
    let older = "base_model.model.language_model.model.layers.1.mlp.up_proj.lora_A.default.weight";
    let up = TensorId::Projection(1, Projection::Up);
    assert_eq!(parse_peft_key(older), Some((Spelling::LanguageModelOutside, up, LORA_A)));
    assert_eq!(parse_peft_key("base_model.model.model.layers.0.input_layernorm.lora_A.weight"), None);
    assert_eq!(parse_peft_key("base_model.model.lm_head.lora_A.weight"), None);
    assert_eq!(parse_peft_key("lora_A.weight"), None);
}
