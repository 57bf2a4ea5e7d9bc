//! stub
#![allow(missing_docs)]
pub mod names {
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub enum Projection { Q, K, V, O, Gate, Up, Down }
    impl Projection { pub const ALL: [Projection; 7] = [Self::Q, Self::K, Self::V, Self::O, Self::Gate, Self::Up, Self::Down];
      pub fn hf(self) -> &'static str { ["self_attn.q_proj","self_attn.k_proj","self_attn.v_proj","self_attn.o_proj","mlp.gate_proj","mlp.up_proj","mlp.down_proj"][self as usize] } }
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum LayerNorm { InputLayernorm, PostAttentionLayernorm, PreFeedforwardLayernorm, PostFeedforwardLayernorm, QNorm, KNorm }
    impl LayerNorm { pub fn hf(self) -> &'static str { ["input_layernorm","post_attention_layernorm","pre_feedforward_layernorm","post_feedforward_layernorm","self_attn.q_norm","self_attn.k_norm"][self as usize] } }
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum TensorId { EmbedTokens, Norm, LmHead, Projection(usize, Projection), LayerNorm(usize, LayerNorm) }
    impl TensorId { pub fn hf(&self) -> String { match self { Self::EmbedTokens => "model.embed_tokens.weight".into(), Self::Norm => "model.norm.weight".into(), Self::LmHead => "lm_head.weight".into(), Self::Projection(l,p) => format!("model.layers.{l}.{}.weight", p.hf()), Self::LayerNorm(l,p) => format!("model.layers.{l}.{}.weight", p.hf()) } } }
}
#[derive(Debug, Clone)] pub enum HostData { F32(Vec<f32>), BF16(Vec<half::bf16>), F16(Vec<half::f16>) }
#[derive(Debug, Clone, Copy, PartialEq, Eq)] pub enum HostDtype { F32, BF16, F16 }
#[derive(Debug, Clone)] pub struct HostTensor { pub shape: Vec<usize>, pub data: HostData }
pub struct Source(Vec<u8>);
impl Source {
    pub fn open_folder(p: &std::path::Path) -> crate::Result<Self> { Ok(Source(std::fs::read(p.join("model.safetensors")).unwrap())) }
    pub fn read(&self, id: &names::TensorId, _shape: &[usize], _held: Option<HostDtype>) -> crate::Result<HostTensor> {
        let st = safetensors::SafeTensors::deserialize(&self.0).unwrap(); let t = st.tensor(&id.hf()).unwrap();
        Ok(HostTensor { shape: t.shape().to_vec(), data: HostData::F32(t.data().chunks(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect()) })
    }
}
