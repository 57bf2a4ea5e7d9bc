//! What tests of generation answer with.

use crate::model::{self, LanguageModel, ModelConfig};
use crate::nn::SidePath;
use crate::ops::Weight;
use crate::progress::Silent;
use crate::testkit::golden;
use crate::weights::{Holding, Source};
use burn::tensor::{Device, Tensor};
use std::cell::Cell;

/// A model of 7 layers, six of them with a window of 8 tokens.
pub fn model() -> Box<dyn LanguageModel> {
    let folder = golden::folder("model/lora/model");
    let (config, _) = ModelConfig::from_folder(&folder).unwrap();
    model::load(config, &Source::open_folder(&folder).unwrap(), &Holding::default(), &Device::flex(), &Silent).unwrap()
}

/// No adapter; counts the tokens that go through the model.
pub struct Count(pub Cell<usize>);

impl SidePath for Count {
    fn project(&self, site: usize, x: Tensor<2>, base: &Weight) -> Tensor<2> {
        if site == 0 {
            self.0.set(self.0.get() + x.dims()[0]);
        }
        base.project(x)
    }
}
