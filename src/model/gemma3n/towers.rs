//! What looks at pictures and listens to sounds, by itself.

use crate::error::Result;
use crate::model::gemma3n::TextConfig;
use crate::model::gemma3n::audio::Audio;
use crate::model::gemma3n::vision::Vision;
use crate::model::{Modality, Parts};
use crate::nn::BaseOnly;
use burn::tensor::{Device, Tensor};

/// The towers of a Gemma 3n, with their embedders.
#[derive(Debug)]
pub struct Towers {
    vision: Option<Vision>,
    audio: Option<Audio>,
}

impl Towers {
    /// Puts together the towers of the model that `config` describes; `None` if it has none.
    ///
    /// # Errors
    /// Those of `parts`.
    pub fn assemble(config: &TextConfig, parts: &mut dyn Parts, device: &Device) -> Result<Option<Self>> {
        let (d, padding) = (config.hidden_size, config.padding_word());
        let sites = config.tower_sites().into_iter().map(|site| (site.weight, site)).collect();
        let vision = config.images.as_ref();
        let vision = vision.map(|images| Vision::assemble(images, d, &sites, parts, device)).transpose()?;
        let audio = config.sounds.as_ref();
        let audio = audio.map(|sounds| Audio::assemble(sounds, d, padding, &sites, parts, device)).transpose()?;
        Ok((vision.is_some() || audio.is_some()).then_some(Towers { vision, audio }))
    }
}

impl crate::model::Towers for Towers {
    fn encode(&self, modality: Modality, prepared: Tensor<3>, valid: usize) -> Option<Tensor<2>> {
        match modality {
            Modality::Image => self.vision.as_ref()?.encode(prepared),
            Modality::Audio => self.audio.as_ref()?.hear(prepared, valid, &BaseOnly),
        }
    }
}
