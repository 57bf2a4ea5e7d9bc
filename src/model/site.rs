//! The linear layers of a model that an adapter can go on.

use crate::weights::names::{Spelling, TensorId};

/// One linear layer of a model: a place where an adapter can go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Site {
    /// Its number among those of the model, as in [`crate::nn::Linear::site`].
    pub index: usize,
    /// Its weight, which names it in every spelling.
    pub weight: TensorId,
    /// When a forward pass comes by.
    pub stage: Stage,
    /// Input features.
    pub in_features: usize,
    /// Output features.
    pub out_features: usize,
}

/// The parts of a forward pass that have a gradient graph of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Before the layers: what becomes of tokens and soft tokens.
    Embed,
    /// A decoder layer.
    Layer(usize),
    /// After the layers: what the norm before the head sees.
    LastHidden,
}

/// A tensor outside of linear layers that is trained as it is, where it is trained at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WholeTensor {
    /// Its number among those of the model, by which a [`crate::nn::SidePath`] knows it.
    pub index: usize,
    /// Its name in every spelling.
    pub id: TensorId,
    /// When a forward pass comes by.
    pub stage: Stage,
    /// Its rows and columns; of a vector one row.
    pub dims: [usize; 2],
    /// The module that it is saved with.
    pub module: &'static str,
}

/// The number of [`WholeTensor::score`], which no model counts among its own.
pub const SCORE: usize = usize::MAX;

/// The module of a reward model's head, by which PEFT saves it.
pub const SCORE_MODULE: &str = "score";

impl WholeTensor {
    /// The head of a reward model of this width, which gives one number for a text.
    pub fn score(hidden_size: usize) -> Self {
        let (stage, dims) = (Stage::LastHidden, [1, hidden_size]);
        WholeTensor { index: SCORE, id: TensorId::Score, stage, dims, module: SCORE_MODULE }
    }

    /// Its shape in files: that of a norm is a vector's.
    pub fn shape(&self) -> Vec<usize> {
        match self.dims {
            [1, width] if self.id != TensorId::Score => vec![width],
            dims => dims.to_vec(),
        }
    }
}

/// All places of a model where something can be trained.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Places {
    /// Where an adapter can go, also in towers.
    pub sites: Vec<Site>,
    /// What can be trained as it is.
    pub whole: Vec<WholeTensor>,
}

impl Site {
    /// Sites of these weights `[out, in]`, numbered in their order.
    pub fn numbered(weights: impl IntoIterator<Item = (TensorId, Stage, [usize; 2])>) -> Vec<Self> {
        let numbered = (0..).zip(weights);
        numbered
            .map(|(index, (weight, stage, [out_features, in_features]))| Site {
                index,
                weight,
                stage,
                in_features,
                out_features,
            })
            .collect()
    }

    /// The shape of its weight, `[out, in]`.
    pub fn dims(&self) -> [usize; 2] {
        [self.out_features, self.in_features]
    }

    /// The path by which PEFT knows it: `model.layers.3.mlp.up_proj`.
    pub fn module_path(&self, multimodal: bool) -> String {
        Spelling::of_modules(multimodal).module_path(&self.weight)
    }
}
