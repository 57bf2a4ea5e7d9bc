//! What tests of generation answer with.

use crate::model::{self, LanguageModel, ModelConfig};
use crate::nn::SidePath;
use crate::ops::{Input, Weight};
use crate::progress::Silent;
use crate::testkit::golden;
use crate::weights::{Holding, Source};
use burn::tensor::{Device, Tensor};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A model of 7 layers, six of them with a window of 8 tokens.
pub fn model() -> Box<dyn LanguageModel> {
    let folder = golden::folder("model/lora/model");
    let (config, _) = ModelConfig::from_folder(&folder).unwrap();
    model::load(config, &Source::open_folder(&folder).unwrap(), &Holding::default(), &Device::flex(), &Silent).unwrap()
}

/// No adapter; counts the tokens that go through the model.
#[derive(Default)]
pub struct Count(AtomicUsize);

impl Count {
    /// How many there were.
    pub fn tokens(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// How many there were since the last time.
    pub fn take(&self) -> usize {
        self.0.swap(0, Ordering::Relaxed)
    }
}

impl SidePath for Count {
    fn project(&self, site: usize, x: Input, base: &Weight) -> Tensor<2> {
        if site == 0 {
            self.0.fetch_add(x.rows().dims()[0], Ordering::Relaxed);
        }
        base.project(x)
    }
}
