//! The parts of a multimodal model.

use super::{TensorId, VisionTensor};
use serde::{Deserialize, Serialize};

/// A part of a model that is trained or left alone as a whole, in the words of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelPart {
    /// What reads words and soft tokens.
    LanguageModel,
    /// What looks at pictures.
    VisionTower,
    /// What listens to sounds.
    AudioTower,
    /// What makes soft tokens of what a tower gives.
    Projector,
}

impl ModelPart {
    /// As metrics spell it.
    pub fn name(self) -> &'static str {
        match self {
            ModelPart::LanguageModel => "language_model",
            ModelPart::VisionTower => "vision_tower",
            ModelPart::AudioTower => "audio_tower",
            ModelPart::Projector => "projector",
        }
    }
}

impl TensorId {
    /// The part that it belongs to.
    pub fn part(&self) -> ModelPart {
        match self {
            TensorId::Vision(VisionTensor::MmSoftEmbNorm | VisionTensor::MmInputProjection)
            | TensorId::Embedder(..) => ModelPart::Projector,
            TensorId::Vision(_) | TensorId::MobileNet(_) => ModelPart::VisionTower,
            TensorId::Audio(_) => ModelPart::AudioTower,
            _ => ModelPart::LanguageModel,
        }
    }

    /// Whether this is a part of the language model.
    pub fn is_of_text(&self) -> bool {
        self.part() == ModelPart::LanguageModel
    }

    /// Whether it is a tensor inside a tower, and not of what makes rows of what the tower gives.
    pub fn is_of_tower(&self) -> bool {
        matches!(self.part(), ModelPart::VisionTower | ModelPart::AudioTower)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_and_messages_spell_parts_alike() {
        for part in [ModelPart::LanguageModel, ModelPart::VisionTower, ModelPart::AudioTower, ModelPart::Projector] {
            assert_eq!(serde_json::to_value(part).unwrap(), part.name());
        }
    }
}
