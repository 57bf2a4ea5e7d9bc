//! Reading a Gemma 3 from its files, one tensor at a time.

use crate::error::Result;
use crate::model::DecoderLayer;
use crate::model::gemma3::{Gemma3, TextConfig};
use crate::nn::{Attention, AttentionConfig, Linear, Mlp, RmsNorm, Weight};
use crate::ops;
use crate::progress::Progress;
use crate::weights::names::{LayerNorm, Projection, TensorId};
use crate::weights::{HeldMatrix, Holding, HostData, HostDtype, HostTensor, Source};
use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};

impl Gemma3 {
    /// Loads the model that `config` describes from `source`. Matrices are held as `holding` says, norms in f32. At most one
    /// tensor more than the model itself is in memory, and what is quantised never is in another form as a whole.
    ///
    /// # Errors
    /// [`crate::error::Kind::Weights`] for a missing tensor or a wrong shape, naming the tensor; a holding that contradicts
    /// how the model is stored (see [`Source::check`]).
    pub fn load(
        config: TextConfig,
        source: &Source,
        holding: &Holding,
        device: &Device,
        progress: &dyn Progress,
    ) -> Result<Self> {
        source.check(holding)?;
        let loader = Loader { config: &config, source, holding, device };
        progress.start("Loading the model", Some(config.num_hidden_layers as u64 + 1), "layers");
        let embed_tokens = loader.matrix(TensorId::EmbedTokens, config.vocab_size, config.hidden_size)?;
        let lm_head = if config.tie_word_embeddings {
            embed_tokens.clone()
        } else {
            loader.matrix(TensorId::LmHead, config.vocab_size, config.hidden_size)?
        };
        let norm = loader.norm(TensorId::Norm, config.hidden_size)?;
        progress.advance(1);
        let layers = (0..config.num_hidden_layers)
            .map(|layer| loader.layer(layer).inspect(|_| progress.advance(1)))
            .collect::<Result<_>>()?;
        progress.finish();
        let device = device.clone();
        Ok(Gemma3 { config, embed_tokens, layers, norm, lm_head, device })
    }
}

struct Loader<'a> {
    config: &'a TextConfig,
    source: &'a Source,
    holding: &'a Holding,
    device: &'a Device,
}

impl Loader<'_> {
    fn layer(&self, layer: usize) -> Result<DecoderLayer> {
        let &TextConfig { hidden_size: d, intermediate_size: f, head_dim: e, .. } = self.config;
        let &TextConfig { num_attention_heads: h, num_key_value_heads: g, .. } = self.config;
        let linear = |projection, out, input| -> Result<Linear> {
            let weight = self.matrix(TensorId::Projection(layer, projection), out, input)?;
            Ok(Linear { site: Gemma3::site_index(layer, projection), weight })
        };
        let norm = |which, width| self.norm(TensorId::LayerNorm(layer, which), width);
        let config = AttentionConfig {
            num_attention_heads: h,
            num_key_value_heads: g,
            head_dim: e,
            scaling: self.config.attention_scale(),
            kind: self.config.layer_types[layer],
            sliding_window: self.config.sliding_window,
        };
        Ok(DecoderLayer {
            input_layernorm: norm(LayerNorm::InputLayernorm, d)?,
            self_attn: Attention {
                config,
                q_proj: linear(Projection::Q, h * e, d)?,
                k_proj: linear(Projection::K, g * e, d)?,
                v_proj: linear(Projection::V, g * e, d)?,
                o_proj: linear(Projection::O, d, h * e)?,
                q_norm: norm(LayerNorm::QNorm, e)?,
                k_norm: norm(LayerNorm::KNorm, e)?,
            },
            post_attention_layernorm: norm(LayerNorm::PostAttentionLayernorm, d)?,
            pre_feedforward_layernorm: norm(LayerNorm::PreFeedforwardLayernorm, d)?,
            mlp: Mlp {
                gate_proj: linear(Projection::Gate, f, d)?,
                up_proj: linear(Projection::Up, f, d)?,
                down_proj: linear(Projection::Down, d, f)?,
            },
            post_feedforward_layernorm: norm(LayerNorm::PostFeedforwardLayernorm, d)?,
        })
    }

    fn matrix(&self, id: TensorId, out: usize, input: usize) -> Result<Weight> {
        let weight = match self.source.read_matrix(&id, [out, input], self.holding)? {
            HeldMatrix::Dense(tensor) => dense(tensor, [out, input], self.device)?,
            HeldMatrix::Quantized(matrix) => Weight::quantized(matrix, self.device),
        };
        Ok(match self.holding.compute_dtype {
            Some(dtype) => weight.computed_in(float_dtype(dtype)),
            None => weight,
        })
    }

    /// A norm; its gain is `1 + w`, formed in f32.
    fn norm(&self, id: TensorId, width: usize) -> Result<RmsNorm> {
        let tensor = self.source.read(&id, &[width], Some(HostDtype::F32))?;
        let gain = to_device::<1>(tensor, self.device).add_scalar(1.0);
        Ok(RmsNorm::new(gain, self.config.rms_norm_eps))
    }
}

/// A matrix of plain floats on a device: a tensor, or its bytes where there are no such tensors (WGSL has no bf16).
///
/// # Errors
/// If it has not these dimensions.
pub fn dense(tensor: HostTensor, dims: [usize; 2], device: &Device) -> Result<Weight> {
    let bytes = tensor.data.as_bytes().len() as u64;
    Ok(match ops::can_hold(device, float_dtype(tensor.dtype()), bytes) {
        true => Weight::new(to_device(tensor, device)),
        false => Weight::quantized(tensor.into_blocks(dims)?, device),
    })
}

/// Moves a host tensor to the device in its own dtype, or as f32 where the device has no such numbers.
pub fn to_device<const D: usize>(tensor: HostTensor, device: &Device) -> Tensor<D> {
    let (dtype, shape) = (float_dtype(tensor.dtype()), tensor.shape);
    let data = match tensor.data {
        HostData::F32(values) => TensorData::new(values, shape),
        HostData::BF16(values) => TensorData::new(values, shape),
        HostData::F16(values) => TensorData::new(values, shape),
    };
    let dtype = DType::from(if device.supports_dtype(dtype) { dtype } else { FloatDType::F32 });
    Tensor::from_data(data.convert_dtype(dtype), (device, dtype))
}

/// A dtype in burn's words.
pub fn float_dtype(dtype: HostDtype) -> FloatDType {
    match dtype {
        HostDtype::F32 => FloatDType::F32,
        HostDtype::BF16 => FloatDType::BF16,
        HostDtype::F16 => FloatDType::F16,
    }
}
