//! What a recipe says of a run, in the words of the rooms that obey it.

use crate::device::{self, Compute, Devices};
use crate::error::Result;
use crate::model::load::float_dtype;
use crate::recipe::{self, EmbeddingQuantization, Quantization, Recipe};
use crate::train::optimizer::Rule;
use crate::weights::{Compression, Holding};

/// The settings of a run that come from its recipe alone.
#[derive(Debug, Clone, Copy)]
pub struct RunSettings {
    /// How frozen weights are held.
    pub holding: Holding,
    /// The optimiser.
    pub rule: Rule,
}

impl RunSettings {
    /// Those of a recipe.
    pub fn of(recipe: &Recipe) -> Self {
        RunSettings { holding: holding(&recipe.model), rule: rule(&recipe.training) }
    }

    /// Opens the device that the user named.
    ///
    /// # Errors
    /// When there is none of that name, or it does not compute in what the recipe asks for.
    pub fn open_device(&self, name: &str) -> Result<Compute> {
        let compute = device::open(name)?;
        self.check(&compute)?;
        Ok(compute)
    }

    /// Opens the devices that the user named, one or several.
    ///
    /// # Errors
    /// As [`RunSettings::open_device`], and when they do not go together.
    pub fn open_devices(&self, list: &str) -> Result<Devices> {
        let devices = Devices::open(list)?;
        devices.all().try_for_each(|compute| self.check(compute))?;
        Ok(devices)
    }

    fn check(&self, compute: &Compute) -> Result<()> {
        compute.check(self.holding.compute_dtype.map(float_dtype))
    }
}

fn holding(keys: &recipe::Model) -> Holding {
    Holding {
        dtype: keys.dtype.0,
        projections: match keys.quantization {
            Quantization::None => Compression::None,
            Quantization::Int8 => Compression::Int8,
            Quantization::Nf4 => Compression::Nf4,
            Quantization::Nf4Double => Compression::Nf4Double,
            Quantization::AsStored => Compression::AsStored,
        },
        embedding_int8: keys.embedding_quantization == EmbeddingQuantization::Int8,
        compute_dtype: keys.compute_dtype.0,
        int8_inputs: false,
    }
}

fn rule(keys: &recipe::Training) -> Rule {
    match keys.optimizer {
        recipe::Optimizer::Adamw => Rule::AdamW {
            beta1: keys.adam_beta1,
            beta2: keys.adam_beta2,
            epsilon: keys.adam_epsilon,
            weight_decay: keys.weight_decay,
        },
        recipe::Optimizer::Sgd => Rule::Sgd { momentum: keys.sgd_momentum, weight_decay: keys.weight_decay },
    }
}
