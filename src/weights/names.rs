//! The one table of tensor names: Hugging Face, GGUF and PEFT.
//!
//! [`TensorId`] names a tensor of a model; every other spelling is made from it and read back into it here. Multimodal
//! checkpoints hold the same language model under a prefix, which is [`Spelling`], and a tower beside it.

mod audio;
mod embedder;
mod kinds;
mod mobilenet;
mod part;
mod vision;

pub use audio::{AudioModule, AudioNorm, AudioProjection, AudioTensor};
pub use embedder::{Embedder, EmbedderTensor};
pub use mobilenet::{BlockTensor, MobileNetTensor};
pub use part::ModelPart;
use std::fmt;
pub use vision::{PROJECTOR, VisionModule, VisionProjection, VisionTensor};

/// PEFT's name of the matrix that a projection's input meets first, `[r, in]`.
pub const LORA_A: &str = "lora_A";
/// PEFT's name of the matrix that gives the projection's output, `[out, r]`.
pub const LORA_B: &str = "lora_B";
/// PEFT's name of DoRA's magnitudes, `[out]`.
pub const LORA_MAGNITUDE: &str = "lora_magnitude_vector";

const PEFT_PREFIX: &str = "base_model.model.";

/// A matrix of a decoder layer that an adapter can target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Projection {
    /// Queries, `[h * e, d]`.
    Q,
    /// Keys, `[g * e, d]`.
    K,
    /// Values, `[g * e, d]`.
    V,
    /// Attention output, `[d, h * e]`.
    O,
    /// The gate of the MLP, `[f, d]`.
    Gate,
    /// The MLP's other input matrix, `[f, d]`.
    Up,
    /// The MLP's output, `[d, f]`.
    Down,
    /// Gemma 3n: what the layer makes of its per-layer input's gate, `[p, d]`.
    PerLayerGate,
    /// Gemma 3n: the gated per-layer input, `[d, p]`.
    PerLayerProjection,
    /// Gemma 3n: into LAuReL's narrow space, `[l, d]`.
    LaurelLeft,
    /// Gemma 3n: out of it, `[d, l]`.
    LaurelRight,
    /// Gemma 3n: what AltUp weighs streams by, `[s, d]`.
    AltupRouter,
    /// Gemma 3n: how AltUp mixes streams before the layer, `[s s, s]`.
    AltupPrediction,
    /// Gemma 3n: how much of what the layer did each stream gets, `[s, s]`.
    AltupCorrection,
}

/// Per projection: path in a Hugging Face layer, last part of that path, name in a GGUF block.
const PROJECTIONS: [(Projection, &str, &str, &str); 14] = [
    (Projection::Q, "self_attn.q_proj", "q_proj", "attn_q"),
    (Projection::K, "self_attn.k_proj", "k_proj", "attn_k"),
    (Projection::V, "self_attn.v_proj", "v_proj", "attn_v"),
    (Projection::O, "self_attn.o_proj", "o_proj", "attn_output"),
    (Projection::Gate, "mlp.gate_proj", "gate_proj", "ffn_gate"),
    (Projection::Up, "mlp.up_proj", "up_proj", "ffn_up"),
    (Projection::Down, "mlp.down_proj", "down_proj", "ffn_down"),
    (Projection::PerLayerGate, "per_layer_input_gate", "per_layer_input_gate", "inp_gate"),
    (Projection::PerLayerProjection, "per_layer_projection", "per_layer_projection", "proj"),
    (Projection::LaurelLeft, "laurel.linear_left", "linear_left", "laurel_l"),
    (Projection::LaurelRight, "laurel.linear_right", "linear_right", "laurel_r"),
    (Projection::AltupRouter, "altup.modality_router", "modality_router", "altup_router"),
    (Projection::AltupPrediction, "altup.prediction_coefs", "prediction_coefs", "altup_predict_coef"),
    (Projection::AltupCorrection, "altup.correction_coefs", "correction_coefs", "altup_correct_coef"),
];

impl Projection {
    /// The seven of attention and feed-forward that every architecture has, in the order of a forward pass.
    pub const SEVEN: [Projection; 7] = [
        Projection::Q,
        Projection::K,
        Projection::V,
        Projection::O,
        Projection::Gate,
        Projection::Up,
        Projection::Down,
    ];

    /// All of any architecture.
    pub const ALL: [Projection; 14] = [
        Projection::Q,
        Projection::K,
        Projection::V,
        Projection::O,
        Projection::Gate,
        Projection::Up,
        Projection::Down,
        Projection::PerLayerGate,
        Projection::PerLayerProjection,
        Projection::LaurelLeft,
        Projection::LaurelRight,
        Projection::AltupRouter,
        Projection::AltupPrediction,
        Projection::AltupCorrection,
    ];

    /// Whether it is one of AltUp's few numbers, which decide about whole streams and are never compressed.
    pub fn is_coefficient(self) -> bool {
        matches!(self, Projection::AltupRouter | Projection::AltupPrediction | Projection::AltupCorrection)
    }

    fn names(self) -> (Projection, &'static str, &'static str, &'static str) {
        PROJECTIONS[self as usize]
    }

    /// The path inside a Hugging Face layer: `self_attn.q_proj`.
    pub fn hf(self) -> &'static str {
        self.names().1
    }

    /// The module's own name, as in `target_modules`: `q_proj`.
    pub fn short(self) -> &'static str {
        self.names().2
    }

    /// The name inside a GGUF block: `attn_q`.
    pub fn gguf(self) -> &'static str {
        self.names().3
    }
}

/// A norm of a decoder layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LayerNorm {
    /// Before attention, `[d]`.
    InputLayernorm,
    /// After attention, before the residual sum, `[d]`.
    PostAttentionLayernorm,
    /// Before the MLP, `[d]`.
    PreFeedforwardLayernorm,
    /// After the MLP, before the residual sum, `[d]`.
    PostFeedforwardLayernorm,
    /// Over each query head, `[e]`.
    QNorm,
    /// Over each key head, `[e]`.
    KNorm,
    /// Gemma 3n: after LAuReL, before its residual sum, `[d]`.
    PostLaurelNorm,
    /// Gemma 3n: after the per-layer input's projection, `[d]`.
    PostPerLayerInputNorm,
    /// Gemma 3n: before AltUp's router, `[d]`.
    RouterNorm,
    /// Gemma 3n: no norm, but as long as one: what AltUp's active stream is multiplied by, `[d]`.
    CorrectScale,
}

/// Per norm: path in a Hugging Face layer, name in a GGUF block.
const LAYER_NORMS: [(LayerNorm, &str, &str); 10] = [
    (LayerNorm::InputLayernorm, "input_layernorm", "attn_norm"),
    (LayerNorm::PostAttentionLayernorm, "post_attention_layernorm", "post_attention_norm"),
    (LayerNorm::PreFeedforwardLayernorm, "pre_feedforward_layernorm", "ffn_norm"),
    (LayerNorm::PostFeedforwardLayernorm, "post_feedforward_layernorm", "post_ffw_norm"),
    (LayerNorm::QNorm, "self_attn.q_norm", "attn_q_norm"),
    (LayerNorm::KNorm, "self_attn.k_norm", "attn_k_norm"),
    (LayerNorm::PostLaurelNorm, "laurel.post_laurel_norm", "laurel_post_norm"),
    (LayerNorm::PostPerLayerInputNorm, "post_per_layer_input_norm", "post_norm"),
    (LayerNorm::RouterNorm, "altup.router_norm", "altup_router_norm"),
    (LayerNorm::CorrectScale, "altup.correct_output_scale", "altup_correct_scale"),
];

impl LayerNorm {
    /// The six of attention and feed-forward that every architecture has.
    pub const SIX: [LayerNorm; 6] = [
        LayerNorm::InputLayernorm,
        LayerNorm::PostAttentionLayernorm,
        LayerNorm::PreFeedforwardLayernorm,
        LayerNorm::PostFeedforwardLayernorm,
        LayerNorm::QNorm,
        LayerNorm::KNorm,
    ];

    /// All of any architecture.
    pub const ALL: [LayerNorm; 10] = [
        LayerNorm::InputLayernorm,
        LayerNorm::PostAttentionLayernorm,
        LayerNorm::PreFeedforwardLayernorm,
        LayerNorm::PostFeedforwardLayernorm,
        LayerNorm::QNorm,
        LayerNorm::KNorm,
        LayerNorm::PostLaurelNorm,
        LayerNorm::PostPerLayerInputNorm,
        LayerNorm::RouterNorm,
        LayerNorm::CorrectScale,
    ];

    /// The path inside a Hugging Face layer: `input_layernorm`.
    pub fn hf(self) -> &'static str {
        LAYER_NORMS[self as usize].1
    }

    /// The name inside a GGUF block: `attn_norm`.
    pub fn gguf(self) -> &'static str {
        LAYER_NORMS[self as usize].2
    }

    /// What follows the path in a Hugging Face name: nothing where the module itself is the parameter.
    fn suffix(self) -> &'static str {
        if self == LayerNorm::CorrectScale { "" } else { ".weight" }
    }
}

/// A tensor of a model; layers count from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TensorId {
    /// The embedding, `[v, d]`; also the head where the two are tied.
    EmbedTokens,
    /// A projection of a layer.
    Projection(usize, Projection),
    /// A norm of a layer.
    LayerNorm(usize, LayerNorm),
    /// The norm after the last layer, `[d]`.
    Norm,
    /// The head, `[v, d]`, where it is not tied to the embedding.
    LmHead,
    /// What judges texts: the head of a reward model, `[1, d]`, in the place of the one that makes logits.
    Score,
    /// What makes soft tokens of pictures in Gemma 3.
    Vision(VisionTensor),
    /// Gemma 3n: what looks at pictures.
    MobileNet(MobileNetTensor),
    /// Gemma 3n: what listens to sounds.
    Audio(AudioTensor),
    /// Gemma 3n: what makes rows of the model's width of what a tower gives.
    Embedder(Embedder, EmbedderTensor),
    /// Gemma 3n: what every layer is told of each word, `[v, L p]`.
    EmbedTokensPerLayer,
    /// Gemma 3n: what every layer is told of what is embedded, `[L p, d]`.
    PerLayerModelProjection,
    /// Gemma 3n: over each layer's part of that, `[p]`.
    PerLayerProjectionNorm,
    /// Gemma 3n: makes one of AltUp's further streams before the layers, `[d, d]`.
    AltupProjection(usize),
    /// Gemma 3n: what becomes of one of them after the layers, `[d, d]`.
    AltupUnembedProjection(usize),
}

/// Tensors outside the layers: Hugging Face name, GGUF name.
const SINGLE: [(TensorId, &str, &str); 7] = [
    (TensorId::EmbedTokens, "model.embed_tokens.weight", "token_embd.weight"),
    (TensorId::Norm, "model.norm.weight", "output_norm.weight"),
    (TensorId::LmHead, "lm_head.weight", "output.weight"),
    (TensorId::Score, "score.weight", "cls.output.weight"),
    (TensorId::EmbedTokensPerLayer, "model.embed_tokens_per_layer.weight", "per_layer_token_embd.weight"),
    (TensorId::PerLayerModelProjection, "model.per_layer_model_projection.weight", "per_layer_model_proj.weight"),
    (TensorId::PerLayerProjectionNorm, "model.per_layer_projection_norm.weight", "per_layer_proj_norm.weight"),
];

/// One of several tensors outside the layers, by its number.
type Numbered = fn(usize) -> TensorId;

/// Their lists: path in Hugging Face, name in GGUF, where a file has each list as one tensor, `altup_proj.weight`.
const NUMBERED: [(Numbered, &str, &str); 2] = [
    (TensorId::AltupProjection, "model.altup_projections", "altup_proj"),
    (TensorId::AltupUnembedProjection, "model.altup_unembed_projections", "altup_unembd_proj"),
];

impl TensorId {
    /// Whether it is one of these projections, of any layer.
    pub fn is_one_of(&self, projections: &[Projection]) -> bool {
        matches!(self, TensorId::Projection(_, projection) if projections.contains(projection))
    }

    /// The Hugging Face name in a text-only model: `model.layers.3.mlp.up_proj.weight`; what no text-only model has is
    /// named as a saved multimodal one names it.
    pub fn hf(&self) -> String {
        match *self {
            TensorId::Vision(tensor) => tensor.hf(),
            TensorId::MobileNet(tensor) => tensor.hf(),
            TensorId::Audio(tensor) => tensor.hf(),
            TensorId::Embedder(embedder, tensor) => embedder.hf(tensor),
            TensorId::Projection(layer, part) => format!("model.layers.{layer}.{}.weight", part.hf()),
            TensorId::LayerNorm(layer, part) => format!("model.layers.{layer}.{}{}", part.hf(), part.suffix()),
            TensorId::AltupProjection(number) => format!("{}.{number}.weight", NUMBERED[0].1),
            TensorId::AltupUnembedProjection(number) => format!("{}.{number}.weight", NUMBERED[1].1),
            single => SINGLE.iter().find(|s| s.0 == single).map(|s| s.1.to_owned()).unwrap_or_default(),
        }
    }

    /// The GGUF name: `blk.3.ffn_up.weight`; empty of what lies in another GGUF file. One of a list has a name of its own,
    /// `altup_proj.2.weight`, though files hold the list as one tensor: [`TensorId::stack`].
    pub fn gguf(&self) -> String {
        match *self {
            TensorId::Projection(layer, part) => format!("blk.{layer}.{}.weight", part.gguf()),
            TensorId::LayerNorm(layer, part) => format!("blk.{layer}.{}.weight", part.gguf()),
            TensorId::AltupProjection(number) => format!("{}.{number}.weight", NUMBERED[0].2),
            TensorId::AltupUnembedProjection(number) => format!("{}.{number}.weight", NUMBERED[1].2),
            single => SINGLE.iter().find(|s| s.0 == single).map(|s| s.2.to_owned()).unwrap_or_default(),
        }
    }

    /// Reads a text-only Hugging Face name; the inverse of [`TensorId::hf`].
    pub fn parse_hf(name: &str) -> Option<Self> {
        if let Some(single) = SINGLE.iter().find(|s| s.1 == name) {
            return Some(single.0);
        }
        if let Some(numbered) = NUMBERED.iter().find_map(|(id, path, _)| numbered(*id, name.strip_prefix(path)?)) {
            return Some(numbered);
        }
        let (layer, path) = layer_and_path(name.strip_prefix("model.layers.")?)?;
        let norm = LAYER_NORMS.iter().find(|n| path.strip_prefix(n.1) == Some(n.0.suffix()));
        if let Some(norm) = norm {
            return Some(TensorId::LayerNorm(layer, norm.0));
        }
        let path = path.strip_suffix(".weight")?;
        PROJECTIONS.iter().find(|p| p.1 == path).map(|p| TensorId::Projection(layer, p.0))
    }

    /// Reads a name of what is no part of a language model: its name in a saved checkpoint, or that of a module, which it
    /// says as well.
    fn parse_beside(name: &str) -> Option<(bool, Self)> {
        let vision = VisionTensor::parse(name).map(|(of_modules, tensor)| (of_modules, TensorId::Vision(tensor)));
        let mobilenet =
            || MobileNetTensor::parse(name).map(|(of_modules, part)| (of_modules, TensorId::MobileNet(part)));
        let audio = || AudioTensor::parse(name).map(|(of_modules, tensor)| (of_modules, TensorId::Audio(tensor)));
        let embedder =
            || Embedder::parse(name).map(|(of_modules, of, part)| (of_modules, TensorId::Embedder(of, part)));
        vision.or_else(mobilenet).or_else(audio).or_else(embedder)
    }

    /// Reads a GGUF name; the inverse of [`TensorId::gguf`].
    pub fn parse_gguf(name: &str) -> Option<Self> {
        if let Some(single) = SINGLE.iter().find(|s| s.2 == name) {
            return Some(single.0);
        }
        if let Some(numbered) = NUMBERED.iter().find_map(|(id, _, path)| numbered(*id, name.strip_prefix(path)?)) {
            return Some(numbered);
        }
        let (layer, path) = layer_and_path(name.strip_prefix("blk.")?)?;
        let path = path.strip_suffix(".weight")?;
        let projection = PROJECTIONS.iter().find(|p| p.3 == path).map(|p| TensorId::Projection(layer, p.0));
        projection.or_else(|| LAYER_NORMS.iter().find(|n| n.2 == path).map(|n| TensorId::LayerNorm(layer, n.0)))
    }

    /// The tensor that holds the list in GGUF files of which this is one, and its place there: `altup_proj.weight`, 2.
    pub fn stack(&self) -> Option<(String, usize)> {
        match *self {
            TensorId::AltupProjection(place) => Some((format!("{}.weight", NUMBERED[0].2), place)),
            TensorId::AltupUnembedProjection(place) => Some((format!("{}.weight", NUMBERED[1].2), place)),
            _ => None,
        }
    }

    /// What a tensor of a GGUF file by this name is a list of: the tensor of each place.
    pub fn of_stack(name: &str) -> Option<fn(usize) -> TensorId> {
        let path = name.strip_suffix(".weight")?;
        NUMBERED.iter().find(|list| list.2 == path).map(|list| list.0)
    }

    /// The same tensor of another layer; what is in no layer stays what it is.
    pub fn in_layer(self, layer: usize) -> Self {
        match self {
            TensorId::Projection(_, part) => TensorId::Projection(layer, part),
            TensorId::LayerNorm(_, part) => TensorId::LayerNorm(layer, part),
            single => single,
        }
    }

    /// Whether this is the weight of a linear layer that an adapter can go on.
    pub fn is_linear(&self) -> bool {
        match self {
            TensorId::Vision(tensor) => tensor.is_linear(),
            TensorId::Audio(tensor) => tensor.is_linear(),
            TensorId::Embedder(_, tensor) => tensor.is_linear(),
            TensorId::Projection(..)
            | TensorId::PerLayerModelProjection
            | TensorId::AltupProjection(_)
            | TensorId::AltupUnembedProjection(_) => true,
            _ => false,
        }
    }

    /// Whether this is a matrix that is held compressed where the projections are.
    pub fn is_compressible(&self) -> bool {
        let is_coefficient = matches!(self, TensorId::Projection(_, projection) if projection.is_coefficient());
        self.is_linear() && self.is_of_text() && !is_coefficient
    }

    /// The linear layers of a decoder layer, in any model that has them, and those outside the layers of this number.
    pub fn linears(layer: usize) -> impl Iterator<Item = TensorId> {
        let inside = Projection::ALL.into_iter().map(move |projection| TensorId::Projection(layer, projection));
        let beside = NUMBERED.into_iter().map(move |(id, ..)| id(layer));
        inside.chain(beside).chain([TensorId::PerLayerModelProjection])
    }

    /// Whether this is a norm's weight, which GGUF files store as `1 + w` where the gain is that.
    pub fn is_norm(&self) -> bool {
        matches!(self, TensorId::Norm | TensorId::LayerNorm(..) | TensorId::PerLayerProjectionNorm)
    }
}

impl fmt::Display for TensorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hf())
    }
}

/// Splits `3.mlp.up_proj.weight` into the layer and the path.
fn layer_and_path(rest: &str) -> Option<(usize, &str)> {
    let (number, path) = rest.split_once('.')?;
    let layer: usize = number.parse().ok()?;
    // One spelling per number: no `+3`, no `03`.
    (layer.to_string() == number).then_some((layer, path))
}

/// The tensor of a list whose path is followed by `rest`: `.2.weight`.
fn numbered(id: Numbered, rest: &str) -> Option<TensorId> {
    let (number, path) = layer_and_path(rest.strip_prefix('.')?)?;
    (path == "weight").then(|| id(number))
}

/// Where a Hugging Face checkpoint holds the language model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Spelling {
    /// `model.*`, `lm_head.weight`: a text-only checkpoint.
    Text,
    /// `language_model.model.*`: multimodal checkpoints on the Hub.
    LanguageModelOutside,
    /// `model.language_model.*`, `lm_head.weight`: multimodal modules of newer transformers.
    LanguageModelInside,
}

impl Spelling {
    /// The three spellings.
    pub const ALL: [Spelling; 3] = [Spelling::Text, Spelling::LanguageModelOutside, Spelling::LanguageModelInside];

    /// The name of a tensor in this spelling.
    pub fn name(self, id: &TensorId) -> String {
        let text = id.hf();
        match self {
            Spelling::LanguageModelInside if !id.is_of_text() => format!("model.{text}"),
            _ if !id.is_of_text() || *id == TensorId::Score => text,
            Spelling::Text => text,
            Spelling::LanguageModelOutside => format!("language_model.{text}"),
            Spelling::LanguageModelInside => match text.strip_prefix("model.") {
                Some(rest) => format!("model.language_model.{rest}"),
                None => text,
            },
        }
    }

    /// How transformers 5 saves a checkpoint that it read in this spelling.
    pub fn saved(self) -> Self {
        match self {
            Spelling::Text => Spelling::Text,
            Spelling::LanguageModelOutside | Spelling::LanguageModelInside => Spelling::LanguageModelOutside,
        }
    }

    /// How transformers spells the modules of a model, and PEFT with it.
    pub fn of_modules(multimodal: bool) -> Self {
        if multimodal { Spelling::LanguageModelInside } else { Spelling::Text }
    }

    /// The path of the module that has this weight, in this spelling: `model.layers.3.mlp.up_proj`.
    pub fn module_path(self, weight: &TensorId) -> String {
        let mut path = self.name(weight);
        path.truncate(path.trim_end_matches(".weight").len());
        path
    }

    /// Reads a name in any spelling. The head's name is common to two of them and counts as [`Spelling::Text`], as that of
    /// a reward model's head, which is common to all; those of
    /// a saved tower are common to two as well, and count as [`Spelling::LanguageModelOutside`].
    pub fn parse(name: &str) -> Option<(Spelling, TensorId)> {
        if let Some((of_modules, id)) = TensorId::parse_beside(name) {
            let spelling = if of_modules { Spelling::LanguageModelInside } else { Spelling::LanguageModelOutside };
            return Some((spelling, id));
        }
        if let Some(rest) = name.strip_prefix("language_model.") {
            return TensorId::parse_hf(rest).map(|id| (Spelling::LanguageModelOutside, id));
        }
        if let Some(rest) = name.strip_prefix("model.language_model.") {
            let id = TensorId::parse_hf(&format!("model.{rest}"))?;
            return Some((Spelling::LanguageModelInside, id));
        }
        TensorId::parse_hf(name).map(|id| (Spelling::Text, id))
    }

    /// The spelling of a checkpoint with these tensor names, if any of them is of the language model.
    pub fn detect<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Spelling> {
        let telling = |id: &TensorId| id.is_of_text() && !matches!(id, TensorId::LmHead | TensorId::Score);
        names.into_iter().filter_map(Spelling::parse).find(|(_, id)| telling(id)).map(|found| found.0)
    }
}

/// The key of the tensor of an adapter beside this weight in `adapter_model.safetensors`, as PEFT writes it; `part` is
/// [`LORA_A`], [`LORA_B`] or [`LORA_MAGNITUDE`].
pub fn peft_key(multimodal: bool, weight: &TensorId, part: &str) -> String {
    let suffix = if part == LORA_MAGNITUDE { "" } else { ".weight" };
    let module = Spelling::of_modules(multimodal).module_path(weight);
    format!("{PEFT_PREFIX}{module}.{part}{suffix}")
}

/// The key of a tensor of the model that is saved whole in `adapter_model.safetensors`, as PEFT writes it.
pub fn peft_whole_key(id: &TensorId) -> String {
    format!("{PEFT_PREFIX}{}", Spelling::LanguageModelInside.name(id))
}

/// Reads such a key in any spelling of the model.
pub fn parse_peft_whole_key(key: &str) -> Option<TensorId> {
    let name = key.strip_prefix(PEFT_PREFIX)?;
    Spelling::parse(name).map(|(_, id)| id).filter(|id| id.part() == ModelPart::Projector || *id == TensorId::Score)
}

/// Reads an adapter's key in any spelling of the model, with or without an adapter's name (`lora_A.default.weight`).
pub fn parse_peft_key(key: &str) -> Option<(Spelling, TensorId, &'static str)> {
    let path = key.strip_prefix(PEFT_PREFIX)?;
    let (part, module) = [LORA_A, LORA_B, LORA_MAGNITUDE].into_iter().find_map(|part| {
        let (module, rest) = path.rsplit_once(part)?;
        let known = matches!(rest, ".weight" | ".default.weight") || (part == LORA_MAGNITUDE && rest.is_empty());
        known.then_some((part, module.strip_suffix('.')?))
    })?;
    let (spelling, weight) = Spelling::parse(&format!("{module}.weight"))?;
    weight.is_linear().then_some((spelling, weight, part))
}

#[cfg(test)]
mod tests;
